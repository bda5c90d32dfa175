"""Who speaks when: laws of windows, turns, clustering and calibrations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarization import matching, spectral
from diarization.counting import SpeakerCounter
from diarization.normalization import Calibration, noise_of
from diarization.settings import DiarizationSettings
from diarization.turns import Turn, from_activity, join, read_rttm, talk_time, to_rttm
from diarization.windows import slide
from utils.errors import CloningError


@settings(deadline=None)
@given(st.floats(0, 100), st.floats(0.01, 60), st.floats(0.5, 3), st.floats(0.05, 0.5))
def test_windows_cover_a_stretch(start, length, window, hop):
    places = slide((start, start + length), window, hop)
    assert places[0, 0] == pytest.approx(start) and places[-1, 1] == pytest.approx(start + length)
    assert (np.diff(places[:, 0]) <= hop + 1e-9).all() and (places[:, 1] > places[:, 0]).all()


def test_pauses_up_to_the_bound_are_inside_a_stretch():
    speech = np.array([[0.0, 1.0], [1.5, 2.0], [2.51, 3.0], [9.0, 9.5]])
    assert join(speech, 0.5).tolist() == [[0.0, 2.0], [2.51, 3.0], [9.0, 9.5]]
    assert join(np.zeros((0, 2)), 0.5).shape == (0, 2)


@settings(deadline=None)
@given(st.lists(st.sampled_from([(0, 0), (1, 0), (0, 1), (1, 1)]), min_size=1, max_size=60))
def test_turns_keep_every_frame_of_everyone(frames):
    edges = np.arange(len(frames) + 1) * 0.1
    turns = from_activity(np.array(frames, bool), edges, ["a", "b"], max_pause=0.0, min_turn=0.0)
    for (now, then), active in zip(zip(edges, edges[1:], strict=False), frames, strict=True):
        speak = {turn.speaker for turn in turns if turn.start < (now + then) / 2 < turn.stop}
        assert speak == {name for name, there in zip("ab", active, strict=True) if there}
    longer = from_activity(np.array(frames, bool), edges, ["a", "b"], max_pause=0.25, min_turn=0.35)
    for name in "ab":
        spans = [turn for turn in longer if turn.speaker == name]
        assert all(turn.seconds > 0.34 for turn in spans)
        assert all(after.start - before.stop > 0.25 for before, after in zip(spans, spans[1:], strict=False))


def test_two_at_once_have_a_turn_each_and_one_name_is_one():
    active = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]], bool)
    edges = np.arange(6.0)
    assert from_activity(active, edges, ["a", "b", "c"], 0, 0) == [Turn(0, 2, "a"), Turn(1, 4, "b"), Turn(3, 5, "c")]
    assert from_activity(active, edges, ["a", "b", "a"], 0, 0) == [Turn(0, 2, "a"), Turn(1, 4, "b"), Turn(3, 5, "a")]
    assert from_activity(active, edges, ["a", "a", "a"], 0, 0) == [Turn(0, 5, "a")]
    assert from_activity(np.zeros((5, 1), bool), edges, ["a"], 0, 0) == []


def test_rttm_comes_back(tmp_path):
    turns = [Turn(0.25, 1.5, "Ann"), Turn(1.5, 2.125, "Ben Q"), Turn(3.0, 4.5, "Ann")]
    text = to_rttm(turns, "my talk")
    assert text.splitlines()[1] == "SPEAKER my_talk 1 1.500 0.625 <NA> <NA> Ben_Q <NA> <NA>"
    path = tmp_path / "a.rttm"
    path.write_text("; a comment\nSPKR-INFO my_talk 1 <NA> <NA> <NA> unknown Ann <NA> <NA>\n" + text, encoding="utf-8")
    (recording,) = read_rttm(path).items()
    assert recording[0] == "my_talk" and [t.speaker for t in recording[1]] == ["Ann", "Ben_Q", "Ann"]
    assert [(t.start, t.stop) for t in recording[1]] == [(t.start, t.stop) for t in turns]
    assert talk_time(turns) == {"Ann": (2.75, 2), "Ben Q": (0.625, 1)}
    path.write_text("SPEAKER x 1 zero 1 <NA> <NA> Ann\n", encoding="utf-8")
    with pytest.raises(CloningError, match="line 1: not RTTM"):
        read_rttm(path)


@pytest.mark.parametrize("pieces", [60, 2000])  # 2000: more than the graph holds
@pytest.mark.parametrize("speakers", [1, 2, 3, 5])
def test_pieces_are_parted_by_voice_where_the_number_is_known(speakers, pieces, monkeypatch):
    monkeypatch.setattr(spectral, "MAX_PIECES", 200)
    rng = np.random.default_rng(speakers)
    who = np.arange(pieces) % speakers
    voices = rng.standard_normal((speakers, 16))
    units = voices[who] + 0.8 * rng.standard_normal((pieces, 16))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    means = spectral.means(units, rng.uniform(0.5, 1.5, pieces), speakers)
    found = (units @ means.T).argmax(axis=1)
    agree = np.array([[np.mean(found[who == s] == k) for k in range(speakers)] for s in range(speakers)])
    assert agree.max(axis=1).min() > 0.85 and sorted(agree.argmax(axis=1)) == list(range(speakers))
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("speakers", [2, 4])
def test_as_many_pieces_as_voices_get_one_each(speakers):
    units = np.eye(8, dtype=np.float32)[:speakers]
    assert len(np.unique((units @ spectral.means(units, np.ones(speakers), speakers).T).argmax(axis=1))) == speakers


@pytest.mark.parametrize("within", [True, False])
def test_what_pieces_or_clips_of_a_voice_differ_in_does_not_part_voices(within):
    rng = np.random.default_rng(3)
    voices = rng.standard_normal((60, 1, 1, 8)) * [0, 0, 1, 1, 1, 1, 1, 1]
    odd = rng.standard_normal((60, 4, 10 if within else 1, 8)) * [6, 4, 0, 0, 0, 0, 0, 0]
    heard = voices + odd + 0.3 * rng.standard_normal((60, 4, 10, 8))
    noise = noise_of(heard, directions=2, between=not within)
    clips = heard.reshape(60, 40, 8)
    plain, cleared = (
        Calibration("x", np.zeros(8), n, SpeakerCounter.untrained(), 0.5) for n in (np.zeros((8, 2)), noise)
    )
    alike = [np.mean([(seen @ seen.T).mean() for seen in map(c.compare, clips)]) for c in (plain, cleared)]
    assert alike[0] < 0.5 < 0.7 < alike[1]


def test_names_need_likeness():
    references = np.eye(4)[:2]
    means = np.array([[0.9, 0.1, 0.42, 0], [0, 0.3, 0.95, 0], [0.8, 0, 0, 0.6]])
    named = matching.name_voices(means, references, threshold=0.5)
    assert named.tolist() == [0, matching.NONE, 0]


def test_a_saved_calibration_is_read_as_it_was(tmp_path):
    rng = np.random.default_rng(1)
    path, counter = tmp_path / "diarization.json", SpeakerCounter.untrained()
    counter = SpeakerCounter(*(array + rng.standard_normal(array.shape) for array in vars(counter).values()))
    mean, noise = rng.standard_normal(6), rng.standard_normal((6, 3))
    Calibration("abc", mean, noise, counter, 0.5, {"voices": 3000}).save(path)
    again = Calibration.load(path, "abc")
    np.testing.assert_allclose(again.noise, noise, rtol=1e-3)
    np.testing.assert_allclose(again.mean, mean, rtol=1e-3)
    for name, array in vars(counter).items():
        np.testing.assert_allclose(getattr(again.counter, name), array, rtol=1e-3)
    assert again.threshold == 0.5 and again.about == {"voices": 3000}


@pytest.mark.parametrize("damage", ["", "[]", '{"format": 1}', "{}", '{"format": 3', "null"])
def test_a_calibration_that_does_not_fit_is_refused_with_the_remedy(tmp_path, damage):
    path = tmp_path / "diarization.json"
    with pytest.raises(CloningError, match="no calibration .*; measure one"):
        Calibration.load(path, "abc")
    path.write_text(damage, encoding="utf-8")
    with pytest.raises(CloningError, match="; measure one for this encoder"):
        Calibration.load(path, "abc")
    Calibration("abc", np.zeros(4), np.zeros((4, 1)), SpeakerCounter.untrained(), 0.5).save(path)
    with pytest.raises(CloningError, match="measured on encoder abc, not on xyz"):
        Calibration.load(path, "xyz")
    content = json.loads(path.read_text(encoding="utf-8"))
    for wrong in ({"counter": {**content["counter"], "output": [1, 2, 3]}}, {"noise": [1, 2, 3, 4]}, {"format": 2}):
        path.write_text(json.dumps({**content, **wrong}), encoding="utf-8")
        with pytest.raises(CloningError, match="damaged"):
            Calibration.load(path, "abc")


@pytest.mark.parametrize(
    "wrong", [{"window": 0.1}, {"hop": 2.0}, {"min_turn": -1.0}, {"max_pause": -1.0}, {"most_windows": 0}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError):
        DiarizationSettings(**wrong)
