"""The mean of weights that were trained from the same ones: `python -m utils.weights.average OUT A B --shares 0.5 0.5`.

Fine-tuned weights and those that they began as often do better together than either, most of all where what was learned
is not quite what is wanted (Wortsman et al. 2022, arXiv 2109.01903 and 2203.05482).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from utils.config import SettingsParser
from utils.errors import CloningError
from utils.files import user_path
from utils.scripts import exit_code
from utils.weights.checkpoint import load_weights, save_weights


def average(target: Path, sources: Sequence[Path], shares: Sequence[float] | None = None) -> str:
    """Write the weighted mean of checkpoints of one network, with the header of the first; returns its fingerprint.

    shares: of each, divided by their sum; equal ones if None. Whole numbers among the tensors are those of the first.
    Raises CloningError: other than one share a file, none above 0, a published checkpoint, networks that differ.
    """
    shares = [1.0] * len(sources) if shares is None else shares
    if len(shares) != len(sources) or not 0 < sum(shares) < math.inf or min(shares) < 0:
        raise CloningError(f"{len(shares)} shares for {len(sources)} files: give each file one, 0 or more, not all 0")
    found = [load_weights(source) for source in sources]
    first = found[0]
    shapes = [{name: value.shape for name, value in other.state.items()} for other in found]
    for path, other, theirs in zip(sources, found, shapes, strict=True):
        if other.published or other.kind != first.kind or theirs != shapes[0]:
            raise CloningError(f"{path} is of another network than {sources[0]}, or published: give runs of one preset")
    parts = [share / sum(shares) for share in shares]

    def mean(name: str) -> Tensor:
        return sum((part * other.state[name] for part, other in zip(parts, found, strict=True)), torch.zeros(()))

    state = {name: mean(name) if value.is_floating_point() else value for name, value in first.state.items()}
    averaged = [{"fingerprint": other.fingerprint, "share": part} for part, other in zip(parts, found, strict=True)]
    return save_weights(target, replace(first, extra={**first.extra, "average_of": averaged}), state)


def main(argv: Sequence[str] | None = None) -> int:
    """Run this script; returns its exit code."""
    parser = SettingsParser(prog="python -m utils.weights.average", description=__doc__)
    parser.add_argument("target", type=user_path, help="where the mean goes: export it then")
    parser.add_argument("sources", type=user_path, nargs="+", help="last.safetensors of runs, and what they began with")
    parser.add_argument("--shares", type=float, nargs="+", metavar="PART", help="of each file (default: equal)")
    args = parser.parse_args(argv)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    print(f"{args.target}: fingerprint {average(args.target, args.sources, args.shares)}")


if __name__ == "__main__":
    sys.exit(main())
