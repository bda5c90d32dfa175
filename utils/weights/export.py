"""Make a checkpoint of a run small enough to share: `python -m utils.weights.export RUN/best.safetensors OUT`."""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from utils.config import SettingsParser, assign
from utils.errors import CloningError
from utils.files import user_path
from utils.scripts import exit_code
from utils.weights.checkpoint import load_weights, save_weights


def export(
    source: Path, target: Path, settings: Sequence[str] = (), base: Path | None = None, *, int8: bool = False
) -> str:
    """Copy one of our checkpoints with its floating point stored as float16; returns its fingerprint.

    `int8` stores matrices in 8 bits, which halves the file and moves every weight a little: measure what it does.
    `settings` (`a.b=value`) change what its config says of inference, such as sampling.temperature=0.5. With `base`,
    only what differs from that checkpoint is stored: it must stay where it is. Tensors that only training needs
    (`training_only` of its header) are left out.
    """
    found = load_weights(source)
    if found.published:
        raise CloningError(f"{source}: a published checkpoint; only ours are exported")
    config = copy.deepcopy(found.config)
    for setting in settings:
        _require_known(config, setting)
        assign(config, setting)
    training_only = found.extra.get("training_only", ())
    return save_weights(
        target,
        replace(found, config=config),
        {name: value for name, value in found.state.items() if name not in training_only},
        dtype="int8" if int8 else "float16",
        base=None if base is None else load_weights(base, found.kind),
    )


def _require_known(config: Mapping[str, Any], setting: str) -> None:
    """Raises CloningError for a setting that the checkpoint's config has not: an older one may have another name."""
    name, group = setting.partition("=")[0].strip(), config
    for part in name.split("."):
        if not isinstance(group, Mapping) or part not in group:
            raise CloningError(f"the checkpoint's config has no setting {name}: give one that is in it")
        group = group[part]


def main(argv: Sequence[str] | None = None) -> int:
    """Run this script; returns its exit code."""
    parser = SettingsParser(prog="python -m utils.weights.export", description=__doc__)
    parser.add_argument("source", type=user_path, help="best.safetensors or last.safetensors of a run")
    parser.add_argument("target", type=user_path, help="such as saved_models/mine/synthesizer.safetensors")
    parser.add_settings("change settings of inference that the checkpoint carries, such as sampling.temperature=0.5")
    parser.add_argument("--base", type=user_path, metavar="FILE", help="store only what differs from this checkpoint")
    parser.add_argument(
        "--int8", action="store_true",
        help="store matrices in 8 bits, a scale for each row: half the size, but a little off (measure it)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    print(f"{args.target}: fingerprint {export(args.source, args.target, args.settings, args.base, int8=args.int8)}")


if __name__ == "__main__":
    sys.exit(main())
