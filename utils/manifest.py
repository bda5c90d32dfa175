"""What a preprocessed set holds: one header line, then one JSON line an utterance; arrays in compact shards.

    <set>/manifest.jsonl         header (kind, mel, counts, hours, skipped), then the utterances
    <set>/skipped.jsonl          every item left out, with its reason
    <set>/shards/00007.safetensors   arrays of some hundred utterances, named "<utterance id>/<field>"
    <set>/shards/00007.jsonl     the utterances (and the skipped items) of that shard

A shard is written whole or not at all, so a killed run goes on where it stopped. Safetensors files are memory-mapped:
a training step reads only the samples or frames that it uses.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from utils.errors import CloningError
from utils.files import atomic_path

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Utterance:
    """One stretch of speech by one person."""

    id: str  # unique in the set, made of [A-Za-z0-9._-] and "/"
    speaker: str  # "<corpus>-<name>": the same person has the same name in every part of a corpus
    path: str = ""  # source audio, relative to the corpus folder
    seconds: float = 0.0
    frames: int = 0  # of the mel, where there is one
    text: str | None = None
    emotion: str | None = None
    split: str = "train"
    shard: str = ""  # "shards/00007.safetensors", relative to the set
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """An item that was left out, and why (a reason groups; the detail is the whole error line)."""

    id: str
    path: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Manifest:
    """A preprocessed set: where it is, its header, its utterances."""

    root: Path
    header: dict[str, Any]
    utterances: list[Utterance] = field(repr=False)

    def split(self, name: str) -> list[Utterance]:
        return [u for u in self.utterances if u.split == name]


def write_shard(
    root: Path, name: str, utterances: list[Utterance], arrays: Mapping[str, np.ndarray], skipped: Iterable[Skipped]
) -> None:
    """Write one shard and then, last, its index: a shard without an index does not count."""
    folder = root / "shards"
    with atomic_path(folder / f"{name}.safetensors") as partial:
        save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, partial)
    rows = [{"utterance": asdict(u)} for u in utterances] + [{"skipped": asdict(s)} for s in skipped]
    write_lines(folder / f"{name}.jsonl", rows)


def read_shard_indexes(root: Path) -> tuple[list[Utterance], list[Skipped]]:
    """Everything that finished shards hold and left out, in the order of shard names."""
    utterances, skipped = [], []
    for index in sorted((root / "shards").glob("*.jsonl")):
        for row in _read_lines(index):
            if "utterance" in row:
                utterances.append(Utterance(**row["utterance"]))
            else:
                skipped.append(Skipped(**row["skipped"]))
    return utterances, skipped


def write_manifest(
    root: Path, kind: str, utterances: list[Utterance], skipped: list[Skipped], **header: Any
) -> Manifest:
    """Gather a set: `manifest.jsonl` with counts and hours in its header, `skipped.jsonl` beside it.

    Raises CloningError, with the reasons, when nothing was kept.
    """
    reasons = dict(Counter(s.reason for s in skipped).most_common())
    write_lines(root / "skipped.jsonl", [asdict(s) for s in skipped])
    if not utterances:
        raise CloningError(f"{root}: nothing kept, skipped: {reasons or 'nothing found'}")
    header = {
        "kind": kind,
        "format": 1,
        **header,
        "utterances": len(utterances),
        "speakers": len({u.speaker for u in utterances}),
        "hours": round(sum(u.seconds for u in utterances) / 3600, 4),
        "splits": dict(Counter(u.split for u in utterances)),
        "skipped": reasons,
    }
    write_lines(root / "manifest.jsonl", [header, *(asdict(u) for u in utterances)])
    return Manifest(root, header, utterances)


def read_manifest(root: str | Path, kind: str | None = None) -> Manifest:
    """Read `manifest.jsonl`; CloningError when there is none, it is damaged, or it is of another kind."""
    root = Path(root)
    path = root / "manifest.jsonl"
    if not path.is_file():
        script = f"{kind}_preprocess.py" if kind else "the stage's preprocess script"
        raise CloningError(f"{root}: no manifest.jsonl here; run {script} first")
    rows = _read_lines(path)
    try:
        manifest = Manifest(root, rows[0], [Utterance(**row) for row in rows[1:]])
        found = manifest.header["kind"]
    except (TypeError, KeyError, IndexError) as error:
        raise CloningError(f"{path}: not a manifest of this project: {error}") from error
    if kind is not None and found != kind:
        raise CloningError(f"{path}: a set of kind {found!r}, expected {kind!r}")
    return manifest


class Arrays:
    """Reads arrays of a set's utterances, whole or in part; opens each shard once, lazily, in each process."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._open: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_open": {}}  # handles do not travel to loader processes

    def read(self, utterance: Utterance, name: str, start: int | None = None, stop: int | None = None) -> np.ndarray:
        """Array `name` of `utterance`, or its rows start..stop along the first axis."""
        file = self._file(utterance.shard)
        key = f"{utterance.id}/{name}"
        if start is None and stop is None:
            return file.get_tensor(key)
        return file.get_slice(key)[start:stop]

    def length(self, utterance: Utterance, name: str) -> int:
        return self._file(utterance.shard).get_slice(f"{utterance.id}/{name}").get_shape()[0]

    def _file(self, shard: str) -> Any:
        if shard not in self._open:
            path = self.root / shard
            if not path.is_file():
                raise CloningError(f"{path}: shard is missing; run the preprocess script again")
            try:
                self._open[shard] = safe_open(path, framework="np")
            except SafetensorError as error:
                raise CloningError(f"{path}: damaged: {error}; delete the set and preprocess again") from error
        return self._open[shard]


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines atomically."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        # not splitlines(), which also cuts at characters that a transcript may hold, such as U+2028
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except ValueError as error:
        raise CloningError(f"{path}: damaged: {error}") from error
