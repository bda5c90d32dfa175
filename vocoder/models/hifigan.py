"""HiFi-GAN's generator (arXiv 2010.05646, 2.2): transposed convolutions, each followed by residual blocks whose
kernels and dilations differ and whose outputs are averaged (multi-receptive field fusion)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from utils.audio.mel import MelConfig
from vocoder.config import HifiGanConfig, SourceFilterConfig
from vocoder.models.source_filter import SourceFilter
from vocoder.models.waveform import WaveformModel, WaveformOutput

SLOPE = 0.1  # of every leaky ReLU


class ResidualBlock(nn.Module):
    """For each dilation: a dilated convolution, a plain one, added to the input."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(
            _normed(nn.Conv1d(channels, channels, kernel, dilation=d, padding=d * (kernel - 1) // 2)) for d in dilations
        )
        self.plain = nn.ModuleList(
            _normed(nn.Conv1d(channels, channels, kernel, padding=kernel // 2)) for _ in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) -> (B, C, T)"""
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class HifiGan(WaveformModel):
    """Mel (B, M, F) -> waveform (B, (F - 1) * hop) in [-1, 1], F >= 2; hop is the product of the upsampling rates."""

    def __init__(self, config: HifiGanConfig, n_mels: int) -> None:
        super().__init__()
        self.hop_length = math.prod(config.upsample_rates)
        self.conv_in = weight_norm(nn.Conv1d(n_mels, config.channels, 7, padding=3))
        self.upsamplers, self.blocks = nn.ModuleList(), nn.ModuleList()
        channels = config.channels
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernels, strict=True):
            up = nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2)
            self.upsamplers.append(_normed(up))
            channels //= 2
            self.blocks.append(
                nn.ModuleList(ResidualBlock(channels, k, config.resblock_dilations) for k in config.resblock_kernels)
            )
        self.conv_out = _normed(nn.Conv1d(channels, 1, 7, padding=3))
        self.lookahead = _lookahead(config)

    def forward(self, mel: Tensor, start: Tensor | None = None) -> WaveformOutput:
        """mel (B, M, F) -> waveform (B, (F - 1) * hop)"""
        return WaveformOutput(self.upsampled(mel))

    def upsampled(self, mel: Tensor, added: Sequence[Tensor] = ()) -> Tensor:
        """mel (B, M, F), `added` after the upsampling of each stage, (B, C, T) as it has -> (B, (F - 1) * hop)"""
        x = self.conv_in(mel)
        for i, (upsample, blocks) in enumerate(zip(self.upsamplers, self.blocks, strict=True)):
            x = upsample(F.leaky_relu(x, SLOPE))
            if added:
                x = x + added[i]
            assert isinstance(blocks, nn.ModuleList)
            x = torch.stack([block(x) for block in blocks]).mean(dim=0)
        wav = torch.tanh(self.conv_out(F.leaky_relu(x, SLOPE)))[:, 0]
        # Frame f made samples f * hop .. (f + 1) * hop, but the mel's frames are centered: half a hop goes at each end.
        start = self.hop_length // 2
        return wav[:, start : start + (mel.size(2) - 1) * self.hop_length]


class GuidedHifiGan(SourceFilter):
    """HiFi-GAN over the mel and over what a frame-rate vocoder, its guide, makes of it, and to which it adds.

    The guide's waveform enters at every stage through a strided convolution, as the source of HiFTNet (arXiv
    2309.09493). An untrained generator adds nothing. The guide's tensors have the names of a `SourceFilter`.
    """

    def __init__(self, config: HifiGanConfig, guide: SourceFilterConfig, mel: MelConfig) -> None:
        super().__init__(guide, mel)
        self.generator = HifiGan(config, mel.n_mels)
        for name in ("parametrizations.weight.original0", "bias"):  # the norm of the weight
            nn.init.zeros_(self.generator.conv_out.get_parameter(name))
        self.sources = nn.ModuleList()
        channels, rate = config.channels, self.hop_length
        for factor in config.upsample_rates:
            channels, rate = channels // 2, rate // factor  # samples of the guide to one of this stage
            kernel = 2 * rate + rate % 2 if rate > 1 else 7  # an even number beyond the stride, so that stages align
            self.sources.append(weight_norm(nn.Conv1d(1, channels, kernel, rate, padding=(kernel - rate) // 2)))
        self.lookahead = max(self.generator.lookahead, self.lookahead + _lookahead(config, source=True))

    def render(self, mel: Tensor, pitch: Tensor, phase: Tensor, start: Tensor) -> Tensor:
        """mel (B, M, F), pitch and phase (B, F), start (B,) -> waveform (B, (F - 1) * hop)"""
        guide = super().render(mel, pitch, phase, start)
        return guide + self.refinement(mel, guide)

    def refinement(self, mel: Tensor, guide: Tensor) -> Tensor:
        """What is added: mel (B, M, F), guide (B, (F - 1) * hop) -> (B, (F - 1) * hop)"""
        # the generator's first sample is half a hop before the center of frame 0, and half a hop goes at the end too
        before = self.hop_length // 2
        heard = F.pad(guide[:, None], (before, self.hop_length - before)).to(mel.dtype)
        return self.generator.upsampled(mel, [conv(heard) for conv in self.sources]).float()


def remove_weight_norm(model: nn.Module) -> None:
    """Fold the norms into plain weights, for inference: the same output, fewer operations."""
    for module in model.modules():
        if is_parametrized(module, "weight"):
            remove_parametrizations(module, "weight")


def _lookahead(config: HifiGanConfig, source: bool = False) -> int:
    """Frames beyond its two neighbors that a hop of audio depends on, rounded up; `source`: of what is added alone."""
    frames, rate = 0.0 if source else 3.0, 1  # the first convolution's; samples a frame at each stage
    for factor, kernel in zip(config.upsample_rates, config.upsample_kernels, strict=True):
        if rate > 1 or not source:
            frames += (kernel - 1) / 2 / (rate * factor) + 1 / rate
        else:
            frames += 1 / factor  # half of the kernel over the source
        rate *= factor
        # a dilated and a plain convolution for each dilation
        frames += max(k // 2 * sum(d + 1 for d in config.resblock_dilations) for k in config.resblock_kernels) / rate
    return math.ceil(frames + 3 / rate)


def _normed(conv: nn.Conv1d | nn.ConvTranspose1d) -> nn.Module:
    nn.init.normal_(conv.weight, 0.0, 0.01)
    return weight_norm(conv)
