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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from utils.errors import CloningError
from utils.files import atomic_path

SPLITS = ("train", "validation", "test")
_LONGEST = 1e6  # seconds of an utterance, and frames are at most a thousand a second
# What a header may be asked for: every set's own counts, and what some stages add.
_COUNTS = {"utterances": int, "speakers": int, "hours": float, "splits": dict, "skipped": dict}
_HEADER = _COUNTS | {
    "kind": str, "mel": dict, "text": dict, "noise": int, "rooms": int, "sample_rate": int, "teacher": dict,
}  # fmt: skip
_OPTIONAL = (type(None),)
_ROW: dict[str, tuple[type, ...]] = {
    "id": (str,), "speaker": (str,), "path": (str,), "seconds": (float, int), "frames": (int,),
    "text": (str, *_OPTIONAL), "emotion": (str, *_OPTIONAL), "split": (str,), "shard": (str,), "extra": (dict,),
}  # fmt: skip


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
        """The utterances of one split, such as "train"."""
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
            try:
                if "utterance" in row:
                    utterances.append(_utterance(row["utterance"]))
                else:
                    skipped.append(Skipped(**row["skipped"]))
            except (TypeError, ValueError, KeyError) as error:
                raise CloningError(f"{index}: damaged or edited: {error}: delete it and preprocess again") from error
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
        manifest = Manifest(root, _header(rows[0]), [_utterance(row) for row in rows[1:]])
        found = manifest.header["kind"]
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise CloningError(f"{path}: not a manifest of this project: {error}; preprocess again") from error
    if kind is not None and found != kind:
        raise CloningError(
            f"{path}: a set of kind {found!r}, expected {kind!r}: give one that is preprocessed for that"
        )
    return manifest


def _header(row: Any) -> dict[str, Any]:
    """A manifest's first line; ValueError where a count is missing or something is of the wrong type."""
    if not isinstance(row, dict) or "kind" not in row:
        raise ValueError("no header with a kind in its first line")
    for name, kind in _HEADER.items():
        value = row.get(name)
        if value is None and name not in _COUNTS:
            continue
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
            raise ValueError(f"its header's {name} is {value!r:.80}, not {kind.__name__}")
        if isinstance(value, int | float) and not 0 <= value < 1e12:
            raise ValueError(f"its header's {name} is {value!r:.80}, which cannot be")
    return row


def _utterance(row: Any) -> Utterance:
    """One line of a manifest; ValueError or TypeError for values that no preprocessing writes."""
    if not isinstance(row, dict):
        raise TypeError(f"{row!r:.80} is no utterance")
    utterance = Utterance(**row)
    for name, types in _ROW.items():
        value = getattr(utterance, name)
        if not isinstance(value, types) or isinstance(value, bool):
            raise ValueError(f"{utterance.id!r:.80}: {name} is {value!r:.80}, not {types[0].__name__}")
    if not 0 <= utterance.seconds <= _LONGEST or not 0 <= utterance.frames <= 1000 * _LONGEST:
        raise ValueError(f"{utterance.id!r:.80}: {utterance.seconds:g} s and {utterance.frames:g} frames cannot be")
    if utterance.split not in SPLITS:
        raise ValueError(f"{utterance.id!r:.80}: split is {utterance.split!r:.80}, not one of {', '.join(SPLITS)}")
    parts = PurePosixPath(utterance.shard).parts
    odd = any(c in utterance.shard for c in "\\:\0") or len(utterance.shard) > 200
    if odd or ".." in parts or PurePosixPath(utterance.shard).is_absolute():
        raise ValueError(f"{utterance.id!r:.80}: shard {utterance.shard!r:.80} lies outside of the set")
    return utterance


class Arrays:
    """Reads arrays of a set's utterances, whole or in part; opens each shard once, lazily, in each process."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._open: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_open": {}}  # handles do not travel to loader processes

    def read(self, utterance: Utterance, name: str, start: int | None = None, stop: int | None = None) -> np.ndarray:
        """Array `name` of `utterance`, or its rows start..stop along the first axis."""
        with self._array(utterance, name) as (file, key):
            if start is None and stop is None:
                return file.get_tensor(key)
            return file.get_slice(key)[start:stop]

    def length(self, utterance: Utterance, name: str) -> int:
        """Rows of an array, without reading it."""
        with self._array(utterance, name) as (file, key):
            return file.get_slice(key).get_shape()[0]

    @contextmanager
    def _array(self, utterance: Utterance, name: str) -> Iterator[tuple[Any, str]]:
        """Where an array lies. Raises CloningError where the shard lacks it, or the rows that are asked for."""
        key = f"{utterance.id}/{name}"
        try:
            yield self._file(utterance.shard), key
        except (SafetensorError, IndexError) as error:
            raise CloningError(f"{self.root / utterance.shard}: {key}: {error}: preprocess again") from error

    def _file(self, shard: str) -> Any:
        if shard not in self._open:
            path = self.root / shard
            if not path.resolve().is_relative_to(self.root.resolve()):
                raise CloningError(f"{path}: leads out of the set: preprocess again")
            if not path.is_file():
                raise CloningError(f"{path}: shard is missing; run the preprocess script again")
            try:
                self._open[shard] = safe_open(path, framework="np")
            except SafetensorError as error:
                raise CloningError(f"{path}: damaged: {error}; delete the set and preprocess again") from error
        return self._open[shard]


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines atomically. Raises ValueError for NaN and infinity, which JSON has not."""
    # a path may hold bytes that are no UTF-8: Python's stand-ins for them become JSON's own escapes
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        # not splitlines(), which also cuts at characters that a transcript may hold, such as U+2028
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (ValueError, RecursionError) as error:
        raise CloningError(f"{path}: damaged: {error}") from error
