"""Turns as other programs read them come back as they were; clocks and silence are what is counted by hand."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarization.exports import clock, display_name, silence, to_csv, to_srt
from diarization.pipeline import Diarization
from diarization.settings import DiarizationSettings
from diarization.turns import Turn
from utils.audio.io import Waveform
from utils.errors import CloningError

NAMES = ("Ann", 'Ben "the\nlast", Jr.', "王小明", "J\u00fcrgen; x")


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0.01, 50), st.sampled_from(NAMES)), max_size=8))
def test_a_table_comes_back(rows):
    turns = sorted(Turn(a, a + length, name) for a, length, name in rows)
    head, *lines = csv.reader(io.StringIO(to_csv(turns)))
    assert head == ["start", "stop", "speaker"]
    assert [(float(a), float(b), who) for a, b, who in lines] == [
        (pytest.approx(t.start, abs=6e-4), pytest.approx(t.stop, abs=6e-4), t.speaker) for t in turns
    ]


def test_subtitles():
    text = to_srt([Turn(0.25, 1.5, "Ann"), Turn(3599.9996, 3661.002, "王小明")])
    assert text == ("1\n00:00:00,250 --> 00:00:01,500\nAnn\n\n2\n01:00:00,000 --> 01:01:01,002\n王小明\n")


@pytest.mark.parametrize(
    "seconds, decimals, shown",
    [(0, 0, "0:00"), (59.96, 1, "1:00.0"), (59.94, 1, "0:59.9"), (3599.6, 0, "1:00:00"), (5025, 0, "1:23:45")],
)
def test_clocks(seconds, decimals, shown):
    assert clock(seconds, decimals) == shown


@given(st.lists(st.tuples(st.integers(0, 80), st.integers(1, 19)), max_size=8))
def test_silence_and_overlap_are_those_of_the_frames(spans):
    frames = np.zeros(100, int)
    for start, length in spans:
        frames[start : start + length] += 1
    found = silence([Turn(start, start + length, f"S{i}") for i, (start, length) in enumerate(spans)], 100)
    assert found == (pytest.approx((frames == 0).sum()), pytest.approx((frames > 1).sum()))


def test_names_of_files():
    assert display_name("talks/%E4%BC%9A%E8%AE%AE.mp3") == "会议" and display_name("会议.wav") == "会议"
    assert display_name("a %22quoted%22 talk.wav") == 'a "quoted" talk'
    assert display_name("100%.wav") == "100%" and display_name("%ff.wav") == "%ff"  # no letters in UTF-8


def test_renaming():
    turns = [Turn(0, 1, "S1"), Turn(1, 2, "S2")]
    talk = Diarization(
        turns, ["S1", "S2"], np.zeros(0), np.zeros((0, 2)), Waveform(np.zeros(32000), 16000), DiarizationSettings()
    )
    renamed = talk.renamed({"S1": "Ann"})
    assert [t.speaker for t in renamed.turns] == ["Ann", "S2"] == renamed.speakers
    assert [t.speaker for t in talk.renamed({"S1": "S2", "S2": "S1"}).turns] == ["S2", "S1"]
    with pytest.raises(CloningError, match="nobody is called S3: the speakers are S1, S2"):
        talk.renamed({"S3": "Ann"})
    with pytest.raises(CloningError, match="two speakers would be called S2"):
        talk.renamed({"S1": "S2"})
    assert len(re.findall("S2", to_srt(renamed.turns))) == 1
