"""Labels for samples: mu-law and linear quantization, as WaveRNN's published models use them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def label_to_float(labels: Tensor, levels: int) -> Tensor:
    """Labels 0 .. levels - 1 -> float32 in [-1, 1], evenly spaced."""
    return 2 * labels.float() / (levels - 1) - 1


def encode_mu_law(x: Tensor, levels: int) -> Tensor:
    """Samples in [-1, 1] -> int64 labels: floor((sign(x) log(1 + mu |x|) / log(1 + mu) + 1) / 2 * mu + 1/2),
    mu = levels - 1."""
    mu = levels - 1
    return ((compress(x, levels) + 1) / 2 * mu + 0.5).floor().long().clamp_(0, mu)


def compress(x: Tensor, levels: int) -> Tensor:
    """Samples in [-1, 1] -> sign(x) log(1 + mu |x|) / log(1 + mu) in [-1, 1], which `decode_mu_law` undoes."""
    mu = levels - 1
    return x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)


def decode_mu_law(y: Tensor, levels: int) -> Tensor:
    """Compressed values in [-1, 1] (as `label_to_float` gives) -> samples: sign(y) / mu * ((1 + mu)^|y| - 1)."""
    mu = levels - 1
    return y.sign() / mu * (torch.exp(y.abs() * math.log1p(mu)) - 1)
