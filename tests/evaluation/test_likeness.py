"""Similarity is measured at one level, as a share of the way from other people's real speech to the speaker's own."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.judges.likeness import LEVEL_DB, Likeness, at_speech_level
from evaluation.metrics import signals
from utils.audio.io import Waveform

RATE = 16_000


def noise(seconds: float, gain: float = 0.1) -> np.ndarray:
    return (gain * np.random.default_rng(0).normal(size=round(seconds * RATE))).astype(np.float32)


def speech_level(waveform: Waveform) -> float:
    quiet = signals.quiet_frames(waveform.samples, RATE)
    frames = waveform.samples[: len(quiet) * 160].reshape(-1, 160)[~quiet]
    return 10 * np.log10(np.mean(frames.astype(np.float64) ** 2))


def test_any_gain_and_any_silence_leave_the_same_speech():
    plain = at_speech_level(Waveform(noise(2.0), RATE))
    assert speech_level(plain) == pytest.approx(LEVEL_DB, abs=0.01)
    for gain in (0.002, 0.1, 0.7):
        found = at_speech_level(Waveform(noise(2.0, gain), RATE))
        np.testing.assert_allclose(found.samples, plain.samples, rtol=1e-4, atol=1e-6)
    silence = np.zeros(5 * RATE, np.float32)
    padded = at_speech_level(Waveform(np.concatenate([silence, noise(2.0, 0.02), silence]), RATE))
    np.testing.assert_allclose(padded.samples[5 * RATE : 7 * RATE], plain.samples, rtol=1e-4, atol=1e-6)


def test_silence_and_nothing_are_left_alone():
    for samples in (np.zeros(RATE, np.float32), np.zeros(0, np.float32), np.zeros(3, np.float32)):
        assert np.array_equal(at_speech_level(Waveform(samples, RATE)).samples, samples)


def at_angle(degrees: float) -> Waveform:
    """Stands for a clip whose embedding points there."""
    return Waveform(np.array([degrees], np.float32), RATE)


def likeness(suffix: str = "") -> Likeness:
    def embed(judge, waveform):
        angle = np.deg2rad(waveform.samples[0])
        return None if np.isnan(angle) else np.array([np.cos(angle), np.sin(angle)])

    found = Likeness(None, embed, suffix)
    enrolment = {"a": [at_angle(-5), at_angle(5)], "b": [at_angle(90)], "far": [at_angle(180)]}
    found.enrol(enrolment, {"a": "readers", "b": "readers", "far": "people at home"})
    return found


def test_own_real_speech_is_100_percent_and_others_real_speech_0():
    found = likeness()
    found.set_levels({"a": [at_angle(10)], "b": [at_angle(80)], "far": [at_angle(180)]})
    same, others = np.cos(np.deg2rad(10)), np.cos(np.deg2rad(80))
    assert found.levels["a"] == pytest.approx((same, others))
    assert found.compare(at_angle(10), "a")["way"] == pytest.approx(1)
    assert found.compare(at_angle(80), "a")["way"] == pytest.approx(0)
    assert found.compare(at_angle(0), "a")["way"] > 1 and found.compare(at_angle(170), "a")["way"] < 0
    half = np.rad2deg(np.arccos((same + others) / 2))
    assert found.compare(at_angle(half), "a")["way"] == pytest.approx(0.5)


def test_others_are_of_the_same_group_and_a_lone_voice_has_no_scale():
    found = likeness("_2")
    found.set_levels({"a": [at_angle(10)], "b": [at_angle(80)], "far": [at_angle(180)]})
    numbers = found.compare(at_angle(0), "a")
    assert numbers["other_speakers_2"] == pytest.approx(0, abs=1e-6) and numbers["recognized_voice_2"] == 1
    assert found.compare(at_angle(85), "a")["recognized_voice_2"] == 0
    assert set(found.compare(at_angle(180), "far")) == {"similarity_2"} and "far" not in found.levels
    assert found.compare(at_angle(float("nan")), "a") == {} and found.compare(at_angle(0), "nobody") == {}


def test_no_scale_where_real_speech_does_not_separate_the_voices():
    found = likeness()
    found.set_levels({"a": [at_angle(80)], "b": [at_angle(10)]})
    assert found.levels == {} and "way" not in found.compare(at_angle(0), "a")
