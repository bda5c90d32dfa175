"""Resampling of sound that comes in pieces; `utils.audio.io.resample` takes what is there whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np


def resample_pieces(pieces: Iterable[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Float32 pieces (T,) of one sound at `to_rate`, in [-1, 1]; joined they are as long as those that were given."""
    if from_rate == to_rate:
        yield from pieces
        return
    import soxr

    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    for samples in pieces:
        yield np.clip(stream.resample_chunk(samples), -1, 1)
    yield np.clip(stream.resample_chunk(np.zeros(0, np.float32), last=True), -1, 1)
