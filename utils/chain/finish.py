"""What comes of a chain: its weights in one folder, what they measure, a card, and all of it in pieces to carry."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from utils.chain.plan import ROOT, Plan
from utils.data.manifest import read_manifest
from utils.environment import environment
from utils.files import atomic_path, write_text
from utils.weights.checkpoint import read_header
from utils.weights.export import export


def export_weights(plan: Plan, models: Path, encoder: Path | None) -> dict[str, Path]:
    """Every stage's weights, stored as float16 in `models`, by the names that `--models` looks for."""
    made = {}
    for stage, source in plan.weights.items():
        made[stage] = models / f"{stage}.safetensors"
        export(source if source.is_file() else source.with_name("last.safetensors"), made[stage])
    if encoder is not None and "encoder" not in made:
        made["encoder"] = models / f"encoder{encoder.suffix}"
        models.mkdir(parents=True, exist_ok=True)
        with atomic_path(made["encoder"]) as partial:
            shutil.copyfile(encoder, partial)
    return made


def evaluate(models: Path, corpus: Path, out: Path) -> str:
    """`evaluate.py chain` on speakers that were held out: its tables, or in one line why there are none."""
    command = [sys.executable, str(ROOT / "evaluate.py"), "chain", "--models", str(models), "--corpus", str(corpus)]
    command += ["--split", "validation", "--quick", "--report", str(out / "report")]
    log = out / "logs" / "evaluate.log"
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    write_text(log, done.stdout + done.stderr)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"Not measured: {reason.removeprefix('error: ')}"
    return done.stdout.strip()


def write_card(
    plan: Plan, made: Mapping[str, Path], out: Path, command: Sequence[str], device: str, measured: str
) -> Path:
    """`MODEL_CARD.md` beside the weights: data, presets, hours, scores, and the command that makes them again."""
    cuda = device != "cpu" and torch.cuda.is_available()
    ran = environment(torch.device("cuda" if cuda else "cpu"))
    packages = ", ".join(f"{name} {version}" for name, version in ran["packages"].items())
    lines = ["# Weights", "", "Made by", "", "```sh", " ".join(command), "```", ""]
    lines += [f"at commit {ran['commit'] or 'unknown'} with Python {ran['python']}, {packages}"]
    lines += [f"on {ran['machine']}, device {ran['device']}.", ""]
    lines += ["| stage | learned from | steps | hours | score | fingerprint |", "|---|---|---|---|---|---|"]
    for stage in plan.weights:
        header = read_header(made[stage])
        root = next(Path(step.arguments[1]) for step in plan.steps if step.name == f"{stage}: train")
        data = read_manifest(root).header
        learned = f"{data['hours']:.2f} h of {data['speakers']} speakers"
        hours, score = header["metrics"].get("training_hours", 0.0), header["metrics"].get("score")
        score = "" if score is None else f"{score:.4g}"
        lines.append(f"| {stage} | {learned} | {header['step']} | {hours:.3f} | {score} | {header['fingerprint']} |")
    lines += ["", "The whole configuration of each is in its file's header (`extra`, `run`).", "", "## Measured", ""]
    card = made[next(iter(plan.weights))].parent / "MODEL_CARD.md"
    write_text(card, "\n".join([*lines, measured, ""]))
    return card


def in_pieces(out: Path, folder: Path, piece_bytes: int) -> list[Path]:
    """Models, card, logs and curves of `out` as one tar, cut into files of at most `piece_bytes` in `folder`.

    Together again: `cat chain.tar.* | tar x`.
    """
    kept = [out / "plan.json", *sorted((out / "models").rglob("*")), *sorted((out / "logs").rglob("*"))]
    kept += [path for name in ("settings.json", "log.jsonl") for path in sorted((out / "runs").glob(f"*/{name}"))]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in kept:
            archive.add(path, path.relative_to(out).as_posix(), recursive=False)
    data, pieces = buffer.getvalue(), []
    for old in folder.glob("chain.tar.*"):
        old.unlink()
    for number in range(-(-len(data) // piece_bytes)):
        pieces.append(folder / f"chain.tar.{number:02d}")
        with atomic_path(pieces[-1]) as partial:
            partial.write_bytes(data[number * piece_bytes : (number + 1) * piece_bytes])
    return pieces
