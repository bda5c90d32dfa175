"""`NativeLoop`: what `vocoder.wavernn.sample_loop.TorchLoop` does, in native code and several threads."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vocoder.wavernn.library import library
from vocoder.wavernn.sample_loop import Frames, Weights

BLOCK = 16  # rows
FLOAT32, INT8, SPARSE = range(3)
# A block of 16 rows x 1 column of zeros need not be stored. Where this part of them is zero, leaving them out (in
# float32) is faster than to multiply all; int8 reads a quarter of the memory.
SPARSE_FROM = {"fp32": 0.5, "int8": 0.75}
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int32


class _Matrix(ctypes.Structure):
    _fields_ = [(name, _INT) for name in ("kind", "blocks", "cols")]
    _fields_ += [(name, _POINTER) for name in ("weights", "scale", "start", "runs", "columns")]


class _Model(ctypes.Structure):
    _fields_ = [(name, _INT) for name in ("size", "dense", "outputs", "labels", "hop", "half_kernel", "taps")]
    _fields_ += [(name, _Matrix) for name in ("gru1", "gru2_in", "gru2", "fc1", "fc2", "fc3")]
    _fields_ += [(name, _POINTER) for name in ("sample_in", "guide_in", "gru1_bias", "gru2_bias", "fc3_bias")]
    _fields_ += [("upsample_kernel", _POINTER)]


class _Job(ctypes.Structure):
    _fields_ = [(name, _INT) for name in ("folds", "frames", "steps", "greedy")]
    _fields_ += [(name, _POINTER) for name in ("mel", "fixed", "guide", "starts", "draws", "labels", "logits", "state")]
    _fields_ += [("first", ctypes.c_int64)]


class Packed:
    """Weights as the kernel reads them. Raises build.NoCompiler.

    `tuning`: compiler flags in place of those for this processor.
    """

    def __init__(
        self, weights: Weights, precision: Literal["fp32", "int8"], tuning: tuple[str, ...] | None = None
    ) -> None:
        self.library = library(tuning)
        self.precision = precision
        if (self.library.model_size(), self.library.job_size()) != (ctypes.sizeof(_Model), ctypes.sizeof(_Job)):
            raise RuntimeError("native.py and wavernn.c disagree about Model or Job")
        self.size, self.dense = weights.gru1.size(1), weights.fc1.size(0)
        self._kept: list[np.ndarray] = []  # what the structure points to
        m = self.model = _Model()
        m.size, m.dense, m.outputs = (_up(n) for n in (self.size, self.dense, weights.levels))
        m.labels, m.hop, m.half_kernel = weights.levels, weights.hop_length, weights.half_kernel
        m.gru1, m.gru2_in, m.gru2 = (self._matrix(w, 3) for w in (weights.gru1, weights.gru2_in, weights.gru2))
        m.fc1, m.fc2, m.fc3 = (self._matrix(w, 1) for w in (weights.fc1, weights.fc2, weights.fc3))
        m.sample_in = self._keep(_widen(_array(weights.sample_in), [self.size] * 4))
        m.taps, m.guide_in = len(weights.guide_in), self._keep(_widen(_array(weights.guide_in), [self.size] * 4))
        m.gru1_bias = self._keep(_widen(_array(weights.gru1_bias), [self.size]))
        m.gru2_bias = self._keep(_widen(_array(weights.gru2_bias), [self.size]))
        m.fc3_bias = self._keep(_widen(_array(weights.fc3_bias), [weights.levels], fill=-1e30))  # never drawn
        m.upsample_kernel = self._keep(_array(weights.upsample_kernel))

    def frames(self, frames: Frames) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """`Frames.mel` and `.fixed` with every part filled up to whole blocks, and `.guide`."""
        parts = [self.size] * 4
        fixed = _widen(_array(frames.fixed), [*parts, *[self.size] * 3, self.dense, self.dense])
        guide = None if frames.guide is None else _aligned(_array(frames.guide))
        return _aligned(_widen(_array(frames.mel), parts)), _aligned(fixed), guide

    def _keep(self, array: np.ndarray) -> int:
        self._kept.append(_aligned(array))
        return _address(self._kept[-1])

    def _matrix(self, weights: Tensor, gates: int) -> _Matrix:
        rows, cols = weights.shape
        w = _widen(_array(weights), [cols])
        w = _widen(w.T, [rows // gates] * gates).T
        blocks = np.ascontiguousarray(w.reshape(len(w) // BLOCK, BLOCK, w.shape[1]).transpose(0, 2, 1))
        matrix = _Matrix(blocks=len(blocks), cols=w.shape[1])
        used = np.any(blocks, axis=2)  # (blocks, cols)
        if 1 - used.mean() >= SPARSE_FROM[self.precision]:
            matrix.kind = SPARSE
            runs, columns, parts = [0], [], []
            for block, mask in zip(blocks, used, strict=True):
                column = np.flatnonzero(mask)
                fill = -len(column) % 4
                columns.append(np.pad(column, (0, fill)))
                parts.append(np.pad(block[column], ((0, fill), (0, 0))))
                runs.append(runs[-1] + len(columns[-1]))
            matrix.weights = self._keep(np.concatenate(parts))
            matrix.runs, matrix.columns = (self._keep(np.concatenate(a).astype(np.int32)) for a in ([runs], columns))
        elif self.precision == "fp32":
            matrix.kind, matrix.weights = FLOAT32, self._keep(blocks)
        else:
            matrix.kind, pack = INT8, self.library.pack()
            scale = np.maximum(np.abs(w).max(axis=1), 1e-20) / 127
            q = np.rint(w / scale[:, None]).astype(np.int8)
            by_pack = q.reshape(len(blocks), BLOCK, -1, pack).transpose(0, 2, 1, 3)
            matrix.weights, matrix.scale = self._keep(by_pack), self._keep(scale.astype(np.float32))
            matrix.start = self._keep(-self.library.offset() * q.sum(axis=1, dtype=np.int32))
        return matrix


class NativeLoop:
    """`folds` streams side by side, spread over threads; it remembers where it is between calls."""

    def __init__(self, packed: Packed, folds: int, *, greedy: bool = False, threads: int = 1) -> None:
        self.packed, self.greedy = packed, greedy
        self.mode, self.hop_length, self.t = "raw", packed.model.hop, 0
        self.shares = np.array_split(np.arange(folds), min(threads, folds))
        row = 1 + 2 * packed.model.size
        self.states = [np.zeros(len(share) * row, np.float32) for share in self.shares]
        # the calling thread takes the last share
        self.pool = ThreadPoolExecutor(len(self.shares) - 1, "wavernn") if len(self.shares) > 1 else None
        self._frames: tuple[Frames, tuple[np.ndarray, np.ndarray, np.ndarray | None]] | None = None

    def run(self, frames: Frames, starts: Sequence[int], draws: np.ndarray, logits: np.ndarray | None = None) -> Tensor:
        """The next samples: stream n goes on at sample starts[n] + (samples made before) of `frames`.

        draws (N, steps, 1) float32, uniform in [0, 1) -> labels (N, steps) int16. `logits`, where it is given: an array
        (N, steps, outputs filled up to whole blocks) float32 to write to.
        """
        if self._frames is None or self._frames[0] is not frames:
            self._frames = frames, self.packed.frames(frames)
        mel, fixed, guide = self._frames[1]
        positions, draws = np.array(starts, np.int64), np.ascontiguousarray(draws[:, :, 0])
        labels = np.empty(draws.shape, np.int16)
        jobs = []
        for share, state in zip(self.shares, self.states, strict=True):
            own = slice(share[0], share[-1] + 1)
            job = _Job(folds=len(share), frames=len(fixed) - 1, steps=draws.shape[1], greedy=self.greedy, first=self.t)
            job.mel, job.fixed, job.starts = _address(mel), _address(fixed), _address(positions[own])
            job.guide = None if guide is None else _address(guide)
            job.draws, job.labels, job.state = _address(draws[own]), _address(labels[own]), _address(state)
            job.logits = None if logits is None else _address(logits[own])
            job.kept = mel, fixed, guide, positions, draws, labels, logits, state  # for as long as anyone runs the job
            jobs.append(job)
        self._work(jobs)
        self.t += draws.shape[1]
        return torch.from_numpy(labels)

    def _work(self, jobs: Sequence[_Job]) -> None:
        def work(job: _Job) -> None:
            if self.packed.library.run(ctypes.byref(self.packed.model), ctypes.byref(job)):
                raise MemoryError("no memory for the scratch of WaveRNN's kernel")

        others = []
        try:
            others += [self.pool.submit(work, job) for job in jobs[:-1]] if self.pool else []
            work(jobs[-1])
        finally:  # on Ctrl-C too
            wait(others)
        for other in others:
            other.result()


def _address(array: np.ndarray) -> int:
    return array.ctypes.data


def _up(n: int) -> int:
    return -(-n // BLOCK) * BLOCK


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().float().numpy()


def _widen(array: np.ndarray, parts: Sequence[int], fill: float = 0.0) -> np.ndarray:
    """The last axis holds `parts` one after the other: fill each up to whole blocks."""
    if all(part % BLOCK == 0 for part in parts):
        return array
    pieces = np.split(array, np.cumsum(parts)[:-1], axis=-1)
    lead = [(0, 0)] * (array.ndim - 1)
    padded = [np.pad(p, [*lead, (0, _up(p.shape[-1]) - p.shape[-1])], constant_values=fill) for p in pieces]
    return np.concatenate(padded, axis=-1)


def _aligned(array: np.ndarray) -> np.ndarray:
    """A contiguous copy that starts on a cache line."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    offset = -memory.ctypes.data % 64
    copy = memory[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
