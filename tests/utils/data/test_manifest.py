"""Laws of a preprocessed set on disk: what is written is read back, whole or in part; damage is one clear line."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from utils.data.manifest import (
    Arrays,
    Skipped,
    Utterance,
    read_manifest,
    read_shard_indexes,
    write_lines,
    write_manifest,
    write_shard,
)
from utils.errors import CloningError

FIRST = Utterance(
    "c/1", "c-a", "a/1.wav", 1.5, 120, 'He said: "naïve | 你好".', "sad", "train", "shards/00.safetensors"
)
SECOND = Utterance("c/2", "c-b", seconds=2.25, split="test", shard="shards/00.safetensors", extra={"pitch": [1, 2]})
BAD = Skipped("c/3", "/x/3.wav", "not audio", "/x/3.wav is not audio: give a recording")


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        "c/1/wav": random.integers(-9, 9, 500).astype(np.int16),
        "c/1/mel": random.normal(size=(120, 80)).astype(np.float16),
        "c/2/wav": random.integers(-9, 9, 700).astype(np.int16)[::-1],  # not contiguous
        "c/2/mel": np.asfortranarray(random.normal(size=(90, 80)).astype(np.float16)),
    }


@pytest.fixture
def root(tmp_path, arrays):
    write_shard(tmp_path, "00", [FIRST, SECOND], arrays, [BAD])
    write_manifest(tmp_path, "test", [FIRST, SECOND], [BAD], mel={"n_mels": 80})
    return tmp_path


def test_round_trip(root):
    manifest = read_manifest(root, "test")
    assert manifest.utterances == [FIRST, SECOND]
    assert manifest.header == {
        "kind": "test", "format": 1, "mel": {"n_mels": 80}, "utterances": 2, "speakers": 2,
        "hours": round(3.75 / 3600, 4), "splits": {"train": 1, "test": 1}, "skipped": {"not audio": 1},
    }  # fmt: skip
    assert manifest.split("test") == [SECOND] and manifest.split("validation") == []
    assert read_shard_indexes(root) == ([FIRST, SECOND], [BAD])
    assert json.loads((root / "skipped.jsonl").read_text(encoding="utf-8")) == {
        "id": "c/3", "path": "/x/3.wav", "reason": "not audio", "detail": BAD.detail,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["a\u2028b", "a\x85b", "a\x0bb\x0cc", "a\nb\r\nc\td", "\\ \" | '"])
def test_no_character_of_a_transcript_breaks_a_line(tmp_path, text):
    utterance = Utterance("c/1", "c-a", text=text)
    write_manifest(tmp_path, "test", [utterance], [])
    assert read_manifest(tmp_path).utterances == [utterance]


def test_arrays_whole_and_in_part(root, arrays):
    reader = Arrays(root)
    for utterance in (FIRST, SECOND):
        for name in ("wav", "mel"):
            expected = arrays[f"{utterance.id}/{name}"]
            whole = reader.read(utterance, name)
            assert whole.dtype == expected.dtype and np.array_equal(whole, expected)
            assert reader.length(utterance, name) == len(expected)
            for start, stop in ((0, 10), (7, 33), (50, None), (None, 20), (80, 90), (5, 5)):
                assert np.array_equal(reader.read(utterance, name, start, stop), expected[start:stop])


def test_arrays_travel_to_loader_processes(root, arrays):
    reader = Arrays(root)
    reader.read(FIRST, "wav")
    copy = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(copy.read(FIRST, "wav"), arrays["c/1/wav"])


def test_a_shard_without_index_does_not_count(root, arrays):
    (root / "shards" / "00.jsonl").unlink()
    assert read_shard_indexes(root) == ([], [])
    write_shard(root, "00", [FIRST], {"c/1/wav": arrays["c/1/wav"]}, [])  # made again over what was left
    assert read_shard_indexes(root) == ([FIRST], [])


def test_a_failed_write_leaves_the_old_file(root):
    before = (root / "manifest.jsonl").read_bytes()

    def rows():
        yield {"kind": "new"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lines(root / "manifest.jsonl", rows())
    assert (root / "manifest.jsonl").read_bytes() == before
    assert not list(root.rglob("*.partial"))


def test_a_shard_of_skipped_items_only(tmp_path):
    write_shard(tmp_path, "00", [], {}, [BAD])
    assert read_shard_indexes(tmp_path) == ([], [BAD])


def test_nothing_kept_is_an_error_that_lists_the_reasons(tmp_path):
    with pytest.raises(CloningError, match=r"nothing kept, skipped: \{'not audio': 2\}"):
        write_manifest(tmp_path, "test", [], [BAD, BAD])
    assert len((tmp_path / "skipped.jsonl").read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b'{"kind": "test"', b"[]\n", b'{"format": 1}\n', b'{"kind": "test"}\n{"id": "c/1"}\n', b"\xff\xfe\n",
     b'{"kind": "test"}\n{"id": "c/1", "speaker": "x", "color": 3}\n'],
)  # fmt: skip
def test_damaged_manifest(tmp_path, content):
    (tmp_path / "manifest.jsonl").write_bytes(content)
    with pytest.raises(CloningError, match=r"manifest\.jsonl: (damaged|not a manifest)") as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_and_of_another_kind(root, tmp_path):
    with pytest.raises(CloningError, match="no manifest.jsonl here; run the stage's preprocess script first"):
        read_manifest(tmp_path / "nowhere")
    with pytest.raises(CloningError, match="a set of kind 'test', expected 'vocoder'"):
        read_manifest(root, "vocoder")


def test_missing_and_damaged_shards(root):
    shard = root / FIRST.shard
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(CloningError, match=r"00\.safetensors: damaged"):
        Arrays(root).read(FIRST, "wav")
    shard.unlink()
    with pytest.raises(CloningError, match=r"00\.safetensors: shard is missing"):
        Arrays(root).read(FIRST, "wav")
