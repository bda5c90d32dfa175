"""`evaluate.py speed`: seconds of every stage, by threads and length, cold and warm; memory; samples per second.

Every number of threads runs in a process of its own, so that cold is cold and nothing remembers other settings.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from evaluation.models import facts_of, folder_columns
from evaluation.report import Cell, Report, Table
from utils.errors import CloningError
from utils.scripts import positive, positive_number, thread_count
from utils.weights.find import find_stage

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {"median s": 4, "lowest": 4, "highest": 4, "per audio second": 4, "samples/s": 0, "runs": 0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `evaluate.py speed`."""
    parser.add_argument("--threads", type=thread_count, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument(
        "--repeats", type=positive, default=5, help="warm runs of each stage (the first is thrown away)"
    )
    parser.add_argument("--seconds", type=positive_number, nargs="+", default=[1.0, 3.0, 10.0], help="lengths of audio")
    parser.add_argument("--vocoder", metavar="PATH", help="instead of each folder's own; or griffin-lim")


def run(args: argparse.Namespace) -> Report:
    """One process for each folder and number of threads; a table each."""
    columns = folder_columns(args.models)
    facts = facts_of(args, columns)
    report = Report("speed", {name: fact for name, fact in facts.items() if name not in ("corpus", "limit", "threads")})
    lengths, repeats = (args.seconds[:2], 2) if args.quick else (args.seconds, args.repeats)
    for column in columns:
        if find_stage(column.path, "synthesizer") is None and find_stage(column.path, "encoder") is None:
            report.missing.append((column.name, f"no models in {column.path}"))
            continue
        for threads in tqdm(args.threads, desc=column.name, disable=None):
            job = {
                "models": str(column.path.resolve()),
                "vocoder": args.vocoder,
                "threads": threads,
                "repeats": repeats,
                "seconds": lengths,
                "device": args.device,
            }
            result = measure(job)
            unit = "thread" if threads == 1 else "threads"
            table = Table(f"{column.name}, {threads} {unit}", COLUMNS, note=_note(result))
            for name, row in result["stages"].items():
                table.add(name, _cells(row))
            report.parts.append(table)
            report.details[f"{column.name}/{threads}"] = result
    if not report.tables:
        raise CloningError(f"{report.facts['columns']}: no models to time here; give --models DIR")
    return report


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Run `evaluation.commands.speed_worker` in a process of its own and read the JSON that it ends with."""
    command = [sys.executable, "-m", "evaluation.commands.speed_worker", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CloningError(f"timing {job['models']} with {job['threads']} threads failed: {reason}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _cells(row: dict[str, Any]) -> dict[str, Cell]:
    seconds = np.array(row["seconds"])
    median = float(np.median(seconds))
    cells = {
        "median s": Cell(median),
        "lowest": Cell(float(seconds.min())),
        "highest": Cell(float(seconds.max())),
        "runs": Cell(float(len(seconds))),
    }
    audio_seconds, samples = row.get("audio_seconds"), row.get("samples")
    cells["per audio second"] = Cell(median / audio_seconds) if audio_seconds else Cell(None, reason="no audio in it")
    cells["samples/s"] = Cell(samples / max(median, 1e-9)) if samples else Cell(None, reason="makes no samples")
    return cells


def _note(result: dict[str, Any]) -> str:
    missing = "".join(f"; {name}: {reason}" for name, reason in result["missing"].items())
    return f"memory at its peak {result['peak_mib']:.0f} MiB{missing}"
