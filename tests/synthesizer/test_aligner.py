"""Forced alignment of one's own recordings."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from synthesizer.data import alignments as align
from synthesizer.data import forced_aligner as aligner
from synthesizer.features import sound_bounds
from utils.audio import io as audio
from utils.data.corpora import Clip
from utils.errors import CloningError

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def clips(count: int) -> list[Clip]:
    return [Clip(f"me/{i}", "me", Path(f"{i}.wav"), "go", None) for i in range(count)]


def made_up(clip: Clip) -> dict:
    if clip.id == "me/1":
        return {"id": clip.id, "error": "cannot be aligned"}
    return {"id": clip.id, "frames": 9, "score": 1.0, "words": [["go", 0, 9]], "phones": [["G", 0, 4], ["OW", 4, 5]]}


@pytest.fixture
def without_recognizer(monkeypatch):
    monkeypatch.setattr(aligner, "_of_this_process", lambda: None)
    monkeypatch.setattr(aligner, "align_clip", made_up)


def test_phones_of_odd_lengths_lower_the_score():
    assert aligner.score([4, 10, 30]) == 1
    assert aligner.score([3, 10, 10, 31]) == 0
    assert aligner.score([3, 10, 10, 10]) == pytest.approx(0.5)


def test_a_second_run_aligns_what_is_missing(tmp_path, monkeypatch, without_recognizer):
    path = tmp_path / "set" / "alignments.jsonl.gz"
    assert aligner.align_clips(clips(4), path) == 1
    assert list(align.read_alignments([path])) == ["me/0", "me/2", "me/3"]
    asked = []
    monkeypatch.setattr(aligner, "align_clip", lambda clip: asked.append(clip.id) or made_up(clip))
    assert aligner.align_clips(clips(5), path) == 1
    assert asked == ["me/1", "me/4"] and len(align.read_alignments([path])) == 4


def test_what_is_done_is_kept_when_the_run_is_stopped(tmp_path, monkeypatch, without_recognizer):
    def stopped(clip: Clip) -> dict:
        if clip.id == "me/3":
            raise KeyboardInterrupt
        return made_up(clip)

    monkeypatch.setattr(aligner, "align_clip", stopped)
    with pytest.raises(KeyboardInterrupt):
        aligner.align_clips(clips(5), tmp_path / "a.jsonl.gz")
    assert list(align.read_alignments([tmp_path / "a.jsonl.gz"])) == ["me/0", "me/2"]


def test_without_the_package_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    aligner._of_this_process.cache_clear()
    with pytest.raises(CloningError, match="pip install -r requirements/align.txt"):
        aligner.align_clips(clips(1), tmp_path / "a.jsonl.gz")


@pytest.fixture(scope="module")
def real() -> aligner.Aligner:
    pytest.importorskip("pocketsphinx", reason="pip install -r requirements/align.txt")
    return aligner.Aligner()


def test_a_clip_is_aligned(real):
    samples = audio.read(SAMPLES / "goforward.wav", sample_rate=aligner.RATE).samples
    row = real(samples, "Go forward ten meters.")
    assert [word for word, _, _ in row["words"] if word] == ["go", "forward", "ten", "meters"]
    phones = [phone for phone, _, _ in row["phones"] if phone != "SIL"]
    assert phones[:2] == ["G", "OW"] and phones[-1] in ("Z", "S") and row["score"] > 0.5
    for found in (row["words"], row["phones"]):
        ends = np.cumsum([0] + [length for _, _, length in found])
        assert [start for _, start, _ in found] == ends[:-1].tolist() and ends[-1] <= row["frames"]
    symbols = align.symbols_of({"id": "a", **row}, len(samples) / aligner.RATE)
    assert symbols.symbols.count(" ") + symbols.symbols.count(",") == 3
    loud = sound_bounds(samples, aligner.RATE, drop_db=20)
    assert abs(symbols.edges[1] - loud[0]) < 0.1 and abs(symbols.edges[-2] - loud[1]) < 0.3


def test_a_text_that_is_not_said_is_refused_or_scores_low(real):
    samples = audio.read(SAMPLES / "goforward.wav", sample_rate=aligner.RATE).samples
    try:
        row = real(samples, "Nobody had ever supposed that the gardener would be asked about tulips and daffodils.")
    except CloningError as error:
        assert "does not fit" in str(error)
    else:
        assert row["score"] < 0.3


def test_words_that_the_recognizer_does_not_know_are_pronounced_for_it(real):
    samples = audio.read(SAMPLES / "goforward.wav", sample_rate=aligner.RATE).samples
    row = real(samples, "Goforward {T EH1 N} mitterz")
    assert [word for word, _, _ in row["words"] if word][0] == "goforward"
