"""Mel spectrograms in torch: batched, differentiable, on any device, equal to librosa's.

Two front ends are named here: `ENCODER_MEL` (linear power, 40 channels) and `SYNTHESIZER_MEL` (normalized
decibels, 80 channels), as the published SV2TTS models expect them. Mels are (B, M, F) or (M, F).
"""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.config import check_ranges


@dataclasses.dataclass(frozen=True)
class MelConfig:
    """How a waveform becomes a mel. Lengths are in samples, frequencies in Hz.

    With scale "db" the values are 20 log10(mel) - ref_db, with `min_db` mapped to -max_abs, 0 dB to
    +max_abs, and cut off outside. Raises ValueError for settings that make no sense.
    """

    sample_rate: int = 16000
    n_fft: int = 400
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 40
    fmin: float = 0.0
    fmax: float = 8000.0
    power: float = 2.0  # 2 power, 1 magnitude
    scale: Literal["linear", "db"] = "linear"
    preemphasis: float = 0.0  # y[n] = x[n] - preemphasis * x[n-1] before the transform; 0 for none
    ref_db: float = 20.0
    min_db: float = -100.0
    max_abs: float = 4.0

    def __post_init__(self) -> None:
        check_ranges(
            self, sample_rate=(1000, 384_000), n_fft=(2, 16_384), win_length=(1, 16_384), hop_length=(1, 16_384),
            n_mels=(1, 512), ref_db=(-200, 200), min_db=(-1000, 0), max_abs=(0, 1000),
        )  # fmt: skip
        if self.n_fft % 2:
            raise ValueError(f"n_fft is {self.n_fft}; it must be even for centered frames")
        if not self.hop_length <= self.win_length <= self.n_fft:
            raise ValueError(
                f"hop_length {self.hop_length} <= win_length {self.win_length} <= n_fft {self.n_fft} must hold"
            )
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ValueError(
                f"fmin {self.fmin} and fmax {self.fmax} must lie in order between 0 and half of "
                f"sample_rate {self.sample_rate}"
            )
        if self.power not in (1.0, 2.0):
            raise ValueError(f"power is {self.power}; it must be 1 (magnitude) or 2 (power)")
        if self.scale not in ("linear", "db"):
            raise ValueError(f"scale is {self.scale!r}; it must be 'linear' or 'db'")
        if not 0 <= self.preemphasis < 1:
            raise ValueError(f"preemphasis is {self.preemphasis}; it must be in [0, 1)")
        if self.min_db >= 0 or self.max_abs <= 0:
            raise ValueError(f"min_db {self.min_db} must be negative and max_abs {self.max_abs} positive")

    @property
    def frame_seconds(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop_length / self.sample_rate

    def frames(self, samples: int) -> int:
        """Number of frames of a waveform of `samples` samples: centered frames, so one more than whole hops."""
        return 1 + samples // self.hop_length

    def differences(self, other: MelConfig) -> list[str]:
        """One "field: mine != theirs" per field that differs; empty if the two are interchangeable."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return [f"{name}: {mine[name]} != {theirs[name]}" for name in mine if mine[name] != theirs[name]]


ENCODER_MEL = MelConfig()
SYNTHESIZER_MEL = MelConfig(
    n_fft=800,
    win_length=800,
    hop_length=200,
    n_mels=80,
    fmin=55.0,
    fmax=7600.0,
    power=1.0,
    scale="db",
    preemphasis=0.97,
)
SYNTHESIZER_MEL_22K = MelConfig(
    sample_rate=22050,
    n_fft=2048,
    win_length=2048,
    hop_length=512,
    n_mels=80,
    fmin=0.0,
    fmax=8000.0,
    power=1.0,
    scale="db",
    preemphasis=0.0,
)
# What a synthesizer and its vocoder can be trained at, by name
SYNTHESIZER_MELS = {"16k": SYNTHESIZER_MEL, "22k": SYNTHESIZER_MEL_22K}


def mel_spectrogram(wav: Tensor, config: MelConfig) -> Tensor:
    """Mel of a waveform (T,) or a batch (B, T): (M, F) or (B, M, F), with F = 1 + T // hop_length.

    Float in, float out: float64 stays, lower precisions are computed in float32, also under autocast.
    Frames are centered with zeros around the waveform, so zeros appended to a shorter item of a batch do not
    change its first 1 + T // hop_length frames (but for the one sample that pre-emphasis leaks past the end).
    Raises ValueError for an empty waveform, another number of axes, or integer samples.
    """
    if wav.ndim not in (1, 2) or wav.shape[-1] == 0:
        raise ValueError(f"a waveform is (T,) or (B, T) with T > 0, not {tuple(wav.shape)}")
    if not wav.is_floating_point():
        raise ValueError(f"samples are floats in [-1, 1], not {wav.dtype}")
    return mel_of(spectrogram(wav, config), config)


def spectrogram(wav: Tensor, config: MelConfig) -> Tensor:
    """Power or magnitude (..., n_fft // 2 + 1, F) of (T,) or (B, T); lower precisions in float32, as in autocast."""
    if wav.dtype in (torch.float16, torch.bfloat16):
        wav = wav.float()
    with torch.autocast(wav.device.type, enabled=False):
        spectrum = stft(preemphasis(wav, config.preemphasis), config)
        if config.power == 2:  # without the root of abs(), which costs more than the transform
            return spectrum.real.square() + spectrum.imag.square()
        return spectrum.abs()


def mel_of(spectrum: Tensor, config: MelConfig) -> Tensor:
    """Mel (..., M, F) of a spectrogram (..., n_fft // 2 + 1, F) of `spectrogram`."""
    with torch.autocast(spectrum.device.type, enabled=False):
        mel = mel_filterbank(config, spectrum.device, spectrum.dtype) @ spectrum
        return amplitude_to_db(mel, config) if config.scale == "db" else mel


def stft(wav: Tensor, config: MelConfig) -> Tensor:
    """Complex spectrogram (..., n_fft // 2 + 1, F) of (T,) or (B, T): periodic Hann, centered, zero-padded."""
    padded = F.pad(wav, (config.n_fft // 2, config.n_fft // 2))
    return torch.stft(
        padded,
        config.n_fft,
        config.hop_length,
        config.win_length,
        hann_window(config.win_length, wav.device, wav.dtype),
        center=False,
        return_complex=True,
    )


def amplitude_to_db(mel: Tensor, config: MelConfig) -> Tensor:
    """Linear mel to decibels, normalized to [-max_abs, max_abs]: 20 log10, minus `ref_db`, scaled, cut off."""
    level = 20 * torch.log10(mel.clamp(min=10 ** (config.min_db / 20))) - config.ref_db
    scaled = 2 * config.max_abs * (level - config.min_db) / -config.min_db - config.max_abs
    return scaled.clamp(-config.max_abs, config.max_abs)


def db_to_amplitude(mel: Tensor, config: MelConfig) -> Tensor:
    """Inverse of `amplitude_to_db` inside its range."""
    scaled = (mel.clamp(-config.max_abs, config.max_abs) + config.max_abs) / (2 * config.max_abs)
    return 10 ** ((scaled * -config.min_db + config.min_db + config.ref_db) / 20)


def preemphasis(wav: Tensor, coefficient: float = 0.97) -> Tensor:
    """y[n] = x[n] - coefficient * x[n-1] along the last axis, from silence."""
    if coefficient == 0:
        return wav
    return wav - coefficient * F.pad(wav[..., :-1], (1, 0))


def deemphasis(wav: Tensor, coefficient: float = 0.97) -> Tensor:
    """y[n] = x[n] + coefficient * y[n-1] along the last axis, from silence: the inverse of `preemphasis`.

    1 / (1 - a z) = (1 + a z)(1 + a^2 z^2)(1 + a^4 z^4)...: a few delayed additions in place of a loop over
    the samples, until the next factor is too small to be seen in float64.
    """
    delay = 1
    while delay < wav.shape[-1] and (factor := coefficient**delay) > 1e-18:
        wav = wav + factor * F.pad(wav[..., :-delay], (delay, 0))
        delay *= 2
    return wav


def mel_filterbank(config: MelConfig, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """Triangular filters of unit area on the Slaney mel scale, (M, n_fft // 2 + 1). Cached: do not write into it."""
    key = (config.sample_rate, config.n_fft, config.n_mels, config.fmin, config.fmax)
    return _filterbank(*key, torch.device(device), dtype)


def inverse_mel_filterbank(
    config: MelConfig, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Pseudo-inverse of `mel_filterbank`, (n_fft // 2 + 1, M). Cached: do not write into it."""
    key = (config.sample_rate, config.n_fft, config.n_mels, config.fmin, config.fmax)
    return _inverse_filterbank(*key, torch.device(device), dtype)


# The caches below are filled outside of inference mode: a tensor made inside of it could never take part in
# a backward pass again, and the first caller decides for all that follow.


@lru_cache(maxsize=32)
def hann_window(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Periodic Hann window. Cached: do not write into it."""
    with torch.inference_mode(False):
        return torch.hann_window(length, periodic=True, dtype=torch.float64).to(device, dtype)


@lru_cache(maxsize=32)
def _filterbank(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    with torch.inference_mode(False):
        edges = torch.linspace(_hz_to_mel(fmin), _hz_to_mel(fmax), n_mels + 2, dtype=torch.float64)
        edges = _mel_to_hz(edges)
        left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
        rising, falling = (bins - left) / (center - left), (right - bins) / (right - center)
        triangles = torch.minimum(rising, falling).clamp(min=0)
        return (triangles * 2 / (right - left)).to(device, dtype)


@lru_cache(maxsize=32)
def _inverse_filterbank(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    with torch.inference_mode(False):
        filters = _filterbank(sample_rate, n_fft, n_mels, fmin, fmax, torch.device("cpu"), torch.float64)
        return torch.linalg.pinv(filters).to(device, dtype)


# The mel scale of Slaney's Auditory Toolbox (1998): linear below 1 kHz (3 mels per 200 Hz), logarithmic above
# (27 mels per factor of 6.4).
_LINEAR = 200 / 3
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR
_LOG_STEP = math.log(6.4) / 27


def _hz_to_mel(hz: float) -> float:
    if hz < _KNEE_HZ:
        return hz / _LINEAR
    return _KNEE_MEL + math.log(hz / _KNEE_HZ) / _LOG_STEP


def _mel_to_hz(mel: Tensor) -> Tensor:
    logarithmic = _KNEE_HZ * torch.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return torch.where(mel < _KNEE_MEL, mel * _LINEAR, logarithmic)
