"""The critics of the adversarial phase, all with one face: wav (B, T) -> scores and inner features.

Multi-period and multi-scale as in HiFi-GAN (arXiv 2010.05646, 2.3), multi-resolution as in UnivNet (arXiv 2106.07889).
`channels` sizes them all; HiFi-GAN's own are channels 32, growth 4.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from utils.audio.mel import hann_window
from vocoder.config import DiscriminatorConfig

SLOPE = 0.1


class Judgement(NamedTuple):
    scores: list[Tensor]  # one a critic, any shape
    features: list[list[Tensor]]  # one list a critic


class Discriminators(nn.Module):
    """All critics that the settings ask for."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        critics: list[nn.Module] = []
        if config.multi_period:
            critics += [PeriodCritic(period, config.channels, config.growth) for period in config.periods]
        if config.multi_scale:
            critics += [ScaleCritic(i, config.channels) for i in range(config.scales)]
        if config.multi_resolution:
            critics += [ResolutionCritic(n_fft, config.channels) for n_fft in config.resolutions]
        self.critics = nn.ModuleList(critics)

    def forward(self, wav: Tensor) -> Judgement:
        """wav (B, T)"""
        judged = [critic(wav) for critic in self.critics]
        return Judgement([features[-1] for features in judged], [features[:-1] for features in judged])


class PeriodCritic(nn.Module):
    """Looks at every `period`-th sample: (B, T) folded to (B, 1, T / period, period)."""

    def __init__(self, period: int, channels: int, growth: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, *(min(channels * growth**i, channels * 32) for i in range(4))]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0))) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.layers.append(weight_norm(nn.Conv2d(widths[-1], widths[-1], (5, 1), 1, (2, 0))))
        self.score = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), 1, (1, 0)))

    def forward(self, wav: Tensor) -> list[Tensor]:
        missing = -wav.size(1) % self.period
        x = F.pad(wav, (0, missing)).unflatten(1, (-1, self.period)).unsqueeze(1)
        return _features(self.layers, self.score, x)


class ScaleCritic(nn.Module):
    """Looks at the waveform averaged down by 2^halvings, through grouped convolutions of long reach."""

    def __init__(self, halvings: int, channels: int) -> None:
        super().__init__()
        self.halvings = halvings
        # the undivided waveform is judged under spectral norm, as published
        norm = weight_norm if halvings else spectral_norm
        c = channels * 4
        shapes = [  # in, out, kernel, stride, groups
            (1, c, 15, 1, 1),
            (c, c, 41, 2, 4),
            (c, c * 2, 41, 2, 16),
            (c * 2, c * 4, 41, 4, 16),
            (c * 4, c * 8, 41, 4, 16),
            (c * 8, c * 8, 41, 1, 16),
            (c * 8, c * 8, 5, 1, 1),
        ]
        self.layers = nn.ModuleList(
            norm(nn.Conv1d(a, b, kernel, stride, kernel // 2, groups=groups)) for a, b, kernel, stride, groups in shapes
        )
        self.score = norm(nn.Conv1d(c * 8, 1, 3, padding=1))

    def forward(self, wav: Tensor) -> list[Tensor]:
        x = wav.unsqueeze(1)
        for _ in range(self.halvings):
            x = F.avg_pool1d(x, 4, 2, 2)
        return _features(self.layers, self.score, x)


class ResolutionCritic(nn.Module):
    """Looks at the magnitude spectrogram of one window length: (B, 1, bins, frames)."""

    def __init__(self, n_fft: int, channels: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        # narrow where the map is large: these layers cost the most of all critics
        c = max(1, channels // 2)
        shapes = [(1, c, (2, 1)), (c, c, (2, 1)), (c, channels, (2, 2)), (channels, channels, (2, 1))]
        self.layers = nn.ModuleList(weight_norm(nn.Conv2d(a, b, (7, 3), stride, (3, 1))) for a, b, stride in shapes)
        self.layers.append(weight_norm(nn.Conv2d(channels, channels, 3, 1, 1)))
        self.score = weight_norm(nn.Conv2d(channels, 1, 3, 1, 1))

    def forward(self, wav: Tensor) -> list[Tensor]:
        window = hann_window(self.n_fft, wav.device, torch.float32)
        spectrum = torch.stft(
            wav.float(), self.n_fft, self.n_fft // 4, window=window, pad_mode="constant", return_complex=True
        )
        magnitude = (spectrum.real.square() + spectrum.imag.square()).clamp_min(1e-7).sqrt()
        # compressed, so that quiet bins are seen too
        return _features(self.layers, self.score, magnitude.pow(0.3).unsqueeze(1))


def _features(layers: nn.ModuleList, score: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs of all layers, the score last."""
    features = []
    for layer in layers:
        if x.is_cuda and x.ndim == 4:  # as the matrix units of a GPU want it
            x = x.contiguous(memory_format=torch.channels_last)
        x = F.leaky_relu(layer(x), SLOPE)
        features.append(x)
    return [*features, score(x)]
