"""Building blocks that several synthesizers share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.linear import Linear


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
    x (B, F, C), condition (B, K), mask (B, F, 1) -> (B, F, C); what is masked has no influence.
    """

    def __init__(self, channels: int, condition: int, kernel: int, expansion: int, scale: float) -> None:
        super().__init__()
        # As a 2-d convolution, since (B, F, C) is then a channels_last image: three times as fast on a CPU.
        self.depthwise = nn.Conv2d(channels, channels, (1, kernel), padding=(0, kernel // 2), groups=channels)
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.film = nn.Linear(condition, 2 * channels)
        self.up = Linear(channels, expansion * channels)
        self.down = Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """x (B, F, C), condition (B, K), mask (B, F, 1) -> (B, F, C)"""
        y = self._depthwise(x * mask)
        gain, shift = self.film(condition).unsqueeze(1).chunk(2, dim=-1)
        y = self.norm(y) * (1 + gain) + shift
        return x + self.scale * self.down(F.gelu(self.up(y)))

    def _depthwise(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            x = x.to(torch.get_autocast_dtype("cuda")) if torch.is_autocast_enabled("cuda") else x
            weight = self.depthwise.weight[:, 0, 0].t().to(x.dtype)
            assert self.depthwise.bias is not None
            return Depthwise.apply(x.contiguous(), weight) + self.depthwise.bias.to(x.dtype)
        return self.depthwise(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)


class Depthwise(torch.autograd.Function):
    """Depthwise convolution along the frames as sums of shifted products: x (B, F, C), weight (K, C) -> (B, F, C).

    On a GPU this is bound by memory alone, where the kernels of the libraries for odd shapes are not.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor) -> Tensor:
        """x (B, F, C), weight (K, C) -> (B, F, C)"""
        context.save_for_backward(x, weight)
        return _shifted(x, weight)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """gradient (B, F, C) of the output -> of x (B, F, C) and of the weight (K, C)"""
        x, weight = context.saved_tensors
        gradient = gradient.contiguous()
        of_weight = torch.empty_like(weight)
        for k in range(len(weight)):
            here, there = _overlap(x.shape[1], k - len(weight) // 2)
            of_weight[k] = torch.sum(gradient[:, here] * x[:, there], dim=(0, 1), dtype=torch.float32)
        return _shifted(gradient, weight.flip(0)), of_weight


def _shifted(x: Tensor, weight: Tensor) -> Tensor:
    """Sum over k of weight[k] * x moved by k - K // 2 frames, zeros from outside."""
    out = torch.zeros_like(x)
    for k in range(len(weight)):
        here, there = _overlap(x.shape[1], k - len(weight) // 2)
        out[:, here].addcmul_(x[:, there], weight[k])
    return out


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Places t, and t + shift, where both are inside."""
    inner = max(0, size - abs(shift))
    first, second = max(0, -shift), max(0, shift)
    return slice(first, first + inner), slice(second, second + inner)


class ConvStack(nn.Module):
    """Several ConvBlocks and a last layer norm: (B, F, C) -> (B, F, C)."""

    def __init__(self, blocks: int, channels: int, condition: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvBlock(channels, condition, kernel, expansion, 1 / max(1, blocks)) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """x (B, F, C), condition (B, K), mask (B, F, 1) -> (B, F, C), 0 where the mask is"""
        for block in self.blocks:
            x = block(x, condition, mask)
        return self.norm(x) * mask
