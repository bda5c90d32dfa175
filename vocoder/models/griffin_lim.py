"""A vocoder without weights: the mel's pseudo-inverse, then Griffin-Lim's search for phases that fit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.audio.mel import MelConfig, db_to_amplitude, deemphasis, hann_window, inverse_mel_filterbank, stft
from vocoder.models.vocos import inverse_stft


@dataclass(frozen=True)
class GriffinLimConfig:
    """The defaults are the fast variant (Perraudin et al. 2013), chosen by ear-like scores; see `PUBLISHED`."""

    iterations: int = 40
    momentum: float = 0.9  # 0: plain alternation
    power: float = 1.3  # sharpens the spectrum, which the mel blurred

    def __post_init__(self) -> None:
        if self.iterations < 0 or not 0 <= self.momentum < 1 or self.power <= 0:
            raise ValueError(
                f"iterations {self.iterations}, momentum {self.momentum} and power {self.power} must be at least 0, in "
                "[0, 1) and above 0"
            )


PUBLISHED = GriffinLimConfig(iterations=60, momentum=0.0, power=1.5)


def linear_magnitude(mel: Tensor, config: MelConfig) -> Tensor:
    """mel (M, F) -> magnitudes (n_fft / 2 + 1, F) whose mel is nearest, at least 1e-10."""
    spectrum = db_to_amplitude(mel, config) if config.scale == "db" else mel
    linear = (inverse_mel_filterbank(config, mel.device, mel.dtype) @ spectrum).clamp_min(1e-10)
    return linear if config.power == 1 else linear.sqrt()


def griffin_lim(magnitude: Tensor, phase: Tensor, config: MelConfig, how: GriffinLimConfig) -> Tensor:
    """Waveform ((F - 1) * hop,) whose magnitudes come near the given ones.

    magnitude (n_fft / 2 + 1, F), phase: where the search begins, the same shape, in radians
    """
    margin = config.n_fft - config.win_length
    window = hann_window(config.win_length, magnitude.device, magnitude.dtype)
    window = F.pad(window, (margin // 2, margin - margin // 2))
    carrier = torch.polar(torch.ones_like(magnitude), phase)
    wav = inverse_stft((magnitude * carrier).T[None], window, config.hop_length)[0]
    previous = torch.zeros_like(carrier)
    for _ in range(how.iterations):
        rebuilt = stft(wav, config)
        ahead = rebuilt + how.momentum * (rebuilt - previous) if how.momentum else rebuilt
        previous = rebuilt
        size = ahead.abs()
        # silence has no direction: phase 0 there
        carrier = torch.where(size > 1e-16, ahead / size.clamp_min(1e-16), torch.ones_like(ahead))
        wav = inverse_stft((magnitude * carrier).T[None], window, config.hop_length)[0]
    return wav


def mel_to_waveform(mel: Tensor, config: MelConfig, how: GriffinLimConfig, seed: int) -> Tensor:
    """mel (M, F), F >= 2 -> plain waveform ((F - 1) * hop,); the starting phases come from `seed`."""
    magnitude = linear_magnitude(mel, config) ** how.power
    generator = torch.Generator().manual_seed(int(seed))
    phase = 2 * torch.pi * torch.rand(magnitude.shape, generator=generator)
    return deemphasis(griffin_lim(magnitude, phase.to(magnitude), config, how), config.preemphasis)
