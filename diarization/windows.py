"""Embeddings of a recording: of pieces of local voices, from where they speak alone, and of windows over all speech."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from diarization.segmentation import FRAME, RATE, RECEPTIVE_FIELD, STEP, LocalVoices, Progress, silent
from diarization.settings import DiarizationSettings
from diarization.turns import join
from encoder.camplus import HOP, CamPlus
from encoder.inference import WINDOWS_AT_ONCE, SpeakerEncoder
from utils.audio.io import Waveform
from utils.voice import unit

PIECE = 1.25  # seconds, about, into which what a local voice says is cut: a change of speaker may be within it
PAUSE = 0.1  # seconds within a piece
MIN_ALONE_TO_EMBED = 0.25  # seconds; of a piece that is less alone, all is embedded
PIECES_AT_ONCE = 32  # in one pass of the encoder: bounds its memory
MANY_PIECES = 256  # of which CAM++ takes those of one length at once
CAMPLUS_WEIGHT = 1.4  # of its embeddings beside the encoder's; chosen on the simulated list `choose`
_CHUNK = 32  # windows whose mel is made in one go: bounds the memory of speech without a pause


@dataclass(frozen=True)
class Pieces:
    """What local voices say, cut to pieces.

    window (P,) and voice (P,) of each; frames (P, 2) of the window from which to which it lasts; alone (P,): seconds of
    it in which nobody else speaks; embeddings (P, D) of those, or of all where they are too few: the encoder's, of
    norm 1, and after them those of CAM++ where it listens too.
    """

    window: np.ndarray
    voice: np.ndarray
    frames: np.ndarray
    alone: np.ndarray
    embeddings: np.ndarray

    def __len__(self) -> int:
        return len(self.window)

    def local_voices(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each local voice of each window (K,), its window; and which of them each piece is of (P,), from 0."""
        per_window = self.voice.max(initial=0) + 1
        found, owner = np.unique(self.window * per_window + self.voice, return_inverse=True)
        return found // per_window, owner

    def only(self, rows: np.ndarray) -> Pieces:
        """These pieces: indices (K,) or bool (P,)."""
        return Pieces(*(values[rows] for values in (self.window, self.voice, self.frames, self.alone, self.embeddings)))


@dataclass(frozen=True)
class SpeechWindows:
    """What was heard in a recording of `seconds`.

    local: its local voices, and pieces of them. spans (N, 2): windows that slide over speech, in seconds, every `hop`;
    curves (N, D): their embeddings, norm 1.
    """

    seconds: float
    local: LocalVoices
    pieces: Pieces
    spans: np.ndarray
    curves: np.ndarray
    hop: float

    @property
    def centers(self) -> np.ndarray:
        """Centers of the sliding windows in seconds: (N,)"""
        return self.spans.mean(axis=1)


def embed_pieces(
    encoder: SpeakerEncoder,
    samples: np.ndarray,
    local: LocalVoices,
    progress: Progress = silent,
    camplus: CamPlus | None = None,
) -> Pieces:
    """Pieces of all local voices of samples (N,) at 16 kHz, in order, with an embedding each."""
    window, voice, frames = _cut(local)
    heard = local.alone[window, :, voice]
    at = np.arange(heard.shape[1])
    inside = (at >= frames[:, :1]) & (at < frames[:, 1:])
    alone = (heard & inside).sum(axis=1) * (FRAME / RATE)
    few = (alone < MIN_ALONE_TO_EMBED)[:, None]
    heard = np.where(few, local.chosen[window, :, voice], heard) & inside
    hop, ours = encoder.config.mel.hop_length, 1.0 if camplus is None else 0.25  # the encoder's share of the time
    embeddings = _embed_frames(
        encoder, hop, PIECES_AT_ONCE, samples, window, heard, lambda done, of: progress(ours * done, of)
    )
    if camplus is not None:
        more = _embed_frames(
            camplus, HOP, MANY_PIECES, samples, window, heard, lambda done, of: progress(ours + (1 - ours) * done, of)
        )
        embeddings = beside(embeddings, more)
    return Pieces(window, voice, frames, alone, embeddings)


def heard_by(encoder: SpeakerEncoder, camplus: CamPlus | None) -> str:
    """What the embeddings of pieces are made by: a calibration is of that."""
    return f"{encoder.fingerprint}+{camplus.fingerprint}" if camplus else encoder.fingerprint


def beside(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Embeddings (P, D) of pieces, of norm 1, by the encoder and by CAM++ -> both after each other."""
    return np.concatenate([ours, CAMPLUS_WEIGHT * theirs], axis=1)


def _cut(local: LocalVoices) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window (P,), voice (P,) and frames (P, 2) of each piece: turns of a voice in about equal parts."""
    found: list[tuple[int, int, int, int]] = []
    for w, v in zip(*np.nonzero(local.chosen.any(axis=1)), strict=True):
        turns = np.diff(local.chosen[w, :, v].astype(np.int8), prepend=0, append=0).nonzero()[0].reshape(-1, 2)
        for start, stop in join(turns, PAUSE * RATE / FRAME):
            parts = max(1, round((stop - start) * FRAME / RATE / PIECE))
            edges = np.linspace(start, stop, parts + 1).round().astype(int)
            found += [(int(w), int(v), *edges[i : i + 2].tolist()) for i in range(parts)]
    cut = np.array(found, int).reshape(-1, 4)
    return cut[:, 0], cut[:, 1], cut[:, 2:]


def _embed_frames(
    encoder: SpeakerEncoder | CamPlus,
    hop: int,
    at_once: int,
    samples: np.ndarray,
    window: np.ndarray,
    heard: np.ndarray,
    progress: Progress,
) -> np.ndarray:
    """Embeddings (P, D) of the frames heard (P, F) of each window (P,), which must be sorted."""
    embeddings = np.zeros((len(window), encoder.embedding_size), np.float32)
    pending: list[Tensor] = []
    last, mel = -1, None
    for i, (w, chosen) in enumerate(zip(window, heard, strict=True)):
        if mel is None or w != last:
            last, begin = w, w * STEP * FRAME
            mel = encoder.mel(samples[begin : begin + len(chosen) * FRAME])
        columns = np.clip((np.arange(mel.size(1)) * hop - (RECEPTIVE_FIELD - FRAME) // 2) // FRAME, 0, len(chosen) - 1)
        kept = np.flatnonzero(chosen[columns])
        pending.append(mel[:, kept if len(kept) else [0]])
        if len(pending) == at_once or i + 1 == len(window):
            embeddings[i + 1 - len(pending) : i + 1] = unit(encoder.embed_mels(pending))
            pending = []
            progress((i + 1) / len(window), "listening")
    return embeddings


def slide(span: tuple[float, float], window: float, hop: float) -> np.ndarray:
    """Windows (N, 2) over one stretch: every `hop` seconds, the last one ending with it; a short one has one window."""
    start, stop = span
    if stop - start <= window:
        return np.array([[start, stop]])
    starts = np.arange(start, stop - window, hop)
    starts = np.append(starts, stop - window)
    return np.stack([starts, starts + window], axis=1)


def embed_speech(
    encoder: SpeakerEncoder,
    audio: Waveform,
    speech: np.ndarray,
    settings: DiarizationSettings,
    progress: Progress = silent,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Windows (N, 2) over stretches of speech (K, 2), in seconds, their embeddings (N, D), and the hop; memory is
    bounded however long the recording is, and there are at most about `settings.most_windows`."""
    hop = max(settings.hop, float(np.diff(speech, axis=1).sum()) / settings.most_windows)
    per_stretch = [slide(tuple(span), settings.window, hop) for span in speech]
    spans = np.concatenate(per_stretch) if per_stretch else np.zeros((0, 2))
    return spans, _embed(encoder, audio, per_stretch, len(spans), progress), hop


def _embed(
    encoder: SpeakerEncoder, audio: Waveform, per_stretch: list[np.ndarray], count: int, progress: Progress
) -> np.ndarray:
    found = np.empty((count, encoder.embedding_size), np.float32)
    pending: list[Tensor] = []
    done = 0
    hop, rate, samples = encoder.config.mel.hop_length, audio.sample_rate, audio.samples
    for windows in per_stretch:
        for first in range(0, len(windows), _CHUNK):
            places = np.rint(windows[first : first + _CHUNK] * rate).astype(int)
            begin = places[0, 0]
            mel = encoder.mel(samples[begin : places[-1, 1]])
            pending += [mel[:, (a - begin) // hop : max((b - begin) // hop, (a - begin) // hop + 1)] for a, b in places]
            if len(pending) >= WINDOWS_AT_ONCE:
                found[done : done + len(pending)] = encoder.embed_mels(pending)
                done += len(pending)
                progress(done / count, "drawing curves")
                pending = []
    if pending:
        found[done:] = encoder.embed_mels(pending)
    return unit(found)
