"""Train a synthesizer on a set that synthesizer_preprocess.py wrote."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

import utils  # noqa: F401  # isort: skip (before torch: how its threads wait)
import numpy as np
import torch

from synthesizer.config import RunConfig
from synthesizer.train import build_task
from utils.audio.mel import MelConfig
from utils.config import SettingsParser, from_dict, load_config
from utils.scripts import exit_code
from utils.training import flags as training_flags
from vocoder.models.griffin_lim import GriffinLimConfig, mel_to_waveform

EPILOG = """
The same command goes on where an interrupted run stopped. Fine-tuning on one person: preprocess a folder of wav and txt
files, then --from the weights to start with.
"""


def build_parser() -> SettingsParser:
    """The arguments of this script."""
    parser = SettingsParser(description=__doc__, epilog=EPILOG)
    training_flags.add_arguments(parser, "synthesizer", default="parallel")
    return parser


def griffin_lim(mel: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """mel (M, F) as sound, for the samples in the logs: no weights needed."""
    settings = GriffinLimConfig(iterations=20)
    return mel_to_waveform(torch.from_numpy(mel), from_dict(MelConfig, config), settings, seed=0).numpy()


def run(args: argparse.Namespace) -> int:
    """Train, from the last saved step if there is one."""
    config = load_config(RunConfig, "synthesizer", args.config, training_flags.settings_of(args))
    task = build_task(args.data, config, griffin_lim)
    if best := training_flags.train(task, config, args):
        training_flags.say(f"best weights: {best}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run this script; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
