"""Batches: pure functions of (seed, step), every speaker in turn, effects as strong as asked."""

from __future__ import annotations

import dataclasses
import pickle
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder import augment as effects
from encoder.config import EncoderConfig
from encoder.data import SpeakerCycler, TrainingBatches, validation_crops
from encoder.settings import AugmentConfig, DataConfig, EncoderSettings, LossConfig
from tests.encoder_set import RATE, voice, write_set
from utils.audio import change_speed
from utils.errors import CloningError
from utils.manifest import Utterance
from utils.task import TrainingConfig

QUIET = AugmentConfig(noise=0, babble=0, reverb=0, band_limit=0, telephone=0, gain=0, mask=0)
LOUD = AugmentConfig(noise=1, babble=1, reverb=1, band_limit=1, telephone=0.5, gain=1, mask=1)


def make(root, augment=QUIET, seed=0, loss=None, rooms=0, speeds=(), **data) -> TrainingBatches:
    manifest = write_set(root, teacher=8, noise=2, rooms=rooms, speeds=speeds)
    data = {"speakers": 3, "utterances": 2, "max_seconds": 1.5, **data}
    return TrainingBatches(
        manifest,
        EncoderSettings(
            EncoderConfig(embedding_size=8),
            DataConfig(**data),
            augment,
            loss or LossConfig(distill_weight=1.0),
            TrainingConfig(seed=seed),
        ),
    )


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.data(), st.integers(1, 3), st.integers(0, 99))
def test_every_speaker_and_utterance_comes_within_two_rounds(n, data, per_speaker, seed):
    turns = data.draw(st.lists(st.integers(1, 3), min_size=n, max_size=n))
    batch = data.draw(st.integers(2, n))
    rows = [[Utterance(f"{s}/{u}", str(s)) for u in range(1 + s % 3)] for s in range(n)]
    cycler = SpeakerCycler(rows, turns, seed)
    seen: list[int] = []
    for step in range(-(-2 * sum(turns) // batch)):
        drawn = cycler.draw(step, batch, per_speaker)
        speakers = [d.speaker for d in drawn[::per_speaker]]
        assert len(set(speakers)) == batch
        assert all(d.utterance.speaker == str(d.speaker) for d in drawn)
        assert all(drawn[i].speaker == drawn[i - i % per_speaker].speaker for i in range(len(drawn)))
        seen += speakers
    assert set(seen) == set(range(n))


def test_a_speakers_utterances_come_in_turn():
    rows = [[Utterance(f"{s}/{u}", str(s)) for u in range(4)] for s in range(5)]
    cycler = SpeakerCycler(rows, [1] * 5, 0)
    counts = Counter(d.utterance.id for step in range(4) for d in cycler.draw(step, 5, 2))
    assert set(counts.values()) == {2} and len(counts) == 20


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


def test_shapes_lengths_and_padding(tmp_path):
    batches = make(tmp_path, min_seconds=1.2)
    for step in range(1, 6):
        batch = batches.batch(step)
        rows, samples = batch["wav"].shape
        assert rows == 6 and 1.2 * RATE <= samples + 1 and samples <= 1.5 * RATE
        assert batch["wav"].dtype == torch.float32 and batch["target"].shape == (6, 8)
        assert batch["speaker"].tolist() == [s for s in batch["speaker"][::2].tolist() for _ in range(2)]
        for wav, length in zip(batch["wav"], batch["lengths"], strict=True):
            assert wav[length:].eq(0).all() and wav[:length].abs().sum() > 0
    assert any((batches.batch(s)["lengths"] < batches.batch(s)["wav"].size(1)).any() for s in range(1, 6))


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


def test_targets(tmp_path):
    whole = make(tmp_path).batch(1)["target"]
    partials = make(tmp_path, loss=LossConfig(1.0, "partials")).batch(1)["target"]
    speaker = make(tmp_path, loss=LossConfig(1.0, speaker_share=1.0)).batch(1)["target"]
    centered = make(tmp_path, loss=LossConfig(1.0, center=True)).batch(1)["target"]
    for target in (whole, partials, speaker, centered):
        torch.testing.assert_close(target.norm(dim=1), torch.ones(6))
    assert (whole * partials).sum(dim=1).min() > 0.9
    assert torch.equal(speaker[0], speaker[1]) and not torch.equal(whole, speaker)
    assert (centered[::2] @ centered[::2].T).fill_diagonal_(0).max() < (whole[::2] @ whole[::2].T).fill_diagonal_(
        0
    ).max()
    assert "target" not in make(tmp_path, loss=LossConfig()).batch(1)


def test_a_speaker_at_another_speed_is_another_speaker_without_a_target(tmp_path):
    still, batches = make(tmp_path), make(tmp_path, dataclasses.replace(QUIET, speed=0.6))
    seen: set[int] = set()
    for step in range(8):
        batch, plain = batches.batch(step), still.batch(step)
        shift = batch["speaker"] - plain["speaker"]
        assert batch["speaker"].tolist() == [s for s in batch["speaker"][::2].tolist() for _ in range(2)]
        assert set(shift.tolist()) <= {0, 4, 8}
        sped = shift > 0
        assert not batch["target"][sped].any() and torch.equal(batch["target"][~sped], plain["target"][~sped])
        assert torch.equal(batch["wav"][~sped], plain["wav"][~sped])
        seen |= set(batch["speaker"].tolist())
    assert {s // 4 for s in seen} == {0, 1, 2} and batches.settings.augment.voices == 3
    assert QUIET.voices == 1


def test_a_speed_that_the_teacher_heard_has_a_target_of_its_own(tmp_path):
    augment = dataclasses.replace(QUIET, speed=0.6)
    batches = make(tmp_path, augment, speeds=(0.9,), loss=LossConfig(1.0, center=True, speaker_share=0.5))
    assert batches.taught_share == pytest.approx(1 - 0.6 / 2)
    assert make(tmp_path, augment, speeds=(0.9, 1.1)).taught_share == 1
    count, plain = len(batches.speakers), make(tmp_path, speeds=(0.9,), loss=LossConfig(1.0, center=True))
    seen: set[int] = set()
    for step in range(8):
        batch, still = batches.batch(step), plain.batch(step)
        for speaker, target, usual in zip(batch["speaker"].tolist(), batch["target"], still["target"], strict=True):
            seen.add(speaker // count)
            assert bool(target.any()) == (speaker // count < 2)  # 1.1 was not heard
            if speaker // count == 1:
                assert target @ usual < 0.9 and target.norm() == pytest.approx(1, abs=1e-3)
    assert seen == {0, 1, 2}


def test_a_speed_of_1_is_refused():
    with pytest.raises(ValueError, match="not be 1"):
        AugmentConfig(speed=0.1, speeds=(1.0,))


def test_simulated_rooms_are_used_where_the_set_has_some(tmp_path):
    dry, wet = QUIET, dataclasses.replace(QUIET, reverb=1.0, reverb_rooms=1.0)
    quiet, heard = make(tmp_path, dry, rooms=2).batch(1), make(tmp_path, wet, rooms=2).batch(1)
    # The room of the toy set is an echo after 100 samples
    for before, after, length in zip(quiet["wav"], heard["wav"], quiet["lengths"], strict=True):
        echo = before.clone()
        echo[100:length] += 0.5 * before[: length - 100]
        assert torch.nn.functional.cosine_similarity(echo, after, dim=0) > 0.9999


def test_too_few_speakers_are_refused(tmp_path):
    with pytest.raises(CloningError, match="4 training speakers, a batch wants 5"):
        make(tmp_path, speakers=5)


def test_validation_crops_do_not_depend_on_the_seed(tmp_path):
    first, second = make(tmp_path, seed=0), make(tmp_path, seed=5)
    manifest = write_set(tmp_path, teacher=8)
    a, b = (validation_crops(manifest, x.settings, 1.0) for x in (first, second))
    np.testing.assert_array_equal(a.wav, b.wav)
    assert a.wav.shape == (6, RATE) and a.speakers.tolist() == [0, 0, 0, 1, 1, 1] and a.names == ["toy-4", "toy-5"]
    assert a.lengths.min() < RATE and a.target.shape == (6, 8)


def test_validation_needs_two_speakers(tmp_path):
    settings = make(tmp_path).settings
    with pytest.raises(CloningError, match="1 held-out speakers, validation wants 2"):
        validation_crops(write_set(tmp_path, held_out=1), settings, 1.0)


# -- effects -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def random():
    return np.random.default_rng(3)


def test_noise_has_the_ratio_asked_for(random):
    wav = voice(1, 1.0)
    for snr in (-5, 0, 20):
        added = effects.add_at_snr(wav, random.standard_normal(len(wav)).astype(np.float32), snr) - wav
        assert 10 * np.log10(np.mean(wav**2) / np.mean(added**2)) == pytest.approx(snr, abs=0.01)
    assert effects.add_at_snr(wav, np.zeros_like(wav), 0) is wav


def test_band_pass_keeps_the_band_and_drops_the_rest():
    time = np.arange(RATE) / RATE
    for frequency, kept in ((1000, 0.98), (60, 0.05), (7000, 0.1)):
        wav = np.sin(2 * np.pi * frequency * time).astype(np.float32)
        level = np.sqrt(np.mean(effects.band_pass(wav, 300, 3400, RATE) ** 2) / np.mean(wav**2))
        assert level > kept if frequency == 1000 else level < kept


def test_a_room_keeps_the_level_and_adds_a_tail(random):
    click = np.zeros(RATE, np.float32)
    click[1000] = 1
    wet = effects.reverberate(click, random, 0.3, RATE)
    assert np.mean(wet**2) == pytest.approx(np.mean(click**2), rel=1e-3)
    assert np.argmax(np.abs(wet)) == 1000 and np.abs(wet[:1000]).max() < 1e-6
    assert np.sum(wet[1100:5800] ** 2) > 10 * np.sum(wet[5800:] ** 2) > 0


def test_mu_law_is_close_and_coarse():
    wav = voice(2, 0.5)
    coarse = effects.mu_law_8_bit(wav)
    assert np.corrcoef(wav, coarse)[0, 1] > 0.99 and len(np.unique(coarse)) <= 255
    assert not effects.mu_law_8_bit(np.zeros(9, np.float32)).any()


def test_coloured_noise_is_of_any_length(random):
    for samples in (1, 7, 16000, 12345):
        sound = effects.coloured_noise(samples, random)
        assert sound.shape == (samples,) and np.isfinite(sound).all() and sound.any()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200_000))
def test_fast_length_is_enough_and_not_wasteful(samples):
    size = effects._fast_length(samples)
    assert samples <= size < 1.35 * samples + 2


def test_codecs_keep_length_and_voice(random):
    for samples in (8000, 24001):
        for wav in (voice(1, samples / RATE)[:samples], 20 * voice(1, samples / RATE)[:samples]):
            heard = [effects.lossy(wav, random, RATE) for _ in range(5)]
            assert all(h.shape == wav.shape and h.dtype == np.float32 for h in heard)
            levels = [np.sqrt(np.mean(h**2) / np.mean(wav**2)) for h in heard]
            assert min(levels) > 0.5 and max(levels) < 1.5 and len(set(levels)) > 2
    assert effects.lossy(np.zeros(9, np.float32), random, RATE).shape == (9,)


def test_a_soundfile_that_knows_no_rates_is_one_line(random, monkeypatch):
    def old(file, data, samplerate, subtype=None, format=None):
        raise AssertionError

    monkeypatch.setattr("soundfile.write", old)
    with pytest.raises(CloningError, match=r"^augment\.codec: soundfile .* --set augment\.codec=0$"):
        effects.lossy(voice(1, 0.2), random, RATE)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_moves_pitch_and_length_and_keeps_the_level(factor):
    time = np.arange(RATE) / RATE
    played = change_speed(np.sin(2 * np.pi * 1000 * time).astype(np.float32), factor)
    assert len(played) == int(RATE / factor) and played.dtype == np.float32
    middle = played[2000:12000] * np.hanning(10000)
    assert np.abs(np.fft.rfft(middle)).argmax() * RATE / 10000 == pytest.approx(1000 * factor, abs=2)
    assert np.sqrt(np.mean(played[2000:12000] ** 2)) == pytest.approx(0.5**0.5, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 300), st.sampled_from(["ours", "torchaudio"]))
def test_masks_stay_inside(seed, frames, by):
    config = AugmentConfig(mask=1.0, mask_by=by)
    channel, channel_stop, frame, frame_stop = effects.draw_mask(config, np.random.default_rng(seed), 40, frames)
    assert 0 <= channel <= channel_stop <= 40 and channel_stop - channel <= config.mask_channels
    assert 0 <= frame <= frame_stop <= frames and frame_stop - frame <= config.mask_share * frames
    assert not effects.draw_mask(QUIET, np.random.default_rng(seed), 40, frames).any()


def test_masks_by_torchaudio_draw_from_the_given_generator(random, monkeypatch):
    if find_spec("torchaudio") is None:
        pytest.skip("torchaudio is not installed")
    config = AugmentConfig(mask=1.0, mask_by="torchaudio")
    state = torch.get_rng_state()
    bounds = [effects.draw_mask(config, np.random.default_rng(i), 40, 200).tolist() for i in range(20)]
    assert bounds == [effects.draw_mask(config, np.random.default_rng(i), 40, 200).tolist() for i in range(20)]
    assert torch.equal(state, torch.get_rng_state()) and len({tuple(b) for b in bounds}) > 15
    assert max(b[1] - b[0] for b in bounds) > 4 and max(b[3] - b[2] for b in bounds) > 15

    def missing():
        raise CloningError("this needs the package torchaudio")

    effects._mask_along_axis.cache_clear()
    monkeypatch.setattr("utils.torchaudio_compat.import_torchaudio", missing)
    ours = effects.draw_mask(dataclasses.replace(config, mask_by="ours"), np.random.default_rng(1), 40, 200)
    np.testing.assert_array_equal(effects.draw_mask(config, np.random.default_rng(1), 40, 200), ours)
    effects._mask_along_axis.cache_clear()


@pytest.mark.parametrize("name", ["noise", "babble", "reverb", "band_limit", "telephone", "codec", "gain"])
def test_each_effect_answers_to_its_setting(name, random):
    wav = voice(1, 0.8)
    crop = lambda n: np.resize(voice(4, 0.5), n)  # noqa: E731
    on = dataclasses.replace(QUIET, **{name: 1.0})
    changed = effects.augment(wav, on, random, RATE, crop, None)
    assert changed.shape == wav.shape and changed.dtype == np.float32 and np.isfinite(changed).all()
    assert not np.allclose(changed, wav)
    assert effects.augment(wav, QUIET, random, RATE, crop, None) is wav
