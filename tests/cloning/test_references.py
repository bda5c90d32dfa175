"""What is wrong with a recording of a voice is said, and nothing is said of a good one."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.reference_notes import chord, clipped, mp3, over, telephone, tune
from cloning.references import Assessor, ReferenceClip, read_clips
from encoder.inference import SpeakerEncoder
from tests.conftest import ROOT
from utils.audio.io import Waveform, normalize_volume, read, resample
from utils.audio.quality import measure
from utils.errors import CloningError

DEFAULT = ROOT / "saved_models" / "default"
SPEECH = read(ROOT / "samples" / "austen_0870.wav").samples
OTHER = read(ROOT / "samples" / "goforward.wav").samples
WHITE = np.random.default_rng(0).normal(0, 0.1, len(SPEECH)).astype(np.float32)


@pytest.fixture(scope="module")
def assessor() -> Assessor:
    return Assessor(SpeakerEncoder.load(DEFAULT / "encoder.safetensors"), [DEFAULT])


def notes(assessor: Assessor, samples: np.ndarray, rate: int = 16000) -> list[str]:
    return assessor.notes([ReferenceClip("me.wav", Waveform(samples, rate))])


@pytest.mark.parametrize("name", ["austen_0870", "austen_0890", "austen_0920"])
@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("gain", [1.0, 0.05])
def test_of_clean_speech_nothing_is_said(assessor, name, rate, gain):
    samples = read(ROOT / "samples" / f"{name}.wav").samples * gain
    assert notes(assessor, resample(samples, 16000, rate), rate) == []


BAD = {
    "noise alone": (lambda: WHITE, "no voice stands out of it"),
    "a chord alone": (lambda: 0.1 * chord(6), "no voice stands out of it"),
    "a tune alone": (lambda: 0.1 * tune()[: 6 * 16000], "noise or music is|no voice stands out"),
    "noise under the voice": (lambda: over(SPEECH, WHITE, 10), r"noise or music is \d+ dB below the voice"),
    "a tune under the voice": (lambda: over(SPEECH, tune(), 5), r"noise or music is \d+ dB below the voice"),
    "a chord under the voice": (lambda: over(SPEECH, chord(7), 10), r"noise or music is \d+ dB below the voice"),
    "clipped": (lambda: clipped(SPEECH, 0.01), "it is clipped"),
    "clipped on one side": (lambda: np.minimum(SPEECH, 0.4 * SPEECH.max()), "it is clipped"),
    "clipped, then quieter": (lambda: 0.2 * clipped(SPEECH, 0.01), "it is clipped"),
    "clipped, then MP3": (lambda: mp3(clipped(SPEECH, 0.1)), "it is clipped"),
    "telephone": (lambda: telephone(SPEECH), "nothing is above 4 kHz"),
    "telephone, then MP3": (lambda: mp3(telephone(SPEECH)), "nothing is above 4 kHz"),
    "quiet": (lambda: normalize_volume(SPEECH, -65, increase_only=False), r"very quiet \(-6\d dBFS, below -55\)"),
    "short": (lambda: SPEECH[:32000], r"it holds [12]\.\d s of voice"),
    "mostly silence": (lambda: np.pad(SPEECH, (0, 40 * 16000)), r"only [67] s of its 47 s are voice"),
    "two people": (lambda: np.concatenate([SPEECH[:64000], OTHER]), r"2 people speak in it \(\d\.\d s, \d\.\d s\)"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_said(assessor, what):
    make, note = BAD[what]
    found = notes(assessor, make())

    assert any(re.search(note, line) for line in found), found
    assert all(line.startswith("me.wav") and "\n" not in line for line in found)


def test_an_8_khz_recording_is_a_telephones(assessor):
    (note,) = notes(assessor, resample(SPEECH, 16000, 8000), 8000)
    assert "nothing is above 4 kHz" in note


def test_what_was_odd_about_the_file_is_among_the_notes(assessor):
    wav = bytearray(Waveform(SPEECH, 16000).wav_bytes())
    at = wav.find(b"data") + 4
    wav[at : at + 4] = bytes(4)
    (note,) = assessor.notes(read_clips(bytes(wav)))
    assert "never finished" in note


def test_without_a_calibration_people_are_not_counted(tmp_path):
    assessor = Assessor(SpeakerEncoder.load(DEFAULT / "encoder.safetensors"), [tmp_path])
    assert notes(assessor, np.concatenate([SPEECH[:64000], OTHER])) == []


@pytest.mark.parametrize(
    "samples", [np.zeros(16000), np.zeros(10), np.full(16000, 1e-9)], ids=["silence", "short", "faint"]
)
def test_silence_is_measured_without_a_complaint(samples):
    found = measure(Waveform(samples, 16000))
    assert all(np.isfinite(value) for value in vars(found).values())


def test_a_reference_is_wanted():
    with pytest.raises(CloningError, match="no reference clip given"):
        read_clips([])
