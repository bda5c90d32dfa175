"""Built conversations hold what their turns say; error rates are what is counted by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from diarization.turns import Turn
from evaluation.commands import diarization as command
from evaluation.commands.diarization_items import countable
from evaluation.lists.conversations import (
    RATE,
    Conversation,
    Recipe,
    Shelf,
    build,
    excerpt,
    read_word_times,
    recipes,
)
from evaluation.models import encoder_columns
from utils.audio.io import Waveform, write
from utils.data.corpora import Clip
from utils.weights.find import DEFAULT_MODELS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Shelf:
    """Voices that are tones of their own pitch: bursts of 1 to 3 s with silences of 0.7 s between."""
    root = tmp_path_factory.mktemp("clips")
    clips: dict[str, list[Path]] = {}
    for pitch in (200, 400, 800):
        for number in range(3):
            bursts = [np.sin(2 * np.pi * pitch * np.arange(round(s * RATE)) / RATE) for s in (1.0, 3.0, 2.0)]
            wave = np.concatenate([x for b in bursts for x in (0.3 * b, np.zeros(round(0.7 * RATE)))])
            path = write(root / f"{pitch}-{number}-0001.wav", Waveform(wave, RATE))
            clips.setdefault(str(pitch), []).append(path)
    return Shelf(clips, {})


def active(turns: list[Turn], t: float) -> set[str]:
    return {turn.speaker for turn in turns if turn.start + 0.03 < t < turn.stop - 0.03}


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("speakers", [2, 3])
def test_audio_is_loud_where_the_turns_are(shelf, speakers, overlap):
    talk = build(Recipe("x", speakers, 60.0, overlap, 5), shelf)
    assert {turn.speaker for turn in talk.turns} == set(talk.references) and len(talk.references) == speakers
    together = 0
    for t in np.arange(0.2, talk.audio.seconds - 0.2, 0.11):
        piece = talk.audio.samples[round((t - 0.03) * RATE) : round((t + 0.03) * RATE)]
        spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), RATE))
        heard = {p for p in ("200", "400", "800") if spectrum[int(p) - 5 : int(p) + 6].max() > 3}
        assert active(talk.turns, t) <= heard <= {n.speaker for n in talk.turns if n.start - 0.1 < t < n.stop + 0.1}
        together += len(heard) > 1
    assert (together > 0) == overlap
    assert 60 <= talk.audio.seconds < 75


def test_the_same_recipe_gives_the_same_conversation(shelf):
    first, again = (build(Recipe("x", 2, 20.0, True, 3), shelf) for _ in range(2))
    np.testing.assert_array_equal(first.audio.samples, again.audio.samples)
    assert first.turns == again.turns
    other = build(Recipe("x", 2, 20.0, True, 4), shelf)
    assert other.turns != first.turns


def test_an_excerpt_has_what_is_heard_in_its_seconds(shelf):
    talk = build(Recipe("x", 2, 30.0, True, 6), shelf)
    part = excerpt(talk, 8.0, np.random.default_rng(0))
    samples, size = talk.audio.samples, len(part.audio)
    places = [
        i
        for i in np.flatnonzero(samples == part.audio.samples[0])
        if (samples[i : i + size] == part.audio.samples).all()
    ]
    assert len(places) == 1 and abs(part.audio.seconds - 8) < 0.001
    for t in np.arange(0.1, 7.9, 0.05):
        assert active(part.turns, t) == active(talk.turns, places[0] / RATE + t)
    assert min(turn.start for turn in part.turns) >= 0 and max(turn.stop for turn in part.turns) < 8.001
    whole = excerpt(talk, 99.0, np.random.default_rng(0))
    np.testing.assert_allclose(len(whole.audio), len(talk.audio), atol=0.002 * RATE)
    assert [turn.speaker for turn in whole.turns] == [turn.speaker for turn in talk.turns]


@pytest.mark.parametrize("seconds, number", [(0.1, 1), (0.3, None), (0.6, 2)])
def test_who_says_too_little_to_be_counted_or_left_out_leaves_no_number(seconds, number):
    turns = [Turn(0, 2, "Ann"), Turn(2, 2 + seconds, "Ben")]
    talk = Conversation(Waveform(np.zeros(3 * RATE, np.float32), RATE), turns, {})
    assert [n for _, n in countable(talk, np.random.default_rng(0))] == ([number] if number else [])


def test_recipes_differ():
    asked = recipes((1.0, 4.0, 10.0))
    assert len(asked) == 18 == len({r.name for r in asked}) == len({r.seed for r in asked})
    assert {(r.speakers, r.seconds, r.overlap) for r in asked} == {
        (n, s, o) for n in (2, 3, 4) for s in (60.0, 240.0, 600.0) for o in (False, True)
    }


def test_word_times_are_read_and_used(tmp_path):
    (tmp_path / "alignments").mkdir()
    row = {
        "id": "a-1",
        "words": [["", 0, 20], ["one", 20, 30], ["", 50, 10], ["two", 60, 40], ["", 100, 90], ["x", 190, 10]],
    }
    with gzip.open(tmp_path / "alignments" / "c.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    times = read_word_times(tmp_path)
    assert times["a-1"].tolist() == [[0.2, 0.5], [0.6, 1.0], [1.9, 2.0]]
    clip = write(tmp_path / "a-1.wav", Waveform(0.1 * np.ones(RATE * 2, np.float32), RATE))
    assert Shelf({"a": [clip]}, times).read(clip)[1].tolist() == [[0.2, 1.0], [1.9, 2.0]]  # a pause of 0.9 s is out


def test_error_rates_by_hand():
    pytest.importorskip("pyannote.metrics", reason="pyannote.metrics is in requirements/eval.txt")
    from evaluation.commands.diarization import errors

    truth = [Turn(0, 4, "Ann"), Turn(5, 9, "Ben")]
    assert errors(truth, [Turn(0, 4, "x"), Turn(5, 9, "y")], 10).rate == 0
    found = errors(truth, [Turn(0.5, 4, "x"), Turn(5, 8, "y"), Turn(8, 9, "x"), Turn(9, 9.8, "y")], 10)
    assert found == pytest.approx((0.5, 0.8, 1.0, 8.0))
    assert found.rate == pytest.approx(2.3 / 8)
    with_collar = errors(truth, [Turn(0.5, 4, "x"), Turn(5, 8, "y"), Turn(8, 9, "x")], 10, collar=0.25)
    assert with_collar == pytest.approx((0.25, 0.0, 0.75, 7.0))  # a quarter of a second on either side is left out
    both = [*truth, Turn(2, 3, "Ben")]
    assert errors(both, truth, 10).missed == pytest.approx(1.0)
    assert errors(both, truth, 10, skip_overlap=True) == pytest.approx((0, 0, 0, 7.0))
    assert errors(truth, [*truth, Turn(20, 30, "z")], 10).rate == 0  # outside what is scored


def test_of_a_folder_only_the_encoder_that_has_the_calibration_is_measured():
    """Each folder has one diarization.json: --calibrate with a second encoder would overwrite it."""
    names = [column.path.stem for column in encoder_columns([DEFAULT_MODELS], [], chosen=True)]
    assert names == ["encoder"]
    assert {column.path.stem for column in encoder_columns([DEFAULT_MODELS], [])} > {"encoder"}


def test_a_calibration_leaves_out_whom_a_wildcard_sets_aside(monkeypatch):
    class Stop(Exception):
        pass

    def stop(encoder, voices, talks, camplus):
        raise Stop(sorted(voices))

    monkeypatch.setattr(command, "calibrate", stop)
    monkeypatch.setattr(command, "talks_to_count", lambda *arguments: [])
    clips = [Clip(f"{n}-1-1", f"librispeech-{n}", Path(f"{n}-1-1.wav"), "") for n in (19, 21, 22)]
    with pytest.raises(Stop, match=r"\['librispeech-19'\]"):
        command.make_calibration(None, clips, {"librispeech-2*"}, Path("corpora"))
