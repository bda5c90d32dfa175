"""Bands: what lies above that of a recording is nothing that a network may learn from it."""

from __future__ import annotations

import torch
from torch import Tensor

FALL_HZ = 500.0  # width of the edge of `below`; what a resampler leaves just under its limit is gone above it


def below(wav: Tensor, hz: Tensor, rate: int) -> Tensor:
    """What lies below `hz` (B,), or (1,) for all, of wav (B, T) at `rate` in Hz -> (B, T)

    A raised cosine falls to 0 at `hz` over the last 500 Hz; half of the rate or more leaves everything.
    """
    frequencies = torch.linspace(0, rate / 2, wav.size(1) // 2 + 1, device=wav.device)
    over = ((frequencies - hz[:, None].float()) / FALL_HZ + 1).clamp(0, 1)
    over = torch.where(hz[:, None] >= rate / 2, 0.0, over)
    return torch.fft.irfft(torch.fft.rfft(wav.float()) * (0.5 + 0.5 * torch.cos(torch.pi * over)), n=wav.size(1))
