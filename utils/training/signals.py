"""What Ctrl-C, SIGTERM and a closed terminal (SIGHUP) do to a training run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from utils.processes import stop_signals


class Interrupted(KeyboardInterrupt):
    """Raised by a signal inside `StopSignals.interruptible`."""


class StopSignals:
    """Within it, a first signal sets `requested`, and the run ends after its step; a second one ends it at once."""

    def __init__(self) -> None:
        self.requested = False
        self._interruptible = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, *stop_signals()):
            try:
                self._previous[number] = signal.signal(number, self._handle)
            except ValueError:  # not in the main thread: leave signals alone
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """What stands inside can be repeated: a signal ends it by `Interrupted`, also one that came before."""
        self._interruptible = True
        try:
            if self.requested:
                raise Interrupted
            yield
        finally:
            self._interruptible = False

    def _handle(self, number: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if self._interruptible:
            raise Interrupted


def ignore_interrupts(worker: int) -> None:
    """For loader processes: leave signals to the training process."""
    for number in (signal.SIGINT, *stop_signals()):  # they may reach all processes; the training process decides
        signal.signal(number, signal.SIG_IGN)
