"""`evaluate.py chain`: is cloned speech understood, natural and alike? Real recordings and resyntheses beside it."""

from __future__ import annotations

import argparse
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from evaluation.alignment import alignment_health, combine
from evaluation.cache import AudioCache, Cache
from evaluation.judges import find_published_encoder
from evaluation.measure import Numbers, Panel, aligned_distance
from evaluation.metrics import bootstrap, pooled_rate
from evaluation.models import Column, chain_columns, facts_of, find, vocoder_columns
from evaluation.report import Cell, Players, Report, Table
from evaluation.resynthesis import Resynthesizer
from evaluation.sentences import Item, load_plan
from utils.audio import Waveform, read
from utils.checkpoint import load_weights
from utils.errors import CloningError
from voice_cloner import VoiceCloner

logger = logging.getLogger(__name__)
SEED = 0
REAL = "real recordings"
AT_LEAST = 12  # sentences of a system, however slow it is
KINDS = ("read", "sentence", "numbers", "names", "word", "paragraph")
# heading -> (digits, name of the number in a row, factor)
COLUMNS: dict[str, tuple[int, str, float]] = {
    "similarity": (3, "similarity", 1),
    "to other speakers": (3, "other_speakers", 1),
    "right voice of all %": (1, "recognized_voice", 100),
    "DistillMOS": (2, "distillmos", 1),
    "DNSMOS": (2, "dnsmos", 1),
    "mel dB, aligned": (2, "aligned_db", 1),
    "F0 off, semitones": (2, "f0_off", 1),
    "F0 spread, semitones": (2, "f0_spread", 1),
    "rate / real": (2, "rate", 1),
    "pause s": (2, "pause_s", 1),
    "RTF": (3, "rtf", 1),
}
# why a cell stays empty, where it is not for want of a judge
EMPTY = {
    "to other speakers": "needs a second speaker",
    "right voice of all %": "needs a second speaker",
    "mel dB, aligned": "wants another recording of the same words",
    "F0 off, semitones": "wants recordings of the speaker",
    "rate / real": "wants recordings of the speaker",
    "RTF": "nothing was made",
}
HEALTH = {
    "coverage %": 1,
    "skips": 2,
    "repeats": 2,
    "early stop %": 1,
    "overrun frames": 2,
    "stopped at its bound %": 1,
}
DIGITS = {"n": 0, "WER %": 1, "CER %": 1, **{name: digits for name, (digits, _, _) in COLUMNS.items()}}


@dataclass
class System:
    """A row of the table: how it makes a sentence, and what came of it."""

    name: str
    make: Callable[[Item], tuple[Waveform, Numbers]]
    rows: dict[str, Numbers] = field(default_factory=dict)  # by item
    audio: dict[str, Waveform] = field(default_factory=dict)


class Chain:
    """A folder of models as a system; `fingerprint` names all its weights."""

    def __init__(self, column: Column, args: argparse.Namespace) -> None:
        chosen = {stage: getattr(args, stage) for stage in ("encoder", "vocoder") if getattr(args, stage)}
        if "vocoder" not in chosen and find(column.path, "vocoder") is None:
            chosen["vocoder"] = "griffin-lim"
        if "encoder" not in chosen and find(column.path, "encoder") is None and find_published_encoder():
            chosen["encoder"] = find_published_encoder()
        self.cloner = VoiceCloner.load(column.path, device=args.device, **chosen)
        self._warm = False
        self.fingerprint = hashlib.sha256("/".join(map(str, self.cloner.describe().values())).encode()).hexdigest()[:12]

    def warm_up(self, item: Item) -> None:
        """Load what is loaded at first use (lexicon, kernels), so that no sentence is charged for it."""
        if not self._warm:
            self.cloner.clone(item.reference, "Hello.", seed=SEED)
            self._warm = True

    def make(self, item: Item) -> tuple[Waveform, Numbers]:
        cloning = self.cloner.clone(item.reference, item.text, seed=SEED)
        health = combine([alignment_health(np.asarray(p.alignment), _spoken(p.tokens)) for p in cloning.pieces])
        bounded = [reason for reason in cloning.stop_reasons if reason == "limit"]
        numbers = {"stop_reasons": cloning.stop_reasons, "bounded": float(bool(bounded)), "notes": cloning.notes}
        return cloning.audio, {**health._asdict(), **numbers, "stages": dict(cloning.seconds)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--judge", type=Path, metavar="PATH", help="encoder that judges likeness (default: published)")
    parser.add_argument("--recognizer", choices=("auto", "whisper", "pocketsphinx", "none"), default="auto")
    parser.add_argument("--encoder", type=Path, metavar="PATH", help="instead of each folder's own")
    parser.add_argument("--vocoder", metavar="PATH", help="instead of each folder's own; or griffin-lim")
    parser.add_argument("--minutes", type=float, default=5.0, help="a system this slow gets no more sentences")


def run(args: argparse.Namespace) -> Report:
    """Make, judge and compare: real recordings, each vocoder's resynthesis of them, each chain."""
    columns = chain_columns(args.models)
    plan = load_plan(args.corpus, quick=args.quick, limit=args.limit)
    report = Report("chain", facts_of(args, columns), missing=list(plan.missing))
    cache = Cache(args.report / "cache" / "chain.jsonl")
    panel = Panel.load(cache, judge=args.judge, recognizer=args.recognizer, spoken=[item.spoken for item in plan.items])
    panel.enrol(plan.enrolment)
    report.missing += panel.missing
    report.facts |= panel.about | _judge_notes(columns, panel)
    systems = [System(REAL, lambda item: (read(item.real), {}))]
    systems += [
        System(f"{column.name} of real mels", Resynthesizer(column, args.device).make)
        for column in vocoder_columns(args.models, [Path(args.vocoder)] if args.vocoder else [])
    ]
    chains = [(column, Chain(column, args)) for column in columns]
    systems += [System(f"chain {column.name}", _kept(chain, args.report, cache)) for column, chain in chains]
    for system in systems:
        items = plan.items if system.name.startswith("chain ") else [item for item in plan.items if item.real]
        _fill(system, items, panel, args.minutes * 60, report)
    _against_real(systems, plan.items)
    _tables(report, systems, plan.items)
    report.parts += _figures(systems, plan.items)
    report.parts.append(_players(systems, plan.items))
    report.details = {system.name: system.rows for system in systems}
    return report


def _kept(chain: Chain, folder: Path, cache: Cache) -> Callable[[Item], tuple[Waveform, Numbers]]:
    """`chain.make`, remembering audio and numbers, so that an interrupted run goes on."""
    sounds = AudioCache(folder / "cache" / f"chain-{chain.fingerprint}")

    def make(item: Item) -> tuple[Waveform, Numbers]:
        text = hashlib.sha256(f"{item.text}|{item.reference.stem}".encode()).hexdigest()[:8]
        key, name = f"clone/{chain.fingerprint}/{item.id}/{text}", f"{item.id}-{text}"
        numbers, audio = cache.get(key), sounds.get(name)
        if numbers is None or audio is None:
            chain.warm_up(item)
            started = time.perf_counter()
            made, numbers = chain.make(item)
            numbers["rtf"] = (time.perf_counter() - started) / max(made.seconds, 0.1)
            audio, numbers = sounds.put(name, made), cache.put(key, numbers)
        return audio, numbers

    return make


def _fill(system: System, items: list[Item], panel: Panel, budget_s: float, report: Report) -> None:
    """Make and judge every sentence of a system, until its time is spent; what fails is listed, not hidden."""
    spent = 0.0
    for count, item in enumerate(tqdm(items, desc=system.name, disable=None)):
        if spent > budget_s and count >= AT_LEAST:
            why = f"{count} of {len(items)} sentences in {spent / 60:.1f} min: too slow for more (--minutes)"
            report.missing.append((system.name, why))
            break
        started = time.perf_counter()
        try:
            audio, numbers = system.make(item)
        except CloningError as error:
            report.missing.append((f"{system.name}: {item.id}", str(error)))
            continue
        spent += time.perf_counter() - started
        system.audio[item.id] = audio
        system.rows[item.id] = {
            **numbers,
            **panel.measure(audio, item.spoken, item.speaker),
            "kind": item.kind,
            "speaker": item.speaker,
            "text": item.text,
        }


def _against_real(systems: list[System], items: list[Item]) -> None:
    """Add what compares with the speaker's own recordings: pitch, rate, the sounds of the same sentence."""
    real = systems[0]
    own: dict[str, tuple[float, float]] = {}
    for speaker in {item.speaker for item in items}:
        rows = [row for row in real.rows.values() if row["speaker"] == speaker and row["f0_hz"]]
        if rows:
            own[speaker] = tuple(float(np.median([row[name] for row in rows])) for name in ("f0_hz", "letters_per_s"))
    for system in systems:
        for item in items:
            row = system.rows.get(item.id)
            if row is None:
                continue
            if item.speaker in own:
                f0, rate = own[item.speaker]
                row["f0_off"] = abs(12 * np.log2(row["f0_hz"] / f0)) if row["f0_hz"] else None
                row["rate"] = row["letters_per_s"] / rate
            if item.id in real.audio and system is not real:
                row["aligned_db"] = aligned_distance(real.audio[item.id], system.audio[item.id])


def _tables(report: Report, systems: list[System], items: list[Item]) -> None:
    kinds = {item.id: item.kind for item in items}
    read_ids = {name for name, kind in kinds.items() if kind == "read"}
    main = Table("The same sentences, really read", DIGITS, note=report.facts.get("likeness", ""))
    for system in systems:
        rows = [row for name, row in system.rows.items() if name in read_ids]
        if rows:
            main.add(system.name, cells(rows))
    by_kind = Table("The chain, by kind of sentence", DIGITS)
    by_voice = Table("By speaker: read sentences", {k: v for k, v in DIGITS.items() if k != "RTF"})
    health = Table(
        "Alignment health, mean of a sentence", HEALTH, note="From the attention or the durations of the chain."
    )
    for system in systems:
        rows = list(system.rows.values())
        for speaker in sorted({row["speaker"] for row in rows}) if system is systems[0] or _is_chain(system) else ():
            chosen = [row for row in rows if row["speaker"] == speaker and row["kind"] == "read"]
            if chosen:
                by_voice.add(f"{system.name}, {speaker}", cells(chosen))
        for kind in KINDS if _is_chain(system) else ():
            chosen = [row for row in rows if row["kind"] == kind]
            if chosen:
                by_kind.add(f"{system.name}, {kind}", cells(chosen))
                health.add(f"{system.name}, {kind}", _health(chosen))
    report.parts += [table for table in (main, by_kind, health, by_voice) if table.rows]


def cells(rows: list[Numbers]) -> dict[str, Cell]:
    """The table's cells of some sentences: means with intervals; error rates pooled over all their words."""
    result = {"n": Cell(float(len(rows)))}
    for heading, edits, length in (("WER %", "word_edits", "words"), ("CER %", "character_edits", "characters")):
        pairs = np.array([[row[edits], row[length]] for row in rows if edits in row], dtype=float)
        rate = bootstrap(pairs, pooled_rate) if len(pairs) else None
        result[heading] = Cell.of(rate and type(rate)(*(100 * x for x in rate)), "no recogniser")
    for heading, (_, name, factor) in COLUMNS.items():
        values = [factor * row[name] for row in rows if row.get(name) is not None]
        result[heading] = Cell.of(bootstrap(values) if values else None, EMPTY.get(heading, "its judge is missing"))
    return result


def _health(rows: list[Numbers]) -> dict[str, Cell]:
    names = ("coverage", "skips", "repeats", "early_stop", "overrun", "bounded")
    factors = (100, 1, 1, 100, 1, 100)
    return {
        heading: Cell.of(bootstrap([factor * float(row[name]) for row in rows]))
        for heading, name, factor in zip(HEALTH, names, factors, strict=True)
    }


def _figures(systems: list[System], items: list[Item]) -> list[Any]:
    from matplotlib.figure import Figure

    read_ids = [item.id for item in items if item.kind == "read"]
    figures = []
    for name in ("similarity", "distillmos"):
        values = {}
        for system in systems:
            numbers = [system.rows[i][name] for i in read_ids if system.rows.get(i, {}).get(name) is not None]
            if numbers:
                values[system.name] = numbers
        if not values:
            continue
        figure = Figure(figsize=(7, 0.5 + 0.4 * len(values)), layout="constrained")
        axis = figure.subplots()
        axis.boxplot(list(values.values()), orientation="horizontal", widths=0.6)
        axis.set_yticks(range(1, len(values) + 1), list(values))
        axis.invert_yaxis()
        axis.set_xlabel(name)
        figures.append((f"Read sentences: {name}", figure))
    return figures


def _players(systems: list[System], items: list[Item]) -> Players:
    players = Players("Listen", ["reference", *(system.name for system in systems)])
    for item in items:
        sounds = {system.name: system.audio[item.id] for system in systems if item.id in system.audio}
        if sounds:
            players.rows.append((f"{item.speaker}: {item.text}", {"reference": read(item.reference), **sounds}))
    return players


def _judge_notes(columns: list[Column], panel: Panel) -> dict[str, str]:
    """How independent the judge of likeness is of what conditioned the chain: said in the report, whatever it is."""
    fingerprint = getattr(panel.likeness, "fingerprint", None)
    if fingerprint is None:
        return {}
    notes = []
    for column in columns:
        path = find(column.path, "encoder")
        if path is None:
            continue
        own = load_weights(path, "encoder")
        if own.fingerprint == fingerprint:
            notes.append(f"{column.name} was conditioned by this very judge, so its similarity is flattered")
        elif any(word in str((own.config, own.extra, own.metrics)).lower() for word in ("distil", "teacher")):
            notes.append(f"the encoder of {column.name} was distilled: its teacher is no wholly independent judge")
        else:
            notes.append(f"the encoder of {column.name} is another than the judge")
    return {"likeness": "; ".join(notes)} if notes else {}


def _is_chain(system: System) -> bool:
    return system.name.startswith("chain ")


def _spoken(tokens: list[str]) -> np.ndarray:
    """Which symbols take time (N,) bool: letters or phones, not pauses, boundaries and ends."""
    return np.array([token != "SIL" and any(c.isalpha() for c in token) for token in tokens], dtype=bool)
