"""Measuring a run on held-out speakers, and keeping its best weights."""

from __future__ import annotations

import math

import torch

from utils.errors import CloningError
from utils.training.checkpoints import Checkpoints, RunState
from utils.training.learner import Learner
from utils.training.log import RunLog
from utils.training.progress import ProgressBar
from utils.training.signals import Interrupted, StopSignals
from utils.training.task import Task, Validation

COUNTS_NOT = -1.0  # a validation that was interrupted, or is not eligible


class Validator:
    """The first process measures and writes; all learn whether the score improved."""

    def __init__(
        self, task: Task, learner: Learner, checkpoints: Checkpoints, progress: ProgressBar, stop: StopSignals
    ) -> None:
        self.task, self.learner, self.checkpoints, self.progress, self.stop = task, learner, checkpoints, progress, stop

    def validate(self, state: RunState, seconds: float) -> None:
        """Update `state` and write `best.safetensors` where the score is the lowest so far of those that are eligible.

        Raises CloningError: a loss since the last reading, or the score, is not finite.
        """
        self.learner.check_finite()
        accelerator, log = self.learner.accelerator, self.progress.log
        accelerator.wait_for_everyone()
        improved = torch.zeros(1, device=accelerator.device)
        if log is not None:
            result = self._measure()
            state.unvalidated = result is None
            improved[0] = COUNTS_NOT
            if result is not None:
                best = self._keep(result, state, seconds, log)
                improved[0] = best if result.eligible else COUNTS_NOT
        if accelerator.num_processes > 1:
            improved = accelerator.reduce(improved)
        if improved >= 0:
            state.since_best = 0 if improved else state.since_best + 1

    def _measure(self) -> Validation | None:
        """The task's validation; None when a signal ends it."""
        try:
            with self.learner.evaluating() as modules, self.stop.interruptible():
                return self.task.validate(modules)
        except Interrupted:
            return None

    def _keep(self, result: Validation, state: RunState, seconds: float, log: RunLog) -> bool:
        """Write a result to log and terminal, and the weights if it is the best; returns whether it is."""
        step, name = state.step, "score" if result.eligible else "early_score"  # which no curve or table compares
        numbers = {name: result.score, **result.metrics, **result.calibration}
        if not math.isfinite(result.score):
            raise CloningError(
                f"step {step}: the validation score is {result.score}: {result.metrics}: lower training.learning_rate, "
                "and go on from the last saved step"
            )
        improved = result.eligible and result.score < state.best
        if improved:
            state.best = result.score
            self.checkpoints.save_weights("best.safetensors", self.learner, step, seconds, result)
        log.write("validation", step, seconds, numbers)
        log.show(result, step)
        text = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        self.progress.tell(f"step {step}: {text}{' (best)' if improved else ''}")
        for warning in result.warnings:
            self.progress.tell(f"step {step}: warning: {warning}")
        return improved
