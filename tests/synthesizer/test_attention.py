"""Attention, its supervision, its quality, and when decoding stops."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from synthesizer.config import LossConfig
from synthesizer.models.alignment_quality import alignment_quality
from synthesizer.models.stopping import StoppingCriteria, frame_limit
from synthesizer.models.tacotron.attention import LocationSensitiveAttention
from synthesizer.training.losses import attention_weight, diagonal_penalty, local_mean, supervised_attention

VOICES = torch.zeros(2, 4)  # of no influence on the attention


def attend(padding: str = "masked") -> LocationSensitiveAttention:
    torch.manual_seed(0)
    return LocationSensitiveAttention(8, 4, 5, padding)


def test_padding_gets_no_attention_and_changes_nothing():
    attention, query, values, projected = attend(), *(torch.randn(2, *s) for s in ((8,), (9, 6), (9, 8)))
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[:, 5:] = False
    padded, context = attention(query, attention.prepare(values, projected, mask, VOICES), torch.zeros(2, 9))
    short = attention.prepare(values[:, :5], projected[:, :5], mask[:, :5], VOICES)
    weights, wanted = attention(query, short, torch.zeros(2, 5))
    torch.testing.assert_close(padded[:, :5], weights)
    torch.testing.assert_close(context, wanted)
    assert padded[:, 5:].eq(0).all()


def test_published_padding_keeps_weight():
    attention = attend("published")
    mask = torch.tensor([[True, True, False]])
    memory = attention.prepare(torch.randn(1, 3, 6), torch.randn(1, 3, 8), mask, VOICES)
    weights, _ = attention(torch.randn(1, 8), memory, torch.zeros(1, 3))
    assert weights[0, 2] > 0.05


def test_the_fused_location_filter_is_convolution_and_projection():
    attention = attend()
    cumulative, query = torch.rand(2, 9), torch.randn(2, 8)
    memory = attention.prepare(torch.randn(2, 9, 6), torch.randn(2, 9, 8), torch.ones(2, 9, dtype=torch.bool), VOICES)
    found, _ = attention(query, memory, cumulative)
    location = attention.L(attention.conv(cumulative.unsqueeze(1)).transpose(1, 2))
    projected = memory.keys - attention.W.bias - attention.L(attention.conv.bias)
    energy = attention.v(torch.tanh(attention.W(query).unsqueeze(1) + projected + location)).squeeze(2)
    torch.testing.assert_close(found, energy.softmax(dim=1))


def walk(places: list[int], tokens: int) -> torch.Tensor:
    return nn.functional.one_hot(torch.tensor(places), tokens).float() * 0.9 + 0.1 / tokens


def test_health_of_a_walk_a_skip_a_repeat_and_a_blur():
    good = alignment_quality(walk([0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9], 10))
    assert good.good and good.coverage == 1 and good.skips == good.repeats == 0
    skip = alignment_quality(walk([0, 1, 8, 9], 10))
    assert skip.skips == 1 and skip.coverage < 0.7 and not skip.good
    repeat = alignment_quality(walk([0, 2, 4, 6, 8, 9, 1, 3, 5, 7, 9, 9], 10))
    assert repeat.repeats == 1 and repeat.score < good.score
    assert alignment_quality(torch.full((12, 10), 0.1)).score < 0.05


def test_supervision_is_lowest_on_the_spoken_token_and_ignores_the_unknown():
    attention = walk([0, 1, 2, 2], 4)[None]
    right, known = supervised_attention(attention, torch.tensor([[0, 1, 2, -1]]))
    wrong, _ = supervised_attention(attention, torch.tensor([[1, 2, 3, -1]]))
    assert known.tolist() == [[True, True, True, False]]
    assert local_mean(right, known) < 0.2 < 2 < local_mean(wrong, known)


def test_the_guide_is_free_on_the_diagonal():
    penalty = diagonal_penalty(torch.tensor([10]), torch.tensor([10]), (10, 10), 0.3)[0]
    assert penalty.diagonal().abs().max() < 1e-6 and penalty[0, 9] > 0.9


def test_the_weight_of_the_attention_falls_to_its_floor():
    config = LossConfig(attention=2.0, attention_floor=0.1, attention_steps=100)
    assert attention_weight(config, 0) == 2.0
    assert attention_weight(config, 50) == 1.0
    assert attention_weight(config, 1000) == pytest.approx(0.2)
    assert attention_weight(dataclasses.replace(config, attention_steps=0), 0) == pytest.approx(0.2)


# -- stopping ----------------------------------------------------------------------------------------------------------


def drive(stopper: StoppingCriteria, stops: list[list[float]], places: list[list[int]]) -> int:
    for step, (stop, place) in enumerate(zip(stops, places, strict=True), 1):
        if stopper(torch.tensor(stop), nn.functional.one_hot(torch.tensor(place), 6).float()):
            return step
    return -1


def test_each_item_stops_by_itself_and_says_why():
    # 5 frames a step of 12.5 ms: lingering 0.4 s is 6 steps
    stopper = StoppingCriteria([6, 6, 6], [1000, 1000, 60], 5, 0.0125)
    steps = 12
    stops = [[0.9 if s >= 4 else 0.1, 0.0, 0.0] for s in range(steps)]
    places = [[s // 3, min(5, s), 2] for s in range(steps)]
    assert drive(stopper, stops, places) == 12
    assert stopper.reasons == ["token", "alignment", "limit"]
    assert stopper.frames == [25, 60, 60]


def test_no_stop_token_counts_in_the_first_frames():
    stopper = StoppingCriteria([6], [1000], 2, 0.0125)
    assert drive(stopper, [[0.9]] * 20, [[0]] * 20) == 6  # frames 10 and 11: more than 10 frames, as published
    stopper = StoppingCriteria([6], [1000], 1, 0.0125)
    assert drive(stopper, [[0.9]] * 20, [[0]] * 20) == 11


def test_the_limit_grows_with_the_text():
    assert frame_limit(3, "phonemes") * 0.0125 < 2
    assert frame_limit(100, "phonemes") > 2 * frame_limit(40, "phonemes")
