"""How far a run is: by its steps, or by the time that it was given."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

import torch
import torch.distributed as dist

from utils.training.distributed import world_size
from utils.training.task import TrainingConfig

PATIENT = 10  # with a budget of time, what takes t seconds is done again after 10 t at the soonest


@dataclass
class Clock:
    """Seconds of training over all parts of a run, and the position that its schedules go by.

    With `config.minutes` settings in steps are shares of that time: the position runs from 0 to `config.steps` in it,
    whatever the number of steps. What comes at the end (validation, saving) is foreseen as long as it has taken so far.
    """

    config: TrainingConfig
    seconds: float = 0.0  # used so far
    ending: float = 0.0  # seconds that the end will take

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Let time run from now on."""
        self.before, self.began = self.seconds, monotonic()

    @property
    def budget(self) -> float:
        """Seconds to train in all; 0: as long as the steps take."""
        return 60 * self.config.minutes

    def tick(self) -> None:
        """Read the time; all processes of a run go by that of the first."""
        self.seconds = self.before + monotonic() - self.began
        if self.budget and world_size() > 1:
            device = "cuda" if dist.get_backend() == "nccl" else "cpu"
            shared = torch.tensor([self.seconds], dtype=torch.float64, device=device)
            dist.broadcast(shared, 0)
            self.seconds = float(shared)

    def position(self, step: int) -> float:
        """What settings in steps are compared with: `step` itself, or the share of the time used times all steps."""
        return self.config.steps * self.progress(step) if self.budget else step

    def progress(self, step: int) -> float:
        """The share (0 to 1) of the run that is over at `step`."""
        if not self.budget:
            return min(1.0, step / self.config.steps)
        return min(1.0, self.seconds / max(self.budget - self.ending, 1e-3))

    def over(self, step: int) -> bool:
        """Whether no step comes after `step`."""
        return self.progress(step) >= 1 if self.budget else step >= self.config.steps


@dataclass
class Duty:
    """Something to be done every so many steps, such as saving."""

    clock: Clock
    every: int
    position: float = 0.0  # when it was last asked for
    cost: float = 0.0  # seconds that it took at worst
    done: float = 0.0  # when it was last done, in seconds of the clock

    def due(self, step: int) -> bool:
        """Whether a multiple of `every` has been reached since the last call (and, on a budget, it can be afforded)."""
        before, self.position = self.position, self.clock.position(step)
        if not self.clock.budget:
            return step % self.every == 0
        if self.position // self.every <= before // self.every:
            return False
        if self.clock.seconds - self.done >= PATIENT * self.cost:
            return True
        self.position = before  # not yet: ask again
        return False

    def __enter__(self) -> Duty:
        self.clock.tick()
        self.done = self.clock.seconds
        return self

    def __exit__(self, *_: object) -> None:
        self.clock.tick()
        self.cost = max(self.cost, self.clock.seconds - self.done)
        self.done = self.clock.seconds
