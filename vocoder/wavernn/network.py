"""WaveRNN in the published SV2TTS arrangement: a mel resnet and an upsampling network, two residual GRUs, three dense
layers and a softmax over mu-law labels, one sample a step (after arXiv 1802.08435).

Tensor names are those of the published `vocoder.pt`, so its state loads as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.errors import CloningError
from vocoder.config import WaveRNNConfig
from vocoder.wavernn.gru import GRU


class Conditioning(NamedTuple):
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
    """Mel (B, M, F) -> `Conditioning` of the F - 2 * pad inner frames: the mel stretched and smoothed step by step."""

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

    def forward(self, mel: Tensor) -> Conditioning:
        """mel (B, M, F) -> mel at sample rate (B, (F - 2 * pad) * hop, M), features (B, F - 2 * pad, A)"""
        x = mel.unsqueeze(1)
        for layer in self.up_layers:
            x = layer(x)
        upsampled = x[:, 0, :, self.trim : x.size(3) - self.trim]
        return Conditioning(upsampled.transpose(1, 2), self.resnet(mel).transpose(1, 2))


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


@torch.no_grad()
def start_ordered(model: WaveRNN, sample_scale: float = 40.0, waves: int = 17) -> None:
    """Give a fresh model, before training, to know that labels have an order; else it needs hundreds of steps to see.

    The sample before, and the samples of a guide, weigh enough among their 100 fellow inputs to tell levels apart, and
    logits of neighboring labels begin alike: rows of the last layer are sums of slow cosines over the labels.
    """
    model.I.weight[:, 0] *= sample_scale
    model.I.weight[:, model.I.in_features - model.config.guide_taps :] *= sample_scale / 4
    if model.config.mode == "raw":
        frequencies = torch.arange(waves)
        basis = torch.cos(math.pi * torch.linspace(0, 1, model.config.outputs)[:, None] * frequencies)
        rows = basis @ (torch.randn(waves, model.config.fc_size) / (1 + frequencies[:, None] / 4))
        model.fc3.weight.copy_(rows / rows.std() * 0.1)


def published_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a published checkpoint that are weights: all but its step counter."""
    return {name: value for name, value in state.items() if name != "step"}


def published_config(state: Mapping[str, Tensor]) -> tuple[WaveRNNConfig, int]:
    """Sizes and number of mel channels of a published state, read off its tensors."""
    try:
        factors = [state[f"upsample.up_layers.{i}.weight"] for i in range(1, 2 * _upsamplers(state), 2)]
        conv_in = state["upsample.resnet.conv_in.weight"]
        outputs = state["fc3.weight"].size(0)
        config = WaveRNNConfig(
            rnn_size=state["rnn1.weight_hh_l0"].size(1),
            fc_size=state["fc3.weight"].size(1),
            bits=9 if outputs == 30 else outputs.bit_length() - 1,
            pad=conv_in.size(2) // 2,
            upsample=tuple(weight.size(3) // 2 for weight in factors),
            compute_size=conv_in.size(0),
            res_out_size=state["upsample.resnet.conv_out.weight"].size(0),
            res_blocks=sum(name.endswith(".conv1.weight") for name in state),
            mode="mol" if outputs == 30 else "raw",
        )
        return config, conv_in.size(1)
    except (KeyError, IndexError, ValueError) as error:
        raise CloningError(f"not a WaveRNN of the published layout: {error}") from error


def _upsamplers(state: Mapping[str, Tensor]) -> int:
    return sum(name.startswith("upsample.up_layers.") for name in state)


def mixture_loss(logits: Tensor, target: Tensor, levels: int = 65536, min_log_scale: float = math.log(1e-14)) -> Tensor:
    """Mean negative log likelihood under a mixture of logistics, each integrated over one level (PixelCNN++, 2.1).

    logits (B, T, 3 * K): K mixture logits, K means, K log scales; target (B, T) in [-1, 1] -> ()
    """
    weights, means, log_scales = logits.chunk(3, dim=2)
    log_scales = log_scales.clamp_min(min_log_scale)
    centered, inverse = target.unsqueeze(2) - means, torch.exp(-log_scales)
    half = 1 / (levels - 1)
    upper, lower = inverse * (centered + half), inverse * (centered - half)
    middle = inverse * centered
    mass = upper.sigmoid() - lower.sigmoid()
    # where the mass underflows: the density at the center times the level's width
    density = middle - log_scales - 2 * F.softplus(middle) - math.log((levels - 1) / 2)
    log_probability = torch.where(mass > 1e-5, mass.clamp_min(1e-12).log(), density)
    edge = target.unsqueeze(2)
    log_probability = torch.where(edge > 0.999, -F.softplus(lower), log_probability)
    log_probability = torch.where(edge < -0.999, upper - F.softplus(upper), log_probability)
    return -torch.logsumexp(log_probability + weights.log_softmax(dim=2), dim=2).mean()
