"""`evaluate.py chain`: intelligibility, similarity, naturalness and speech rate of clones, with real recordings
and resyntheses beside them."""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cloning.cloner import VoiceCloner
from evaluation.cache import AudioCache, Cache
from evaluation.commands.chain_tables import KINDS, System, add_tables
from evaluation.commands.vocoder import Resynthesizer
from evaluation.judges.likeness import find_published_encoder
from evaluation.judges.naturalness import Missing
from evaluation.lists.sentences import QUESTION, STATEMENT, Item, SentencePlan, load_plan, shortened
from evaluation.lists.voices import plan_of
from evaluation.measure import Numbers, Panel, add_judge_arguments, aligned_distance
from evaluation.metrics.alignment import alignment_errors, combine
from evaluation.models import Column, chain_columns, chain_digest, facts_of, vocoder_columns
from evaluation.report import Report
from utils.audio.io import Waveform, read
from utils.errors import CloningError
from utils.files import user_path
from utils.scripts import positive_number
from utils.weights.checkpoint import load_weights
from utils.weights.find import EMOTIONAL_MODELS, checkpoints, find_stage

SEED = 0
REAL, ALL = "real recordings", "all"
AT_LEAST = 12  # sentences of a system, however slow it is


class ModelChain:
    """A folder of models, or one with another synthesizer, as a system; `fingerprint` is its `chain_digest`."""

    def __init__(self, column: Column, args: argparse.Namespace, synthesizer: str | None = None) -> None:
        chosen = {stage: getattr(args, stage) for stage in ("encoder", "vocoder") if getattr(args, stage)}
        if synthesizer is not None:
            chosen["synthesizer"] = synthesizer
        if "vocoder" not in chosen and find_stage(column.path, "vocoder") is None:
            chosen["vocoder"] = "griffin-lim"
        if "encoder" not in chosen and find_stage(column.path, "encoder") is None and find_published_encoder():
            chosen["encoder"] = find_published_encoder()
        self.cloner = VoiceCloner.load(column.path, device=args.device, **chosen)
        self._warm = False
        self.fingerprint = chain_digest(self.cloner)

    def warm_up(self, item: Item) -> None:
        """Load what is loaded at first use (lexicon, kernels), so that no sentence's time includes it."""
        if not self._warm:
            self.cloner.clone(item.reference, "Hello.", seed=SEED)
            self._warm = True

    def make(self, item: Item) -> tuple[Waveform, Numbers]:
        """The clone of a sentence, and the alignment and times of how it was made."""
        cloning = self.cloner.clone(item.reference, item.text, seed=SEED)
        quality = combine([alignment_errors(np.asarray(p.alignment), _spoken(p.tokens)) for p in cloning.pieces])
        bounded = [reason for reason in cloning.stop_reasons if reason == "limit"]
        numbers = {"stop_reasons": cloning.stop_reasons, "bounded": float(bool(bounded)), "notes": cloning.notes}
        return cloning.audio, {**quality._asdict(), **numbers, "stages": dict(cloning.seconds)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `evaluate.py chain`."""
    add_judge_arguments(parser)
    about = (
        f"names or checkpoints, a chain each, instead of each folder's own; {ALL}: all there, and those with emotions"
    )
    parser.add_argument("--synthesizer", nargs="+", default=[], metavar="PATH", help=about)
    parser.add_argument("--encoder", type=user_path, metavar="PATH", help="instead of each folder's own")
    parser.add_argument("--vocoder", metavar="PATH", help="instead of each folder's own; or griffin-lim")
    about = "set-aside: the frozen voices; validation: those that the preprocess scripts hold out"
    parser.add_argument("--split", choices=("set-aside", "validation"), default="set-aside", help=about)
    about = "these speakers of --corpus instead, to choose between checkpoints; wildcards allowed"
    parser.add_argument("--voices", nargs="+", metavar="NAME", help=about)
    about = "only these kinds of sentence (default: all)"
    parser.add_argument("--kinds", nargs="+", choices=(*KINDS, QUESTION, STATEMENT), default=(), help=about)
    parser.add_argument("--no-copies", action="store_true", help="without the vocoders' copies of the recordings")
    parser.add_argument(
        "--cache", type=user_path, metavar="DIR", help="what was measured before (default: REPORT/cache)"
    )
    parser.add_argument(
        "--minutes", type=positive_number, default=5.0, help="a system this slow gets no more sentences"
    )


def run(args: argparse.Namespace) -> Report:
    """Make, judge and compare: real recordings, each vocoder's resynthesis of them, each chain."""
    columns = chain_columns(args.models)
    plan = _plan(args)
    report = Report("chain", facts_of(args, columns), missing=list(plan.missing))
    args.cache = args.cache or args.report / "cache"
    cache = Cache(args.cache / "chain.jsonl")
    panel = Panel.load(
        cache,
        judge=args.judge,
        recognizer=args.recognizer,
        spoken=[item.spoken for item in plan.items],
        whisper=args.whisper,
        dnsmos=args.dnsmos,
    )
    panel.enrol(plan)
    report.missing += panel.missing
    report.facts |= panel.about | _judge_notes(columns, panel)
    systems = [System(REAL, lambda item: (read(item.recording), {}))]
    copiers = [] if args.no_copies else vocoder_columns(args.models, [Path(args.vocoder)] if args.vocoder else [])
    systems += [System(f"{c.name} of real mels", Resynthesizer(c, args.device).make) for c in copiers]
    for name, chain in _chains(columns, args, report):
        systems.append(System(f"chain {name}", _kept(chain, args.cache, cache), is_chain=True))
    for system in systems:
        items = plan.items if system.is_chain else [item for item in plan.items if item.real]
        _fill(system, items, panel, args.minutes * 60, report)
    _against_real(systems, plan, panel)
    add_tables(report, systems, plan)
    report.details = {system.name: system.rows for system in systems}
    return report


def _plan(args: argparse.Namespace) -> SentencePlan:
    if not args.voices and args.split == "set-aside":
        return shortened(load_plan(args.corpus, quick=args.quick, whole=True), args.limit, args.kinds)
    if args.corpus is None:
        raise CloningError("--voices and --split need --corpus DIR: the folder of corpora that holds those speakers")
    return shortened(plan_of(args.corpus, args.voices), args.limit)


def _chains(columns: list[Column], args: argparse.Namespace, report: Report) -> list[tuple[str, ModelChain]]:
    """One for each folder and each synthesizer; what it is called. Of ALL, what does not fit is told as missing."""
    vocoder = f" + {Path(args.vocoder).stem}" if args.vocoder else ""
    chains = []
    for column in columns:
        every = ALL in args.synthesizer
        for synthesizer in all_synthesizers(column.path) if every else args.synthesizer or [None]:
            path = Path(synthesizer or column.name)
            name = path.name if len(path.parts) == 1 else f"{path.parent.name}/{path.stem}"
            try:
                chains.append((f"{name}{vocoder}", ModelChain(column, args, synthesizer)))
            except CloningError as error:
                if not every:
                    raise
                report.missing.append((f"chain {name}{vocoder}", str(error)))
    return chains


def all_synthesizers(folder: Path) -> list[str]:
    """Paths of all that lie in a folder, then of those with emotions."""
    folders = [place for place in dict.fromkeys((folder.resolve(), EMOTIONAL_MODELS)) if place.is_dir()]
    return [str(path) for path in checkpoints("synthesizer", folders)]


def _kept(chain: ModelChain, folder: Path, cache: Cache) -> Callable[[Item], tuple[Waveform, Numbers]]:
    """`chain.make`, remembering audio and numbers, so that an interrupted run continues."""
    sounds = AudioCache(folder / f"chain-{chain.fingerprint}")

    def make(item: Item) -> tuple[Waveform, Numbers]:
        text = hashlib.sha256(f"{item.text}|{item.reference.stem}".encode()).hexdigest()[:8]
        key, name = f"clone/{chain.fingerprint}/{item.id}/{text}", f"{item.id}-{text}"
        numbers, audio = cache.get(key), sounds.get(name)
        if numbers is None or audio is None:
            chain.warm_up(item)
            started, used = time.perf_counter(), time.process_time()
            made, numbers = chain.make(item)
            numbers["rtf"] = (time.perf_counter() - started) / max(made.seconds, 0.1)
            numbers["cpu"] = (time.process_time() - used) / max(made.seconds, 0.1)
            audio, numbers = sounds.put(name, made), cache.put(key, numbers)
        return audio, numbers

    return make


def _fill(system: System, items: list[Item], panel: Panel, budget_s: float, report: Report) -> None:
    """Make and judge every sentence of a system, until its time is spent; what fails is listed."""
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
            **_judged(panel, audio, item),
            "kind": item.kind,
            "speaker": item.speaker,
            "text": item.text,
        }


def _judged(panel: Panel, audio: Waveform, item: Item) -> Numbers:
    if item.kind in (QUESTION, STATEMENT):
        return panel.rise(audio)
    return {**panel.measure(audio, item.spoken, item.speaker), **panel.commas(audio, item.text)}


def _against_real(systems: list[System], plan: SentencePlan, panel: Panel) -> None:
    """Add what compares with the speaker's own recordings: pitch, pace, the sounds of the same sentence."""
    own = {}
    for speaker, items in plan.real.items():
        voices = [panel.voice(read(item.recording), item.spoken) for item in items]
        if voiced := [numbers for numbers in voices if numbers["f0_hz"]]:
            names = ("f0_hz", "f0_spread", "letters_per_s")
            own[speaker] = [float(np.median([numbers[name] for numbers in voiced])) for name in names]
    real = systems[0]
    for system in systems:
        for item in plan.items:
            row = system.rows.get(item.id)
            if row is None or item.kind in (QUESTION, STATEMENT):
                continue
            if item.speaker in own:
                f0, spread, pace = own[item.speaker]
                row["pace"] = row["letters_per_s"] / pace
                if row["f0_hz"]:
                    row["f0_off"] = abs(12 * np.log2(row["f0_hz"] / f0))
                    row["f0_spread_off"] = row["f0_spread"] - spread
            if item.id in real.rows and system is not real:
                seconds = real.rows[item.id]["speech_seconds"], row["speech_seconds"]
                row["pace_off"] = 100 * abs(np.log(seconds[0] / seconds[1])) if min(seconds) > 0 else None
                row["aligned_db"] = aligned_distance(real.audio[item.id], system.audio[item.id])


def _judge_notes(columns: list[Column], panel: Panel) -> dict[str, str]:
    """How independent the judge of likeness is of what conditioned the chain: said in the report, whatever it is."""
    first = panel.likeness[0]
    if isinstance(first, Missing):
        return {}
    fingerprint, notes = first.judge.fingerprint, []
    for column in columns:
        path = find_stage(column.path, "encoder")
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


def _spoken(tokens: list[str]) -> np.ndarray:
    """Which symbols take time (N,) bool: letters or phones, not pauses, boundaries and ends."""
    return np.array([token != "SIL" and any(c.isalpha() for c in token) for token in tokens], dtype=bool)
