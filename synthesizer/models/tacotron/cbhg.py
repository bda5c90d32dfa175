"""Prenet, and the bank of convolutions, highways and GRU that Tacotron has twice (arXiv 1703.10135, sec. 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from utils.linear import Linear
from utils.masks import length_mask

# x, probability, lengths (B,) or None -> x with some of it zeroed and the rest scaled; `layers.ItemDropout` is one
Dropout = Callable[[Tensor, float, Tensor | None], Tensor]


def no_dropout(x: Tensor, probability: float, lengths: Tensor | None = None) -> Tensor:
    """x as it is: a Dropout that drops nothing."""
    return x


class PreNet(nn.Module):
    """Two layers with ReLU and dropout, which stays on at inference for varied output (arXiv 1712.05884, sec. 2.2)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, probability: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)
        self.probability = probability

    def forward(self, x: Tensor, dropout: Dropout, lengths: Tensor | None = None) -> Tensor:
        """x (B, C) or (B, N, C) with lengths (B,) -> the same with C' channels"""
        x = dropout(F.relu(self.fc1(x)), self.probability, lengths)
        return dropout(F.relu(self.fc2(x)), self.probability, lengths)


class ConvNorm(nn.Module):
    """Convolution without bias, ReLU if wanted, normalization: (B, C, T) -> (B, C', T).

    Batch norm takes its statistics from what `mask` (B, T) covers; layer norm, over channels, depends on nothing else.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, relu: bool, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bnorm = nn.BatchNorm1d(outputs) if norm == "batch" else nn.LayerNorm(outputs)
        self.relu = relu

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, C, T), mask (B, T) -> (B, C', T)"""
        length = x.shape[2]
        x = self.conv(x)
        x = F.relu(x) if self.relu else x
        if mask is None:  # batch statistics include what an even kernel adds, as in the published training
            return self._normalized(x)[:, :, :length]
        x = x[:, :, :length]
        if self.training and isinstance(self.bnorm, nn.BatchNorm1d):
            rows = x.transpose(1, 2)
            x = torch.zeros_like(rows).masked_scatter(mask[..., None], self.bnorm(rows[mask])).transpose(1, 2)
        else:
            x = self._normalized(x)
        return x * mask[:, None, :]

    def _normalized(self, x: Tensor) -> Tensor:
        if isinstance(self.bnorm, nn.LayerNorm):
            return self.bnorm(x.transpose(1, 2)).transpose(1, 2)
        return self.bnorm(x)


class Highway(nn.Module):
    """y = g relu(W1 x) + (1 - g) x with the gate g = sigmoid(W2 x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.W1 = Linear(channels, channels)
        self.W2 = Linear(channels, channels)
        nn.init.zeros_(self.W1.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        gate = torch.sigmoid(self.W2(x))
        return gate * F.relu(self.W1(x)) + (1 - gate) * x


class CBHG(nn.Module):
    """(B, C, T) -> (B, T, channels).

    Given lengths (B,), padding has no influence; without them, convolutions and the GRU run over it.
    """

    def __init__(self, inputs: int, channels: int, projections: tuple[int, int], banks: int, highways: int, norm: str):
        super().__init__()
        self.conv1d_bank = nn.ModuleList(ConvNorm(inputs, channels, k, True, norm) for k in range(1, banks + 1))
        self.conv_project1 = ConvNorm(banks * channels, projections[0], 3, True, norm)
        self.conv_project2 = ConvNorm(projections[0], projections[1], 3, False, norm)
        differ = projections[1] != channels
        self.pre_highway = Linear(projections[1], channels, bias=False) if differ else None
        self.highways = nn.ModuleList(Highway(channels) for _ in range(highways))
        self.rnn = nn.GRU(channels, channels // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """x (B, C, T), lengths (B,) -> (B, T, channels)"""
        length = x.shape[2]
        mask = None if lengths is None else length_mask(lengths, length)
        x = x if mask is None else x * mask[:, None, :]
        banks = torch.cat([bank(x, mask) for bank in self.conv1d_bank], dim=1)
        pooled = F.max_pool1d(banks, kernel_size=2, stride=1, padding=1)[:, :, :length]
        pooled = pooled if mask is None else pooled * mask[:, None, :]
        y = self.conv_project2(self.conv_project1(pooled, mask), mask) + x
        y = y.transpose(1, 2)
        if self.pre_highway is not None:
            y = self.pre_highway(y)
        for highway in self.highways:
            y = highway(y)
        if lengths is None:
            return self.rnn(y)[0]
        packed = pack_padded_sequence(y, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=length)[0]
