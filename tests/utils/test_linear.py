"""The faster product gives what `nn.Linear` gives, and leaves gradients and other precisions to it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import utils.linear
from utils.linear import Linear


@pytest.fixture
def products(monkeypatch) -> list[int]:
    """Rows of the products that oneDNN was asked for."""
    if not utils.linear._has_onednn():
        pytest.skip("this torch has no oneDNN")
    calls: list[int] = []
    real = torch.ops.mkldnn._linear_pointwise

    def count(x, *rest):
        calls.append(x.numel() // x.shape[-1])
        return real(x, *rest)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", count)
    return calls


def twins(bias: bool = True) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    ours, plain = Linear(48, 40, bias=bias), nn.Linear(48, 40, bias=bias)
    plain.load_state_dict(ours.state_dict())  # the same names
    return ours, plain


@pytest.mark.parametrize("shape", [(16, 48), (3, 20, 48), (2, 3, 5, 48), (125, 48), (3, 48), (48,)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_gives_what_torch_gives(shape, bias):
    ours, plain = twins(bias)
    x = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), plain(x), atol=1e-5, rtol=1e-5)


def test_rows_that_do_not_lie_side_by_side_are_taken(products):
    ours, plain = twins()
    x = torch.randn(2, 48, 50).transpose(1, 2)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), plain(x), atol=1e-5, rtol=1e-5)
    assert products == [100]


def test_only_large_products_without_gradients_in_single_precision_are_done_otherwise(products):
    ours, plain = twins()
    x = torch.randn(64, 48, requires_grad=True)
    ours(x).square().sum().backward()
    assert x.grad is not None and ours.weight.grad is not None
    with torch.no_grad():
        ours(torch.randn(3, 48))
        ours.double()(torch.randn(64, 48).double())
        with torch.autocast("cpu", torch.bfloat16):
            assert ours.float()(x).dtype == torch.bfloat16
        assert products == []
        ours(x)
    assert products == [64]
