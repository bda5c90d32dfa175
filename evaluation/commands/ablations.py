"""`evaluate.py ablations FILE --data DIR`: train variants of a preset alike, and compare their validation.

A FILE in configs/ablations/ asks a question and names a stage, a preset and the settings of each variant. The stage's
own script trains one variant after the other; one that is trained already with these settings is not trained again.
The table, a row a variant with its settings, also goes to REPORT/NAME.md, ready for a model card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import encoder.config
import synthesizer.config
import vocoder.config
from evaluation.report import Cell, Report, Table
from utils.config import from_dict, load_config, read_toml, to_dict
from utils.errors import CloningError
from utils.files import user_path, write_text

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
    parser.add_argument("--steps", type=int, metavar="N", help="of each variant (default: the file's)")
    parser.add_argument("--dry-run", action="store_true", help="print the command of each variant, and train nothing")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")


def run(args: argparse.Namespace) -> Report:
    """Train every variant; a row each: settings, step, hours, and the validation with the best score.

    Variants whose training failed are listed as missing. Raises CloningError: no such file.
    """
    if not args.file.is_file():
        raise CloningError(f"{args.file}: no such file; configs/ablations/ has examples")
    ablation = from_dict(Ablation, read_toml(args.file), str(args.file))
    steps = args.steps or ablation.steps
    facts = {"stage": ablation.stage, "preset": ablation.config, "data": args.data.name, "steps": steps}
    report = Report("ablations", facts)
    parent = args.report / "ablations" / args.file.stem
    folders = {name: parent / f"{folder_name(name)}-{digest(ablation, name, args)}" for name in ablation.variants}
    if args.dry_run:
        for name, folder in folders.items():
            print(f"{name}: {shlex.join(command(ablation, name, folder, args))}")
        return report
    rows: dict[str, dict[str, float]] = {}
    for name, folder in folders.items():
        try:
            train(ablation, name, folder, args)
            rows[name] = best_validation(folder)
        except CloningError as error:
            report.missing.append((name, str(error)))
    table = table_of(ablation, rows, args.file.stem, steps)
    report.parts.append(table)
    write_text(args.report / f"{args.file.stem}.md", f"{table.note}\n\n{table.markdown()}\n")
    return report


def table_of(ablation: Ablation, rows: dict[str, dict[str, float]], title: str, steps: int) -> Table:
    """A row for each variant that was trained: what it sets, and the numbers of its best validation."""
    headings = dict.fromkeys(heading for row in rows.values() for heading in row)
    columns = {"settings": 0, **dict.fromkeys(headings, DIGITS), "step": 0}
    table = Table(
        title, columns, note=f"{ablation.question} Validations with the best (lowest) score within {steps} steps."
    )
    for name, row in rows.items():
        settings = Cell.of(" ".join(ablation.variants[name]) or f"{ablation.config}.toml")
        table.add(name, {"settings": settings, **{heading: Cell.of(value) for heading, value in row.items()}})
    return table


def command(ablation: Ablation, name: str, folder: Path, args: argparse.Namespace) -> list[str]:
    """What trains one variant into `folder`, or on from where it stopped."""
    words = [sys.executable, str(ROOT / f"{ablation.stage}_train.py"), str(args.data), "--out", str(folder)]
    words += ["--config", ablation.config, "--steps", str(args.steps or ablation.steps), "--device", args.device]
    words += [word for assignment in ablation.variants[name] for word in ("--set", assignment)]
    words += ["--threads", str(args.threads)] if args.threads else []
    words += ["--from", str(ROOT / ablation.start_from)] if ablation.start_from else []
    return words


def train(ablation: Ablation, name: str, folder: Path, args: argparse.Namespace) -> None:
    """Train one variant. Raises CloningError with the last lines of a failed training."""
    print(f"{name}: {folder}", flush=True)
    done = subprocess.run(command(ablation, name, folder, args), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise CloningError(" ".join(done.stderr.strip().splitlines()[-LOG_LINES:]))


def best_validation(folder: Path) -> dict[str, float]:
    """The numbers of the validation with the lowest score, the step first. CloningError where there is none."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    found = [row for row in map(json.loads, lines) if row["group"] == "validation"]
    if not found:
        raise CloningError(f"{folder}: no validation within the steps: give more --steps")
    best = min(found, key=lambda row: row["score"])
    return {name: float(value) for name, value in best.items() if name != "group"}


def digest(ablation: Ablation, name: str, args: argparse.Namespace) -> str:
    """Eight digits of what a variant's numbers depend on: one whose settings changed is trained anew."""
    try:
        settings = to_dict(load_config(RUNS[ablation.stage], ablation.stage, ablation.config, ablation.variants[name]))
    except CloningError:  # which the training will say
        settings = {"config": ablation.config, "variant": ablation.variants[name]}
    read = [args.data / "manifest.jsonl", *([ROOT / ablation.start_from] if ablation.start_from else [])]
    files = [hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else str(path) for path in read]
    whole = [settings, args.steps or ablation.steps, files]
    return hashlib.sha256(json.dumps(whole, default=str).encode()).hexdigest()[:8]


def folder_name(variant: str) -> str:
    """Letters, digits and dashes of a variant's name."""
    return re.sub(r"[^a-z0-9]+", "-", variant.lower()).strip("-")
