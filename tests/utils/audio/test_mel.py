"""Mels: librosa's, the recorded ones, and the laws of batching, padding, differentiating and devices."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SAMPLES
from utils import config
from utils.audio import io as audio
from utils.audio.mel import (
    ENCODER_MEL,
    SYNTHESIZER_MEL,
    MelConfig,
    amplitude_to_db,
    db_to_amplitude,
    deemphasis,
    hann_window,
    inverse_mel_filterbank,
    mel_filterbank,
    mel_spectrogram,
    preemphasis,
)
from utils.audio.vad import trim_silence
from utils.errors import CloningError

OTHER_MEL = MelConfig(
    sample_rate=24000, n_fft=1024, win_length=600, hop_length=256, n_mels=100, fmin=20, fmax=11000, power=1.0
)
CLIPS = ["1320", "3575", "6829", "8230", "p240", "p260"]
each_mel = pytest.mark.parametrize("mel", [ENCODER_MEL, SYNTHESIZER_MEL, OTHER_MEL], ids=["enc", "syn", "other"])


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@each_mel
def test_filterbank_is_librosas(mel):
    librosa = pytest.importorskip("librosa")
    expected = librosa.filters.mel(sr=mel.sample_rate, n_fft=mel.n_fft, n_mels=mel.n_mels, fmin=mel.fmin, fmax=mel.fmax)
    np.testing.assert_allclose(mel_filterbank(mel).numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("samples", [1, 399, 4000, 16123])
@pytest.mark.parametrize("mel", [ENCODER_MEL, OTHER_MEL], ids=["enc", "other"])
def test_linear_mel_is_librosas(mel, samples):
    librosa = pytest.importorskip("librosa")
    wav = noise(samples)
    expected = librosa.feature.melspectrogram(
        y=wav.numpy(), sr=mel.sample_rate, n_fft=mel.n_fft, win_length=mel.win_length, hop_length=mel.hop_length,
        n_mels=mel.n_mels, fmin=mel.fmin, fmax=mel.fmax, power=mel.power, center=True, pad_mode="constant",
    )  # fmt: skip
    ours = mel_spectrogram(wav, mel).numpy()
    assert ours.shape == expected.shape == (mel.n_mels, mel.frames(samples))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


def test_decibel_mel_is_librosas():
    librosa = pytest.importorskip("librosa")
    wav = noise(16000).numpy()
    magnitude = librosa.feature.melspectrogram(
        y=np.append(wav[0], wav[1:] - np.float32(0.97) * wav[:-1]), sr=16000, n_fft=800, hop_length=200,
        n_mels=80, fmin=55, fmax=7600, power=1, pad_mode="constant",
    )  # fmt: skip
    level = librosa.amplitude_to_db(magnitude, ref=1.0, amin=1e-5, top_db=None) - 20
    expected = np.clip(8 * (level + 100) / 100 - 4, -4, 4)
    np.testing.assert_allclose(mel_spectrogram(torch.from_numpy(wav), SYNTHESIZER_MEL).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("clip", ["0870", "0890"])
def test_recorded_public_domain_mels(data_dir, clip):
    recorded = np.load(data_dir / "public_domain.npz")
    wav, _ = soundfile.read(SAMPLES / f"austen_{clip}.wav", dtype="float32")  # with its DC
    mel = mel_spectrogram(torch.from_numpy(trim_silence(audio.normalize_volume(wav))), ENCODER_MEL).T.numpy()
    assert len(mel) == 1 + recorded[f"{clip}/samples"] // ENCODER_MEL.hop_length
    np.testing.assert_allclose(mel[::4], recorded[f"{clip}/mel40_every_4"], atol=1e-5 * mel.max())
    mel = mel_spectrogram(torch.from_numpy(audio.peak_normalize(wav, 0.9)), SYNTHESIZER_MEL).numpy()
    np.testing.assert_allclose(mel[:, ::4], recorded[f"{clip}/mel80_every_4"], atol=1e-3)
    assert np.abs(mel[:, ::4] - recorded[f"{clip}/mel80_every_4"]).mean() < 1e-5


@pytest.mark.parametrize("clip", CLIPS)
def test_recorded_mels(shared_golden, clip):
    encoder, synthesizer = np.load(shared_golden / "encoder.npz"), np.load(shared_golden / "mel.npz")
    mel = mel_spectrogram(torch.from_numpy(encoder[f"{clip}/wav"]), ENCODER_MEL).T.numpy()
    np.testing.assert_allclose(mel, encoder[f"{clip}/mel"], atol=1e-5 * mel.max())
    wav, _ = soundfile.read(shared_golden / "clips" / f"{clip}.wav", dtype="float32")  # with its DC
    mel = mel_spectrogram(torch.from_numpy(audio.peak_normalize(wav, 0.9)), SYNTHESIZER_MEL).numpy()
    np.testing.assert_allclose(mel, synthesizer[f"{clip}/mel"], atol=1e-3)
    assert np.abs(mel - synthesizer[f"{clip}/mel"]).mean() < 1e-5


def test_recorded_filters_and_emphasis(shared_golden):
    recorded = np.load(shared_golden / "mel.npz")
    np.testing.assert_allclose(mel_filterbank(SYNTHESIZER_MEL).numpy(), recorded["mel_filters_80"], atol=1e-7)
    inverse = inverse_mel_filterbank(SYNTHESIZER_MEL).numpy()
    np.testing.assert_allclose(inverse, recorded["inv_mel_filters_80"], atol=1e-4)
    wav = torch.from_numpy(recorded["preemphasis/in"])
    np.testing.assert_allclose(preemphasis(wav).numpy(), recorded["preemphasis/out"], atol=1e-6)


def test_recorded_deemphasis(data_dir):
    recorded = np.load(data_dir / "vocoder_dsp.npz")
    wav = torch.from_numpy(recorded["deemphasis/in"])
    np.testing.assert_allclose(preemphasis(wav).numpy(), recorded["preemphasis/out"], atol=1e-6)
    np.testing.assert_allclose(deemphasis(wav.double()).numpy(), recorded["deemphasis/out"], atol=1e-5)


@each_mel
def test_a_batch_is_its_items(mel):
    wavs = noise(3, 5000)
    batch = mel_spectrogram(wavs, mel)
    for wav, expected in zip(wavs, batch, strict=True):
        torch.testing.assert_close(mel_spectrogram(wav, mel), expected, atol=1e-5, rtol=1e-5)


@each_mel
def test_zeros_behind_do_not_change_the_frames_before(mel):
    mel = dataclasses.replace(mel, preemphasis=0.0)
    wav = noise(5000)
    padded = torch.cat([wav, torch.zeros(3000)])
    alone = mel_spectrogram(wav, mel)
    torch.testing.assert_close(mel_spectrogram(padded, mel)[:, : alone.shape[1]], alone, atol=1e-5, rtol=1e-5)


@each_mel
def test_gradients_reach_the_samples_also_after_use_in_inference_mode(mel):
    hann_window.cache_clear()
    for cached in (mel_filterbank, inverse_mel_filterbank):
        with torch.inference_mode():
            cached(dataclasses.replace(mel, fmin=mel.fmin + 1))
    with torch.inference_mode():
        mel_spectrogram(noise(800), dataclasses.replace(mel, fmin=mel.fmin + 1))
    wav = torch.cat([torch.zeros(2000), noise(2000)]).requires_grad_()
    mel_spectrogram(wav, dataclasses.replace(mel, fmin=mel.fmin + 1)).square().mean().backward()
    assert torch.isfinite(wav.grad).all() and wav.grad.abs().sum() > 0


@each_mel
def test_precision(mel):
    wav = noise(5000)
    expected = mel_spectrogram(wav.double(), mel)
    assert expected.dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        ours = mel_spectrogram(wav, mel)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), expected, atol=1e-4, rtol=1e-4)
    assert mel_spectrogram(wav.bfloat16(), mel).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@each_mel
def test_cuda_equals_cpu(mel):
    wav = noise(2, 8000)
    ours = mel_spectrogram(wav.cuda(), mel)
    assert ours.is_cuda
    torch.testing.assert_close(ours.cpu(), mel_spectrogram(wav, mel), atol=1e-3, rtol=1e-3)


def test_silence_is_the_lowest_level():
    assert (mel_spectrogram(torch.zeros(1000), SYNTHESIZER_MEL) == -4).all()
    assert (mel_spectrogram(torch.zeros(1000), ENCODER_MEL) == 0).all()


@settings(deadline=None)
@given(st.floats(-3.999, 3.999))
def test_decibels_come_back(value):
    mel = torch.tensor([value], dtype=torch.float64)
    torch.testing.assert_close(amplitude_to_db(db_to_amplitude(mel, SYNTHESIZER_MEL), SYNTHESIZER_MEL), mel)


def test_decibel_scale_is_the_published_one():
    amplitudes = torch.tensor([1e-6, 1e-5, 1.0, 10.0, 1e3], dtype=torch.float64)
    level = amplitude_to_db(amplitudes, SYNTHESIZER_MEL)
    torch.testing.assert_close(level, torch.tensor([-4, -4, 2.4, 4, 4], dtype=torch.float64))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 3000), st.floats(0.0, 0.99), st.integers(0, 2**31))
def test_deemphasis_undoes_preemphasis_and_is_the_recursion(samples, coefficient, seed):
    wav = noise(2, samples, seed=seed).double()
    torch.testing.assert_close(deemphasis(preemphasis(wav, coefficient), coefficient), wav)
    expected, last = [], 0.0
    for value in wav[0].tolist():
        expected.append(last := value + coefficient * last)
    torch.testing.assert_close(deemphasis(wav, coefficient)[0], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_mels": 0}, "n_mels is 0"),
        ({"n_fft": 401, "win_length": 401}, "must be even"),
        ({"win_length": 500}, "n_fft 400"),
        ({"hop_length": 500}, "hop_length 500"),
        ({"fmax": 9000.0}, "half of sample_rate 16000"),
        ({"fmin": -1.0}, "fmin -1.0"),
        ({"power": 1.5}, "power is 1.5"),
        ({"preemphasis": 1.0}, "preemphasis is 1.0"),
        ({"min_db": 0.0}, "min_db 0.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MelConfig(**changes)
    with pytest.raises(CloningError, match=message):
        config.override(ENCODER_MEL, **changes)


@pytest.mark.parametrize("wav", [torch.zeros(0), torch.zeros(1, 1, 9), torch.zeros(9, dtype=torch.int16)])
def test_what_is_no_waveform_is_refused(wav):
    with pytest.raises(ValueError, match="a waveform is|samples are floats"):
        mel_spectrogram(wav, ENCODER_MEL)


def test_config_travels_and_tells_differences():
    for mel in (ENCODER_MEL, SYNTHESIZER_MEL):
        assert config.from_dict(MelConfig, config.to_dict(mel)) == mel
    assert SYNTHESIZER_MEL.differences(SYNTHESIZER_MEL) == []
    other = dataclasses.replace(SYNTHESIZER_MEL, hop_length=256, fmax=8000.0)
    assert SYNTHESIZER_MEL.differences(other) == ["hop_length: 200 != 256", "fmax: 7600.0 != 8000.0"]
    assert SYNTHESIZER_MEL.frame_seconds == 0.0125
