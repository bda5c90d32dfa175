"""Matrix products by oneDNN where torch would take MKL's, which on AMD's processors is half as fast (torch 2.13)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEWEST_ROWS = 16  # with fewer, finding the kernel costs more than it saves


class Linear(nn.Linear):
    """`nn.Linear` that is faster on CPUs without gradients: same weights, same result but for rounding."""

    def forward(self, input: Tensor) -> Tensor:
        """input (..., inputs) -> (..., outputs)"""
        if _fits(input, self.weight):
            return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return F.linear(input, self.weight, self.bias)


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= _FEWEST_ROWS * x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and _has_onednn()
    )


@lru_cache(maxsize=1)
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
