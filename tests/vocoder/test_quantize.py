"""Labels for samples: inverse pairs, bounds, the recorded values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.audio.mel import deemphasis, preemphasis
from vocoder.wavernn.quantize import decode_mu_law, encode_mu_law, label_to_float

levels = st.sampled_from([4, 20, 256, 512, 1024])
sample = st.floats(-1, 1, width=32)


@pytest.fixture(scope="module")
def recorded(data_dir):
    return {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(data_dir / "vocoder_dsp.npz").items()}


def test_recorded_mu_law(recorded):
    assert torch.equal(encode_mu_law(recorded["mulaw/x"], 512), recorded["mulaw/encoded"].long())
    floats = label_to_float(torch.arange(512), 512)
    torch.testing.assert_close(floats.double(), recorded["mulaw/label_to_float"], atol=1e-6, rtol=0)
    torch.testing.assert_close(decode_mu_law(floats.double(), 512), recorded["mulaw/decode_labels"], atol=1e-6, rtol=0)
    decoded = decode_mu_law(recorded["mulaw/decode_floats_in"], 512)
    torch.testing.assert_close(decoded, recorded["mulaw/decode_floats_out"], atol=1e-9, rtol=0)


def test_recorded_emphasis(recorded):
    x = recorded["deemphasis/in"]
    torch.testing.assert_close(deemphasis(x, 0.97), recorded["deemphasis/out"], atol=1e-9, rtol=0)
    torch.testing.assert_close(preemphasis(x, 0.97), recorded["preemphasis/out"], atol=1e-9, rtol=0)


@settings(deadline=None)
@given(levels)
def test_every_label_survives_decoding_and_encoding(n):
    labels = torch.arange(n)
    assert torch.equal(encode_mu_law(decode_mu_law(label_to_float(labels, n).double(), n), n), labels)


@settings(deadline=None)
@given(st.lists(sample, min_size=2, max_size=30), levels)
def test_encoding_keeps_order_sign_and_range(values, n):
    x = torch.tensor(sorted(values), dtype=torch.float64)
    labels = encode_mu_law(x, n)
    assert (labels.diff() >= 0).all() and labels.min() >= 0 and labels.max() <= n - 1
    assert torch.equal(encode_mu_law(torch.tensor([-1.0, 1.0]), n), torch.tensor([0, n - 1]))


@settings(deadline=None)
@given(sample)
def test_error_of_nine_bits_is_small_and_smallest_near_zero(value):
    x = torch.tensor(value, dtype=torch.float64)
    error = (decode_mu_law(label_to_float(encode_mu_law(x, 512), 512).double(), 512) - x).abs()
    # half a label's width: d/dy of the expansion is log(512) * (|x| + 1/511) for y in [-1, 1], a label is 2/511 wide
    assert error <= np.log(512) * (abs(value) + 1 / 511) / 511 * 1.02
