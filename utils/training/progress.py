"""How far a run is: a bar in a terminal, else a line now and then, and rows of the run's log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tqdm import tqdm

from utils.training.clock import Clock
from utils.training.log import RunLog


class ProgressBar:
    """`log` is None in all processes but the first, which alone shows anything."""

    def __init__(self, clock: Clock, log: RunLog | None) -> None:
        self.clock, self.log = clock, log
        self.waited = 0.0  # seconds without a batch since the last row
        self._last = (0, 0.0)  # step and time of the last row

    @contextmanager
    def started(self, step: int) -> Iterator[None]:
        """Show the bar, from `step` on."""
        self._begin_row(step)
        with self._new_bar(step) as self.bar:
            yield

    def _new_bar(self, step: int) -> tqdm:
        disable = None if self.log is not None else True  # None: without a terminal
        if not self.clock.budget:
            total = self.clock.config.steps
            return tqdm(total=total, initial=step, unit="step", disable=disable, smoothing=0.05)
        text = "{l_bar}{bar}| {n:.0f} of {total:.0f} s, {remaining} left{postfix}"
        return tqdm(total=self.clock.budget, initial=self.clock.seconds, bar_format=text, disable=disable)

    def _begin_row(self, step: int) -> None:
        self._last, self.waited = (step, time.monotonic()), 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        asked = time.monotonic()
        yield
        self.waited += time.monotonic() - asked

    def advance(self, step: int) -> None:
        """Move the bar to `step`, or to the time used where time is what is given."""
        self.bar.update((self.clock.seconds if self.clock.budget else step) - self.bar.n)

    def report(self, step: int, totals: Mapping[str, float]) -> None:
        """A row of means; `totals` are sums over the steps since the last one."""
        last_step, last_time = self._last
        count, seconds = step - last_step, time.monotonic() - last_time
        means = {name: value / count for name, value in totals.items()}
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in means.items()})
        if self.log is not None:
            extra = {
                "steps_per_second": count / seconds,
                "waiting_for_data": self.waited / seconds,
                "learning_rate": self.clock.config.learning_rate_at(self.clock.position(step)),
            }
            self.log.write("train", step, self.clock.seconds, means | extra)
            if self.bar.disable:  # no terminal to show it on
                self.tell(progress_line(step, self.clock, count / seconds, means))
        self._begin_row(step)

    def tell(self, text: str) -> None:
        """Print a line above the bar."""
        self.bar.write(text)
        sys.stdout.flush()  # into a file or a pipe at once, too


def progress_line(step: int, clock: Clock, steps_per_second: float, means: Mapping[str, float]) -> str:
    """How far a run is, its losses and speed, and how long it will take."""
    losses = ", ".join(f"{name} {value:.3g}" for name, value in means.items())
    speed = f"{steps_per_second:.3g} steps/s"
    if clock.budget:
        where, left = f"step {step}, {clock.seconds / 60:.1f} of", (clock.budget - clock.seconds) / 60
        return f"{where} {clock.budget / 60:g} min: {losses}; {speed}, {max(0, left):.1f} min left"
    left = (clock.config.steps - step) / steps_per_second / 60
    return f"step {step} of {clock.config.steps}: {losses}; {speed}, about {left:.0f} min left"
