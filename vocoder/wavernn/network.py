"""WaveRNN in the published SV2TTS arrangement: a mel resnet and an upsampling network, two residual GRUs, three dense
layers and a softmax over mu-law labels, one sample a step (after arXiv 1802.08435).

Tensor names are those of the published `vocoder.pt`, so its state loads as it is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoder.config import WaveRNNConfig
from vocoder.wavernn.gru import GRU


class UpsampledConditioning(NamedTuple):
    """What the recurrent part is conditioned on. Sample i belongs to row i of `mel` and row i // hop of `aux`."""

    mel: Tensor  # (B, T, M) at sample rate
    aux: Tensor  # (B, F, A) at frame rate, four parts side by side

    @property
    def hop_length(self) -> int:
        """Samples of a frame."""
        return self.mel.size(1) // self.aux.size(1)


class ResBlock(nn.Module):
    """Two pointwise convolutions with batch norm, added to the input."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(size, size, 1, bias=False)
        self.conv2 = nn.Conv1d(size, size, 1, bias=False)
        self.batch_norm1 = nn.BatchNorm1d(size)
        self.batch_norm2 = nn.BatchNorm1d(size)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, F) -> (B, C, F)"""
        y = F.relu(self.batch_norm1(self.conv1(x)))
        return x + self.batch_norm2(self.conv2(y))


class MelResNet(nn.Module):
    """Mel (B, M, F) -> features (B, A, F - 2 * pad)."""

    def __init__(self, config: WaveRNNConfig, n_mels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv1d(n_mels, config.compute_size, 2 * config.pad + 1, bias=False)
        self.batch_norm = nn.BatchNorm1d(config.compute_size)
        self.layers = nn.ModuleList(ResBlock(config.compute_size) for _ in range(config.res_blocks))
        self.conv_out = nn.Conv1d(config.compute_size, config.res_out_size, 1)

    def forward(self, mel: Tensor) -> Tensor:
        """mel (B, M, F) -> features (B, A, F - 2 * pad)"""
        x = F.relu(self.batch_norm(self.conv_in(mel)))
        for layer in self.layers:
            x = layer(x)
        return self.conv_out(x)


class Stretch(nn.Module):
    """Repeats every frame (last axis) `factor` times."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """x (..., F) -> (..., factor * F)"""
        return x.repeat_interleave(self.factor, dim=-1)


class UpsampleNetwork(nn.Module):
    """Mel (B, M, F) -> the inner F - 2 * pad frames, the mel stretched and smoothed step by step."""

    def __init__(self, config: WaveRNNConfig, n_mels: int) -> None:
        super().__init__()
        self.factors = config.upsample
        self.trim = config.pad * math.prod(config.upsample)
        self.resnet = MelResNet(config, n_mels)
        layers: list[nn.Module] = []
        for factor in config.upsample:
            smooth = nn.Conv2d(1, 1, (1, 2 * factor + 1), padding=(0, factor), bias=False)
            nn.init.constant_(smooth.weight, 1 / (2 * factor + 1))
            layers += [Stretch(factor), smooth]
        self.up_layers = nn.ModuleList(layers)

    def forward(self, mel: Tensor) -> UpsampledConditioning:
        """mel (B, M, F) -> mel at sample rate (B, (F - 2 * pad) * hop, M), features (B, F - 2 * pad, A)"""
        x = mel.unsqueeze(1)
        for layer in self.up_layers:
            x = layer(x)
        upsampled = x[:, 0, :, self.trim : x.size(3) - self.trim]
        return UpsampledConditioning(upsampled.transpose(1, 2), self.resnet(mel).transpose(1, 2))


class WaveRNN(nn.Module):
    """Next-sample model: `forward` with the true past; `vocoder.wavernn.generate` runs it freely."""

    def __init__(self, config: WaveRNNConfig, n_mels: int) -> None:
        super().__init__()
        self.config, self.n_mels = config, n_mels
        aux, size = config.res_out_size // 4, config.rnn_size
        self.upsample = UpsampleNetwork(config, n_mels)
        self.I = nn.Linear(1 + n_mels + aux + config.guide_taps, size)
        self.rnn1 = GRU(size, size)
        self.rnn2 = GRU(size + aux, size)
        self.fc1 = nn.Linear(size + aux, config.fc_size)
        self.fc2 = nn.Linear(config.fc_size + aux, config.fc_size)
        self.fc3 = nn.Linear(config.fc_size, config.outputs)

    def forward(self, x: Tensor, mel: Tensor, guide: Tensor | None = None) -> Tensor:
        """x (B, T) the samples before each output, mel (B, M, T / hop + 2 * pad) -> logits (B, T, outputs)

        guide (B, T + guide_taps): as `vocoder.wavernn.guide.heard` makes it, where the network has a guide.
        """
        conditioning = self.upsample(mel)
        hop = conditioning.hop_length
        a1, a2, a3, a4 = conditioning.aux.repeat_interleave(hop, dim=1).chunk(4, dim=2)
        inputs = [x.unsqueeze(2), conditioning.mel, a1]
        if guide is not None:
            inputs.append(guide.unfold(1, self.config.guide_taps, 1)[:, :-1])
        y = self.I(torch.cat(inputs, dim=2))
        y = y + self.rnn1(y)[0]
        y = y + self.rnn2(torch.cat([y, a2], dim=2))[0]
        y = F.relu(self.fc1(torch.cat([y, a3], dim=2)))
        y = F.relu(self.fc2(torch.cat([y, a4], dim=2)))
        return self.fc3(y)
