"""Whatever lies in a corpus, a scan ends, reads nothing outside, and lists what it leaves out."""

from __future__ import annotations

import os
import random
import shutil

import pytest

import vocoder_preprocess
from tests.conftest import ROOT
from utils.data import preprocess as preprocessing
from utils.data.corpora import scan
from utils.data.corpora.scanning import LEADS_OUT
from utils.data.manifest import read_manifest
from utils.errors import CloningError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, pipes and names that are no text")


@pytest.fixture
def voices(tmp_path):
    """One good speaker beside which the odd things are put."""
    folder = tmp_path / "voices"
    (folder / "good").mkdir(parents=True)
    shutil.copyfile(ROOT / "samples" / "austen_0870.wav", folder / "good" / "1.wav")
    return folder


def reasons(found) -> dict[str, str]:
    return {path.name: reason for path, reason in found.not_understood}


def test_links_to_nowhere_to_themselves_and_in_circles(voices):
    links = {"self": "self", "a.wav": "a.wav", "b": "c", "c": "b", "gone": "nothing", "d.wav": "x" * 300}
    for name, target in links.items():
        (voices / name).symlink_to(target)
    (voices / "one").mkdir()
    (voices / "two").mkdir()
    (voices / "one" / "over").symlink_to("../two")
    (voices / "two" / "back").symlink_to("../one")
    found = scan(voices)
    assert [clip.id for clip in found.clips] == ["voices/good/1"]
    assert {name for name, reason in reasons(found).items() if reason == "a link that leads nowhere"} == set(links)
    assert "a link to a folder that another link leads to" in reasons(found).values()


def test_links_that_lead_out_are_followed_on_demand_only(voices, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "password.txt").write_text("a secret", encoding="utf-8")
    shutil.copyfile(voices / "good" / "1.wav", secret / "2.wav")
    (voices / "good" / "1.txt").symlink_to(secret / "password.txt")
    (voices / "good" / "2.wav").symlink_to(secret / "2.wav")
    (voices / "other").symlink_to(secret)
    (voices / "inside").symlink_to("good")
    found = scan(voices)
    assert [(clip.id, clip.text) for clip in found.clips] == [("voices/good/1", None), ("voices/inside/1", None)]
    assert {p.relative_to(voices).as_posix() for p, r in found.not_understood if r == LEADS_OUT} == {
        "good/1.txt", "good/2.wav", "other", "inside/1.txt", "inside/2.wav",
    }  # fmt: skip
    followed = {(clip.id, clip.text) for clip in scan(voices, follow_links=True).clips}
    assert followed >= {("voices/good/1", "a secret"), ("voices/other/2", None)}
    # links among the folders that were all given lead nowhere out
    assert "voices/other/2" in {clip.id for clip in scan(voices, secret).clips}


@pytest.mark.parametrize(
    ("index", "clip", "content"),
    [
        ("LibriSpeech/1/2/1-2.trans.txt", "LibriSpeech/1/2/1-2-0001.flac", "1-2-0001 a secret"),
        ("lj/metadata.csv", "lj/wavs/LJ001-0001.wav", "LJ001-0001|a secret|a secret"),
        ("plain/ann/metadata.csv", "plain/ann/1.wav", "1|a secret"),
        ("vctk/txt/p225/p225_001.txt", "vctk/wav48/p225/p225_001.wav", "a secret"),
        ("esd/0011/0011.txt", "esd/0011/Angry/0011_000001.wav", "0011_000001\ta secret\tAngry"),
    ],
)
def test_tables_of_texts_are_not_read_through_links(tmp_path, index, clip, content):
    root, secret = tmp_path / "corpora", tmp_path / "secret"
    for path in (root / index, root / clip):
        path.parent.mkdir(parents=True, exist_ok=True)
    (root / clip).touch()
    secret.write_text(content, encoding="utf-8")
    (root / index).symlink_to(secret)
    assert [c.text for c in scan(root).clips] == [None]
    assert [c.text for c in scan(root, follow_links=True).clips] == ["a secret"]


def test_odd_entries_are_listed(voices):
    (voices / "folder.wav").mkdir()
    (voices / ".dotted").mkdir()
    (voices / "good" / ".3.wav").touch()
    (voices / "good" / ".DS_Store").touch()
    os.mkfifo(voices / "good" / "pipe.wav")
    os.mkfifo(voices / "good" / "1.txt")
    with (voices / "good" / "1.lab").open("wb") as file:
        file.truncate(2**40)  # as large as may be, though it takes no place
    (voices / "locked").mkdir(mode=0)
    found = scan(voices)
    listed = reasons(found)
    assert "name of a recording" in listed["folder.wav"]
    assert "hidden" in listed[".dotted"] and "hidden" in listed[".3.wav"] and ".DS_Store" not in listed
    assert listed["pipe.wav"] == listed["1.txt"] == "no regular file" and "too long" in listed["1.lab"]
    if os.geteuid() != 0:
        assert "cannot be read" in listed["locked"]
    assert [(clip.id, clip.text) for clip in found.clips] == [("voices/good/1", None)]


def test_names_that_are_no_text_go_through_preprocessing(voices, tmp_path, capsys):
    """Bytes that are not UTF-8, a new line, terminal codes: in names of folders and files."""
    for name in (b"b\xff\xfe", b"new\nline", b"\x1b[31mred", "\u2028".encode(), b"\xc3"):
        try:
            folder = os.path.join(os.fsencode(voices), name)
            os.mkdir(folder)
        except OSError:
            pytest.skip("names are text here")
        shutil.copyfile(voices / "good" / "1.wav", os.path.join(folder, name + b".wav"))
        with open(os.path.join(folder, name + b"2.wav"), "wb") as file:
            file.write(b"not audio")
        with open(os.path.join(folder, name + b".shn"), "wb") as file:
            file.write(b"x")
    out = tmp_path / "set"
    assert vocoder_preprocess.main([str(voices), "--out", str(out), "--jobs", "1"]) == 0
    captured = capsys.readouterr()
    captured.out.encode()
    assert captured.out.replace("\n", "").isprintable() and "Traceback" not in captured.err
    manifest = read_manifest(out, "vocoder")
    assert len(manifest.utterances) == 6
    assert {os.fsencode(voices / u.path) for u in manifest.utterances} > {
        os.path.join(os.fsencode(voices), b"b\xff\xfe", b"b\xff\xfe.wav")
    }
    assert all((out / "skipped.jsonl").read_text(encoding="utf-8").split("\n")[:5])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("{path}: m4a/mp4/aac, which is not read here: convert it", "m4a/mp4/aac, which is not read here"),
        ("{path}: mp3 of 3.5 s at 16000 Hz: too short", "mp3 of # s at # Hz"),
        ("{path}: 16-bit and 3gp: no", "#-bit and 3gp"),
    ],
)
def test_reasons_keep_names_with_digits(voices, message, reason):
    clip = scan(voices).clips[0]
    assert preprocessing.reason_of(CloningError(message.format(path=clip.path)), clip) == reason


@pytest.mark.parametrize("seed", range(30))
def test_trees_made_by_chance(tmp_path, seed):
    """Ten odd entries each: the scan ends, names every recording or lists it, and reads nothing that lies outside."""
    draw = random.Random(seed)
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (outside / "x.txt").write_text("a secret", encoding="utf-8")
    (outside / "x.wav").touch()
    folders = [root / "s"]
    folders[0].mkdir(parents=True)
    (folders[0] / "keep.wav").touch()
    for number in range(10):
        place = draw.choice(folders)
        name = draw.choice(("x", "y.wav", "y.txt", ".z", "LJ001-0001.wav", "wavs", "b\udcff.wav", "a\nb.flac"))
        path = place / f"{number}{name}" if draw.random() < 0.5 else place / name
        if os.path.lexists(path):
            continue
        match draw.randrange(5):
            case 0:
                path.mkdir()
                folders.append(path)
            case 1:
                path.symlink_to(draw.choice((outside, outside / "x.txt", outside / "x.wav", path, "/dev/zero", "..")))
            case 2:
                path.symlink_to(draw.choice(folders))
            case 3:
                os.mkfifo(path)
            case _:
                path.write_text("words", encoding="utf-8")
    found = scan(root)
    assert not any(clip.text == "a secret" or outside in clip.path.resolve().parents for clip in found.clips)
    found.report().encode()
    named = {clip.path for clip in found.clips} | {path for path, _ in found.not_understood}
    for path in root.rglob("*"):
        if path.suffix in (".wav", ".flac"):
            assert path in named or not named.isdisjoint(path.parents)  # or in a hidden folder, which is listed
