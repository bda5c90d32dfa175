"""The files of a run: `best.safetensors`, `last.safetensors`, and `state.pt`, from which it continues."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from utils.training.clock import Clock
from utils.training.learner import Learner
from utils.training.resuming import read_state
from utils.training.task import Task, Validation
from utils.weights import checkpoint


@dataclass
class RunState:
    """Saved in `state.pt` with everything else that a run needs to continue."""

    step: int = 0  # steps done
    best: float = math.inf  # lowest validation score
    since_best: int = 0  # validations since then
    unvalidated: bool = False  # a signal ended the validation of this step: it is repeated when the run continues
    ruler: dict[str, Any] = field(default_factory=dict)  # what the scores are measured by: see `Task.scored_by`

    def measure_by(self, ruler: dict[str, Any]) -> None:
        """Forget the best score where it was measured otherwise; what a former ruler had beyond that does not count."""
        if any(name not in self.ruler or self.ruler[name] != value for name, value in ruler.items()):
            self.best, self.since_best = math.inf, 0
        self.ruler = ruler


class Checkpoints:
    """Reads and writes them in the folder `out`; `run_info` (settings, environment) goes into each header."""

    def __init__(self, out: Path, task: Task, run_info: Mapping[str, Any]) -> None:
        self.out, self.task, self.run_info = out, task, run_info

    def restore(self, learner: Learner, state: RunState, clock: Clock) -> bool:
        """Give all three what `state.pt` holds; False where there is none.

        Raises CloningError: damaged, or of another model.
        """
        path = self.out / "state.pt"
        if not path.is_file():
            return False
        saved = read_state(path, self.task, learner.optimizers)
        learner.load_state_dict(saved)
        for own in fields(state):
            setattr(state, own.name, saved[own.name])
        clock.seconds = saved["seconds"]
        return True

    def save(self, learner: Learner, state: RunState, clock: Clock) -> None:
        """Write the last weights, and everything that the run needs to continue bit for bit."""
        self.save_weights("last.safetensors", learner, state.step, clock.seconds)
        whole = {**asdict(state), "seconds": clock.seconds, "model": self.task.model_config, **learner.state_dict()}
        checkpoint.save_training_state(self.out / "state.pt", whole)

    def save_weights(
        self, name: str, learner: Learner, step: int, seconds: float, validation: Validation | None = None
    ) -> None:
        """Write weights that describe themselves: model, mel, step, metrics, settings and environment of the run."""
        measured = {"score": validation.score, **validation.metrics} if validation is not None else {}
        header = checkpoint.Header(
            self.task.kind,
            self.task.model_config,
            mel=self.task.mel,
            step=step,
            metrics={**measured, "training_hours": round(seconds / 3600, 3)},
            calibration=validation.calibration if validation is not None else {},
            extra={**self.task.extra, "run": self.run_info},
        )
        checkpoint.save_weights(self.out / name, header, learner.weights())

    def best_or_last(self) -> Path:
        """The best weights; the last where the run stopped before the first validation that is eligible."""
        best = self.out / "best.safetensors"
        return best if best.is_file() else self.out / "last.safetensors"
