"""Adapting a parallel synthesizer to a voice: only adapters learn, what they learned is kept, nothing else changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from synthesizer.adaptation import Adaptation
from synthesizer.adapters import PART, AdaptedLinear, adapted, numbers_of, with_adapters
from synthesizer.aligned_clip import AlignedClip, Recorded, best_path, clip_with_words, clip_without_words, recorded
from synthesizer.inference import Synthesizer
from synthesizer.speech import SpeechOptions
from tests.conftest import SAMPLES
from tests.support.tiny import TINY_PARALLEL, save_tiny_models
from utils.audio.io import read
from utils.errors import CloningError
from utils.voice import Voice

TOLD = dataclasses.replace(TINY_PARALLEL, voice_statistics=True, prompt_tokens=4, prompt_width=8)
TEXT = "One two three."


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory) -> Synthesizer:
    return Synthesizer.load(save_tiny_models(tmp_path_factory.mktemp("m"), parallel=TOLD) / "synthesizer.safetensors")


@pytest.fixture(scope="module")
def clip(synthesizer) -> Recorded:
    return recorded(read(SAMPLES / "austen_0890.wav"), synthesizer.mel)


@pytest.fixture(scope="module")
def voice(synthesizer, clip) -> Voice:
    embedding = np.eye(256, dtype=np.float32)[0]
    found = synthesizer.describe_voice(Voice(embedding), [read(SAMPLES / "austen_0890.wav", sample_rate=16_000)])
    return dataclasses.replace(found, synthesizer=synthesizer.fingerprint)


@pytest.fixture(scope="module")
def learned(synthesizer, voice, clip) -> Adaptation:
    learner = Adaptation(synthesizer, voice, [spoken(synthesizer, clip)], steps=4, learning_rate=1e-2)
    for _ in range(4):
        learner.learn()
    return learner


def spoken(synthesizer, clip) -> AlignedClip:
    found = clip_without_words(synthesizer.network, synthesizer.text.table, clip)
    return dataclasses.replace(found, aligned=np.ones_like(found.aligned))  # of an untrained network


def mel(synthesizer, voice) -> np.ndarray:
    return synthesizer.synthesize([TEXT], voice, SpeechOptions(seed=1))[0].mel


def test_before_the_first_step_it_speaks_as_it_did_bit_for_bit(synthesizer, voice, clip):
    numbers = Adaptation(synthesizer, voice, [spoken(synthesizer, clip)], steps=1).numbers()
    assert all(numbers[name].any() == name.endswith("inward") for name in numbers)
    np.testing.assert_array_equal(
        mel(synthesizer, dataclasses.replace(voice, adapted=numbers)), mel(synthesizer, voice)
    )


def test_all_but_the_flow_is_untouched(synthesizer, learned):
    before = synthesizer.network.state_dict()
    after = adapted(synthesizer.network, learned.numbers()).state_dict()
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {PART}
    assert {name.partition(".")[0] for name, p in learned.network.named_parameters() if p.requires_grad} == {PART}


def test_adapters_learn_what_is_in_the_recording(synthesizer, voice, clip):
    learner = Adaptation(synthesizer, voice, [spoken(synthesizer, clip)], steps=200, learning_rate=1e-2)
    losses = [learner.learn() for _ in range(24)]
    assert np.mean(losses[-6:]) < 0.95 * np.mean(losses[:6])


def test_what_was_learned_beside_the_weights_is_what_is_added_to_them(synthesizer, learned):
    network = adapted(synthesizer.network, learned.numbers())
    for name, layer in learned.network.named_modules():
        if isinstance(layer, AdaptedLinear):
            x = torch.randn(3, layer.frozen.in_features)
            torch.testing.assert_close(network.get_submodule(name)(x), layer(x), rtol=1e-2, atol=1e-2)


def test_the_same_seed_learns_the_same(synthesizer, voice, clip):
    runs = []
    for seed in (1, 1, 2):
        learner = Adaptation(synthesizer, voice, [spoken(synthesizer, clip)], steps=2, seed=seed)
        learner.learn()
        learner.learn()
        runs.append(learner.numbers())
    for name, numbers in runs[0].items():
        np.testing.assert_array_equal(numbers, runs[1][name])
    assert any((numbers != runs[2][name]).any() for name, numbers in runs[0].items())


def test_a_saved_voice_speaks_as_it_did(synthesizer, voice, learned, tmp_path):
    own = dataclasses.replace(voice, adapted=learned.numbers())
    own.save(tmp_path / "own.safetensors")
    loaded = Voice.load(tmp_path / "own.safetensors")
    np.testing.assert_array_equal(mel(synthesizer, loaded), mel(synthesizer, own))
    assert (mel(synthesizer, own) != mel(synthesizer, voice)).any()
    np.testing.assert_array_equal(mel(synthesizer, voice), mel(synthesizer, dataclasses.replace(voice, adapted=None)))


def test_another_synthesizer_refuses_the_voice(synthesizer, voice, learned):
    other = dataclasses.replace(voice, adapted=learned.numbers(), synthesizer="0123456789abcdef")
    with pytest.raises(CloningError, match="adapted to synthesizer 0123456789abcdef"):
        mel(synthesizer, other)


@pytest.mark.parametrize("damage", ["shape", "name", "nan"])
def test_damaged_changes_are_refused(synthesizer, learned, damage):
    numbers = dict(learned.numbers())
    name = next(name for name in numbers if name.endswith("offset"))
    if damage == "shape":
        numbers[name] = numbers[name][:-1]
    elif damage == "nan":
        numbers[name] = numbers[name] * np.nan
    else:
        numbers["encoder.blocks.0.up.offset"] = numbers.pop(name)
    with pytest.raises(CloningError, match="the voice is damaged"):
        adapted(synthesizer.network, numbers)


def test_a_network_of_another_kind_is_refused(tmp_path):
    tacotron = Synthesizer.load(save_tiny_models(tmp_path, "tacotron") / "synthesizer.safetensors")
    with pytest.raises(CloningError, match="parallel"):
        adapted(tacotron.network, {})
    with pytest.raises(CloningError, match="parallel"):
        Adaptation(tacotron, Voice(np.eye(256, dtype=np.float32)[0]), [], 1)


def test_a_synthesizer_without_a_frame_classifier_asks_for_words(tmp_path, clip):
    plain = Synthesizer.load(save_tiny_models(tmp_path) / "synthesizer.safetensors")
    with pytest.raises(CloningError, match="give the words"):
        clip_without_words(plain.network, plain.text.table, clip)


def test_a_path_changes_only_for_more_than_it_costs():
    scores = np.log(np.array([[0.9, 0.1]] * 3 + [[0.4, 0.6]] + [[0.9, 0.1]] * 3 + [[0.02, 0.98]] * 3))
    assert best_path(scores, 2.0).tolist() == [0] * 7 + [1] * 3
    assert best_path(scores, 0.0).tolist() == scores.argmax(axis=1).tolist()


def test_clips_with_and_without_words_fill_their_frames(synthesizer, clip):
    row = {"id": "a", "words": [["one", 20, 30]], "phones": [["W", 20, 10], ["AH", 30, 10], ["N", 40, 10]]}
    table, samples = synthesizer.text.table, read(SAMPLES / "austen_0890.wav", sample_rate=16_000).samples
    told = clip_with_words(table, synthesizer.mel, samples, row)
    for found in (told, clip_without_words(synthesizer.network, table, clip)):
        assert found.durations.sum() == len(found.mel) == len(found.aligned)
        assert len(found.tokens) == len(found.durations) == len(found.prosody)
        symbols = synthesizer.text.decode(found.tokens)
        assert symbols[-1] == "~" and (found.durations[:-1] >= 0).all()
    assert synthesizer.text.decode(told.tokens)[:4] == ["SIL", "W", "AH", "N"]


def test_adapters_begin_as_nothing(synthesizer):
    network = with_adapters(synthesizer.network, seed=0)
    x = torch.randn(1, 5, TOLD.flow_channels)
    condition, mask = torch.randn(1, TOLD.flow_channels), torch.ones(1, 5, 1)
    with torch.no_grad():
        torch.testing.assert_close(
            network.flow.stack(x, condition, mask), synthesizer.network.flow.stack(x, condition, mask)
        )
    assert {"flow.enter.inward", "flow.leave.offset"} <= numbers_of(network).keys(), "names in voices' files"
