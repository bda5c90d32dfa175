"""The command line that the three train scripts share."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from utils.distributed import is_main_process

SEVERAL_PROCESSES = """
several processes (GPUs, or CPU processes) share the batch of a step, so that the result is that of one process:
  accelerate launch --multi_gpu --num_processes 2 {stage}_train.py DATA --out RUN
  accelerate launch --multi_gpu --num_processes 2 {stage}_train.py DATA --out RUN --device cpu --threads 1
(--multi_gpu starts them on machines without a GPU too, while accelerate's own --cpu would start only one)
"""


def add_arguments(parser: argparse.ArgumentParser, stage: str, presets: str) -> None:
    """The flags that the three train scripts share, and how to start several processes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (parser.epilog or "") + SEVERAL_PROCESSES.format(stage=stage)
    parser.add_argument("data", type=Path, help=f"a folder that {stage}_preprocess.py wrote")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="where weights, curves and pictures go; an interrupted run there goes on",
    )
    parser.add_argument("--config", default=None, help=f"preset in configs/{stage}/ ({presets}) or a .toml file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="change one setting, such as training.learning_rate=3e-4 (repeatable)",
    )
    parser.add_argument("--steps", type=int, help="how many steps to train in all (training.steps)")
    parser.add_argument(
        "--from",
        dest="start_from",
        type=Path,
        metavar="CHECKPOINT",
        help="begin with the weights of a checkpoint (layers that match)",
    )
    parser.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda"], help="auto: a GPU where there is one (default)"
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "no", "bf16", "fp16"],
        help="mixed precision (training.precision); auto: bf16 where the hardware has it, else no",
    )
    parser.add_argument("--workers", type=int, help="processes that prepare batches (training.workers)")
    parser.add_argument("--threads", type=int, help="CPU threads of each process (default: all cores)")


def say(text: str) -> None:
    """Print a line of a script's report, once however many processes there are."""
    if is_main_process():
        print(text)


def settings_of(args: argparse.Namespace) -> list[str]:
    """The assignments that shared flags stand for, `--set` last. Sets the number of threads on the way."""
    if args.threads:
        torch.set_num_threads(args.threads)
    flags = {"training.steps": args.steps, "training.workers": args.workers}
    assignments = [f"{name}={value}" for name, value in flags.items() if value is not None]
    if args.precision:
        assignments.append(f'training.precision="{args.precision}"')
    return assignments + args.settings
