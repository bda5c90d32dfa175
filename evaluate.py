"""Measures the quality and the speed of a chain: tables, plots and players in one page."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.files import user_path
from utils.scripts import add_device, exit_code

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

TRAINS = "ablations"  # the one that measures what it trains itself


def build_parser(chosen: str = "") -> argparse.ArgumentParser:
    """All subcommands; only the module of the chosen one is imported, for its own options."""
    parser = argparse.ArgumentParser(description=__doc__)
    subparsers = parser.add_subparsers(dest="subcommand", required=True)
    for name, summary in SUBCOMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary)
        sub.add_argument("--report", type=user_path, default=Path("out/report"), metavar="DIR")
        add_device(sub, default="cpu")
        if name != TRAINS:
            _add_choices(sub)
        if name == chosen:
            importlib.import_module(f"evaluation.commands.{name}").add_arguments(sub)
    return parser


def _add_choices(parser: argparse.ArgumentParser) -> None:
    """What to measure, and how much of it."""
    parser.add_argument("--models", type=user_path, nargs="+", default=[], metavar="DIR", help="one column a folder")
    about = "folder of corpora (default: the bundled clips)"
    parser.add_argument("--corpus", type=user_path, metavar="DIR", help=about)
    parser.add_argument("--quick", action="store_true", help="a few minutes, wider intervals")
    parser.add_argument("--limit", type=int, metavar="N", help="at most about N items of each kind")


def run(argv: Sequence[str] | None) -> int:
    """Measure, and write the report. Raises CloningError for what the user can correct."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = build_parser(argv[0] if argv else "").parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    from utils.device import pick_device  # loads torch, which --help does without

    args.device = pick_device(args.device)
    report = importlib.import_module(f"evaluation.commands.{args.subcommand}").run(args)
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
