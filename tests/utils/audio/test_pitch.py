"""The pitch of made-up sounds is found, to a few cents, and noise has none."""

from __future__ import annotations

import numpy as np
import pytest

from utils.audio.pitch import HIGHEST_ACTED_HZ, REFERENCE_HZ, pitch

RATE = 16000


@pytest.mark.parametrize("hz", [80, 123.4, 150, 310, 550])
def test_pitch_of_a_harmonic_sound(hz):
    seconds = np.arange(RATE) / RATE
    sound = sum(np.sin(2 * np.pi * hz * k * seconds) / k for k in range(1, 9)).astype(np.float32)
    found = pitch(sound, RATE, 200, high=HIGHEST_ACTED_HZ)
    assert found.shape == (81,) and found.dtype == np.float32
    np.testing.assert_allclose(REFERENCE_HZ * 2 ** found[5:-5], hz, rtol=0.003)  # whole periods alone: to 1.3%


def test_noise_and_silence_have_no_pitch():
    noise = np.random.default_rng(3).standard_normal(RATE).astype(np.float32)
    assert not pitch(noise, RATE, 200)[5:-5].any()
    assert not pitch(np.zeros(RATE, np.float32), RATE, 200).any()
