"""How fast a training is on this machine, and what it waits for."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from utils.errors import CloningError
from utils.training.batches import rows
from utils.training.loop import Run
from utils.training.task import Task, TrainingConfig

UNMEASURED = 5  # steps at first, in which memory is found and kernels are chosen


def profile(task: Task, config: TrainingConfig, steps: int, *, device: str = "auto") -> list[str]:
    """Train `steps` steps after a few that do not count, and say in words how fast they were. Writes nothing."""
    if steps < 1:
        raise CloningError(f"a profile of {steps} steps: give at least 1")
    run = Run(task, config, Path(), device)
    run.prepare()
    items, step, number_format = 0, 0, run.accelerator.mixed_precision
    try:
        for step, batch in enumerate(run.batches(), 1):
            if step == UNMEASURED + 1:
                _wait(run.device)
                items, run.progress.waited, began = 0, 0.0, time.monotonic()
            items += rows(batch)
            run.learn(batch)
            if step >= UNMEASURED + steps:
                break
        if step <= UNMEASURED:
            raise CloningError(f"the run ended after {step} steps: give it more than {UNMEASURED} steps or more time")
        _wait(run.device)
        seconds = time.monotonic() - began
    finally:
        run.close()
    counted = step - UNMEASURED
    lines = [
        f"{counted} steps in {seconds:.2f} s on {run.device.type}, precision {number_format}: "
        f"{counted / seconds:.3g} steps/s, {items / seconds:.4g} items/s",
        f"waiting for data {100 * run.progress.waited / seconds:.1f}% of the time",
    ]
    if run.device.type == "cuda":
        lines.append(f"GPU memory at most {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
    return lines


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
