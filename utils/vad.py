"""Silence trimming by WebRTC's voice activity detector, smoothed as in the published SV2TTS encoder.

Windows of 30 ms are judged one by one, the flags are averaged, rounded and widened, and the samples of the
windows that remain are joined with hard cuts. `webrtcvad` is imported where it is used: training needs none.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from utils.audio import to_pcm16
from utils.errors import CloningError, require_package

SILENCE_PEAK = 1e-4  # -80 dBFS: below any microphone's noise, so nothing was recorded


@dataclasses.dataclass(frozen=True)
class VadConfig:
    """Settings of the detector and of the smoothing; the defaults are the published ones."""

    mode: int = 3  # 0 keeps most, 3 trims most
    window_ms: int = 30  # 10, 20 or 30: what the detector takes
    average_width: int = 8  # windows in the moving average over the flags
    max_silence: int = 6  # windows: the voice found is widened until silences of this length are kept

    def __post_init__(self) -> None:
        if self.mode not in (0, 1, 2, 3):
            raise ValueError(f"mode is {self.mode}; it must be 0, 1, 2 or 3")
        if self.window_ms not in (10, 20, 30):
            raise ValueError(f"window_ms is {self.window_ms}; it must be 10, 20 or 30")
        if self.average_width < 1 or self.max_silence < 0:
            raise ValueError(f"average_width {self.average_width} >= 1, max_silence {self.max_silence} >= 0")


DEFAULT = VadConfig()


def window_flags(samples: np.ndarray, sample_rate: int = 16000, config: VadConfig = DEFAULT) -> np.ndarray:
    """The detector's own decision per window (W,), as bool; the tail that fills no window has none.

    `samples` (T,) are floats in [-1, 1] at 8, 16, 32 or 48 kHz. Raises ValueError for another rate.
    """
    if sample_rate not in (8000, 16000, 32000, 48000):
        raise ValueError(f"voice is detected at 8000, 16000, 32000 or 48000 Hz, not {sample_rate}")
    try:
        from webrtcvad import Vad
    except ImportError as error:
        raise require_package("webrtcvad-wheels", "trimming silences", "requirements.txt") from error
    window = _window_samples(sample_rate, config)
    count = len(samples) // window
    pcm = memoryview(to_pcm16(samples[: count * window]).tobytes())
    is_speech, size = Vad(config.mode).is_speech, 2 * window
    return np.fromiter(
        (is_speech(pcm[start : start + size], sample_rate) for start in range(0, count * size, size)), bool, count
    )


def smooth(flags: np.ndarray, config: VadConfig = DEFAULT) -> np.ndarray:
    """Flags (W,) averaged over `average_width` windows, rounded (half to even), widened by `max_silence` windows."""
    average = _moving_sum(flags, config.average_width) / config.average_width
    return _moving_sum(np.round(average) > 0, config.max_silence + 1) > 0


def voiced_mask(samples: np.ndarray, sample_rate: int = 16000, config: VadConfig = DEFAULT) -> np.ndarray:
    """Which windows (W,) of `samples` (T,) are kept as voice; W = whole windows of `config.window_ms`."""
    return smooth(window_flags(samples, sample_rate, config), config)


def trim_silence(samples: np.ndarray, sample_rate: int = 16000, config: VadConfig = DEFAULT) -> np.ndarray:
    """`samples` (T,) without the windows that hold no voice, and without the tail that fills no window."""
    window = _window_samples(sample_rate, config)
    mask = voiced_mask(samples, sample_rate, config)
    return samples[: len(mask) * window].reshape(-1, window)[mask].reshape(-1)


def require_voice(
    samples: np.ndarray,
    min_seconds: float,
    what: str,
    *,
    sample_rate: int = 16000,
    config: VadConfig = DEFAULT,
) -> np.ndarray:
    """`trim_silence(samples)`, refused with a CloningError if nothing was recorded or less than `min_seconds`
    of voice is left. `what` names the audio in the message. Normalise the volume first, as for any trimming: the
    detector goes by level, finds nothing in faint speech, and takes loud steady noise for voice.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if peak < SILENCE_PEAK:
        raise CloningError(f"{what} is silence only: nothing was recorded in its {len(samples) / sample_rate:.1f} s")
    voice = trim_silence(samples, sample_rate, config)
    found = len(voice) / sample_rate
    if found < min_seconds:
        raise CloningError(
            f"too little voice: found {found:.1f} s of speech in {what} ({len(samples) / sample_rate:.1f} s long), "
            f"at least {min_seconds:.1f} s is wanted: give a longer or clearer recording"
        )
    return voice


def _window_samples(sample_rate: int, config: VadConfig) -> int:
    return sample_rate * config.window_ms // 1000


def _moving_sum(flags: np.ndarray, width: int) -> np.ndarray:
    """Sum of the `width` flags around each, (width - 1) // 2 of them before it; zeros outside."""
    before = (width - 1) // 2
    total = np.concatenate([np.zeros(before + 1, np.int64), np.cumsum(flags, dtype=np.int64)])
    total = np.pad(total, (0, width - 1 - before), mode="edge")
    return total[width:] - total[:-width]
