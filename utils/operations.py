"""Operations that choose the fastest way on the device where their input lies, so that no network has to ask for it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


class DepthwiseConv(nn.Conv2d):
    """A convolution along the frames, each channel by itself; as many frames come out as go in.

    A 2-d one, since (B, F, C) is then a channels_last image: three times as fast on a CPU.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, channels, (1, kernel), padding=(0, kernel // 2), groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, F, C) -> (B, F, C)"""
        if not x.is_cuda:
            return super().forward(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        x = x.to(torch.get_autocast_dtype("cuda")) if torch.is_autocast_enabled("cuda") else x
        assert self.bias is not None
        weight = self.weight[:, 0, 0].t().to(x.dtype)
        return ShiftedProducts.apply(x.contiguous(), weight) + self.bias.to(x.dtype)


class ShiftedProducts(torch.autograd.Function):
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


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, training: bool) -> Tensor:
    """Scaled dot-product attention: query, key and value (B, heads, F, channels of a head) -> the same.

    On a CPU the fused attention's backward pass in bfloat16 is ten times slower than the plain one (torch 2.13).
    """
    plain = training and query.device.type == "cpu"
    with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)


def image(x: Tensor) -> Tensor:
    """x (B, C, height, width), its values as a GPU's matrix units want them: channels last. Others stay as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.is_cuda and x.ndim == 4 else x


def double(x: Tensor) -> Tensor:
    """x in float64: on the CPU where its device has none (MPS)."""
    return (x.cpu() if x.device.type == "mps" else x).double()
