"""A vocoder at frame rate: ConvNeXt blocks over mel frames, an inverse STFT as the only upsampling.

Vocos (arXiv 2306.00814): the network predicts the magnitude and the phase of each frame's spectrum, so nothing
runs at sample rate. Published at 29 times the CPU speed of HiFi-GAN V1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.linear import Linear
from vocoder.config import VocosConfig
from vocoder.models.waveform import WaveformModel, WaveformOutput

MAX_LOG_MAGNITUDE = 6.0  # exp of it bounds a bin: an untrained head must not overflow


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer perceptron a frame, scaled and added (arXiv 2201.03545)."""

    def __init__(self, dim: int, hidden: int, kernel: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.expand = Linear(dim, hidden)
        self.project = Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, D, F) -> (B, D, F)"""
        y = self.norm(self.depthwise(x).transpose(1, 2))
        y = self.project(F.gelu(self.expand(y))) * self.scale
        return x + y.transpose(1, 2)


class ConvNeXt(nn.Module):
    """Blocks between a convolution and a linear layer, `head`, over features (B, inputs, F).

    `receptive_field`: frames on each side that a frame's output depends on.
    """

    def __init__(self, inputs: int, outputs: int, dim: int, hidden: int, blocks: int, kernel: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(inputs, dim, kernel, padding=kernel // 2)
        self.norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(ConvNeXtBlock(dim, hidden, kernel, 1 / blocks) for _ in range(blocks))
        self.final_norm = nn.LayerNorm(dim)
        self.head = Linear(dim, outputs)
        self.receptive_field = (1 + blocks) * (kernel // 2)
        self.apply(_initialize)

    def features(self, x: Tensor) -> Tensor:
        """The input of `head`: (B, inputs, F) -> (B, F, dim)."""
        x = self.norm(self.embed(x).transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x.transpose(1, 2))


class Vocos(ConvNeXt, WaveformModel):
    """Mel (B, M, F) -> plain (not pre-emphasized) waveform (B, (F - 1) * hop), F >= 2.

    Frame f of the mel is centered on sample f * hop, and so is its synthesis window.
    """

    window: Tensor

    def __init__(self, config: VocosConfig, n_mels: int, hop_length: int) -> None:
        outputs = config.n_fft + 2  # n_fft / 2 + 1 log magnitudes, as many phases
        super().__init__(n_mels, outputs, config.dim, config.hidden, config.blocks, config.kernel)
        self.hop_length = hop_length
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        # frames beyond its two neighbors that a hop of audio depends on: of the convolutions, of the synthesis windows
        self.lookahead = self.receptive_field + math.ceil(config.n_fft / 2 / hop_length) - 1

    def forward(self, mel: Tensor, start: Tensor | None = None) -> WaveformOutput:
        """mel (B, M, F), F >= 2 -> waveform (B, (F - 1) * hop)"""
        outputs = self.head(self.features(mel)).float()  # half precision has no inverse FFT
        log_magnitude, phase = outputs.chunk(2, dim=2)
        spectrum = torch.polar(log_magnitude.clamp(max=MAX_LOG_MAGNITUDE).exp(), phase)
        return WaveformOutput(inverse_stft(spectrum, self.window.float(), self.hop_length))


def inverse_stft(spectrum: Tensor, window: Tensor, hop_length: int) -> Tensor:
    """Overlap-add of windowed inverse FFTs, frame f centered on sample f * hop, divided by the windows' power.

    spectrum (B, F, n_fft / 2 + 1) complex, window (n_fft,) -> (B, (F - 1) * hop)
    """
    n_fft, n_frames = window.numel(), spectrum.size(1)
    summed = _overlap_add(torch.fft.irfft(spectrum, n=n_fft) * window, hop_length)
    power = _overlap_add(window.square().expand(1, n_frames, n_fft), hop_length)
    start, length = n_fft // 2, (n_frames - 1) * hop_length
    return summed[:, start : start + length] / power[:, start : start + length].clamp_min(1e-6)


def _overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """frames (B, F, n_fft) -> (B, at least n_fft + (F - 1) * hop)"""
    n_frames, n_fft = frames.shape[1:]
    hops = F.pad(frames, (0, -n_fft % hop_length)).unflatten(2, (-1, hop_length)).unbind(2)
    placed = [F.pad(hop, (0, 0, i, len(hops) - 1 - i)) for i, hop in enumerate(hops)]
    return sum(placed[1:], placed[0]).flatten(1)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
