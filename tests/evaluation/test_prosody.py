"""A rise is one at the end of the voice; a pause is one at the comma."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.lists.sentences import sentences
from evaluation.metrics.prosody import comma_pauses, final_rise, has_inner_comma
from evaluation.metrics.signals import PITCH_HOP_S, Pitch


def track(*parts: tuple[float, float, float]) -> Pitch:
    """Stretches of (seconds, semitones at the start, at the end) over 100 Hz; NaN is unvoiced."""
    semitones = np.concatenate([np.linspace(a, b, round(s / PITCH_HOP_S)) for s, a, b in parts])
    return Pitch(100 * 2 ** (semitones / 12), ~np.isnan(semitones))


SILENCE = (1.0, np.nan, np.nan)
TALK = (1.5, 0.0, 0.0)


def test_a_rise_and_a_fall_at_the_end():
    assert final_rise(track(TALK, (0.4, 0, 5), SILENCE)) == pytest.approx(5, abs=0.5)
    assert final_rise(track(TALK, (0.4, 0, 5))) == final_rise(track(SILENCE, TALK, (0.4, 0, 5), SILENCE))
    assert final_rise(track(TALK, (0.4, 0, -5))) == pytest.approx(0, abs=1e-9)
    assert final_rise(track((1.0, 0, 8), (1.0, 8, 8))) == pytest.approx(0, abs=1e-9)  # before the last half second
    assert final_rise(track(TALK, (0.1, 0, 5), (0.3, 5, -3))) < 0.5  # an accent that has fallen again


def test_octave_errors_and_too_little_voice():
    assert final_rise(track(TALK, (0.3, 0, 0), (0.05, 12, 12), (0.05, -12, -12))) == pytest.approx(0, abs=1e-9)
    assert final_rise(track(SILENCE)) is None and final_rise(track(SILENCE, (0.05, 0, 3))) is None


def quiet(*runs: tuple[bool, float]) -> np.ndarray:
    return np.concatenate([np.full(round(100 * seconds), flag) for flag, seconds in runs])


def test_pauses_are_measured_at_the_commas():
    # "well" 0 to 0.5, pause, "my" from 0.8; "friend" to 1.6, no pause; a pause that is at no comma before "now"
    heard = [(" Well,", 0.0, 0.6), (" my", 0.7, 1.0), (" friend", 1.0, 1.6), (" come", 1.6, 2.0), (" now.", 2.4, 3.0)]
    frames = quiet((False, 0.5), (True, 0.3), (False, 1.2), (True, 0.4), (False, 0.6))
    assert comma_pauses("Well, my friend, come now.", heard, frames) == pytest.approx([0.3, 0.0])
    assert comma_pauses("Well my friend come now,", heard, frames) == []
    assert comma_pauses("Well; my friend: come now.", heard, frames) == pytest.approx([0.3, 0.0])


def test_a_comma_whose_words_were_not_heard_is_left_out():
    heard = [("well", 0.0, 0.6), ("by", 0.7, 1.0), ("friend", 1.0, 1.6), ("come", 1.6, 2.0)]
    assert comma_pauses("Well, my friend, come.", heard, np.zeros(200, bool)) == [0.0]
    heard.insert(1, ("oh", 0.6, 0.7))
    assert comma_pauses("Well, by friend come.", heard, np.zeros(200, bool)) == []


def test_which_texts_have_a_comma_inside():
    assert has_inner_comma("One, two") and has_inner_comma("One: two")
    assert not has_inner_comma("One two,") and not has_inner_comma("1,000 things") and not has_inner_comma("At 3:30.")


def test_fifty_questions_have_their_statements():
    pairs = sentences("questions")["pairs"]
    assert len(pairs) == 50 and len({text for pair in pairs for text in pair}) == 100
    assert all(question.endswith("?") and statement.endswith(".") for question, statement in pairs)
    first = {question.split()[0] for question, _ in pairs}
    assert not first & {"Who", "What", "Where", "When", "Why", "How", "Which", "Whose"}  # those need not rise
