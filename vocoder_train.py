"""Train a vocoder: mel in, waveform out.

    python vocoder_train.py data/vocoder --out runs/first
    python vocoder_train.py data/vocoder --out runs/vocoder --config source_filter_adversarial \\
        --from runs/first/best.safetensors
    python vocoder_train.py data/vocoder --out runs/vocoder --config source_filter_gpu --minutes 8   # a GPU: in one go
    python vocoder_train.py data/vocoder --out runs/hifigan --config hifigan_guided --minutes 30
    python vocoder_train.py data/vocoder --out runs/hifigan_v2 --config hifigan_v2 --precision auto

An interrupted run goes on with the same command. `best.safetensors` (written once the discriminators take part, where a
preset has some) and `last.safetensors` are what `demo_cli.py --vocoder` takes.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from utils.config import SettingsParser, load_config
from utils.data.manifest import read_manifest
from utils.scripts import exit_code
from utils.training import flags as training_flags
from vocoder.config import RunConfig
from vocoder.train import build_task


def build_parser() -> SettingsParser:
    """The command line."""
    parser = SettingsParser(description=__doc__)
    training_flags.add_arguments(parser, "vocoder", default="source_filter")
    return parser


def run(args: argparse.Namespace) -> None:
    """What the script does. Raises CloningError."""
    settings = training_flags.settings_of(args)
    config = load_config(RunConfig, "vocoder", args.config, settings)
    manifest = read_manifest(args.data, "vocoder")
    task = build_task(manifest, config)
    size = sum(p.numel() for p in task.modules["generator"].parameters()) / 1e6
    training_flags.say(
        f"{config.model.architecture}, {size:.2f} M parameters; {manifest.header['hours']:.1f} h of "
        f"{manifest.header['speakers']} speakers, {len(task.crops)} stretches in the train split"
    )
    if best := training_flags.train(task, config, args):
        training_flags.say(f"best weights: {best}; as they were at the end: {best.with_name('last.safetensors')}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
