"""A convolution and transformer encoder: a quarter of the frames, all blocks pooled over the valid frames only."""

from __future__ import annotations

import math
from collections.abc import Generator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoder.config import EncoderConfig, TransformerConfig
from encoder.network import EncoderNetwork, completed, full_lengths, normalized_log
from utils.linear import Linear
from utils.masks import length_mask
from utils.operations import attention


class TransformerEncoder(EncoderNetwork):
    """Log mel -> two strided convolutions -> positions -> blocks -> statistics of the valid frames -> length 1."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        sizes = config.transformer
        self.normalize = sizes.normalize
        self.stem = nn.ModuleList(
            nn.Conv1d(channels, sizes.width, sizes.stem_kernel, stride=2, padding=sizes.stem_kernel // 2)
            for channels in (config.mel.n_mels, sizes.width)
        )
        self.blocks = nn.ModuleList(TransformerBlock(sizes) for _ in range(sizes.blocks))
        # The outputs of all blocks together tell more of a voice than the last alone (MFA-Conformer, arXiv 2203.15249)
        self.merge = nn.Sequential(
            nn.LayerNorm(sizes.width * sizes.blocks), Linear(sizes.width * sizes.blocks, sizes.pooled), nn.ReLU()
        )
        self.pool = AttentivePooling(sizes.pooled) if sizes.pooling == "attentive" else MeanPooling()
        self.project = nn.Sequential(nn.LayerNorm(2 * sizes.pooled), Linear(2 * sizes.pooled, config.embedding_size))
        self.dropout = nn.Dropout(sizes.dropout)
        self.similarity_weight = nn.Parameter(torch.tensor([10.0]))
        self.similarity_bias = nn.Parameter(torch.tensor([-5.0]))

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """mel (B, M, F) power, not log; lengths (B,) in frames -> embeddings (B, D), length 1.

        Without `lengths` every row is F frames long. Frames after a row's length change nothing.
        """
        return completed(self.in_steps(mel, lengths))

    def in_steps(self, mel: Tensor, lengths: Tensor | None = None) -> Generator[None, None, Tensor]:
        """As `forward`: mel (B, M, F), lengths (B,) -> embeddings (B, D), a block a step."""
        full = lengths is None
        lengths = full_lengths(mel) if lengths is None else lengths
        x = normalized_log(mel, lengths, self.normalize)
        for convolution in self.stem:
            x = F.gelu(convolution(x))
            lengths = (lengths + 1) // 2  # an odd kernel, padded by half, with stride 2
            x = x * length_mask(lengths, x.size(2))[:, None, :]
        valid = length_mask(lengths, x.size(2))
        x = x.transpose(1, 2)
        x = self.dropout(x + positions(x.size(1), x.size(2), x.device, x.dtype))
        outputs = []
        for block in self.blocks:
            yield
            x = block(x, None if full else valid)
            outputs.append(x)
        yield
        pooled = self.pool(self.merge(torch.cat(outputs, dim=2)), valid)
        return F.normalize(self.project(pooled), dim=1)


class TransformerBlock(nn.Module):
    """Pre-norm: depthwise convolution, self-attention, feed-forward, each added to its input."""

    def __init__(self, sizes: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.rate = sizes.heads, sizes.dropout
        width, kernel = sizes.width, sizes.block_kernel
        self.convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width) if kernel else None
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(Linear(width, sizes.feedforward), nn.ReLU(), Linear(sizes.feedforward, width))
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """x (B, F, C), valid (B, F) true on real frames, or None when all are -> (B, F, C)"""
        if self.convolution is not None:
            masked = x if valid is None else x * valid[:, :, None]
            x = x + F.relu(self.convolution(masked.transpose(1, 2)).transpose(1, 2))
        q, k, v = self.qkv(self.norm_attention(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if valid is None else valid[:, None, None, :]
        rate = self.rate if self.training else 0.0
        attended = attention(q, k, v, mask, rate, self.training)
        x = x + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feedforward(self.norm_feedforward(x)))


class AttentivePooling(nn.Module):
    """Weighted mean and deviation, a weight a channel and frame (attentive statistics, arXiv 1803.10963)."""

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.score = nn.Sequential(Linear(channels, hidden), nn.Tanh(), Linear(hidden, channels))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, F, C), valid (B, F) -> (B, 2 C)"""
        weights = self.score(x).masked_fill(~valid[:, :, None], -torch.inf).softmax(dim=1)
        return statistics(x, weights)


class MeanPooling(nn.Module):
    """Mean and deviation over the valid frames."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, F, C), valid (B, F) -> (B, 2 C)"""
        weights = valid[:, :, None].to(x.dtype)
        return statistics(x, weights / weights.sum(dim=1, keepdim=True))


def statistics(x: Tensor, weights: Tensor) -> Tensor:
    """x (B, F, C), weights that sum to 1 over F -> mean and deviation (B, 2 C)"""
    mean = (weights * x).sum(dim=1)
    variance = (weights * (x - mean[:, None]).square()).sum(dim=1)
    return torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=1)


def positions(frames: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sinusoids (1, F, C) (arXiv 1706.03762, sec. 3.5); small beside the features, as a voice has little order."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    angles = torch.arange(frames, device=device)[:, None] * rates
    return 0.1 * torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[None].to(dtype)
