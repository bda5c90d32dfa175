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
from encoder.config import AugmentConfig, DataConfig, EncoderConfig, LossConfig, RunConfig
from encoder.data import TrainingBatches, validation_crops
from encoder.perturbation import formant_shift, perturbed_mel, speed_perturb
from encoder.sampling import SpeakerCycler
from encoder.teach import read_taught
from tests.support.encoder_set import RATE, voice, write_set
from utils.audio.io import change_speed
from utils.audio.mel import mel_spectrogram, spectrogram
from utils.data.manifest import Utterance
from utils.errors import CloningError
from utils.training.task import TrainingConfig

QUIET = AugmentConfig(noise=0, babble=0, reverb=0, band_limit=0, telephone=0, gain=0, mask=0)
LOUD = AugmentConfig(noise=1, babble=1, reverb=1, equalizer=1, band_limit=1, telephone=0.5, thinning=1, gain=1, mask=1)


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
    return TrainingBatches(manifest, settings, read_taught(root))


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
        fast = torch.tensor([read.perturbations[v][0] != 1 for v in a["voice"]])
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
    assert batches.taught_share == pytest.approx(1 - 0.6 / 3)
    assert make(tmp_path, augment, speeds=(0.9, 1.1), formants=(0.85,)).taught_share == 1
    assert batches.perturbations == [(1, 1), (0.9, 1), (1.1, 1), (1, 0.85)] and len(QUIET.perturbations) == 1
    count, seen = len(batches.speakers), set()
    for step in range(12):
        batch = batches.batch(step)
        assert batch["speaker"].tolist() == [s for s in batch["speaker"][::2].tolist() for _ in range(2)]
        assert torch.equal(batch["speaker"] // count, batch["voice"])
        for number, target in zip(batch["voice"].tolist(), batch["target"], strict=True):
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
    taught = read_taught(tmp_path)
    a, b = (validation_crops(manifest, x.settings, 1.0, taught) for x in (first, second))
    np.testing.assert_array_equal(a.wav, b.wav)
    assert a.wav.shape == (6, RATE) and a.speakers.tolist() == [0, 0, 0, 1, 1, 1] and a.names == ["toy-4", "toy-5"]
    assert a.lengths.min() < RATE and a.target.shape == (6, 8)


def test_validation_needs_two_speakers(tmp_path):
    settings = make(tmp_path).settings
    with pytest.raises(CloningError, match="1 held-out speakers, at least 2 .*--validation 0.5"):
        validation_crops(write_set(tmp_path, held_out=1), settings, 1.0)


# -- effects -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def random():
    return np.random.default_rng(3)


@pytest.fixture
def noises():
    return torch.Generator().manual_seed(3)


def rows(*voices: int, seconds: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.stack([voice(v, seconds) for v in voices]))


def power(wav: torch.Tensor) -> torch.Tensor:
    return wav.square().mean(dim=1)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.integers(1, 50), st.integers(0, 99))
def test_effects_fall_on_their_share_of_the_rows(share, count, seed):
    drawn = effects.draw_rows(share, count, np.random.default_rng(seed))
    assert abs(len(drawn) - share * count) < 1 and len(set(drawn.tolist())) == len(drawn)
    assert all(0 <= row < count for row in drawn)


def test_every_row_is_as_likely(random):
    counts = np.bincount(np.concatenate([effects.draw_rows(0.3, 5, random) for _ in range(4000)]), minlength=5)
    assert counts / 4000 == pytest.approx(np.full(5, 0.3), abs=0.04)  # 5 deviations


def test_noise_has_the_ratio_asked_for(noises):
    wav, ratios = rows(1, 2, 3), torch.tensor([-5.0, 0.0, 20.0])
    added = effects.add_at_snr(wav, torch.randn(wav.shape, generator=noises), ratios) - wav
    torch.testing.assert_close(10 * torch.log10(power(wav) / power(added)), ratios, atol=0.01, rtol=0)
    assert torch.equal(effects.add_at_snr(wav, torch.zeros_like(wav), ratios), wav)
    assert not effects.add_at_snr(torch.zeros_like(wav), wav, ratios).any()


def test_band_pass_keeps_the_band_and_drops_the_rest():
    time = torch.arange(RATE) / RATE
    wav = torch.stack([torch.sin(2 * torch.pi * f * time) for f in (1000, 60, 7000)])
    level = (power(effects.band_pass(wav, torch.full((3,), 300.0), torch.full((3,), 3400.0), RATE)) / power(wav)).sqrt()
    assert level[0] > 0.98 and level[1] < 0.05 and level[2] < 0.1


def test_the_equalizer_has_the_gains_asked_for():
    time = torch.arange(RATE) / RATE
    gains = torch.tensor([[6.0, 0.0, -6.0, 3.0, 0.0, -3.0]])
    for place, frequency in enumerate(60 * (8000 / 60) ** (np.arange(5) / 5)):
        wav = torch.sin(2 * torch.pi * float(frequency) * time)[None]
        heard = power(effects.equalize(wav, gains, RATE)) / power(wav)
        assert 10 * torch.log10(heard) == pytest.approx(float(gains[0, place]), abs=0.5)


def test_a_room_keeps_the_level_and_adds_a_tail(noises):
    click = torch.zeros(1, RATE)
    click[0, 1000] = 1
    rooms = effects.made_up_rooms(torch.tensor([0.3]), torch.tensor([3.0]), 0.6, RATE, noises)
    assert power(rooms[:, 1:]) / power(rooms[:, :1]) * (rooms.size(1) - 1) == pytest.approx(10**-0.3, rel=0.01)
    wet = effects.convolve(click, rooms)
    assert power(wet) == pytest.approx(power(click), rel=1e-3)
    assert wet[0].abs().argmax() == 1000 and wet[0, :1000].abs().max() < 1e-6
    assert wet[0, 1100:5800].square().sum() > 10 * wet[0, 5800:].square().sum() > 0


def test_mu_law_is_close_and_coarse():
    wav = rows(2, seconds=0.5)
    coarse = effects.mu_law_8_bit(wav)
    assert torch.corrcoef(torch.cat([wav, coarse]))[0, 1] > 0.99 and len(coarse.unique()) <= 255
    assert not effects.mu_law_8_bit(torch.zeros(1, 9)).any()


def test_thinning_drops_what_is_quiet_and_keeps_the_voice():
    wav = rows(1, 2) + 1e-4 * torch.randn(2, RATE, generator=torch.Generator().manual_seed(0))
    deep, shallow = (effects.thin_out(wav, torch.full((2,), d)) for d in (200.0, 25.0))
    torch.testing.assert_close(deep, wav, atol=1e-5, rtol=0)
    assert shallow.shape == wav.shape and (power(shallow - wav) > 0).all()
    assert (power(shallow - wav) < 0.1 * power(wav)).all()


def test_colored_noise_is_of_any_length_and_color(noises):
    for samples in (1, 7, 16000, 12345):
        sound = effects.colored_noise(torch.tensor([0.0, 2.0]), samples, noises)
        assert sound.shape == (2, samples) and sound.isfinite().all() and sound.any()
    spectrum = torch.fft.rfft(effects.colored_noise(torch.tensor([0.0, 2.0]), RATE, noises)).abs().square()
    fall = spectrum[:, 100:200].mean(dim=1) / spectrum[:, 1000:2000].mean(dim=1)
    assert fall[0] < 2 and 50 < fall[1] < 200  # a decade of f^-2


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200_000))
def test_fast_length_is_enough_and_not_wasteful(samples):
    size = effects.fast_length(samples)
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
    with pytest.raises(CloningError, match=r"^augment\.codec: soundfile .* set augment\.codec to 0$"):
        effects.lossy(voice(1, 0.2), random, RATE)


@pytest.mark.parametrize("factor", [0.84, 0.9, 1.0, 1.19])
def test_speed_moves_pitch_and_length_and_keeps_the_level(factor):
    wav = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)[None]
    played = speed_perturb(wav, factor)
    assert played.shape == (1, int(RATE / factor))
    expected = change_speed(wav[0].numpy(), factor)
    np.testing.assert_allclose(played[0, 100:-100], expected[100:-100], atol=2e-3)


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.15])
def test_formants_move_and_the_pitch_stays(factor):
    config = EncoderConfig().mel
    time, pitch = torch.arange(RATE) / RATE, 125.0
    harmonics = pitch * torch.arange(1, 40)[:, None]
    wav = (torch.sin(2 * torch.pi * harmonics * time) * torch.exp(-(((harmonics - 1500) / 300) ** 2))).sum(0)[None]
    heard = spectrogram(wav, config)
    moved = heard * torch.exp(formant_shift(factor, config) @ heard.clamp(min=1e-10).log())
    bins, frame = torch.arange(heard.size(1)) * RATE / config.n_fft, 50
    center = float((moved[0, :, frame] * bins).sum() / moved[0, :, frame].sum())
    assert center == pytest.approx(1500 * factor, rel=0.05)
    peak = float(bins[moved[0, :, frame].argmax()])
    assert abs(peak - pitch * round(peak / pitch)) <= RATE / config.n_fft  # still on a harmonic
    mel = perturbed_mel(wav, config, formant_shift(factor, config)[None])
    assert mel.shape == (1, 40, 101) and mel.isfinite().all()
    if factor == 1:
        torch.testing.assert_close(mel, mel_spectrogram(wav, config), rtol=1e-4, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 300), st.sampled_from(["ours", "torchaudio"]))
def test_masks_stay_inside(seed, frames, by):
    config = AugmentConfig(mask=1.0, mask_by=by)
    for bounds in effects.draw_masks(config, np.random.default_rng(seed), 3, 40, frames):
        channel, channel_stop, frame, frame_stop = bounds
        assert 0 <= channel <= channel_stop <= 40 and channel_stop - channel <= config.mask_channels
        assert 0 <= frame <= frame_stop <= frames and frame_stop - frame <= config.mask_share * frames
    assert not effects.draw_masks(QUIET, np.random.default_rng(seed), 3, 40, frames).any()


def test_masks_by_torchaudio_draw_from_the_given_generator(monkeypatch):
    if find_spec("torchaudio") is None:
        pytest.skip("torchaudio is not installed")
    config = AugmentConfig(mask=1.0, mask_by="torchaudio")
    state = torch.get_rng_state()
    drawn = [effects.draw_masks(config, np.random.default_rng(5), 20, 40, 200).tolist() for _ in range(2)]
    assert drawn[0] == drawn[1] and torch.equal(state, torch.get_rng_state())
    assert len({tuple(b) for b in drawn[0]}) > 15
    assert max(b[1] - b[0] for b in drawn[0]) > 4 and max(b[3] - b[2] for b in drawn[0]) > 15

    def missing():
        raise CloningError("this needs the package torchaudio")

    effects._mask_along_axis.cache_clear()
    monkeypatch.setattr("utils.audio.torchaudio_compat.import_torchaudio", missing)
    ours = effects.draw_masks(dataclasses.replace(config, mask_by="ours"), np.random.default_rng(1), 4, 40, 200)
    np.testing.assert_array_equal(effects.draw_masks(config, np.random.default_rng(1), 4, 40, 200), ours)
    effects._mask_along_axis.cache_clear()


SOUNDS = ["noise", "babble", "reverb", "equalizer", "band_limit", "telephone", "thinning", "codec", "gain"]


@pytest.mark.parametrize("name", SOUNDS)
def test_each_effect_answers_to_its_setting(name, random, noises):
    wav = rows(1, 2, 3, 4, seconds=0.8)
    sounds = effects.Sounds(lambda n, _: rows(5, seconds=0.8).repeat(n, 1))
    changed = effects.augment(wav, dataclasses.replace(QUIET, **{name: 0.5}), random, noises, RATE, sounds)
    assert changed.shape == wav.shape and changed.dtype == torch.float32 and changed.isfinite().all()
    assert (changed != wav).any(dim=1).sum() == 2 and dataclasses.replace(QUIET, **{name: 0.5}).any
    assert effects.augment(wav, QUIET, random, noises, RATE, sounds) is wav and not QUIET.any
