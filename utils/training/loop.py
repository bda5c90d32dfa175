"""One training loop for all stages, on Accelerate: seeds, precision, clipping, resume, validation, logs, a budget.

Nothing random is carried from step to step: the batch, the dropout masks and the learning rate of step k depend on
(seed, k) alone. A resumed run therefore equals an uninterrupted one, bit for bit on a CPU (with a budget of time, which
decides how far the schedules are, it does not). On a GPU no step waits for the device: losses are read now and then.

`Run` joins the parts, each of which has a module of its own: `Learner` (a step), `Clock` (schedules), `Checkpoints`
(files), `Validator` (scores) and `ProgressBar` (numbers for people).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from utils.config import to_dict
from utils.environment import environment
from utils.errors import CloningError
from utils.processes import locked
from utils.training.batches import Batches, loader_died, to_device
from utils.training.checkpoints import Checkpoints, RunState
from utils.training.clock import Clock, Duty
from utils.training.device import close_accelerator, open_accelerator
from utils.training.learner import Learner
from utils.training.log import RunLog, former_ruler, ruler_of, setting, taken_over
from utils.training.progress import ProgressBar
from utils.training.signals import StopSignals
from utils.training.task import Batch, Task, TrainingConfig
from utils.training.validation import Validator
from utils.training.warm_start import begin_from

SIGNAL_SECONDS = 0.5  # in which the signal of a process that ended arrives
log = logging.getLogger(__name__)


def train(
    task: Task,
    config: TrainingConfig,
    out_dir: str | Path,
    *,
    device: str = "auto",
    start_from: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Train for `config.steps` or `config.minutes`; returns the best weights, or the last before any validation.

    `settings`: the run's whole configuration, which `settings.json` and the checkpoints hold beside what it ran with.
    Continues by itself where `out_dir/state.pt` is. Raises CloningError: a loss that is not finite, memory that does
    not suffice, a state that belongs to another model, another run that writes to `out_dir`.
    """
    run = Run(task, config, Path(out_dir), device, settings)
    run.restore(start_from)
    with _explained(config), locked(run.out) if run.main else nullcontext():
        try:
            run.prepare()
            run.loop()
        finally:
            run.close()
    return run.checkpoints.best_or_last()


@contextmanager
def _explained(config: TrainingConfig) -> Iterator[None]:
    """Memory that does not suffice becomes a CloningError with a remedy."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise CloningError("out of memory: lower data.batch_size, or set training.precision to auto") from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        if not config.workers or not loader_died(error):
            raise
        raise CloningError(
            f"a process that prepares batches died, perhaps for want of memory: run it again with fewer "
            f"training.workers (now {config.workers}) or smaller batches; it goes on from the last saved step"
        ) from error


class Run:
    """One training: `restore`, `prepare`, `loop`, `close`, in this order."""

    def __init__(
        self, task: Task, config: TrainingConfig, out: Path, device: str, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.task, self.config, self.out = task, config, out
        self.accelerator = open_accelerator(device, config.precision)
        self.device, self.main = self.accelerator.device, self.accelerator.is_main_process
        if self.main:
            length = f"for {config.minutes:g} minutes" if config.minutes else f"to step {config.steps}"
            log.info("training %s on %s", length, setting(config, self.device.type))
        self.settings = {"training": to_dict(config), "model": task.model_config, "mel": task.mel, **(settings or {})}
        self.environment = environment(self.device)
        self.state, self.clock, self.stop = RunState(), Clock(config), StopSignals()
        self.learner = Learner(task, config, self.accelerator)
        self.log = RunLog(out) if self.main else None
        self.progress = ProgressBar(self.clock, self.log)
        self.checkpoints = Checkpoints(out, task, {"settings": self.settings, "environment": self.environment})
        self.validator = Validator(task, self.learner, self.checkpoints, self.progress, self.stop)

    def restore(self, start_from: str | Path | None) -> None:
        """Continue from the folder's `state.pt`; where there is none, begin with the weights of `start_from`."""
        resumed = self.checkpoints.restore(self.learner, self.state, self.clock)
        if resumed:  # an older run may not have kept all that a ruler has now
            self.state.ruler = former_ruler(self.out, self.task) | self.state.ruler
        self.state.measure_by(ruler_of(self.settings, self.task))
        if resumed:
            if self.main:
                log.info("resuming %s at step %d", self.out, self.state.step)
        elif start_from is not None:
            fresh = begin_from(start_from, self.task, self.learner.first)
            if self.main:
                log.info("starting from %s: %s", start_from, taken_over(self.learner.first, fresh))

    def prepare(self) -> None:
        """After `restore`: wrap the networks for the device and several processes, and put data there if it suits."""
        self.learner.prepare()
        self.resident = not self._ended() and self.task.resident(self.device)

    def loop(self) -> None:
        """Learn, validate and save until the run is over, a signal comes, or patience ends."""
        state, clock, config = self.state, self.clock, self.config
        if ended := self._ended():
            if self.main:
                log.info("nothing to do: %s ended at step %d: %s", self.out, state.step, ended)
            return
        if self.log is not None:
            self.log.open({**self.settings, "environment": self.environment}, state.step, self.task.renamed)
        clock.start()
        self.learner.average.position = position = self._at_step()
        validation = Duty(clock, config.validate_every, position)
        saving = Duty(clock, config.save_every, position)
        saved = state.step
        with self.stop, self.progress.started(state.step):
            if state.unvalidated:
                self.validator.validate(state, clock.seconds)
                saved = -1
            for batch in self.batches():
                self.learn(batch)
                clock.tick()
                self.progress.advance(state.step)
                if state.step % config.log_every == 0:
                    self.progress.report(state.step, self.learner.take_totals())
                over = clock.over(state.step)
                if validation.due(state.step) or over:
                    with validation:
                        self.validator.validate(state, clock.seconds)
                stop = self.stop.requested or self._patience_ended()
                if saving.due(state.step) or over:
                    with saving:
                        self._save()
                    saved = state.step
                clock.ending = validation.cost + saving.cost
                if stop or over:
                    break
            if state.step > saved:
                self._save()
        if self.stop.requested and self.main:
            log.warning("stopped and saved at step %d; the same command goes on", state.step)

    def batches(self) -> Iterator[Batch]:
        """All batches from the next step on, with `state.step`, the clock and the task brought up to each."""
        source = Batches(
            self.task, self.clock, self.state.step, self.accelerator.process_index, self.accelerator.num_processes
        )
        batches = source.made() if self.resident else source.loaded(self.config.workers, self.device)
        while not self.clock.over(self.state.step):
            try:
                with self.progress.waiting():
                    batch = next(batches)
            except (RuntimeError, OSError, EOFError) as error:
                if self.stop.requested:  # a signal to the whole group has ended the loaders too
                    return
                if isinstance(error, ConnectionError | EOFError):  # a loader died: let its signal raise here
                    time.sleep(SIGNAL_SECONDS)
                raise
            self.state.step += 1
            self.clock.tick()
            self._at_step()
            yield to_device(batch, self.device)
            source.progress.fill_(self.clock.progress(self.state.step))

    def _ended(self) -> str:
        """Why nothing is left to do, and what would change that; "" where something is."""
        if self.state.unvalidated:
            return ""
        if self.clock.over(self.state.step):
            return "for more, raise training.minutes" if self.config.minutes else "for more, raise training.steps"
        return "for more, raise training.patience" if self._patience_ended() else ""

    def _patience_ended(self) -> bool:
        return 0 < self.config.patience <= self.state.since_best

    def _at_step(self) -> float:
        """Tell the task how far the run is; returns its position."""
        self.task.progress = self.clock.progress(self.state.step)
        self.task.position = self.clock.position(self.state.step)
        return self.task.position

    def learn(self, batch: Batch) -> None:
        """One step of all networks."""
        self.learner.step(batch, self.state.step, self.task.position)

    def _save(self) -> None:
        self.learner.check_finite()
        if self.main:
            self.checkpoints.save(self.learner, self.state, self.clock)

    def close(self) -> None:
        """Close the log and end the process group."""
        if self.log is not None:
            self.log.close()
        self.learner.close()
        close_accelerator(self.accelerator)
