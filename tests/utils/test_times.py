"""Files of times: every kind says the same, and another program reads it."""

from __future__ import annotations

import importlib.util
import json

import av
import pytest
import srt
from praatio import textgrid

from utils import times as module
from utils.errors import CloningError
from utils.times import CUE_CHARACTERS, LINE_CHARACTERS, Span, Times, cues, require_suffix

WORDS = (Span("Hello", 0.1, 0.4), Span("there", 0.4, 0.75), Span("Good", 1.2, 1.5), Span("day", 1.5, 1.9))
PHONES = (Span("HH", 0.1, 0.2), Span("AH", 0.2, 0.2), Span("L", 0.2, 0.4), Span("G", 1.2, 1.9))
TIMES = Times((Span("Hello, there!", 0.1, 0.75), Span("“Good day”?", 1.2, 1.9)), WORDS, PHONES, 2.0)
LONG = "one, two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen."


def long_times() -> Times:
    words = LONG.replace(",", "").replace(".", "").split()
    spans = tuple(Span(word, i / 2, i / 2 + 0.4) for i, word in enumerate(words))
    return Times((Span(LONG, 0.0, spans[-1].stop),), spans, (), spans[-1].stop)


def test_subtitles_have_a_cue_for_each_sentence(tmp_path):
    found = list(srt.parse(TIMES.save(tmp_path / "a.srt").read_text(encoding="utf-8")))
    assert [(s.content, s.start.total_seconds(), s.end.total_seconds()) for s in found] == list(TIMES.sentences)


def test_a_long_sentence_becomes_cues_of_two_lines_and_loses_nothing():
    found = [cue for cue, _ in cues(long_times())]
    assert len(found) > 1 and " ".join(cue.text for cue in found) == LONG
    assert all(len(cue.text) <= CUE_CHARACTERS for cue in found)
    assert all(a.start < a.stop <= b.start for a, b in zip(found, found[1:], strict=False))
    assert all(len(line) <= LINE_CHARACTERS for cue in found for line in module._lines(cue.text).split("\n"))


def test_ffmpeg_reads_web_subtitles(tmp_path):
    path = TIMES.save(tmp_path / "a.vtt")
    with av.open(str(path)) as file:
        packets = [p for p in file.demux(subtitles=0) if p.size]
        found = [(float(p.pts * p.time_base), bytes(p).decode()) for p in packets]
    assert [start for start, _ in found] == [0.1, 1.2]
    assert found[1][1] == "“Good <00:00:01.500>day”?"


def test_marks_that_web_subtitles_would_take_for_tags_are_escaped(tmp_path):
    odd = Times((Span("a <b> & c", 0, 1),), (), (), 1.0)
    assert "a &lt;b&gt; &amp; c" in odd.save(tmp_path / "a.vtt").read_text(encoding="utf-8")


def test_praat_gets_three_tiers_without_what_takes_no_time(tmp_path):
    grid = textgrid.openTextgrid(str(TIMES.save(tmp_path / "a.TextGrid")), includeEmptyIntervals=False)
    assert grid.tierNames == ("sentences", "words", "phones") and grid.maxTimestamp == 2.0
    assert [(e.label, e.start, e.end) for e in grid.getTier("words").entries] == list(WORDS)
    assert [e.label for e in grid.getTier("phones").entries] == ["HH", "L", "G"]


def test_json_has_everything_and_rttm_a_turn_for_each_sentence(tmp_path):
    found = json.loads(TIMES.save(tmp_path / "a.json").read_text(encoding="utf-8"))
    assert found["seconds"] == 2.0 and found["words"][1] == {"text": "there", "start": 0.4, "stop": 0.75}
    assert len(found["phones"]) == 4
    lines = TIMES.save(tmp_path / "my talk.rttm", speaker="Ann Lee").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "SPEAKER my_talk 1 0.100 0.650 <NA> <NA> Ann_Lee <NA> <NA>" and len(lines) == 2


def test_shifted_times_keep_their_lengths():
    moved = TIMES.shifted(1.5)
    assert moved.words[0] == Span("Hello", 1.6, 1.9) and moved.seconds == 3.5
    assert moved.shifted(-1.5).sentences[1].start == pytest.approx(1.2)


def test_times_end_with_the_audio_that_there_is():
    heard = TIMES.until(1.3)
    assert heard.words[-1] == Span("Good", 1.2, 1.3) and len(heard.words) == 3 and heard.seconds == 1.3
    assert TIMES.until(2.0) == TIMES


def test_another_ending_and_a_missing_package_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(CloningError, match="give the file one of these endings"):
        require_suffix(tmp_path / "a.txt")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    for name, package in {"a.srt": "srt", "a.TextGrid": "praatio"}.items():
        with pytest.raises(CloningError, match=f"needs the package {package}: pip install -r requirements.txt"):
            require_suffix(tmp_path / name)
    assert importlib.util.find_spec("srt") and require_suffix(tmp_path / "a.vtt")
