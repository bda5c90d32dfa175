"""Frozen voices and sentences: who is cloned, what is said, and the recordings to compare with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from evaluation.lists.trials import AUDIO, DATA, SAMPLES, find_audio
from utils.errors import CloningError

READERS, HOME = "readers", "people at home"  # groups of voices that are set aside
QUESTION, STATEMENT = "question", "statement"  # kinds: only the pitch at their ends is measured
QUICK_READ, QUICK_COMMON = 12, 8  # sentences under --quick: two really read by each speaker, and most kinds


@dataclass(frozen=True)
class Item:
    """One sentence in one voice. `real` is the speaker's own recording of it, where there is one."""

    id: str
    speaker: str
    kind: str  # read, sentence, numbers, names, word, paragraph; question, statement
    text: str
    spoken: str  # the words as they are said, lower case
    reference: Path
    real: Path | None = None

    @property
    def recording(self) -> Path:
        """`real`, of a sentence that has one; ValueError for another."""
        if self.real is None:
            raise ValueError(f"{self.id}: no recording of this sentence")
        return self.real


@dataclass(frozen=True)
class SentencePlan:
    """What the chain says; enrolment: other recordings of each speaker, neither reference nor sentence."""

    items: list[Item]
    enrolment: dict[str, list[Path]]
    missing: list[tuple[str, str]]
    real: dict[str, list[Item]] = field(default_factory=dict)  # by speaker, all that were really read
    groups: dict[str, str] = field(default_factory=dict)  # of each speaker: readers, at home, ...


def load_plan(
    corpus: Path | None, *, quick: bool = False, limit: int | None = None, whole: bool = False
) -> SentencePlan:
    """From the corpus folder, or (None) a small plan on the bundled clips. `limit`: see `shortened`.

    `whole`: with the people at home beside the readers, and, unless `quick`, with questions and statements.
    """
    plan = _frozen(corpus, whole) if corpus else _bundled(SAMPLES)
    items = plan.items
    if quick:
        common = [item for item in items if item.kind != "read"]
        step = max(1, len(common) // QUICK_COMMON)
        read = [item for item in items if item.kind == "read"]
        items = spread(read, QUICK_READ) + common[::step][:QUICK_COMMON]
    elif whole:
        readers = [item for item in items if plan.groups.get(item.speaker) != HOME]
        items = items + _pairs({item.speaker: item.reference for item in readers})
    return shortened(replace(plan, items=items), limit)


def shortened(plan: SentencePlan, limit: int | None = None, kinds: Sequence[str] = ()) -> SentencePlan:
    """Only `kinds` (all if empty); at most `limit` sentences, half of them really read, and as many pairs.

    Voices without a sentence remain for comparison.
    """
    items = [item for item in plan.items if not kinds or item.kind in kinds]
    pairs = [item for item in items if item.kind in (QUESTION, STATEMENT)]
    read = [item for item in items if item.kind == "read"]
    rest = [item for item in items if item.kind not in ("read", QUESTION, STATEMENT)]
    if limit:
        half = min(len(read), max((limit + 1) // 2, limit - len(rest)))
        read, rest, pairs = spread(read, half), rest[: limit - half], pairs[: 2 * limit]
    return replace(plan, items=read + rest + pairs)


def spread(items: list[Item], count: int) -> list[Item]:
    """About `count` of them, equally many of each speaker, and of each from all over its list: short and long ones."""
    if count >= len(items):
        return items
    own: dict[str, list[Item]] = {}
    for item in items:
        own.setdefault(item.speaker, []).append(item)
    chosen = []
    for number, mine in enumerate(own.values()):
        share = min((count + len(own) - 1 - number) // len(own), len(mine))
        chosen += [mine[(2 * k + 1) * len(mine) // (2 * share)] for k in range(share)]
    return in_turn(chosen)


def sentences(name: str = "sentences") -> dict[str, Any]:
    """A frozen file: speakers (references, enrolment), sentences read in the corpus, sentences common to all."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def _frozen(corpus: Path, home: bool) -> SentencePlan:
    contents = {READERS: sentences(), **({HOME: sentences("home")} if home else {})}
    voices = {voice["speaker"]: voice for content in contents.values() for voice in content["speakers"]}
    groups = {voice["speaker"]: group for group, content in contents.items() for voice in content["speakers"]}
    rows = [row for content in contents.values() for row in content["read"]]
    stems = {row["id"] for row in rows}
    for voice in voices.values():
        stems.update(voice["references"] + voice["enrolment"])
    places = find_audio(corpus, stems)
    missing = [(stem, f"not found below {corpus}") for stem in sorted(stems - places.keys())]
    read = []
    for row in rows:
        if row["id"] in places and row["reference"] in places:
            reference, real = places[row["reference"]], places[row["id"]]
            read.append(Item(row["id"], row["speaker"], "read", row["text"], row["spoken"], reference, real))
    common = []
    for row in contents[READERS]["common"]:
        for speaker in row["speakers"]:
            stem = voices[speaker]["references"][0]
            if stem in places:
                name = f"{row['id']}-{speaker}"
                common.append(Item(name, speaker, row["kind"], row["text"], row["spoken"], places[stem]))
    if not read and not common:
        raise CloningError(f"{corpus}: none of the set-aside speakers' recordings is here; it should hold LibriSpeech")
    enrolment = {s: [places[stem] for stem in v["enrolment"] if stem in places] for s, v in voices.items()}
    own = {speaker: [item for item in read if item.speaker == speaker] for speaker in voices}
    return SentencePlan(in_turn(read) + common, enrolment, missing, own, groups)


def _pairs(references: dict[str, Path]) -> list[Item]:
    """Yes/no questions and their statements, each pair in one of the voices."""
    voices = list(references.items())
    items = []
    for number, pair in enumerate(sentences("questions")["pairs"]):
        speaker, reference = voices[number % len(voices)]
        for kind, text in zip((QUESTION, STATEMENT), pair, strict=True):
            items.append(Item(f"{kind}-{number:02}", speaker, kind, text, "", reference))
    return items


def in_turn(items: list[Item]) -> list[Item]:
    """One of each speaker, then the next of each: any beginning of the list is balanced."""
    speakers = list(dict.fromkeys(item.speaker for item in items))
    turns = zip_longest(*([item for item in items if item.speaker == speaker] for speaker in speakers))
    return [item for turn in turns for item in turn if item is not None]


def _bundled(folder: Path) -> SentencePlan:
    clips = sorted(p for p in folder.iterdir() if p.suffix.lower() in AUDIO) if folder.is_dir() else []
    if not clips:
        raise CloningError(f"{folder}: no bundled clips here; give a folder of corpora")
    enrolment: dict[str, list[Path]] = {}
    for clip in clips:
        enrolment.setdefault(clip.stem.replace("-", "_").split("_")[0], []).append(clip)
    items = []
    for speaker, own in enrolment.items():
        for k, row in enumerate(sentences()["common"]):
            if k % 4 == 0:
                items.append(Item(f"{row['id']}-{speaker}", speaker, row["kind"], row["text"], row["spoken"], own[0]))
        for clip in own[1:]:
            transcript = clip.with_suffix(".txt")
            if transcript.is_file():
                text = transcript.read_text(encoding="utf-8").strip()
                items.append(Item(clip.stem, speaker, "read", text, text.lower(), own[0], clip))
    # The reference is a clip of the speaker too; leaving it out would leave nothing where there is but one
    real = {s: [item for item in items if item.speaker == s and item.real] for s in enrolment}
    return SentencePlan(items, {s: own[1:] or own for s, own in enrolment.items()}, [], real)
