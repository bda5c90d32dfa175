"""Preprocessed sets that somebody edited: every value of a manifest in turn, and bytes by chance."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

from tests.support import encoder_set, vocoder_set
from tests.support.synthesizer_set import SPEAKER_SIZE, make_set

VALUES = (None, "", "x", -1, 0, 1.5, 10**9, 1e300, float("nan"), True, [], {}, [[]], "../../x", "/etc/passwd", "a\nb")


def use(folder: str) -> None:
    """What a train script does with a set before and in its first steps."""
    from encoder.config import RunConfig as EncoderRun
    from encoder.train import build_task as build_encoder_task
    from synthesizer.config import RunConfig
    from synthesizer.train import build_task
    from utils.config import load_config
    from utils.data.manifest import read_manifest
    from vocoder.config import RunConfig as VocoderRun
    from vocoder.train import build_task as build_vocoder_task

    kind = read_manifest(folder).header["kind"]
    if kind == "encoder":
        settings = load_config(EncoderRun, "encoder", "debug", ["augment.speed=0.5", "loss.distill_weight=1.0"])
        task = build_encoder_task(read_manifest(folder, "encoder"), settings)
    elif kind == "synthesizer":
        sizes = [f"model.speaker_size={SPEAKER_SIZE}", "data.batch_size=3", "data.min_frames=1"]
        sizes.append("model.architecture=parallel")
        task = build_task(read_manifest(folder), load_config(RunConfig, "synthesizer", "debug", sizes))
    else:
        run = load_config(VocoderRun, "vocoder", "debug", ['model.architecture="vocos"'])
        task = build_vocoder_task(read_manifest(folder, "vocoder"), run)
    for step in (1, 2, 3):
        task.batch(step)
        task.names(step)


def whole(folder: Path) -> list[Path]:
    """A set of each kind, as it should be."""
    places = [folder / kind for kind in ("encoder", "synthesizer", "vocoder")]
    encoder_set.write_set(places[0], teacher=256, noise=2, rooms=2, speeds=(0.9,))
    make_set(places[1])
    vocoder_set.make_set(places[2])
    return places


def cases(folder: Path, every: int = 1) -> Iterator[Path]:
    """Each value of each header and of the first line after it in turn; each shard cut, gone or another's."""
    number = itertools.count()
    for source in whole(folder / "whole"):
        lines = (source / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        edits = [(row, name, value) for row in (0, 1) for name in rows[row] for value in VALUES]
        for row, name, value in edits[::every]:
            changed = [*rows[:row], {**rows[row], name: value}, *rows[row + 1 :]]
            yield _set(folder / str(next(number)), source, changed)
        for row, name in {(row, name): None for row, name, _ in edits}:
            without = {key: value for key, value in rows[row].items() if key != name}
            yield _set(folder / str(next(number)), source, [*rows[:row], without, *rows[row + 1 :]])
        for shard in ("", ".", "..", "shards", "shards/../../x", "C:\\x", "\\\\x\\y", "/dev/zero", "\x00", "x" * 9999):
            changed = [rows[0], *({**row, "shard": shard} for row in rows[1:])]
            yield _set(folder / str(next(number)), source, changed)
        for numbers in ({"seconds": 1e9}, {"seconds": 99999.0, "frames": 800}, {"frames": 1}, {"frames": 10**6}):
            yield _set(folder / str(next(number)), source, [rows[0], *({**row, **numbers} for row in rows[1:])])
        for text in ("", "\n", "{", "[]", "null", "3", "[" * 100_000, lines[0], f"{lines[0]}\n[]", "\x00" * 99):
            yield _set(folder / str(next(number)), source, text)
        for name in ("shards", "speakers.safetensors", "noise.safetensors", "rooms.safetensors"):
            for content in (b"", b"{", bytes(100), None):
                place = _set(folder / str(next(number)), source, rows)
                for path in sorted((place / name).glob("*.safetensors")) if name == "shards" else [place / name]:
                    if path.exists():
                        path.unlink()  # a hard link: the original stays
                        if content is not None:
                            path.write_bytes(content)
                yield place


def mutations(folder: Path, count: int, seed: int = 0) -> Iterator[Path]:
    draw = random.Random(seed)
    sources = whole(folder / "whole")
    words = (b'"', b"{", b"}", b"[", b",", b"null", b"-", b"9" * 30, b"../", b"\\u0000", b"\n", b"\xff", b"1e999")
    for number in range(count):
        source = draw.choice(sources)
        content = bytearray((source / "manifest.jsonl").read_bytes())
        for _ in range(draw.choice((1, 1, 2, 9))):
            place = draw.randrange(len(content))
            if draw.random() < 0.5:
                content[place : place + draw.choice((0, 1, 5))] = draw.choice(words)
            else:
                del content[place : place + draw.choice((1, 3, 50))]
        yield _set(folder / str(number), source, bytes(content))


def _set(folder: Path, source: Path, manifest: list[dict] | str | bytes) -> Path:
    """A set like `source` with another manifest; its shards are the same files."""
    folder.mkdir(parents=True)
    for path in source.rglob("*"):
        target = folder / path.relative_to(source)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif path.suffix == ".safetensors":
            target.parent.mkdir(exist_ok=True)
            os.link(path, target)
    if isinstance(manifest, list):
        manifest = "".join(json.dumps(row) + "\n" for row in manifest)
    (folder / "manifest.jsonl").write_bytes(manifest if isinstance(manifest, bytes) else manifest.encode())
    return folder
