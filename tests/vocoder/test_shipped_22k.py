"""The vocoder of 22.05 kHz that ships: small, streams what it says, and makes the band that 16 kHz recordings lack."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from utils.audio.io import peak_normalize, read
from utils.audio.mel import SYNTHESIZER_MEL_22K, mel_spectrogram
from vocoder.inference import Vocoder

pytestmark = pytest.mark.slow

WEIGHTS = ROOT / "saved_models" / "emotional_22k" / "hifigan.safetensors"


@pytest.fixture(scope="module")
def recording():
    samples = read(ROOT / "samples" / "austen_0870.wav", sample_rate=22050, max_seconds=60).samples[: 3 * 22050]
    return peak_normalize(samples, 0.9)


@pytest.fixture(scope="module")
def mel(recording):
    return mel_spectrogram(torch.from_numpy(recording), SYNTHESIZER_MEL_22K).numpy()


def test_it_is_small_and_reads_the_mel_of_the_synthesizers():
    assert WEIGHTS.stat().st_size <= 1.5e6
    assert Vocoder.load(WEIGHTS).mel == SYNTHESIZER_MEL_22K


def test_it_streams_what_it_says(mel):
    vocoder = Vocoder.load(WEIGHTS)
    whole = vocoder.vocode(mel).samples
    streamed = np.concatenate(list(vocoder.stream([mel[:, :50], mel[:, 50:57], mel[:, 57:]])))
    np.testing.assert_allclose(streamed, whole, rtol=0, atol=5e-3 * np.abs(whole).max())


def level_db(samples: np.ndarray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / 22050)
    return float(10 * np.log10(spectrum[(hz >= low) & (hz < high)].mean()))


def test_it_gives_a_16_khz_recording_the_band_that_it_lacks_and_keeps_the_rest(recording, mel):
    made = Vocoder.load(WEIGHTS).vocode(mel).samples
    lacked = level_db(recording, 8200, 10500)
    assert level_db(made, 8200, 10500) > lacked + 20
    assert level_db(made, 8200, 10500) < level_db(made, 3000, 7000)  # but no more than a voice has there
    for low, high in ((100, 1000), (1000, 3000), (3000, 7000)):
        assert abs(level_db(made, low, high) - level_db(recording, low, high)) < 3
