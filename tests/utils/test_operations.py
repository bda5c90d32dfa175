"""What an operation makes does not depend on the way that it chooses."""

from __future__ import annotations

import pytest
import torch

from utils.operations import DepthwiseConv, ShiftedProducts, attention, double, image


@pytest.mark.parametrize("frames", [1, 2, 3, 12])
def test_shifted_products_are_the_convolution(frames):
    layer = DepthwiseConv(6, 7).double()
    x = torch.randn(2, frames, 6, dtype=torch.double, requires_grad=True)
    weight = layer.weight[:, 0, 0].t().detach().clone().requires_grad_()
    torch.testing.assert_close(ShiftedProducts.apply(x, weight) + layer.bias, layer(x))
    assert torch.autograd.gradcheck(ShiftedProducts.apply, (x, weight))


def test_attention_in_training_is_that_of_use():
    query, key, value = torch.randn(3, 2, 4, 7, 8).unbind()
    mask = (torch.arange(7) < 5)[None, None, None]
    trained, used = (attention(query, key, value, mask, 0.0, training) for training in (True, False))
    torch.testing.assert_close(trained, used, atol=1e-5, rtol=1e-4)
    padded = attention(query, key[:, :, :5], value[:, :, :5], None, 0.0, False)
    torch.testing.assert_close(used, padded, atol=1e-5, rtol=1e-4)


def test_layout_and_precision_leave_the_values():
    x = torch.randn(1, 2, 3, 4)
    assert torch.equal(image(x), x) and torch.equal(double(x), x.double())
