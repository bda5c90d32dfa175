"""GE2E as recorded; the other losses and the error rate against plain loops and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from encoder.loss import (
    additive_margin,
    ge2e_softmax,
    scale_gradient,
    similarity_matrix,
)
from encoder.model import load_network
from encoder.verification import batch_error_rate, equal_error_rate, pairwise_error_rate
from utils.weights.checkpoint import load_weights


@pytest.fixture(scope="module")
def recorded(data_dir):
    return np.load(data_dir / "ge2e.npz")


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("tag", ["init", "trained"])
def test_ge2e_is_as_recorded(recorded, tag):
    embeddings = torch.from_numpy(recorded["embeds"]).requires_grad_()
    weight, bias = (torch.tensor(float(recorded[f"{tag}/{n}"])).requires_grad_() for n in "wb")
    similarity = similarity_matrix(embeddings, weight, bias)
    np.testing.assert_allclose(similarity.detach(), recorded[f"{tag}/sim"], atol=1e-5)
    loss = ge2e_softmax(similarity)
    assert loss.item() == pytest.approx(float(recorded[f"{tag}/loss"]), abs=1e-5)
    assert batch_error_rate(similarity) == pytest.approx(float(recorded[f"{tag}/eer"]), abs=1e-6)
    loss.backward()
    np.testing.assert_allclose(embeddings.grad, recorded[f"{tag}/grad_embeds"], atol=1e-5)
    np.testing.assert_allclose([weight.grad, bias.grad], recorded[f"{tag}/grad_wb_raw"], atol=1e-5)


@pytest.mark.parametrize("tag", ["init", "trained"])
def test_gradient_operations_are_as_recorded(recorded, tag):
    weight, bias = (torch.tensor(float(recorded[f"{tag}/{n}"])).requires_grad_() for n in "wb")
    ge2e_softmax(
        similarity_matrix(torch.from_numpy(recorded["embeds"]), scale_gradient(weight), scale_gradient(bias))
    ).backward()
    torch.nn.utils.clip_grad_norm_([weight, bias], 3.0)
    np.testing.assert_allclose([weight.grad, bias.grad], recorded[f"{tag}/grad_wb_after_ops"], atol=1e-6)


@pytest.mark.parametrize("tag", ["tiny", "tiny_clipped"])
def test_a_training_step_is_as_recorded(recorded, data_dir, tag):
    model, _ = load_network(load_weights(data_dir / "encoder_tiny.pt"))
    with torch.no_grad():
        model.similarity_weight.fill_(float(recorded[f"{tag}/w"]))
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    embeddings = model.train()(torch.from_numpy(recorded["tiny/x"]).transpose(1, 2)).unflatten(0, (3, 5))
    similarity = similarity_matrix(
        embeddings, scale_gradient(model.similarity_weight), scale_gradient(model.similarity_bias)
    )
    loss = ge2e_softmax(similarity)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    optimizer.step()
    assert loss.item() == pytest.approx(float(recorded[f"{tag}/loss"]), rel=1e-5)
    assert batch_error_rate(similarity) == pytest.approx(float(recorded[f"{tag}/eer"]), abs=1e-6)
    assert norm.item() == pytest.approx(float(recorded[f"{tag}/grad_norm_after"]), rel=1e-4)
    for name, parameter in model.named_parameters():
        gradient = recorded[f"{tag}/grad/{name}"]
        np.testing.assert_allclose(parameter.grad, gradient, atol=1e-5 * np.abs(gradient).max() + 1e-9)
        moved = np.abs(gradient) > 1e-6
        np.testing.assert_allclose(
            parameter.detach().numpy()[moved], recorded[f"{tag}/after_adam/{name}"][moved], atol=1e-6
        )


def test_similarity_needs_two_utterances():
    with pytest.raises(ValueError, match="2 utterances"):
        similarity_matrix(unit(3, 1, 8), torch.tensor(10.0), torch.tensor(-5.0))


def test_margin_of_zero_is_plain_softmax_and_a_margin_makes_it_harder():
    e, prototypes, speakers = unit(6, 8), torch.randn(5, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    plain = F.cross_entropy(30 * e @ F.normalize(prototypes, dim=1).T, speakers)
    torch.testing.assert_close(additive_margin(e, prototypes, speakers, 0.0, 30.0), plain, atol=1e-4, rtol=0)
    assert additive_margin(e, prototypes, speakers, 0.3, 30.0) > plain


def test_margin_falls_steadily_from_opposite_to_equal():
    angles = torch.linspace(math.pi, 0, 200)
    e = torch.stack([angles.cos(), angles.sin()], dim=1)
    prototypes = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    losses = torch.stack([additive_margin(x[None], prototypes[:1], torch.tensor([0]), 0.3, 10.0) for x in e])
    assert losses.abs().max() == 0  # alone, nothing to confuse with
    scores = []
    for x in e:
        x = x[None].requires_grad_()
        additive_margin(x, prototypes, torch.tensor([0]), 0.3, 10.0).backward()
        scores.append(x.grad[0, 0].item())
    assert max(scores) <= 0  # towards the own prototype, whatever the angle


def test_alike_speakers_far_apart_cost_little():
    directions = torch.eye(8)[:4, None, :].expand(4, 3, 8)
    good = ge2e_softmax(similarity_matrix(directions, torch.tensor(20.0), torch.tensor(-10.0)))
    bad = ge2e_softmax(similarity_matrix(unit(4, 3, 8), torch.tensor(20.0), torch.tensor(-10.0)))
    assert good < 0.01 < bad


def test_slow_keeps_the_value_and_a_hundredth_of_the_gradient():
    x = torch.tensor(3.7, requires_grad=True)
    (scale_gradient(x) * 2).backward()
    assert scale_gradient(x).item() == x.item()
    assert x.grad.item() == pytest.approx(0.02)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=2, max_size=60))
def test_error_rate_agrees_with_scikit_learn(pairs):
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq
    from sklearn.metrics import roc_curve

    scores, same = np.array([p[0] / 7 for p in pairs]), np.array([p[1] for p in pairs])
    if same.all() or not same.any():
        with pytest.raises(ValueError, match="both kinds"):
            equal_error_rate(scores, same)
        return
    false_positives, true_positives, _ = roc_curve(same, scores)
    expected = brentq(lambda x: 1 - x - interp1d(false_positives, true_positives)(x), 0.0, 1.0)
    # Where the curve stands upright the interpolation has no single value: allow its width
    assert equal_error_rate(scores, same) == pytest.approx(expected, abs=1e-6)


def test_error_rate_at_the_extremes():
    scores, same = np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, True, False, False])
    assert equal_error_rate(scores, same) == 0
    assert equal_error_rate(-scores, same) == 1
    assert equal_error_rate(np.zeros(4), same) == 0.5
    e = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert pairwise_error_rate(e, np.array([0, 0, 1, 1])) == 0


def test_pairs_of_one_recording_can_be_left_out():
    e = np.array([[1.0, 0], [1, 0], [0, 1]])  # the first two: crops of one recording; all three one speaker
    e = np.concatenate([e, [[0.8, 0.6]]])  # someone else, nearer to the first two than their own third
    speakers, recordings = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2])
    assert pairwise_error_rate(e, speakers, recordings) > pairwise_error_rate(e, speakers)
