"""What a training run says, and writes beside its weights: settings, numbers, curves, sounds and pictures."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from utils import plots, precision
from utils.errors import CloningError
from utils.files import FULL, cannot_write, write_text
from utils.training.task import Task, TrainingConfig, Validation

log = logging.getLogger(__name__)
HOW_LONG = ("training.steps", "training.minutes")  # that a run goes on for longer is no other setting
CURVES_SECONDS = 60.0  # between two drawings of the curves, which take one


class RunLog:
    """Goes to `log.jsonl`, `curves.png` and `figures/`, and to `tensorboard/` where that is installed."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.board: Any = None
        self._drawn, self._new = time.monotonic(), False

    def open(
        self, settings: dict[str, Any], step: int = 0, renamed: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ) -> None:
        """Write `settings.json`; forget what was logged after `step`, which comes again, and what killed runs left.

        renamed: older settings under the names of now.
        """
        for leftover in self.out.glob("*.partial"):
            leftover.unlink(missing_ok=True)
        self._forget_after(step)
        self._keep_former(settings, step, renamed)
        write_text(self.out / "settings.json", json.dumps(settings, indent=1) + "\n")
        try:
            from torch.utils.tensorboard import SummaryWriter

            threading.excepthook = _without_full_disks  # its thread tells the writer too, which says it in one line
            self.board = SummaryWriter(str(self.out / "tensorboard"), purge_step=step + 1 if step else None)
        except ImportError:
            log.info("tensorboard is not installed: curves go to log.jsonl only")

    def _keep_former(
        self, settings: dict[str, Any], step: int, renamed: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        """Where a run goes on with other settings: say which, and keep those it had until `step` under another name."""
        path, kept = self.out / "settings.json", self.out / f"settings_until_{step:07d}.json"
        if not step or not path.is_file():
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        with suppress(ValueError):
            before, now = (flat({**found, "environment": {}}) for found in (renamed(json.loads(text)), settings))
            others = [name for name in before | now if before.get(name) != now.get(name) and name not in HOW_LONG]
            if others:
                changes = (f"{name} {before.get(name)} -> {now.get(name)}" for name in others)
                log.info("settings changed at step %d: %s", step, ", ".join(changes))
                if not kept.exists():  # what was set since, nothing that lasts was learned with
                    write_text(kept, text)

    def _forget_after(self, step: int) -> None:
        path = self.out / "log.jsonl"
        if not path.is_file():
            return
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if (row := row_of(line)) and float(row["step"]) <= step]
        if len(kept) < len(lines):
            write_text(path, "".join(f"{line}\n" for line in kept))

    def write(self, group: str, step: int, seconds: float, values: dict[str, float]) -> None:
        """Numbers of a step; `seconds` is how long the run has trained."""
        row = {"step": step, "hours": round(seconds / 3600, 4), "group": group}
        row |= {k: round(float(v), 6) for k, v in values.items()}
        self._new = True
        with self._written("log.jsonl") as path, path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.board is not None:
            with self._written("tensorboard"):
                for name, value in values.items():
                    self.board.add_scalar(f"{group}/{name}", value, step)

    def show(self, result: Validation, step: int) -> None:
        """Sounds and pictures of a validation; the curves too, once a minute."""
        if time.monotonic() - self._drawn >= CURVES_SECONDS:
            self._draw_curves()
        for name, (samples, rate) in result.audio.items():
            if self.board is not None:
                self.board.add_audio(name, samples[None, :], step, rate)
        for name, draw in result.figures.items():
            try:
                figure = draw()
            except ImportError:
                log.info("matplotlib is not installed: no pictures")
                return
            with self._written("figures") as folder:
                folder.mkdir(exist_ok=True)
                figure.savefig(folder / f"{name}_{step:07d}.png", dpi=80)
            if self.board is not None:
                self.board.add_figure(name, figure, step)

    def _draw_curves(self) -> None:
        """`curves.png`, of all that `log.jsonl` holds."""
        self._drawn, self._new = time.monotonic(), False
        with self._written("log.jsonl") as path:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        rows = [row for row in map(row_of, lines) if row is not None]
        try:
            figure = plots.plot_curves(rows, f"{self.out.resolve().name}: step {rows[-1]['step']}")
        except ImportError:
            return  # no matplotlib: no pictures
        with self._written("curves.png") as path:
            plots.save(figure, path)

    def close(self) -> None:
        """Draw the curves a last time, and close TensorBoard."""
        if self._new and (self.out / "log.jsonl").is_file():
            with suppress(CloningError):  # what ended the run is told already
                self._draw_curves()
        if self.board is not None:
            with self._written("tensorboard"):
                self.board.close()

    @contextmanager
    def _written(self, name: str) -> Iterator[Path]:
        try:
            yield self.out / name
        except OSError as error:
            raise cannot_write(self.out / name, error) from error


def _without_full_disks(failure: Any) -> None:
    if not (isinstance(failure.exc_value, OSError) and failure.exc_value.errno in FULL):
        threading.__excepthook__(failure)


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def ruler_of(settings: dict[str, Any], task: Task) -> dict[str, Any]:
    """What decides the meaning of a task's scores, as JSON holds it: see `Task.scored_by`."""
    found = flat(json.loads(json.dumps(settings)))
    chosen = {name: value for name, value in found.items() if any(fnmatchcase(name, rule) for rule in task.scored_by)}
    return chosen | json.loads(json.dumps(task.score_constants))


def former_ruler(out: Path, task: Task) -> dict[str, Any]:
    """All settings that a run in `out` had before, by dotted name; {} where it left none."""
    with suppress(OSError, ValueError):
        return flat(task.renamed(json.loads((out / "settings.json").read_text(encoding="utf-8", errors="replace"))))
    return {}


def row_of(line: str) -> dict[str, Any] | None:
    """A line of `log.jsonl`; None for one that was cut off."""
    try:
        row = json.loads(line)
        float(row["step"])
    except (ValueError, TypeError, KeyError):
        return None
    return row


def setting(config: TrainingConfig, device: str) -> str:
    """Device, threads and number format, for the first line of a log."""
    threads = f", {torch.get_num_threads()} threads" if device == "cpu" else ""
    return f"{device.upper()}{threads}, in {precision.describe(config.precision, device)}"


def taken_over(module: nn.Module, fresh: list[str]) -> str:
    """How much of a network began with a checkpoint's values."""
    total = len(module.state_dict())
    if not fresh:
        return f"all {total} tensors are taken over"
    names = ", ".join(fresh[:8]) + (" ..." if len(fresh) > 8 else "")
    return f"{total - len(fresh)} of {total} tensors are taken over; these keep fresh values: {names}"
