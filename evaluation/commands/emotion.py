"""`evaluate.py emotion`: does an asked emotion show? Pitch, energy and rate beside real acted speech; a classifier."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cloning.cloner import VoiceCloner
from evaluation.cache import AudioCache, Cache
from evaluation.judges.expression import SHOWN, ActedUtterance, Classifier, describe, higher_and_louder, relative
from evaluation.lists.sentences import Item, load_plan
from evaluation.measure import Panel, digest
from evaluation.metrics.scores import bootstrap
from evaluation.models import chain_digest, facts_of, folder_columns
from evaluation.report import Cell, Players, Report, Table
from utils.audio.io import Waveform, read
from utils.data.corpora import ACTED, EMOTIONS, Clip, scan
from utils.data.selection import SET_ASIDE, read_set_aside, splitter
from utils.errors import CloningError
from utils.files import user_path
from utils.weights.find import DEFAULT_MODELS, EMOTIONAL_MODELS, checkpoints, emotions_of

SEED = 0
ACTED_TEXTS = ("Kids are talking by the door.", "Dogs are sitting by the door.")  # of RAVDESS
OTHER_TEXTS = (
    "The train to the coast leaves at seven.",
    "She put the letter back into the drawer.",
    "There is somebody waiting for you downstairs.",
    "They told us about it this morning.",
    "My brother left his keys on the table.",
    "Nobody knows what happened to the old house.",
    "I think that we should go home now.",
    "The doctor wants to see you again.",
)
QUICK = (3, 4)  # voices, sentences
BARS = {"accuracy": 2.0, "order": 0.9, "aligned": 0.9, "similarity": 0.1}  # times chance; shares; at most


@dataclass
class EmotionSystem:
    """A synthesizer with emotions and what it said: takes, and by (voice, sentence, emotion) the rest."""

    name: str
    cloner: VoiceCloner
    takes: list[ActedUtterance] = field(default_factory=list)
    audio: dict[tuple[str, str, str], Waveform] = field(default_factory=dict)
    similarity: dict[str, list[float]] = field(default_factory=dict)  # by emotion
    good: list[float] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `evaluate.py emotion`."""
    parser.add_argument(
        "--synthesizer", nargs="+", default=[], metavar="NAME",
        help="names in saved_models/emotional, or files (default: all with emotions in the folder, else all there)",
    )  # fmt: skip
    parser.add_argument(
        "--judge", type=user_path, metavar="PATH", help="encoder that judges likeness (default: published)"
    )
    parser.add_argument("--vocoder", metavar="PATH", help="instead of the folder's own; or griffin-lim")


def run(args: argparse.Namespace) -> Report:
    """Speak the same sentences with every emotion, in voices without acted training data, and compare with actors."""
    folder = args.models[0] if args.models else DEFAULT_MODELS
    own = with_emotions(folder)
    names = args.synthesizer or own or sorted(path.stem for path in EMOTIONAL_MODELS.glob("*.safetensors"))
    if not names:
        raise CloningError(f"no synthesizer with emotions in {EMOTIONAL_MODELS}: give --synthesizer FILE")
    report = Report("emotion", facts_of(args, folder_columns([folder])))
    cache = Cache(args.report / "cache" / "emotion.jsonl")
    panel = Panel.load(cache, judge=args.judge, recognizer="none", spoken=[])
    panel.judges = []
    plan = load_plan(args.corpus)
    panel.enrol(plan)
    report.facts |= panel.about
    voices, texts = chosen(plan.items, args.quick, args.limit)
    report.facts |= {"voices": ", ".join(voices), "sentences": len(texts)}

    real = real_takes(args.corpus, cache, report)
    classifier = Classifier(EMOTIONS).learn(real["train"]) if real else None
    vocoder = {"vocoder": args.vocoder} if args.vocoder else {}
    systems = []
    for name in names:
        cloner = VoiceCloner.load(folder, synthesizer=name, device=args.device, **vocoder)
        if not set(EMOTIONS) <= set(cloner.synthesizer.emotions):
            raise CloningError(
                f"{name}: has {', '.join(cloner.synthesizer.emotions) or 'no emotions'}; all six are needed"
            )
        systems.append(EmotionSystem(Path(name).stem, cloner))
    plain_chain = VoiceCloner.load(DEFAULT_MODELS if own else folder, device=args.device, **({} if own else vocoder))
    plain = EmotionSystem("without emotions", plain_chain)
    for system in [*systems, plain]:
        say(system, voices, texts, panel, args.report, cache, EMOTIONS if system is not plain else (None,))
    tables(report, systems, plain, real, classifier)
    report.parts.append(players(systems, list(voices), texts))
    return report


def with_emotions(folder: Path) -> list[str]:
    """Paths of the synthesizers in a folder that know emotions."""
    return [str(path) for path in checkpoints("synthesizer", [folder]) if emotions_of(path)]


def chosen(items: list[Item], quick: bool, limit: int | None) -> tuple[dict[str, Path], list[str]]:
    """Voices with a reference each, and sentences; `limit`: so many sayings of each emotion, two at least."""
    voices = {item.speaker: item.reference for item in items}
    texts = [*ACTED_TEXTS, *OTHER_TEXTS]
    n_voices, n_texts = QUICK if quick else (len(voices), len(texts))
    if limit:
        n_texts = min(n_texts, max(2, limit // 4))
        n_voices = min(n_voices, max(1, limit // n_texts))
    return dict(list(voices.items())[:n_voices]), texts[:n_texts]


def real_takes(corpus: Path | None, cache: Cache, report: Report) -> dict[str, list[ActedUtterance]]:
    """Acted speech below `corpus` with numbers relative to each actor and sentence: "train" and "test" actors."""
    clips = [c for c in scan(corpus, follow_links=True).clips if c.corpus in ACTED and c.emotion] if corpus else []
    if not clips:
        report.missing.append(("classifier", "no acted corpus (RAVDESS, CREMA-D, ESD, ...) below --corpus"))
        return {}
    splits = splitter({clip.speaker for clip in clips}, 0.0, 0, read_set_aside(SET_ASIDE))
    takes: dict[str, list[ActedUtterance]] = {"train": [], "test": []}
    for clip in tqdm(clips, desc="actors", disable=None):
        numbers = cache.get(f"describe/{clip.id}") or cache.put(f"describe/{clip.id}", describe(read(clip.path)))
        takes["test" if splits[clip.speaker] == "test" else "train"].append(_take(clip, numbers))
    if not takes["test"]:
        raise CloningError(f"{corpus}: none of its actors is set aside ({SET_ASIDE.name}): there is no upper bound")
    return {part: relative(found, EMOTIONS) for part, found in takes.items()} | {"raw": takes["train"] + takes["test"]}


def _take(clip: Clip, numbers: dict[str, float]) -> ActedUtterance:
    return ActedUtterance(clip.speaker, clip.text or "", clip.emotion or "", numbers)


def say(
    system: EmotionSystem,
    voices: dict[str, Path],
    texts: Sequence[str],
    panel: Panel,
    folder: Path,
    cache: Cache,
    emotions: Sequence[str | None],
) -> None:
    """Every sentence with every emotion in every voice; kept, so that an interrupted run continues."""
    weights = chain_digest(system.cloner)
    sounds = AudioCache(folder / "cache" / f"emotion-{weights}")
    wanted = [(voice, text, emotion) for voice in voices for text in texts for emotion in emotions]
    for voice, text, emotion in tqdm(wanted, desc=system.name, disable=None):
        name = f"{voice}-{hashlib.sha256(text.encode()).hexdigest()[:8]}-{emotion}"
        audio, good = sounds.get(name), cache.get(f"good/{weights}/{name}")
        if audio is None or good is None:
            cloning = system.cloner.clone(voices[voice], text, seed=SEED, emotion=emotion)
            audio = sounds.put(name, cloning.audio)
            good = cache.put(f"good/{weights}/{name}", float(all(piece.good for piece in cloning.pieces)))
        key = f"describe/{digest(audio)}"
        numbers = cache.get(key) or cache.put(key, describe(audio))
        label = emotion or "plain"
        system.good.append(good)
        system.takes.append(ActedUtterance(voice, text, label, numbers))
        system.audio[voice, text, label] = audio
        for likeness in panel.present[:1]:
            numbers = likeness.compare(audio, voice)
            if "similarity" in numbers:
                system.similarity.setdefault(label, []).append(numbers["similarity"])


def tables(
    report: Report,
    systems: list[EmotionSystem],
    plain: EmotionSystem,
    real: dict[str, list[ActedUtterance]],
    classifier: Classifier | None,
) -> None:
    """Numbers by emotion, the classifier's verdict, likeness and alignment, and whether the bars are met."""
    shown = Table(
        "What an emotion changes, against neutral",
        dict(SHOWN.values()),
        note="Mean over voices and sentences of the difference to the same voice's neutral saying of the sentence.",
    )
    sources = [("actors", real["raw"])] if real else []
    for name, takes in [*sources, *((s.name, s.takes) for s in systems)]:
        against = relative(takes, EMOTIONS, "neutral")
        for emotion in EMOTIONS[1:]:
            rows = [take.numbers for take in against if take.emotion == emotion]
            cells = {heading: Cell.of(bootstrap([row[key] for row in rows])) for key, (heading, _) in SHOWN.items()}
            shown.add(f"{name}: {emotion}", cells)
    report.parts.append(shown)
    confusions = {}
    if classifier is not None:
        verdict = Table(
            "The classifier's verdict, %",
            {"n": 0, "all": 1, **dict.fromkeys(EMOTIONS, 0)},
            note=f"Learned from {len(real['train'])} clips of actors; its upper bound is real speech of other actors. "
            f"Chance is {100 / len(EMOTIONS):.1f}.",
        )
        judged = [("real, actors set aside", real["test"])] + [(s.name, relative(s.takes, EMOTIONS)) for s in systems]
        for name, takes in judged:
            counts = confusions[name] = classifier.confusion(takes)
            right = np.repeat([1.0, 0.0], [counts.trace(), counts.sum() - counts.trace()])
            cells = {"n": Cell(float(counts.sum())), "all": Cell.of(_percent(bootstrap(right)))}
            recalls = counts.diagonal() / counts.sum(axis=1).clip(1)
            verdict.add(name, cells | {e: Cell(100 * float(r)) for e, r in zip(EMOTIONS, recalls, strict=True)})
        report.parts += [verdict, ("Requested (rows) and recognized (columns)", confusion_figure(confusions))]
        report.details["confusion"] = {name: counts.tolist() for name, counts in confusions.items()}
    report.parts.append(bars(systems, plain, confusions))
    report.parts.append(likeness(systems, plain))
    report.details["takes"] = {s.name: [vars(take) for take in s.takes] for s in systems}


def bars(systems: list[EmotionSystem], plain: EmotionSystem, confusions: dict[str, np.ndarray]) -> Table:
    """Each system against the bars of success."""
    chance = 1 / len(EMOTIONS)
    headings = {
        "accuracy / chance": 1, "angry above sad, % of sentences": 0, "aligned %": 1, "similarity lost": 3, "met": 0
    }  # fmt: skip
    table = Table(
        "Bars",
        headings,
        note=f"At least {BARS['accuracy']:g} times chance; angry louder and higher than sad in at least "
        f"{100 * BARS['order']:.0f}% of sentences (means over voices); alignment complete in more than "
        f"{100 * BARS['aligned']:.0f}% of sayings; similarity to the speaker at most {BARS['similarity']:g} below that "
        "of the chain without emotions.",
    )
    for system in systems:
        counts = confusions.get(system.name)
        times = None if counts is None else float(counts.trace() / counts.sum() / chance)
        order = float(np.mean(list(higher_and_louder(system.takes).values())))
        aligned = float(np.mean(system.good))
        lost = None
        if system.similarity and plain.similarity:
            own = np.mean([value for values in system.similarity.values() for value in values])
            lost = float(np.mean(plain.similarity["plain"]) - own)
        met = [
            None if times is None else times >= BARS["accuracy"],
            order >= BARS["order"],
            aligned > BARS["aligned"],
            None if lost is None else lost <= BARS["similarity"],
        ]
        cells = [
            Cell.of(times, "no classifier"),
            Cell(100 * order),
            Cell(100 * aligned),
            Cell.of(lost, "no judge of likeness"),
            Cell(f"{sum(m is True for m in met)} of {sum(m is not None for m in met)}"),
        ]
        table.add(system.name, dict(zip(headings, cells, strict=True)))
    return table


def likeness(systems: list[EmotionSystem], plain: EmotionSystem) -> Table:
    """Similarity to the speaker, by emotion."""
    table = Table("Similarity to the speaker", {"plain": 3, **dict.fromkeys(EMOTIONS, 3)})
    for system in [plain, *systems]:
        cells = {label: Cell.of(bootstrap(values)) for label, values in system.similarity.items()}
        table.add(system.name, cells)
    return table


def confusion_figure(confusions: dict[str, np.ndarray]) -> Any:
    """A confusion matrix for each system: emotions asked for (rows) and recognized (columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(confusions), 4.2), layout="constrained")
    for axis, (name, counts) in zip(
        figure.subplots(1, len(confusions), squeeze=False)[0], confusions.items(), strict=True
    ):
        shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
        axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        for row in range(len(counts)):
            for column in range(len(counts)):
                color = "white" if shares[row, column] > 0.5 else "black"
                axis.text(column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", color=color)
        axis.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=45)
        axis.set_yticks(range(len(EMOTIONS)), EMOTIONS)
        axis.set_title(name)
    return figure


def players(systems: list[EmotionSystem], voices: list[str], texts: list[str]) -> Players:
    """Three sentences of three voices with every emotion."""
    found = Players("Listen", list(EMOTIONS))
    for system in systems:
        for voice in voices[:3]:
            for text in texts[1:4]:
                sounds = {e: system.audio[voice, text, e] for e in EMOTIONS if (voice, text, e) in system.audio}
                found.rows.append((f"{system.name}, {voice}: {text}", sounds))
    return found


def _percent(interval: Any) -> Any:
    return type(interval)(*(100 * value for value in interval))
