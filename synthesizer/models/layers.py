"""Building blocks that several synthesizers share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.linear import Linear
from utils.operations import DepthwiseConv


def resample(frames: Tensor, rate: float) -> Tensor:
    """frames (C, F) -> (C, round(F / rate)) by linear interpolation."""
    if rate == 1.0:
        return frames
    size = max(1, round(frames.shape[1] / rate))
    return F.interpolate(frames.unsqueeze(0), size=size, mode="linear", align_corners=False)[0]


class ItemDropout:
    """Dropout whose masks depend on one seed per item, so on nothing else in the batch and on no other process.

    Called with x (B, C) or (B, N, C) and, for the latter, the lengths (B,): what is drawn for an item does not depend
    on its padding. Each call goes on in the items' random sequences.
    """

    def __init__(self, seeds: Tensor | Sequence[int], device: torch.device | str = "cpu") -> None:
        self.generators = [torch.Generator(device).manual_seed(int(seed)) for seed in seeds]

    def __call__(self, x: Tensor, probability: float, lengths: Tensor | None = None) -> Tensor:
        if probability == 0:
            return x
        return x * self.keep(x.shape, probability, x.device, lengths).to(x.dtype) / (1 - probability)

    def keep(
        self, shape: torch.Size, probability: float, device: torch.device, lengths: Tensor | None = None
    ) -> Tensor:
        """Bool (B, ...), false with `probability`; true in padding."""
        mask = torch.ones(shape, dtype=torch.bool, device=device)
        for row, generator in enumerate(self.generators):
            size = shape[1:] if lengths is None else (int(lengths[row]), *shape[2:])
            drawn = torch.rand(size, generator=generator, device=device) >= probability
            mask[row, : size[0]] = drawn
        return mask


class HashedDropout:
    """As `ItemDropout`, without a loop over items: each element's draw is a hash of (seed, call, place).

    x is (B, C) or (B, N, C); padding changes nothing, since a place has the same draw however long the batch is.
    """

    def __init__(self, seeds: Tensor) -> None:
        self.seeds, self.calls = seeds.long(), 0

    def __call__(self, x: Tensor, probability: float, lengths: Tensor | None = None) -> Tensor:
        if probability == 0:
            return x
        return x * self.keep(x.shape, probability).to(x.dtype) / (1 - probability)

    def keep(self, shape: torch.Size, probability: float) -> Tensor:
        """Bool (B, ...), false with `probability`."""
        self.calls += 1
        size = math.prod(shape[1:])
        if probability == 0:
            return self.seeds.new_ones(shape, dtype=torch.bool)
        start = mixed(self.seeds * 0x9E3779B1 + self.calls * 0x85EBCA6B)
        drawn = mixed(start[:, None] + torch.arange(size, device=self.seeds.device) * 0x9E3779B1)
        return ((drawn & 0xFFFFFF) >= round(probability * 2**24)).view(shape)


def mixed(x: Tensor) -> Tensor:
    """int64 -> int64 whose bits all depend on all of x's lower 48 (the finalizer of MurmurHash3, in wrapping int64)."""
    x = (x ^ (x >> 33)) * -0x00AE502812AA7333
    x = (x ^ (x >> 33)) * -0x3B314601E57A13AD
    return x ^ (x >> 33)


class ConvBlock(nn.Module):
    """Depthwise convolution, layer norm shifted and scaled by a condition (FiLM), two pointwise layers, residual.

    After ConvNeXt (arXiv 2201.03545), with arXiv 1709.07871 for the condition.
    x (B, F, C), condition (B, G), mask (B, F, 1) -> (B, F, C); what is masked has no influence.
    """

    def __init__(self, channels: int, condition: int, kernel: int, expansion: int, scale: float) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv(channels, kernel)
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.film = nn.Linear(condition, 2 * channels)
        self.up = Linear(channels, expansion * channels)
        self.down = Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """x (B, F, C), condition (B, G), mask (B, F, 1) -> (B, F, C)"""
        y = self.depthwise(x * mask)
        gain, shift = self.film(condition).unsqueeze(1).chunk(2, dim=-1)
        y = self.norm(y) * (1 + gain) + shift
        return x + self.scale * self.down(F.gelu(self.up(y)))


class ConvStack(nn.Module):
    """Several ConvBlocks and a last layer norm: (B, F, C) -> (B, F, C)."""

    def __init__(self, blocks: int, channels: int, condition: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvBlock(channels, condition, kernel, expansion, 1 / max(1, blocks)) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """x (B, F, C), condition (B, G), mask (B, F, 1) -> (B, F, C), 0 where the mask is"""
        for block in self.blocks:
            x = block(x, condition, mask)
        return self.norm(x) * mask
