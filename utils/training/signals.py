"""What Ctrl-C, SIGTERM and a closed terminal (SIGHUP) do to a training run."""

from __future__ import annotations

import signal
from typing import Any, Protocol

from utils.processes import stop_signals


class Run(Protocol):
    """What a signal changes, and asks, of a run."""

    stop_requested: bool
    validating: bool


class ValidationEnded(KeyboardInterrupt):
    """Raised by a signal in the midst of a validation, which changes nothing and can be repeated."""


class stop_on_signal:
    """Ctrl-C, SIGTERM and SIGHUP end the run after the step in progress, all saved; a second ends it at once.

    A validation in progress ends at once and is made good when the run goes on.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, *stop_signals()):
            try:
                self.previous[number] = signal.signal(number, self._handle)
            except ValueError:  # not in the main thread: leave signals alone
                return

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        if self.run.stop_requested:
            raise KeyboardInterrupt
        self.run.stop_requested = True
        if self.run.validating:
            raise ValidationEnded


def ignore_interrupts(worker: int) -> None:
    for number in (signal.SIGINT, *stop_signals()):  # they may reach all processes; the training process decides
        signal.signal(number, signal.SIG_IGN)
