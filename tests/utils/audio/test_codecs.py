"""Opus for players and lossy copies: length, level and content survive."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from utils.audio.codecs import lossy_copy, opus_bytes
from utils.audio.io import Waveform
from utils.errors import CloningError


def tone(seconds: float, rate: int, gain: float = 0.3) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
@pytest.mark.parametrize("seconds", [1.0, pytest.param(61.0, marks=pytest.mark.slow)])
def test_opus_keeps_the_length_whatever_the_rate(seconds, rate):
    decoded, _ = soundfile.read(io.BytesIO(opus_bytes(Waveform(tone(seconds, rate), rate))))
    played = soundfile.info(io.BytesIO(opus_bytes(Waveform(tone(seconds, rate), rate))))
    assert played.subtype == "OPUS" and played.duration == pytest.approx(seconds, abs=0.01)
    assert np.sqrt(np.mean(decoded**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


def test_opus_scales_what_exceeds_full_scale():
    decoded, _ = soundfile.read(io.BytesIO(opus_bytes(Waveform(tone(1, 16000, gain=4.0), 16000))))
    flat = np.mean(np.abs(decoded) > 0.98 * np.abs(decoded).max())
    assert flat < 0.2, "a clipped sine of gain 4 would lie at its limit 84% of the time"


@pytest.mark.parametrize("container", ["MP3", "OGG"])
@pytest.mark.parametrize("gain", [0.3, 3.0])
def test_a_lossy_copy_is_near_and_as_loud(container, gain):
    samples = tone(1, 16000, gain)
    copy = lossy_copy(samples, 16000, container, 0.6)[: len(samples)]
    assert copy.dtype == np.float32 and 0 < np.abs(copy - samples[: len(copy)]).max()
    assert np.sqrt(np.mean(copy**2)) == pytest.approx(np.sqrt(np.mean(samples**2)), rel=0.1)


def test_a_lower_level_is_a_better_copy():
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    far = [np.abs(lossy_copy(noise, 16000, "MP3", level)[:16000] - noise).mean() for level in (0.1, 0.9)]
    assert far[0] < far[1]


def test_an_old_soundfile_is_one_line(monkeypatch):
    def write(*_, **options):
        raise TypeError("unexpected keyword argument 'compression_level'")

    monkeypatch.setattr(soundfile, "write", write)
    with pytest.raises(CloningError, match=r"no MP3 of a chosen rate .*soundfile>=0.13"):
        lossy_copy(np.zeros(9, np.float32), 16000, "MP3", 0.5)
