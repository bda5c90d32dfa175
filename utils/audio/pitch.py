"""Fundamental frequency of speech, fast enough to find it anew for every training crop. Pure numpy."""

from __future__ import annotations

import numpy as np

HIGHEST_HZ, HIGHEST_ACTED_HZ = 400.0, 600.0  # of the voice; higher limits make more octave errors
REFERENCE_HZ = 150.0


def pitch(samples: np.ndarray, rate: int, hop: int, low: float = 65.0, high: float = HIGHEST_HZ) -> np.ndarray:
    """Fundamental frequency of each mel frame as log2(Hz / 150), 0 where unvoiced: (1 + T // hop,) float32.

    The first strong peak of the normalized autocorrelation of 64 ms, its place refined by a parabola (Boersma 1993).
    """
    size = round(0.064 * rate)
    padded = np.pad(samples, (size // 2, size // 2 + hop))
    window = np.hanning(size).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][: 1 + len(samples) // hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(frames * window, 2 * size)) ** 2
    correlation = np.fft.irfft(spectrum)[:, :size]
    own = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * size)) ** 2)[:size]
    energy = correlation[:, :1]
    lags = np.arange(int(rate / high), int(rate / low) + 1)
    strength = correlation[:, lags] / (energy + 1e-9) * (own[0] / own[lags])
    best = strength.max(axis=1)
    before, here, after = strength[:, :-2], strength[:, 1:-1], strength[:, 2:]
    strong = (
        (here >= before) & (here >= after) & (here > 0.9 * best[:, None])
    )  # the shortest of several: no octave errors
    first = strong.argmax(axis=1)[:, None]
    left, peak, right = (np.take_along_axis(part, first, axis=1)[:, 0] for part in (before, here, after))
    offset = 0.5 * (left - right) / np.minimum(left - 2 * peak + right, -1e-9)
    lag = lags[1 + first[:, 0]] + np.clip(offset, -0.5, 0.5)
    loud = 10 * np.log10(energy[:, 0] + 1e-9) > 10 * np.log10(energy.max() + 1e-9) - 40
    voiced = (best > 0.5) & strong.any(axis=1) & loud
    return np.where(voiced, np.log2(rate / lag / REFERENCE_HZ), 0).astype(np.float32)
