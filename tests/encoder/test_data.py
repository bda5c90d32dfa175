"""Batches: pure functions of (seed, step), every speaker in turn."""

from __future__ import annotations

import dataclasses
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.config import AugmentConfig, DataConfig, EncoderConfig, LossConfig, RunConfig
from encoder.data import TrainingBatches, validation_crops
from encoder.sampling import SpeakerCycler
from encoder.teach import read_teacher_embeddings
from tests.support.encoder_set import RATE, write_set
from utils.data.manifest import Utterance
from utils.errors import CloningError
from utils.training.task import TrainingConfig

QUIET = AugmentConfig(noise=0, babble=0, reverb=0, band_limit=0, telephone=0, gain=0, mask=0)
LOUD = AugmentConfig(
    noise=1, babble=1, reverb=1, equalizer=1, band_limit=1, telephone=0.5, spectral_dropout=1, gain=1, mask=1
)


def make(root, augment=QUIET, seed=0, loss=None, rooms=0, speeds=(), formants=(), **data) -> TrainingBatches:
    manifest = write_set(root, teacher=8, noise=2, rooms=rooms, speeds=speeds, formants=formants)
    data = {"speakers": 3, "utterances": 2, "max_seconds": 1.5, **data}
    settings = RunConfig(
        EncoderConfig(embedding_size=8),
        DataConfig(**data),
        augment,
        loss or LossConfig(distill_weight=1.0),
        TrainingConfig(seed=seed),
    )
    return TrainingBatches(manifest, settings, read_teacher_embeddings(root))


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.data(), st.integers(1, 3), st.integers(0, 99))
def test_every_speaker_and_utterance_comes_within_two_rounds(n, data, per_speaker, seed):
    turns = data.draw(st.lists(st.integers(1, 3), min_size=n, max_size=n))
    batch = data.draw(st.integers(2, n))
    rows = [[Utterance(f"{s}/{u}", str(s)) for u in range(1 + s % 3)] for s in range(n)]
    owner = np.repeat(np.arange(n), [len(row) for row in rows])
    cycler = SpeakerCycler(rows, turns, seed)
    seen: list[int] = []
    for step in range(-(-2 * sum(turns) // batch)):
        who, utterances = cycler.draw(step, batch, per_speaker)
        assert len(set(who.tolist())) == batch and utterances.shape == (batch, per_speaker)
        assert np.array_equal(owner[utterances], np.repeat(who[:, None], per_speaker, axis=1))
        seen += who.tolist()
    assert set(seen) == set(range(n))


def test_a_speakers_utterances_come_in_turn():
    rows = [[Utterance(f"{s}/{u}", str(s)) for u in range(4)] for s in range(5)]
    cycler = SpeakerCycler(rows, [1] * 5, 0)
    pairs = [cycler.draw(step, 5, 2)[1] for step in range(4)]
    assert set(Counter(np.stack(pairs).ravel().tolist()).values()) == {2}
    met = {frozenset(pair) for pair in np.stack(pairs).reshape(-1, 2).tolist()}
    assert len(met) > 2 * 5  # not the same pairs again and again


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.integers(0, 99))
def test_a_speakers_pairs_are_from_two_sessions_where_the_sessions_are_of_a_size(sizes, seed):
    sizes = [max(sizes)] * len(sizes)
    rows = [[Utterance(f"{c}/{u}", "s", path=f"s/{c}/{u}.wav") for c, n in enumerate(sizes) for u in range(n)]]
    cycler = SpeakerCycler([*rows, [Utterance("x", "t")]], [1, 1], seed)
    for step in range(10):
        who, utterances = cycler.draw(step, 2, 2)
        a, b = (rows[0][i].path.split("/")[1] for i in utterances[who == 0][0])
        assert a != b


EVERYTHING = dataclasses.replace(LOUD, codec=1.0, speed=0.5)


@pytest.mark.parametrize("augment", [QUIET, LOUD, EVERYTHING])
def test_a_batch_depends_on_seed_and_step_alone(tmp_path, augment):
    batches = make(tmp_path, augment)
    third = batches.batch(3)
    batches.batch(4)
    assert same(third, batches.batch(3))
    assert same(third, pickle.loads(pickle.dumps(batches)).batch(3))  # as in a loader process
    assert same(third, make(tmp_path, augment).batch(3))
    assert not torch.equal(third["wav"], make(tmp_path, augment, seed=1).batch(3)["wav"][:, : third["wav"].size(1)])


def test_shapes_and_lengths(tmp_path):
    batches = make(tmp_path, min_seconds=1.2, final_share=0.5, final_seconds=(1.8, 2.2))
    lengths = set()
    for step in range(1, 9):
        batch, last = batches.batch(step), batches.batch(step, 0.5)
        rows, samples = batch["wav"].shape
        assert rows == 6 and 1.2 * RATE <= samples + 1 and samples <= 1.5 * RATE and samples % (RATE / 10) == 0
        assert 1.8 * RATE <= last["wav"].size(1) <= 2.2 * RATE
        assert batch["wav"].dtype == torch.float32 and batch["target"].shape == (6, 8)
        assert batch["speaker"].tolist() == [s for s in batch["speaker"][::2].tolist() for _ in range(2)]
        lengths.add(samples)
    assert len(lengths) > 1


def test_what_is_shorter_than_the_crop_begins_again(tmp_path):
    batches = make(tmp_path)
    short = next(i for i, u in enumerate(batches.utterances) if u.seconds == 0.7)
    whole = int(0.7 * RATE)
    crop = batches.recordings.crops(np.array([short]), np.array([0.3]), np.array([0]), 2 * RATE)[0]
    assert torch.equal(crop[whole : 2 * whole], crop[:whole]) and crop.shape == (2 * RATE,)


@pytest.mark.parametrize("speed", [0.0, 0.7])
def test_what_lies_on_the_device_gives_the_same_batches(tmp_path, speed):
    augment = dataclasses.replace(QUIET, speed=speed, speeds=(0.9, 1.25), formants=(0.9,))
    read, held = make(tmp_path, augment), make(tmp_path, augment)
    held.move(torch.device("cpu"))
    for step in range(4):
        a, b = read.batch(step), held.batch(step)
        assert all(torch.equal(a[k], b[k]) for k in a if k != "wav")
        fast = torch.tensor([read.perturbations[v][0] != 1 for v in a["perturbation"]])
        torch.testing.assert_close(a["wav"][~fast], b["wav"][~fast], atol=1e-7, rtol=0)
        for mine, theirs in zip(a["wav"][fast], b["wav"][fast], strict=True):  # may begin two samples apart
            spectra = [torch.fft.rfft(x).abs() for x in (mine, theirs)]
            assert torch.nn.functional.cosine_similarity(*spectra, dim=0) > 0.95


def test_a_speaker_with_one_utterance_gives_different_crops(tmp_path):
    batches = make(tmp_path, max_seconds=0.8)
    assert batches.speakers[0] == "toy-0"
    batch = next(b for b in map(batches.batch, range(1, 9)) if 0 in b["speaker"])
    a, b = batch["wav"][batch["speaker"] == 0]
    assert not torch.equal(a, b)


def test_balance_gives_speakers_with_more_speech_more_turns(tmp_path):
    batches = make(tmp_path)
    long = [Utterance("x", "y", seconds=400.0)]
    assert batches._turns(long) == 6 and batches._turns([Utterance("x", "y", seconds=3.0)]) == 1
    assert make(tmp_path, balance="equal")._turns(long) == 1
    assert make(tmp_path, balance_seconds=4.0)._turns(long) == 10


def test_targets(tmp_path):
    whole = make(tmp_path).batch(1)["target"]
    speaker = make(tmp_path, loss=LossConfig(1.0, speaker_share=1.0)).batch(1)["target"]
    centered = make(tmp_path, loss=LossConfig(1.0, center=True)).batch(1)["target"]
    for target in (whole, speaker, centered):
        torch.testing.assert_close(target.norm(dim=1), torch.ones(6), atol=1e-3, rtol=0)
    assert torch.equal(speaker[0], speaker[1]) and not torch.equal(whole, speaker)
    assert (centered[::2] @ centered[::2].T).fill_diagonal_(0).max() < (whole[::2] @ whole[::2].T).fill_diagonal_(
        0
    ).max()
    assert "target" not in make(tmp_path, loss=LossConfig()).batch(1)


def test_a_speaker_in_another_voice_is_another_speaker_with_a_target_where_the_teacher_heard_it(tmp_path):
    augment = dataclasses.replace(QUIET, speed=0.6, formants=(0.85,))
    loss = LossConfig(1.0, center=True, speaker_share=0.5)
    batches = make(tmp_path, augment, speeds=(0.9,), formants=(0.85,), loss=loss)
    assert batches.target_share == pytest.approx(1 - 0.6 / 3)
    assert make(tmp_path, augment, speeds=(0.9, 1.1), formants=(0.85,)).target_share == 1
    assert batches.perturbations == [(1, 1), (0.9, 1), (1.1, 1), (1, 0.85)] and len(QUIET.perturbations) == 1
    count, seen = len(batches.speakers), set()
    for step in range(12):
        batch = batches.batch(step)
        assert batch["speaker"].tolist() == [s for s in batch["speaker"][::2].tolist() for _ in range(2)]
        assert torch.equal(batch["speaker"] // count, batch["perturbation"])
        for number, target in zip(batch["perturbation"].tolist(), batch["target"], strict=True):
            seen.add(number)
            assert bool(target.any()) == (number != 2)  # 1.1 was not heard
    assert seen == {0, 1, 2, 3}
    own, moved = batches.targets[0], batches.targets[3]
    assert (own * moved).sum(dim=1).mean() < 0.9


def test_a_speed_of_1_is_refused():
    with pytest.raises(ValueError, match="not be 1"):
        AugmentConfig(speed=0.1, speeds=(1.0,))


def test_simulated_rooms_are_used_where_the_set_has_some(tmp_path):
    dry, wet = QUIET, dataclasses.replace(QUIET, reverb=1.0, reverb_rooms=1.0)
    quiet, heard = make(tmp_path, dry, rooms=2).batch(1), make(tmp_path, wet, rooms=2).batch(1)
    # The room of the toy set is an echo after 100 samples
    for before, after in zip(quiet["wav"], heard["wav"], strict=True):
        echo = before.clone()
        echo[100:] += 0.5 * before[:-100]
        assert torch.nn.functional.cosine_similarity(echo, after, dim=0) > 0.9999


def test_too_few_speakers_are_refused(tmp_path):
    with pytest.raises(CloningError, match="4 training speakers, a batch wants 5"):
        make(tmp_path, speakers=5)


def test_validation_crops_do_not_depend_on_the_seed(tmp_path):
    first, second = make(tmp_path, seed=0), make(tmp_path, seed=5)
    manifest = write_set(tmp_path, teacher=8)
    teacher = read_teacher_embeddings(tmp_path)
    a, b = (validation_crops(manifest, x.config, 1.0, teacher) for x in (first, second))
    np.testing.assert_array_equal(a.wav, b.wav)
    assert a.wav.shape == (6, RATE) and a.speakers.tolist() == [0, 0, 0, 1, 1, 1] and a.names == ["toy-4", "toy-5"]
    assert a.lengths.min() < RATE and a.target.shape == (6, 8)


def test_validation_needs_two_speakers(tmp_path):
    settings = make(tmp_path).config
    with pytest.raises(CloningError, match="1 held-out speakers, at least 2 .*another part of the speakers held out"):
        validation_crops(write_set(tmp_path, held_out=1), settings, 1.0)


# -- effects -----------------------------------------------------------------------------------------------------------
