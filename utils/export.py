"""Make a checkpoint of a training run small enough to share: `python -m utils.export RUN/best.safetensors OUT`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.checkpoint import load_weights, save_weights
from utils.errors import CloningError, exit_code


def export(source: Path, target: Path) -> str:
    """Copy one of our checkpoints with its floating point stored as float16; returns its fingerprint."""
    found = load_weights(source)
    if found.published:
        raise CloningError(f"{source}: a published checkpoint; only ours are exported")
    return save_weights(
        target,
        kind=found.kind,
        state=found.state,
        config=found.config,
        mel=found.mel,
        step=found.step,
        metrics=found.metrics,
        extra=found.extra,
        half=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m utils.export", description=__doc__)
    parser.add_argument("source", type=Path, help="best.safetensors or last.safetensors of a run")
    parser.add_argument("target", type=Path, help="such as saved_models/mine/synthesizer.safetensors")
    args = parser.parse_args(argv)
    return exit_code(lambda: print(f"{args.target}: fingerprint {export(args.source, args.target)}"))


if __name__ == "__main__":
    sys.exit(main())
