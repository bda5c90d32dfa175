"""Silence trimming: WebRTC's voice activity detector, smoothed as in the published SV2TTS encoder, or Silero's.

Windows are judged one by one, the flags are averaged, rounded and widened, and the samples of the windows that
remain are joined with hard cuts. WebRTC's detector goes by levels and costs next to nothing; Silero's is a small
recurrent network with a memory of the recording, keeps faint speech that WebRTC's drops, and costs 0.5 ms a window.
`webrtcvad` and `silero_vad` are imported where they are used: training needs neither.
"""

from __future__ import annotations

import copy
import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from utils.audio.io import to_pcm16
from utils.errors import CloningError, missing_package

SILENCE_PEAK = 1e-4  # -80 dBFS: below any microphone's noise, so nothing was recorded


@dataclasses.dataclass(frozen=True)
class VadConfig:
    """Settings of the detector and of the smoothing; the defaults are the published ones."""

    detector: Literal["webrtc", "silero"] = "webrtc"
    mode: int = 3  # of webrtc: 0 keeps most, 3 trims most
    window_ms: int = 30  # of webrtc: 10, 20 or 30; silero's windows last 32 ms
    threshold: float = 0.5  # of silero: the probability from which on there is voice
    release: float = 0.35  # of silero: the probability below which voice ends
    average_width: int = 8  # windows in the moving average over the flags; 1: none
    max_silence: int = 6  # windows: the voice found is widened until silences of this length are kept

    def __post_init__(self) -> None:
        if self.detector not in ("webrtc", "silero"):
            raise ValueError(f"detector is {self.detector!r}; it must be 'webrtc' or 'silero'")
        if self.mode not in (0, 1, 2, 3):
            raise ValueError(f"mode is {self.mode}; it must be 0, 1, 2 or 3")
        if self.window_ms not in (10, 20, 30):
            raise ValueError(f"window_ms is {self.window_ms}; it must be 10, 20 or 30")
        if not 0 < self.release <= self.threshold < 1:
            raise ValueError(f"release {self.release} and threshold {self.threshold}: 0 < release <= threshold < 1")
        if self.average_width < 1 or self.max_silence < 0:
            raise ValueError(f"average_width {self.average_width} >= 1, max_silence {self.max_silence} >= 0")

    def window_samples(self, sample_rate: int = 16000) -> int:
        """Samples that the detector judges at a time."""
        return sample_rate * (32 if self.detector == "silero" else self.window_ms) // 1000

    @property
    def lookahead(self) -> int:
        """Windows after a window that its smoothed decision waits for."""
        return self.average_width // 2 + (self.max_silence + 1) // 2


DEFAULT = VadConfig()
SILERO = VadConfig(detector="silero", average_width=1)  # its flags hardly flicker, and averaging would drop short words


class Detector(Protocol):
    """Judges consecutive windows of one recording; it remembers those before."""

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Whole windows (W * window_samples,) in [-1, 1] -> whether there is voice in each (W,), as bool."""


def new_detector(sample_rate: int = 16000, config: VadConfig = DEFAULT) -> Detector:
    """A detector before the first window.

    Raises ValueError for a rate it does not take, CloningError when its package is not installed.
    """
    rates = (8000, 16000) if config.detector == "silero" else (8000, 16000, 32000, 48000)
    if sample_rate not in rates:
        raise ValueError(f"voice is detected at {', '.join(map(str, rates))} Hz, not {sample_rate}")
    return (_Silero if config.detector == "silero" else _Webrtc)(sample_rate, config)


class _Webrtc:
    def __init__(self, sample_rate: int, config: VadConfig) -> None:
        try:
            from webrtcvad import Vad
        except ImportError as error:
            raise missing_package("webrtcvad-wheels", "trimming silences", "requirements.txt") from error
        self.is_speech, self.rate = Vad(config.mode).is_speech, sample_rate
        self.bytes = 2 * config.window_samples(sample_rate)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        pcm, size = memoryview(to_pcm16(samples).tobytes()), self.bytes
        flags = (self.is_speech(pcm[start : start + size], self.rate) for start in range(0, len(pcm), size))
        return np.fromiter(flags, bool, len(pcm) // size)


class _Silero:
    def __init__(self, sample_rate: int, config: VadConfig) -> None:
        self.network = copy.deepcopy(_silero_network())  # it holds what it heard
        self.network.reset_states()
        self.rate, self.config, self.voice = sample_rate, config, False

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        import torch

        windows = torch.from_numpy(np.array(samples, np.float32)).view(-1, self.config.window_samples(self.rate))
        flags = np.empty(len(windows), bool)
        with torch.inference_mode():
            for i, window in enumerate(windows):
                bound = self.config.release if self.voice else self.config.threshold
                flags[i] = self.voice = float(self.network(window, self.rate)) >= bound
        return flags


@lru_cache(maxsize=1)
def _silero_network() -> Any:
    """The network in the package's wheel, without importing the package: that would set torch to one thread."""
    from importlib.util import find_spec

    import torch

    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise missing_package("silero-vad", "the voice detector silero", "requirements/vad.txt")
    path = Path(spec.origin).parent / "data" / "silero_vad.jit"
    if not path.is_file():
        raise CloningError(
            f"{path} is missing: this release of silero-vad has other files: pip install silero-vad==6.2.*"
        )
    return torch.jit.load(path, map_location="cpu").eval()


def window_flags(samples: np.ndarray, sample_rate: int = 16000, config: VadConfig = DEFAULT) -> np.ndarray:
    """The detector's own decision per window (W,), as bool; the tail that fills no window has none.

    `samples` (T,) are floats in [-1, 1] at 8, 16, 32 or 48 kHz (silero: 8 or 16). Raises ValueError for another rate.
    """
    detector, window = new_detector(sample_rate, config), config.window_samples(sample_rate)
    return detector(samples[: len(samples) // window * window])


def smooth(flags: np.ndarray, config: VadConfig = DEFAULT) -> np.ndarray:
    """Flags (W,) averaged over `average_width` windows, rounded (half to even), widened by `max_silence` windows."""
    average = _moving_sum(flags, config.average_width) / config.average_width
    return _moving_sum(np.round(average) > 0, config.max_silence + 1) > 0


def voiced_mask(samples: np.ndarray, sample_rate: int = 16000, config: VadConfig = DEFAULT) -> np.ndarray:
    """Which windows (W,) of `samples` (T,) are kept as voice; W = whole windows of the detector."""
    return smooth(window_flags(samples, sample_rate, config), config)


def trim_silence(samples: np.ndarray, sample_rate: int = 16000, config: VadConfig = DEFAULT) -> np.ndarray:
    """`samples` (T,) without the windows that hold no voice, and without the tail that fills no window."""
    window = config.window_samples(sample_rate)
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
    of voice is left. `what` names the audio in the message. Normalize the volume first, as for any trimming: the
    detector goes by level, finds nothing in faint speech, and takes loud steady noise for voice.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if peak < SILENCE_PEAK:
        raise CloningError(f"{what} is silence only: nothing was recorded in its {len(samples) / sample_rate:.1f} s")
    voice = trim_silence(samples, sample_rate, config)
    found = len(voice) / sample_rate
    if found < min_seconds:
        raise CloningError(
            f"too little voice: found {found:.2f} s of speech in {what} ({len(samples) / sample_rate:.2f} s long), "
            f"at least {min_seconds:.2f} s is wanted: give a longer or clearer recording"
        )
    return voice


def _moving_sum(flags: np.ndarray, width: int) -> np.ndarray:
    """Sum of the `width` flags around each, (width - 1) // 2 of them before it; zeros outside."""
    before = (width - 1) // 2
    total = np.concatenate([np.zeros(before + 1, np.int64), np.cumsum(flags, dtype=np.int64)])
    total = np.pad(total, (0, width - 1 - before), mode="edge")
    return total[width:] - total[:-width]
