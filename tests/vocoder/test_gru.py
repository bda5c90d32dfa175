"""The GRU layer for training: torch's results and torch's gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vocoder.wavernn.gru import GRU


def pair(inputs: int, size: int) -> tuple[nn.GRU, GRU]:
    torch.manual_seed(1)
    theirs = nn.GRU(inputs, size, batch_first=True)
    ours = GRU(inputs, size)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize(("batch", "steps", "inputs", "size"), [(3, 7, 12, 8), (1, 1, 5, 4), (2, 20, 3, 16)])
def test_outputs_and_gradients_are_torchs(batch, steps, inputs, size):
    theirs, ours = (layer.double() for layer in pair(inputs, size))
    x = torch.randn(batch, steps, inputs, dtype=torch.double)
    weight = torch.randn(batch, steps, size, dtype=torch.double)
    results = []
    for layer in (theirs, ours):
        heard = x.clone().requires_grad_()
        y, last = layer(heard)
        ((y * weight).sum() + 3 * last.sum()).backward()
        results.append([y, last, heard.grad, *(p.grad for p in layer.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_half_precision_is_near_and_has_gradients_for_all():
    theirs, ours = pair(12, 8)
    x = torch.randn(3, 30, 12)
    with torch.autocast("cpu", torch.bfloat16):
        y = ours(x)[0]
    y.float().square().sum().backward()
    expected = theirs(x)[0]
    expected.square().sum().backward()
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.03)
    for ours_p, theirs_p in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert ours_p.grad.dtype == torch.float32
        error = (ours_p.grad - theirs_p.grad).norm() / theirs_p.grad.norm()
        assert error < 0.05


def test_without_gradients_it_is_torchs_own():
    theirs, ours = pair(6, 4)
    x = torch.randn(2, 9, 6)
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=0, atol=0)
