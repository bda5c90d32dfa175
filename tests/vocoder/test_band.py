"""Bands: what lies below a limit stays, what lies above goes, of each item for itself."""

from __future__ import annotations

import torch

from vocoder.band import FALL_HZ, below

RATE, T = 16000, 4000  # bins of 4 Hz


def tones(*hz: float) -> torch.Tensor:
    return sum(torch.sin(2 * torch.pi * f * torch.arange(T).double() / RATE) for f in hz)[None].float()


def test_what_is_below_stays_and_what_is_above_goes():
    wav = tones(200, 3000 - FALL_HZ, 3000, 6000)
    torch.testing.assert_close(below(wav, torch.tensor([3000.0]), RATE), tones(200, 3000 - FALL_HZ), atol=1e-4, rtol=0)
    middle = tones(2752)
    torch.testing.assert_close(below(middle, torch.tensor([2752 + FALL_HZ / 2]), RATE), 0.5 * middle, atol=1e-4, rtol=0)


def test_every_item_has_its_own_limit_and_half_the_rate_leaves_everything():
    wav = torch.randn(3, T, generator=torch.Generator().manual_seed(0))
    limits = torch.tensor([2000.0, 8000.0, torch.inf])
    filtered = below(wav, limits, RATE)
    torch.testing.assert_close(filtered[1:], wav[1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(filtered[:1], below(wav[:1], limits[:1], RATE))
    torch.testing.assert_close(below(wav, limits[:1], RATE)[1:2], below(wav[1:2], limits[:1], RATE))
    torch.testing.assert_close(below(wav[:, :-1], limits, RATE)[1:], wav[1:, :-1], atol=1e-5, rtol=0)  # an odd length
