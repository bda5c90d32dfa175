"""Samples in an array, of any type and shape in use: they become mono float32, or one clear line."""

from __future__ import annotations

from typing import Any

import numpy as np

from utils.audio.decoding import average_channels, require_rate
from utils.errors import CloningError

_MAX_FLOAT_PEAK = 16.0


def is_array(source: Any) -> bool:
    """Whether this is a numpy array, or can become one as a torch tensor can; an open file is none."""
    return isinstance(source, np.ndarray) or (hasattr(source, "__array__") and not hasattr(source, "read"))


def mono_samples(array: Any, sample_rate: int, name: str) -> np.ndarray:
    """Samples (T,), float32 in [-1, 1], of an array (T,), (T, channels) or (channels, T) at `sample_rate` (Hz).

    It holds floats in [-1, 1] or integers of their full scale. Channels are averaged; where they cancel each other, the
    loudest is taken. Raises CloningError, which calls the array `name`, for another type or shape, for samples that are
    not finite or far beyond 1, and for a rate that no recording has.
    """
    array = np.asarray(array)
    if array.ndim not in (1, 2):
        raise CloningError(f"{name} has shape {array.shape}; audio is (T,) or (T, channels)")
    require_rate(sample_rate, name)
    samples = to_floats(array, name)
    if samples.size == 0:
        return samples.reshape(-1)
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        samples = samples.T
    require_finite(samples, sample_rate, name)
    require_scale(samples, name)
    return samples if samples.ndim == 1 else average_channels(samples)


def to_floats(array: np.ndarray, name: str) -> np.ndarray:
    """A float32 copy of floats, or of integers of their full scale (uint8, int16, int32), which come to lie in [-1, 1].

    The integers are divided as libsndfile divides those of a file. Raises CloningError for another type.
    """
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128) / 128
    if array.dtype in (np.int16, np.int32):
        return array.astype(np.float32) / -float(np.iinfo(array.dtype).min)
    raise CloningError(f"{name} is of type {array.dtype}; give floats in [-1, 1], int16, int32 or uint8")


def require_finite(samples: np.ndarray, sample_rate: int, name: str) -> None:
    """Raises CloningError for NaN and infinity in samples (T,) or (T, channels)."""
    finite = np.isfinite(samples) if samples.ndim == 1 else np.isfinite(samples).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise CloningError(
            f"{name} holds {len(bad)} samples that are NaN or infinite, the first at "
            f"{bad[0] / sample_rate:.2f} s; export it again"
        )


def require_scale(samples: np.ndarray, name: str) -> None:
    """Raises CloningError for floats, of any shape, that cannot be meant to lie in [-1, 1]."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > _MAX_FLOAT_PEAK:
        raise CloningError(f"{name} has samples up to {peak:.0f}; floats lie in [-1, 1]: scale them down")
