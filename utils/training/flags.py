"""The command line that the three train scripts share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from utils.config import SettingsParser, list_presets, to_dict
from utils.errors import CloningError
from utils.files import user_path
from utils.scripts import add_threads, positive, use_threads
from utils.training import loop as training
from utils.training.distributed import is_main_process
from utils.training.profiling import profile
from utils.training.task import Task

SEVERAL_PROCESSES = """
several processes (GPUs, or CPU processes) share the batch of a step, so that the result is that of one process:
  accelerate launch --multi_gpu --num_processes 2 {stage}_train.py DATA --out RUN
  accelerate launch --multi_gpu --num_processes 2 {stage}_train.py DATA --out RUN --device cpu --threads 1
(--multi_gpu starts them on machines without a GPU too, while accelerate's own --cpu would start only one)
"""


def add_arguments(parser: SettingsParser, stage: str, default: str) -> None:
    """The flags that the three train scripts share, the stage's presets, and how to start several processes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (parser.epilog or "") + list_presets(stage) + SEVERAL_PROCESSES.format(stage=stage)
    parser.add_argument("data", type=user_path, help=f"a folder that {stage}_preprocess.py wrote")
    parser.add_argument(
        "--out",
        type=user_path,
        required=True,
        help="where weights, curves and pictures go; an interrupted run there goes on",
    )
    parser.add_argument(
        "--config", default=default, help="a preset of those below, or a .toml file (default: %(default)s)"
    )
    parser.add_settings("change settings, such as training.learning_rate=3e-4")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="how many steps to train in all (training.steps)")
    length.add_argument(
        "--minutes",
        type=float,
        help="how long to train in all, validation included; what a preset schedules in steps happens at the same "
        "share of that time (training.minutes)",
    )
    length.add_argument("--hours", type=float, help="the same in hours")
    parser.add_argument(
        "--from",
        dest="start_from",
        type=user_path,
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
    add_threads(parser, "CPU threads of each process (default: all cores)")
    parser.add_argument(
        "--profile", type=positive, metavar="N", help="train N steps, write nothing, and say how fast they were"
    )


def say(text: str) -> None:
    """Print a line of a script's report, once however many processes there are."""
    if is_main_process():
        print(text)


def settings_of(args: argparse.Namespace) -> list[str]:
    """The assignments that shared flags stand for, `--set` last. Sets the number of threads on the way."""
    use_threads(args.threads)
    minutes = args.minutes if args.hours is None else 60 * args.hours
    if minutes is not None and not minutes > 0:
        raise CloningError(f"--minutes or --hours is {minutes:g} minutes: give a time above 0")
    flags = {"training.steps": args.steps, "training.workers": args.workers, "training.minutes": minutes}
    if args.steps is not None:
        flags["training.minutes"] = 0
    assignments = [f"{name}={value}" for name, value in flags.items() if value is not None]
    if args.precision:
        assignments.append(f'training.precision="{args.precision}"')
    return assignments + args.settings


def train(task: Task, config: Any, args: argparse.Namespace) -> Path | None:
    """Train as the flags say; `config` is the run's whole configuration, a dataclass with a `training`.

    Returns the best weights; None after a profile, which leaves nothing.
    """
    if args.profile is not None:
        for line in profile(task, config.training, args.profile, device=args.device):
            say(line)
        return None
    return training.train(
        task, config.training, args.out, device=args.device, start_from=args.start_from, settings=to_dict(config)
    )
