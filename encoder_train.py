"""Train a speaker encoder on a folder that encoder_preprocess.py wrote."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from encoder.config import RunConfig
from encoder.model import NETWORKS
from encoder.names import KIND
from encoder.train import build_task
from utils.config import SettingsParser, load_config
from utils.data.manifest import read_manifest
from utils.scripts import exit_code
from utils.training import flags as training_flags

EPILOG = """
examples:
  python encoder_train.py data/encoder --out runs/encoder
  python encoder_train.py data/encoder --out runs/gpu --config gpu --from saved_models/default/encoder.safetensors
  python encoder_train.py data/encoder --out runs/lstm --config published --set data.speakers=16 --steps 50000

settings worth knowing (--set): data.speakers, data.utterances (a batch), data.min_seconds, data.max_seconds (crops),
loss.distill_weight, loss.speaker_share, loss.ge2e_weight, loss.aam_weight, loss.aam_margin, augment.noise and the like
(probabilities), augment.speeds and augment.formants (as preprocessed), model.transformer.width. A name that does not
exist is answered with those that do.

The folder then holds best.safetensors (lowest equal error rate on held-out speakers), last.safetensors, log.jsonl,
curves.png, figures/ and tensorboard/. The same command goes on where a run was stopped.
"""


def build_parser() -> SettingsParser:
    """The command line."""
    parser = SettingsParser(description=__doc__, epilog=EPILOG)
    training_flags.add_arguments(parser, KIND, default="small")
    parser.add_argument(
        "--model",
        choices=NETWORKS,
        help=argparse.SUPPRESS,  # the former way to set model.architecture
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """What the script does. Raises CloningError."""
    assignments = training_flags.settings_of(args)
    if args.model:
        assignments.insert(0, f'model.architecture="{args.model}"')
    config = load_config(RunConfig, KIND, args.config, assignments)
    task = build_task(read_manifest(args.data, KIND), config)
    if best := training_flags.train(task, config, args):
        training_flags.say(f"best weights: {best}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
