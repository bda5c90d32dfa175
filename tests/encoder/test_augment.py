"""Effects are as strong, and as frequent, as they are asked to be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder import augment as effects
from encoder.config import AugmentConfig, EncoderConfig
from encoder.perturbation import formant_shift, perturbed_mel, speed_perturb
from tests.support.encoder_set import RATE, voice
from utils.audio.io import change_speed
from utils.audio.mel import mel_spectrogram, spectrogram
from utils.errors import CloningError

QUIET = AugmentConfig(noise=0, babble=0, reverb=0, band_limit=0, telephone=0, gain=0, mask=0)


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
    rooms = effects.synthetic_rooms(torch.tensor([0.3]), torch.tensor([3.0]), 0.6, RATE, noises)
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
    deep, shallow = (effects.spectral_dropout(wav, torch.full((2,), d)) for d in (200.0, 25.0))
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
@given(st.integers(0, 10_000), st.integers(1, 300))
def test_masks_stay_inside(seed, frames):
    config = AugmentConfig(mask=1.0)
    for bounds in effects.draw_masks(config, np.random.default_rng(seed), 3, 40, frames):
        channel, channel_stop, frame, frame_stop = bounds
        assert 0 <= channel <= channel_stop <= 40 and channel_stop - channel <= config.mask_channels
        assert 0 <= frame <= frame_stop <= frames and frame_stop - frame <= config.mask_share * frames
    assert not effects.draw_masks(QUIET, np.random.default_rng(seed), 3, 40, frames).any()


SOUNDS = ["noise", "babble", "reverb", "equalizer", "band_limit", "telephone", "spectral_dropout", "codec", "gain"]


@pytest.mark.parametrize("name", SOUNDS)
def test_each_effect_answers_to_its_setting(name, random, noises):
    wav = rows(1, 2, 3, 4, seconds=0.8)
    sounds = effects.Sounds(lambda n, _: rows(5, seconds=0.8).repeat(n, 1))
    changed = effects.augment(wav, dataclasses.replace(QUIET, **{name: 0.5}), random, noises, RATE, sounds)
    assert changed.shape == wav.shape and changed.dtype == torch.float32 and changed.isfinite().all()
    assert (changed != wav).any(dim=1).sum() == 2 and dataclasses.replace(QUIET, **{name: 0.5}).any
    assert effects.augment(wav, QUIET, random, noises, RATE, sounds) is wav and not QUIET.any
