"""Who speaks when: laws of windows, turns, the hidden Markov model and calibrations; bundled clips joined to a talk."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarization import clustering, matching, windows
from diarization.scores import Calibration, fit
from diarization.settings import DiarizationSettings
from diarization.turns import Turn, absorb_short, from_frames, read_rttm, talk_time, to_rttm
from diarization.windows import join, owned_seconds, slide
from utils.audio.vad import VadConfig, voiced_mask
from utils.errors import CloningError


@settings(deadline=None)
@given(st.floats(0, 100), st.floats(0.01, 60), st.floats(0.5, 3), st.floats(0.05, 0.5))
def test_windows_cover_a_stretch_and_own_every_second_once(start, length, window, hop):
    places = slide((start, start + length), window, hop)
    assert places[0, 0] == pytest.approx(start) and places[-1, 1] == pytest.approx(start + length)
    assert (np.diff(places[:, 0]) <= hop + 1e-9).all() and (places[:, 1] > places[:, 0]).all()
    owned = owned_seconds(places, (start, start + length))
    assert owned.sum() == pytest.approx(length) and (owned >= -1e-9).all()


def test_voice_is_found_piece_by_piece_as_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.random(40) < 0.5, 8000)
    samples = (0.2 * loud * np.sign(np.sin(np.arange(len(loud)) / 12)) * rng.random(len(loud))).astype(np.float32)
    expected = np.flatnonzero(np.diff(voiced_mask(samples).astype(np.int8), prepend=0, append=0)) * 0.03
    for size in (1, 7, 2000):
        monkeypatch.setattr(windows, "_HEARD", size)
        np.testing.assert_allclose(windows.voiced_spans(samples, 16000, VadConfig()).reshape(-1), expected)
    assert len(expected) > 4 and windows.voiced_spans(samples[:100], 16000, VadConfig()).shape == (0, 2)


def test_what_has_no_pitch_is_no_speech(monkeypatch):
    """Five seconds each of noise, of a low voice's pulses, and of noise, all loud; and the same, a piece at a time."""
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(5 * 16000)
    pulses = np.where(np.arange(5 * 16000) % 160 < 4, 0.5, 0.0) + 0.01 * rng.standard_normal(5 * 16000)
    samples = np.concatenate([noise, pulses, noise]).astype(np.float32)
    ((start, stop),) = windows.with_pitch(samples, 16000, 0.0, 15.0)
    assert start == pytest.approx(5, abs=1.1) and stop == pytest.approx(10, abs=1.1)
    monkeypatch.setattr(windows, "_HEARD", 7)
    assert windows.with_pitch(samples, 16000, 0.0, 15.0).tolist() == [[start, stop]]
    assert windows.with_pitch(samples, 16000, 0.0, 4.0).shape == (0, 2)
    assert windows.with_pitch(samples, 16000, 5.5, 9.51).tolist() == [[5.5, 9.51]]  # whole stretches stay whole
    assert windows.with_pitch(samples, 16000, 7.0, 7.02).tolist() == [[7.0, 7.02]]


def test_pauses_up_to_the_bound_are_inside_a_stretch():
    speech = np.array([[0.0, 1.0], [1.5, 2.0], [2.51, 3.0], [9.0, 9.5]])
    assert join(speech, 0.5).tolist() == [[0.0, 2.0], [2.51, 3.0], [9.0, 9.5]]
    assert join(np.zeros((0, 2)), 0.5).shape == (0, 2)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=60))
def test_turns_keep_every_frame(labels):
    edges = np.arange(len(labels) + 1) * 0.1
    edges = np.stack([edges[:-1], edges[1:]], axis=1)
    stretch = np.arange(len(labels)) // 20
    turns = from_frames(edges, np.array(labels), stretch, ["a", "b", "c"])
    assert sum(t.seconds for t in turns) == pytest.approx(0.1 * len(labels))
    for (start, stop), label in zip(edges, labels, strict=True):
        (turn,) = [t for t in turns if t.start < (start + stop) / 2 < t.stop]
        assert turn.speaker == "abc"[label]
    longer = absorb_short(turns, 0.35)
    assert sum(t.seconds for t in longer) == pytest.approx(0.1 * len(labels))
    for before, after in zip(longer, longer[1:], strict=False):
        assert after.start - before.stop > -1e-9
        assert after.start - before.stop > 1e-6 or (min(before.seconds, after.seconds) > 0.34)


def test_a_short_turn_goes_to_the_neighbor_it_touches():
    turns = [Turn(0, 3, "a"), Turn(3, 3.2, "b"), Turn(3.2, 8, "a"), Turn(9, 9.2, "b")]
    assert absorb_short(turns, 0.4) == [Turn(0, 8, "a"), Turn(9, 9.2, "b")]  # alone between silences: it was said
    turns = [Turn(0, 3, "a"), Turn(3, 3.2, "b"), Turn(3.2, 5, "c")]
    assert absorb_short(turns, 0.4) == [Turn(0, 3.2, "a"), Turn(3.2, 5, "c")]  # to the longer


def test_a_turn_ends_with_its_stretch_of_speech():
    edges, stretch = np.array([[0, 0.1], [0.1, 0.2], [1, 1.1]]), np.array([0, 0, 1])
    assert from_frames(edges, np.zeros(3, int), stretch, ["a"]) == [Turn(0, 0.2, "a"), Turn(1, 1.1, "a")]


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


def brute_force(log_likelihood, stay, share):
    """Posterior (W, S), total and the best path by adding up all paths."""
    import itertools

    count, speakers = log_likelihood.shape
    posterior, total, best = np.zeros((count, speakers)), 0.0, (0.0, None)
    for path in itertools.product(range(speakers), repeat=count):
        p = share[path[0]] * np.exp(log_likelihood[0, path[0]])
        for t in range(1, count):
            p *= (1 - stay[t]) * share[path[t]] + stay[t] * (path[t] == path[t - 1])
            p *= np.exp(log_likelihood[t, path[t]])
        total += p
        posterior[range(count), path] += p
        best = max(best, (p, path))
    return posterior / total, np.log(total), best[1]


def test_the_chain_equals_the_sum_over_all_paths():
    rng = np.random.default_rng(0)
    log_likelihood, stay = 2 * rng.standard_normal((6, 3)), rng.uniform(0.2, 0.95, 6)
    share = np.array([0.5, 0.3, 0.2])
    posterior, total, starts = clustering.forward_backward(log_likelihood, stay, share)
    expected, log_total, path = brute_force(log_likelihood, stay, share)
    np.testing.assert_allclose(posterior, expected, atol=1e-12)
    assert total == pytest.approx(log_total)
    assert starts.sum() == pytest.approx(1)
    assert clustering.viterbi(log_likelihood, stay, share).tolist() == list(path)


BETWEEN = np.linspace(12, 1, 16)


def conversation(speakers: int, windows: int = 60, seed: int = 0):
    """Points (W, L) of voices drawn as the model has it, in turns of ten windows; and who it was (W,)"""
    rng = np.random.default_rng(seed)
    voices = rng.standard_normal((speakers, len(BETWEEN))) * np.sqrt(BETWEEN)
    who = (np.arange(speakers * windows) // 10) % speakers
    return voices[who] + rng.standard_normal((len(who), len(BETWEEN))), who


def found(points, speakers=None, least=1):
    seconds = np.full(len(points), 0.4)
    stay = np.full(len(points), 0.95)
    posterior, _ = clustering.cluster(points, seconds, stay, BETWEEN, speakers, least)
    return np.argmax(posterior, axis=1), posterior


@pytest.mark.parametrize("speakers", [1, 2, 3, 5])
def test_the_number_of_voices_is_found(speakers):
    points, who = conversation(speakers)
    labels, posterior = found(points)
    assert posterior.shape[1] == speakers
    assert len({(a, b) for a, b in zip(labels, who, strict=True)}) == speakers  # one to one
    np.testing.assert_allclose(posterior.sum(axis=1), 1)


@pytest.mark.parametrize("times", [1, 8])
@pytest.mark.parametrize("seed", range(3))
def test_moods_are_not_voices_however_often_they_are_heard(seed, times):
    """Three voices, each in two moods: variational Bayes alone ends with more, and so does evidence without end."""
    points, who = conversation(3, windows=40, seed=seed)
    mood = np.arange(len(points)) // 20 % 2
    points = points + 0.8 * np.random.default_rng(seed).standard_normal((3, 2, len(BETWEEN)))[who, mood]
    labels, posterior = found(np.tile(points, (times, 1)))
    assert posterior.shape[1] == 3 == len({(a, b) for a, b in zip(labels, np.tile(who, times), strict=True)})


def test_voices_are_not_joined_to_fewer_than_are_known_to_be_there():
    points, who = conversation(3, windows=40, seed=0)
    mood = np.arange(len(points)) // 20 % 2
    points = points + 0.8 * np.random.default_rng(0).standard_normal((3, 2, len(BETWEEN)))[who, mood]
    labels, posterior = found(np.tile(points, (8, 1)), least=4)
    assert posterior.shape[1] >= 4
    halves = {(a, b) for a, b in zip(labels, np.tile(who, 8), strict=True)}
    assert len(halves) == len({a for a, _ in halves})  # nobody shares a label


@pytest.mark.parametrize("asked", [1, 2, 4])
def test_as_many_voices_as_are_asked_for(asked):
    assert found(conversation(3)[0], asked)[1].shape[1] == asked


def test_more_voices_than_windows_are_refused():
    with pytest.raises(CloningError, match="only 5 windows"):
        found(conversation(1, windows=5)[0], 6)


def test_a_window_counts_by_its_seconds():
    """Every window twice, each for half the seconds: the same voices at the same places."""
    points, _ = conversation(2)
    seconds = np.full(len(points), 0.4)
    posterior = np.eye(2)[np.arange(len(points)) % 2]
    once = clustering.places(posterior, seconds, points, BETWEEN)
    twice = clustering.places(np.repeat(posterior, 2, 0), np.repeat(seconds / 2, 2), np.repeat(points, 2, 0), BETWEEN)
    np.testing.assert_allclose(once.place, twice.place)
    np.testing.assert_allclose(once.spread, twice.spread)


def test_names_need_likeness_and_voices_of_one_name_become_one():
    references = np.eye(4)[:2]
    means = np.array([[0.9, 0.1, 0.42, 0], [0, 0.3, 0.95, 0], [0.8, 0, 0, 0.6]])
    named = matching.name_voices(means, references, threshold=0.5)
    assert named.tolist() == [0, matching.NONE, 0]
    posterior = np.array([[0.5, 0.2, 0.3], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(matching.gather(posterior, named, 2), [[0.8, 0, 0.2], [0, 0, 1]])


def test_calibration_finds_the_spreads_it_was_drawn_from(tmp_path):
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    spread = np.array([3.0, 2.0, 1.0, 0.5, 0.2, 0.1])  # of voices, in units of the windows' own
    voices = [
        (v + 0.3 * rng.standard_normal((20, 6))) @ turn for v in 0.3 * np.sqrt(spread) * rng.standard_normal((3000, 6))
    ]
    mean, projection, between = fit(voices)
    np.testing.assert_allclose(between, spread[: len(between)], rtol=0.15)
    within = np.mean([np.cov(((rows - mean) @ projection).T) for rows in voices], axis=0)
    np.testing.assert_allclose(within, np.eye(len(between)), atol=0.05)
    with pytest.raises(CloningError, match="at least 20"):
        fit(voices[:19])
    path = tmp_path / "diarization.json"
    Calibration("abc", mean, projection, between, 0.5, {"voices": 3000}).save(path)
    again = Calibration.load(path, "abc")
    np.testing.assert_allclose(again.projection, projection, rtol=1e-4)
    assert again.threshold == 0.5 and again.about == {"voices": 3000}


@pytest.mark.parametrize("damage", ["", "[]", '{"format": 1}', "{}", '{"format": 2', "null"])
def test_a_calibration_that_does_not_fit_is_refused_with_the_remedy(tmp_path, damage):
    path = tmp_path / "diarization.json"
    with pytest.raises(CloningError, match="no calibration .*--calibrate"):
        Calibration.load(path, "abc")
    path.write_text(damage, encoding="utf-8")
    with pytest.raises(CloningError, match="--calibrate"):
        Calibration.load(path, "abc")
    Calibration("abc", np.zeros(4), np.zeros((4, 2)), np.ones(2), 0.5).save(path)
    with pytest.raises(CloningError, match="measured on encoder abc, not on xyz"):
        Calibration.load(path, "xyz")
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "between": [1, 2, 3]}), encoding="utf-8")
    with pytest.raises(CloningError, match="damaged"):
        Calibration.load(path, "abc")


@pytest.mark.parametrize(
    "wrong", [{"window": 0.1}, {"hop": 2.0}, {"frame": 1.0}, {"min_turn": -1.0}, {"mean_turn": 0.1}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError):
        DiarizationSettings(**wrong)
