"""Measures the quality and the speed of a chain: tables, plots and players in one page."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.files import require_folder, user_path
from utils.scripts import add_device, exit_code, positive

SUBCOMMANDS = {  # modules of evaluation.commands
    "encoder": "speaker verification: EER and minDCF on frozen trials",
    "vocoder": "resynthesis of real mels, compared with the recordings",
    "chain": "intelligibility, similarity, naturalness and speech rate of clones",
    "diarization": "diarization error rates, with references and without",
    "emotion": "whether a requested emotion is recognized",
    "watermark": "look for the watermark in FILE; without a file, measure its detection",
    "speed": "seconds of every stage, by threads and length",
    "ablations": "train variants of a preset and compare their validation",
}

CHOICES = ("models", "corpus", "quick", "limit")
LACKING = {"ablations": CHOICES, "speed": ("corpus", "limit")}  # flags that a subcommand has no use for


def build_parser(chosen: str = "") -> argparse.ArgumentParser:
    """All subcommands; only the module of the chosen one is imported, for its own options."""
    parser = argparse.ArgumentParser(description=__doc__)
    subparsers = parser.add_subparsers(dest="subcommand", required=True)
    for name, summary in SUBCOMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary)
        sub.add_argument("--report", type=user_path, default=Path("out/report"), metavar="DIR")
        add_device(sub, default="cpu")
        _add_choices(sub, [choice for choice in CHOICES if choice not in LACKING.get(name, ())])
        if name == chosen:
            importlib.import_module(f"evaluation.commands.{name}").add_arguments(sub)
    return parser


def _folder(name: str) -> Path:
    from utils.weights.find import models_folder

    return models_folder(name)


def _add_choices(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """The flags `names` of what to measure, and how much of it; the others have their defaults."""
    parser.set_defaults(models=[], corpus=None, quick=False, limit=None)
    flags: dict[str, dict[str, Any]] = {
        "models": {"type": _folder, "nargs": "+", "metavar": "DIR", "help": "a column a folder, by path or name"},
        "corpus": {"type": user_path, "metavar": "DIR", "help": "folder of corpora (default: the bundled clips)"},
        "quick": {"action": "store_true", "help": "a few minutes, wider intervals"},
        "limit": {"type": positive, "metavar": "N", "help": "at most about N items of each kind"},
    }
    for name in names:
        parser.add_argument(f"--{name}", **flags[name])


def run(argv: Sequence[str] | None) -> int:
    """Measure, and write the report. Raises CloningError for what the user can correct."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = build_parser(argv[0] if argv else "").parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for name in ("report", "cache"):
        if folder := getattr(args, name, None):
            require_folder(folder, f"--{name}")
    from utils.device import pick_device  # loads torch, which --help does without

    args.device = pick_device(args.device)
    report = importlib.import_module(f"evaluation.commands.{args.subcommand}").run(args)
    if report is None:  # a dry run
        return 0
    data, page = report.write(args.report)
    for table in report.tables:
        print(f"\n{table.title}\n{table.markdown()}")
    for name, reason in report.missing:
        print(f"missing: {name}: {reason}")
    print(f"\n{page}\n{data}")
    return report.exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Run this script; returns its exit code."""
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
