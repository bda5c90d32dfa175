"""`evaluate.py ablations FILE --data DIR`: train variants of a preset alike, and compare their validation.

A FILE in configs/ablations/ asks a question and names a stage, a preset and the settings of each variant. The stage's
own script trains one variant after the other; one that is trained already with these settings is not trained again.
The table, a row a variant with its settings, also goes to REPORT/NAME.md, ready for a model card. With --seeds, each
variant is trained several times, and the table has means with the lowest and the highest value.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import encoder.config
import synthesizer.config
import vocoder.config
from evaluation.report import Cell, Report, Table
from utils.config import from_dict, load_config, read_toml, to_dict
from utils.errors import CloningError
from utils.files import user_path, write_text
from utils.scripts import add_threads, positive
from utils.weights.find import DEFAULT_MODELS, find_chosen

ROOT = Path(__file__).resolve().parents[2]
DIGITS = 4
LOG_LINES = 3  # of a failed training, in the report
RUNS = {
    "encoder": encoder.config.RunConfig,
    "synthesizer": synthesizer.config.RunConfig,
    "vocoder": vocoder.config.RunConfig,
}


@dataclass(frozen=True)
class Ablation:
    """What a file of configs/ablations/ says; `variants`: a name -> assignments as for `--set`."""

    question: str  # that the table answers
    stage: Literal["encoder", "synthesizer", "vocoder"]
    config: str
    steps: int
    variants: dict[str, list[str]] = field(default_factory=dict)
    start_from: str = ""  # weights that every variant begins with, relative to the repository

    def __post_init__(self) -> None:
        if len(self.variants) < 2:
            raise ValueError(f"{len(self.variants)} variants: give two or more to compare")
        names = [folder_name(name) for name in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"variants {', '.join(self.variants)} share a folder: names differ by letters or digits")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `evaluate.py ablations`."""
    parser.add_argument("file", type=user_path, metavar="FILE", help="such as configs/ablations/parallel.toml")
    parser.add_argument("--data", type=user_path, required=True, metavar="DIR", help="what the preprocess script wrote")
    parser.add_argument("--steps", type=positive, metavar="N", help="of each variant (default: the file's)")
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="trainings of each variant (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="print the command of each variant, and train nothing")
    add_threads(parser)


def run(args: argparse.Namespace) -> Report | None:
    """Train every variant; a row each: settings, step, hours, and the validation with the best score.

    Variants whose training failed are listed as missing, and the exit code is 2. None after a dry run. Raises
    CloningError: no such file; no variant could be trained (an older table stays).
    """
    if not args.file.is_file():
        raise CloningError(f"{args.file}: no such file; configs/ablations/ has examples")
    ablation = from_dict(Ablation, read_toml(args.file), str(args.file))
    steps = args.steps or ablation.steps
    args.data, args.report = args.data.resolve(), args.report.resolve()  # the trainings run in another folder
    facts = {"stage": ablation.stage, "preset": ablation.config, "data": args.data.name, "steps": steps}
    facts |= {"seeds": args.seeds}
    report = Report(f"ablations_{args.file.stem}", facts)
    parent = args.report / "ablations" / args.file.stem
    rows: dict[str, list[dict[str, float]]] = {}
    for name, seed in itertools.product(ablation.variants, range(args.seeds)):
        settings = settings_of(ablation, name, seed)
        folder = parent / f"{folder_name(name)}-{digest(ablation, settings, args)}"
        words = command(ablation, settings, folder, args)
        shown = name if args.seeds == 1 else f"{name}, seed {seed}"
        if args.dry_run:
            print(f"{shown}: {shlex.join(words)}")
            continue
        try:
            print(f"{shown}: {folder}", flush=True)
            train(words)
            found = best_validation(folder)
            rows.setdefault(name, []).append(found)
        except CloningError as error:
            report.missing.append((shown, str(error)))
    if args.dry_run:
        return None
    if not rows:
        raise CloningError(f"no variant was trained: {': '.join(report.missing[0])}")
    report.exit_code = 2 if report.missing else 0
    table = table_of(ablation, rows, args.file.stem, steps, args.seeds)
    report.parts.append(table)
    write_text(args.report / f"{args.file.stem}.md", f"{table.note}\n\n{table.markdown()}\n")
    return report


def table_of(
    ablation: Ablation, rows: dict[str, list[dict[str, float]]], title: str, steps: int, seeds: int = 1
) -> Table:
    """A row for each variant that was trained: what it sets, and the numbers of its best validation with each seed."""
    headings = dict.fromkeys(heading for found in rows.values() for row in found for heading in row)
    columns = {"settings": 0, **dict.fromkeys(headings, DIGITS), "step": 0}
    note = f"{ablation.question} Validations with the best (lowest) score within {steps} steps."
    if seeds > 1:
        note += f" Means over {seeds} seeds [lowest, highest]."
    table = Table(title, columns, note=note)
    for name, found in rows.items():
        cells = {"settings": Cell.of(" ".join(ablation.variants[name]) or f"{ablation.config}.toml")}
        for heading in headings:
            values = [row[heading] for row in found if heading in row]
            ends = (min(values), max(values)) if len(values) > 1 else (None, None)
            cells[heading] = Cell(sum(values) / len(values), *ends) if values else Cell.of(None)
        table.add(name, cells)
    return table


def settings_of(ablation: Ablation, name: str, seed: int) -> list[str]:
    """Assignments of a variant; seed 0 is that of the preset."""
    return [*ablation.variants[name], *([f"training.seed={seed}"] if seed else [])]


def command(ablation: Ablation, settings: Sequence[str], folder: Path, args: argparse.Namespace) -> list[str]:
    """What trains one variant into `folder`, or on from where it stopped."""
    words = [sys.executable, str(ROOT / f"{ablation.stage}_train.py"), str(args.data), "--out", str(folder)]
    words += ["--config", ablation.config, "--steps", str(args.steps or ablation.steps), "--device", args.device]
    words += [word for assignment in settings for word in ("--set", assignment)]
    words += ["--threads", str(args.threads)] if args.threads else []
    words += ["--from", str(ROOT / ablation.start_from)] if ablation.start_from else []
    return words


def train(words: Sequence[str]) -> None:
    """Train one variant by its `command`. Raises CloningError with the last lines of a failed training."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise CloningError(" ".join(done.stderr.strip().splitlines()[-LOG_LINES:]))


def best_validation(folder: Path) -> dict[str, float]:
    """The numbers of the validation with the lowest score, the step first. CloningError where there is none."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    found = [row for row in map(json.loads, lines) if row["group"] == "validation" and "score" in row]
    if not found:
        raise CloningError(f"{folder}: no validation that counts within the steps: give more --steps")
    best = min(found, key=lambda row: row["score"])
    return {name: float(value) for name, value in best.items() if name != "group"}


def digest(ablation: Ablation, settings: Sequence[str], args: argparse.Namespace) -> str:
    """Eight digits of what a variant's numbers depend on: one whose settings changed is trained anew."""
    read = [args.data / "manifest.jsonl", *([ROOT / ablation.start_from] if ablation.start_from else [])]
    try:
        loaded: Any = load_config(RUNS[ablation.stage], ablation.stage, ablation.config, settings)
        config = to_dict(loaded)
        read += weights_read(loaded)
    except CloningError:  # which the training will say
        config = {"config": ablation.config, "variant": list(settings)}
    files = [hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else str(path) for path in read]
    whole = [config, args.steps or ablation.steps, files]
    return hashlib.sha256(json.dumps(whole, default=str).encode()).hexdigest()[:8]


def weights_read(config: Any) -> list[Path]:
    """The weights that a training with `config`, a stage's RunConfig, reads beside those that it begins with.

    Raises CloningError for a name that no weights have.
    """
    chosen: list[tuple[str, str]] = []
    if isinstance(config, vocoder.config.RunConfig) and config.model.wavernn.guide_taps:
        chosen = [("vocoder", config.data.guide)]
    if isinstance(config, synthesizer.config.RunConfig):
        chosen = [("synthesizer", config.flow_from)] if config.flow_from else []
        if config.scores_speech:
            chosen += [("encoder", config.loss.speaker_encoder), ("vocoder", config.loss.speaker_vocoder)]
    files = [(stage, ROOT / name if (ROOT / name).is_file() else name) for stage, name in chosen]
    return [find_chosen(DEFAULT_MODELS, stage, file or None) for stage, file in files]


def folder_name(variant: str) -> str:
    """Letters, digits and dashes of a variant's name."""
    return re.sub(r"[^a-z0-9]+", "-", variant.lower()).strip("-")
