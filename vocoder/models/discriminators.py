"""The discriminators of the adversarial phase, of one interface: wav (B, T) -> scores and inner features.

Multi-period and multi-scale as in HiFi-GAN (arXiv 2010.05646, 2.3), multi-resolution as in UnivNet (arXiv 2106.07889).
`channels` sizes them all; HiFi-GAN's own are channels 32, growth 4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from utils.adversarial import DiscriminatorOutput
from utils.audio.mel import hann_window
from utils.operations import image
from vocoder.config import DiscriminatorConfig

SLOPE = 0.1


class Discriminators(nn.Module):
    """All discriminators that the settings ask for."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        discriminators: list[nn.Module] = []
        if config.multi_period:
            discriminators += [PeriodDiscriminator(period, config.channels, config.growth) for period in config.periods]
        if config.multi_scale:
            discriminators += [ScaleDiscriminator(i, config.channels) for i in range(config.scales)]
        if config.multi_resolution:
            discriminators += [ResolutionDiscriminator(n_fft, config.channels) for n_fft in config.resolutions]
        self.discriminators = nn.ModuleList(discriminators)
        self.register_load_state_dict_pre_hook(_rename_former)

    def forward(self, wav: Tensor) -> DiscriminatorOutput:
        """wav (B, T) -> of each discriminator its scores and the outputs of its layers"""
        found = [discriminator(wav) for discriminator in self.discriminators]
        return DiscriminatorOutput([features[-1] for features in found], [features[:-1] for features in found])


class PeriodDiscriminator(nn.Module):
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
        """wav (B, T) -> outputs (B, C, T / period / 3^i, period) of the layers, scores (B, 1, ., period) last"""
        missing = -wav.size(1) % self.period
        x = F.pad(wav, (0, missing)).unflatten(1, (-1, self.period)).unsqueeze(1)
        return _features(self.layers, self.score, x)


class ScaleDiscriminator(nn.Module):
    """Looks at the waveform averaged down by 2^halvings, through grouped convolutions with a large receptive field."""

    def __init__(self, halvings: int, channels: int) -> None:
        super().__init__()
        self.halvings = halvings
        # on the undivided waveform: spectral norm, as published
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
        """wav (B, T) -> outputs (B, C, t) of the layers, scores (B, 1, t) last"""
        x = wav.unsqueeze(1)
        for _ in range(self.halvings):
            x = F.avg_pool1d(x, 4, 2, 2)
        return _features(self.layers, self.score, x)


class ResolutionDiscriminator(nn.Module):
    """Looks at the magnitude spectrogram of one window length: (B, 1, bins, frames)."""

    def __init__(self, n_fft: int, channels: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        # narrow where the map is large: these layers cost the most of all
        c = max(1, channels // 2)
        shapes = [(1, c, (2, 1)), (c, c, (2, 1)), (c, channels, (2, 2)), (channels, channels, (2, 1))]
        self.layers = nn.ModuleList(weight_norm(nn.Conv2d(a, b, (7, 3), stride, (3, 1))) for a, b, stride in shapes)
        self.layers.append(weight_norm(nn.Conv2d(channels, channels, 3, 1, 1)))
        self.score = weight_norm(nn.Conv2d(channels, 1, 3, 1, 1))

    def forward(self, wav: Tensor) -> list[Tensor]:
        """wav (B, T) -> outputs (B, C, bins, frames) of the layers, scores (B, 1, bins, frames) last"""
        window = hann_window(self.n_fft, wav.device, torch.float32)
        spectrum = torch.stft(
            wav.float(), self.n_fft, self.n_fft // 4, window=window, pad_mode="constant", return_complex=True
        )
        magnitude = (spectrum.real.square() + spectrum.imag.square()).clamp_min(1e-7).sqrt()
        # compressed, so that quiet bins are seen too
        return _features(self.layers, self.score, magnitude.pow(0.3).unsqueeze(1))


def _rename_former(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Tensors of training states from when the list had another name."""
    for name in [name for name in state if name.startswith(f"{prefix}critics.")]:
        state[f"{prefix}discriminators.{name.removeprefix(f'{prefix}critics.')}"] = state.pop(name)


def _features(layers: nn.ModuleList, score: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs of all layers, the score last."""
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(image(x)), SLOPE)
        features.append(x)
    return [*features, score(x)]
