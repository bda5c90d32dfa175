"""Corpora in parts: what is unpacked is what was there, without who is set aside."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from utils.audio import io as audio
from utils.data.corpora import read_texts, scan, text_of, with_texts
from utils.data.packing import pack, unpack
from utils.errors import CloningError

pytestmark = pytest.mark.slow


def tone(seconds: float, pitch: float) -> audio.Waveform:
    t = np.arange(int(seconds * 16000)) / 16000
    return audio.Waveform((0.3 * np.sin(2 * np.pi * pitch * t)).astype(np.float32), 16000)


@pytest.fixture
def corpus(tmp_path) -> Path:
    root = tmp_path / "LibriSpeech"
    for speaker, clips in ((11, 6), (22, 3), (33, 3)):
        for clip in range(clips):
            name = f"{speaker}-1-{clip:04d}"
            audio.write(root / "dev" / str(speaker) / "1" / f"{name}.flac", tone(1.0, 100 + 40 * clip))
        lines = [f"{speaker}-1-{clip:04d} SAID SO {clip}\n" for clip in range(clips)]
        (root / "dev" / str(speaker) / "1" / f"{speaker}-1.trans.txt").write_text("".join(lines), encoding="utf-8")
    (root / "README.TXT").write_text("no text of a recording", encoding="utf-8")
    (root / "alignments").mkdir()
    (root / "alignments" / "all.jsonl").write_text("{}\n", encoding="utf-8")
    return root


def test_what_is_unpacked_is_what_was_packed_but_for_who_is_set_aside(corpus, tmp_path):
    limit = 75_000
    parts = pack([corpus], tmp_path / "parts", limit, set_aside=["librispeech-22"], exclude=["nobody-*"])
    assert len(parts) > 1 and all(part.stat().st_size <= limit for part in parts)
    root = tmp_path / "there"
    assert unpack(list(reversed(parts)), root) == [root / "LibriSpeech"]
    before, after = scan(corpus), scan(root)
    assert [c.id for c in after.clips] == [c.id for c in before.clips if c.speaker != "librispeech-22"]
    assert [c.text for c in after.clips] == [c.text for c in before.clips if c.speaker != "librispeech-22"]
    names = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert "LibriSpeech/alignments/all.jsonl" in names and not any("22" in n or "README" in n for n in names)
    heard = audio.read(after.clips[0].path)
    assert heard.sample_rate == 16000 and len(heard.samples) == pytest.approx(16000, abs=400)
    assert np.abs(heard.samples[2000:14000]).max() == pytest.approx(0.3, abs=0.06)
    assert after.clips[0].path.suffix == ".opus", "what was not compressed is"


def test_a_part_tells_what_it_is_and_tables_come_first(corpus, tmp_path):
    parts = pack([corpus], tmp_path / "parts", 75_000)
    for number, part in enumerate(parts):
        with tarfile.open(part) as archive:
            names = archive.getnames()
            about = json.load(archive.extractfile(names[-1]))
        assert about == {"format": 1, "part": number, "last": part == parts[-1], "files": len(names) - 1}
        assert ("LibriSpeech/alignments/all.jsonl" == names[0]) == (number == 0)


def test_parts_that_are_missing_or_damaged_are_named(corpus, tmp_path):
    parts = pack([corpus], tmp_path / "parts", 75_000)
    for left in (parts[1:], parts[:-1]):
        missing = next(part.name for part in parts if part not in left)
        with pytest.raises(CloningError, match=rf"{missing} is missing among the {len(left)} parts"):
            unpack(left, tmp_path / "there")
    parts[0].write_bytes(parts[0].read_bytes()[:1000])
    with pytest.raises(CloningError, match="part_00.tar.gz: cannot be unpacked"):
        unpack(parts, tmp_path / "there")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(corpus / "README.TXT", "x.txt")
    with pytest.raises(CloningError, match="not a part"):
        unpack([tmp_path / "other.tar.gz"], tmp_path / "there")


def test_an_archive_cannot_write_outside(tmp_path):
    with tarfile.open(tmp_path / "part.tar.gz", "w:gz") as archive:
        (tmp_path / "x").write_text("x", encoding="utf-8")
        archive.add(tmp_path / "x", "../escaped")
    with pytest.raises(CloningError, match="cannot be unpacked"):
        unpack([tmp_path / "part.tar.gz"], tmp_path / "there")
    assert not (tmp_path / "escaped").exists()


def test_what_cannot_be_packed_is_said(corpus, tmp_path):
    with pytest.raises(CloningError, match="give a larger size of parts"):
        pack([corpus], tmp_path / "small", 70_000 - 2**12)
    assert not list((tmp_path / "small").glob("*"))
    with pytest.raises(CloningError, match="everybody is set aside"):
        pack([corpus], tmp_path / "none", 10**7, exclude=["*"])
    pack([corpus], tmp_path / "parts", 10**7)
    with pytest.raises(CloningError, match="parts already"):
        pack([corpus], tmp_path / "parts", 10**7)


def test_texts_by_id_replace_those_of_the_corpus(corpus, tmp_path):
    path = tmp_path / "texts.tsv"
    path.write_text("11-1-0000\tSaid so,  zero?\n\nlibrispeech/11-1-0001\tSaid so: one.\n", encoding="utf-8")
    clips = scan(corpus).clips
    found = with_texts(clips, read_texts(path))
    assert [c.text for c in found[:3]] == ["Said so, zero?", "Said so: one.", "SAID SO 2"]
    assert text_of(clips[0], {}) == "SAID SO 0"
    path.write_text("11-1-0000 no tab\n", encoding="utf-8")
    with pytest.raises(CloningError, match="texts.tsv, line 1: '11-1-0000 no tab' is not an id, a tab and a text"):
        read_texts(path)
    with pytest.raises(CloningError, match="none of the 1 texts"):
        with_texts(clips, {"other": "text"})
    with pytest.raises(CloningError, match="cannot read the texts"):
        read_texts(tmp_path / "none.tsv")
