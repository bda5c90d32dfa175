"""Griffin-Lim: the recorded run, and what the default does better."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.support.vocoder_set import voice
from utils.audio.mel import SYNTHESIZER_MEL as MEL
from utils.audio.mel import MelConfig, deemphasis, mel_spectrogram, preemphasis, stft
from utils.errors import CloningError
from vocoder.inference import Vocoder
from vocoder.models.griffin_lim import PUBLISHED, GriffinLimConfig, griffin_lim, linear_magnitude, mel_to_waveform


@pytest.fixture(scope="module")
def recorded(data_dir):
    return {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(data_dir / "griffin_lim.npz").items()}


def convergence(wav, magnitude):
    return float((stft(preemphasis(wav, MEL.preemphasis), MEL).abs() - magnitude).norm() / magnitude.norm())


def test_recorded_magnitudes(recorded):
    torch.testing.assert_close(linear_magnitude(recorded["mel"], MEL), recorded["linear"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("iterations", [0, 1, 60])
def test_recorded_waveforms(recorded, iterations):
    magnitude = recorded["linear"] ** PUBLISHED.power
    how = GriffinLimConfig(iterations, momentum=PUBLISHED.momentum, power=PUBLISHED.power)
    wav = deemphasis(griffin_lim(magnitude, 2 * math.pi * recorded["initial_angles_rand"], MEL, how), MEL.preemphasis)
    expected = recorded[f"wav_{iterations}"]
    assert wav.shape == expected.shape
    if iterations < 60:
        assert (wav - expected).abs().max() < 1e-3 * expected.abs().max()
    expected = float(recorded[f"spectral_convergence_{iterations}"])
    assert convergence(wav, magnitude) == pytest.approx(expected, abs=0.005)


def test_momentum_converges_further_in_half_the_iterations(recorded):
    magnitude = recorded["linear"] ** 1.3
    phase = 2 * math.pi * recorded["initial_angles_rand"]
    plain = griffin_lim(magnitude, phase, MEL, GriffinLimConfig(80, momentum=0.0))
    fast = griffin_lim(magnitude, phase, MEL, GriffinLimConfig())
    assert convergence(deemphasis(fast), magnitude) < convergence(deemphasis(plain), magnitude)


def test_seed_decides():
    mel = mel_spectrogram(torch.from_numpy(voice(0.5, 1)), MEL)
    how = GriffinLimConfig(iterations=3)
    first = mel_to_waveform(mel, MEL, how, seed=1)
    assert torch.equal(first, mel_to_waveform(mel, MEL, how, seed=1))
    assert not torch.equal(first, mel_to_waveform(mel, MEL, how, seed=2))


@pytest.mark.parametrize(
    "config", [MEL, MelConfig(n_fft=512, win_length=400, hop_length=120, n_mels=60, power=2.0, scale="linear")]
)
def test_mel_of_the_output_is_near_the_mel_of_the_input(config):
    wav = torch.from_numpy(voice(1.0, 3))
    mel = mel_spectrogram(wav, config)
    out = mel_to_waveform(mel, config, GriffinLimConfig(power=1.0), seed=0)
    assert out.shape == ((mel.size(1) - 1) * config.hop_length,)
    again = mel_spectrogram(out, config)
    assert (again - mel).abs().mean() < 0.15 * (mel - mel.mean()).abs().mean()


def test_face_needs_no_file_and_silence_stays_silent():
    vocoder = Vocoder.load("griffin-lim")
    assert (vocoder.name, vocoder.mel) == ("griffin-lim", MEL)
    out = vocoder.vocode(np.full((80, 20), -4.0, np.float32), seed=0)
    assert len(out) == 19 * 200 and out.peak < 1e-3
    with pytest.raises(CloningError, match="not finite in 1 of 20 frames"):
        vocoder.vocode(np.where(np.arange(20) == 3, np.nan, np.zeros((80, 20))))


@pytest.mark.parametrize("change", [{"iterations": -1}, {"momentum": 1.0}, {"power": 0.0}])
def test_refuses_nonsense(change):
    with pytest.raises(ValueError, match="iterations .* must be at least 0"):
        GriffinLimConfig(**change)
