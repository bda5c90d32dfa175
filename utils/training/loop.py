"""One training loop for all stages, on Accelerate: seeds, precision, clipping, resume, validation, logs, a budget.

Nothing random is carried from step to step: the batch, the dropout masks and the learning rate of step k depend on
(seed, k) alone. A resumed run therefore equals an uninterrupted one, bit for bit on a CPU (with a budget of time, which
decides how far the schedules are, it does not). On a GPU no step waits for the device: losses are read now and then.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from tqdm import tqdm

from utils.config import to_dict
from utils.environment import environment
from utils.errors import CloningError
from utils.processes import locked
from utils.training import precision
from utils.training.average import Average
from utils.training.batches import Batches, loader_died, to_device
from utils.training.clock import Clock, Duty
from utils.training.log import RunLog, progress, setting, taken_over, tell
from utils.training.resuming import read_state
from utils.training.sampling import rng
from utils.training.signals import ValidationEnded, stop_on_signal
from utils.training.tally import Tally
from utils.training.task import Batch, Task, TrainingConfig, Validation
from utils.training.warm_start import begin_from
from utils.weights import checkpoint

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

    `settings`: the run's whole configuration, which `settings.json` and the checkpoints tell beside what it ran with.
    Goes on by itself where `out_dir/state.pt` is. Raises CloningError: a loss that is not finite, memory that does
    not suffice, a state that belongs to another model, another run that writes to `out_dir`.
    """
    run = Run(task, config, Path(out_dir), device, settings)
    run.restore(start_from)
    run.prepare()
    try:
        with locked(run.out) if run.main else nullcontext():
            try:
                run.loop()
            finally:
                run.close()
    except torch.OutOfMemoryError as error:
        raise CloningError("out of memory: lower data.batch_size, or set training.precision to auto") from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        if not config.workers or not loader_died(error):
            raise
        raise CloningError(
            f"a process that prepares batches died, perhaps for want of memory: run it again with fewer "
            f"training.workers (now {config.workers}) or smaller batches; it goes on from the last saved step"
        ) from error
    best, last = run.out / "best.safetensors", run.out / "last.safetensors"
    return best if best.is_file() else last  # stopped before the first validation


class Run:
    """One run: modules, optimizers, position, logs."""

    def __init__(
        self, task: Task, config: TrainingConfig, out: Path, device: str, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.task, self.config, self.out = task, config, out
        if device not in ("auto", "cpu", "cuda"):
            raise CloningError(f"device {device!r}: choose auto, cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise CloningError("device cuda: this machine or this torch has no CUDA; use cpu")
        kind = PartialState(cpu=device == "cpu").device.type
        self.precision = precision.resolve(config.precision, kind)
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision=self.precision)
        self.main = self.accelerator.is_main_process
        if self.main:
            length = f"for {config.minutes:g} minutes" if config.minutes else f"to step {config.steps}"
            log.info("training %s on %s", length, setting(config, kind))
        self.cuda = self.accelerator.device.type == "cuda"
        if self.cuda:
            torch.set_float32_matmul_precision("high")  # TF32
        self.settings = {"training": to_dict(config), "model": task.config, "mel": task.mel, **(settings or {})}
        self.run_info = {"settings": self.settings, "environment": environment(self.accelerator.device)}
        for module in task.modules.values():
            module.to(self.accelerator.device)  # before the optimizers, whose restored state follows their parameters
        self.optimizers = {
            name: torch.optim.AdamW(
                m.parameters(),
                config.learning_rate,
                config.betas,
                weight_decay=config.weight_decay,
                fused=self.cuda or None,
            )  # fmt: skip
            for name, m in task.modules.items()
        }
        self.step, self.best, self.since_best = 0, math.inf, 0
        self.clock = Clock(config)
        self.tally = Tally(self.accelerator.device)
        self.logged, self.last_log, self.waited = 0, 0.0, 0.0  # step and time of the last line, seconds without a batch
        self.primary = next(iter(task.modules))
        self.average = Average(config.ema_decay)
        self.wrapped: dict[str, nn.Module] = {}  # for several processes
        self.plain: dict[str, nn.Module] = {}  # the same, bare
        self.stop_requested = self.validating = False
        self.unvalidated = False  # a signal ended the validation of this step: it is made good when the run goes on
        self.log = RunLog(out) if self.main else None

    # -- state ---------------------------------------------------------------------------------------------------------

    def restore(self, start_from: str | Path | None) -> None:
        state_path = self.out / "state.pt"
        if state_path.is_file():
            state = read_state(state_path, self.task, self.optimizers)
            for name, module in self.task.modules.items():
                module.load_state_dict(state["modules"][name])
                self.optimizers[name].load_state_dict(state["optimizers"][name])
            self.step, self.best, self.since_best = state["step"], state["best"], state["since_best"]
            self.clock, self.average.weights = Clock(self.config, state["seconds"]), state["ema"]
            self.unvalidated = state["unvalidated"]
            if self.main:
                log.info("resuming %s at step %d", self.out, self.step)
        elif start_from is not None:
            fresh = begin_from(start_from, self.task, self.task.modules[self.primary])
            if self.main:
                log.info("starting from %s: %s", start_from, taken_over(self.task.modules[self.primary], fresh))

    def prepare(self) -> None:
        """Wrap what is trained, for the device and for several processes."""
        for name, module in self.task.modules.items():
            self.wrapped[name], self.optimizers[name] = self.accelerator.prepare(module.train(), self.optimizers[name])
        self.plain = {name: self.accelerator.unwrap_model(m) for name, m in self.wrapped.items()}
        self.average.follow(self.plain[self.primary], self.accelerator.device)

    def _weights(self) -> dict[str, Tensor]:
        return self.plain[self.primary].state_dict()

    def _save(self) -> None:
        self._totals()  # what is not finite is never saved
        if not self.main:
            return
        self._write_weights("last.safetensors", {})
        modules = {name: {k: v.cpu() for k, v in m.state_dict().items()} for name, m in self.plain.items()}
        checkpoint.save_training_state(
            self.out / "state.pt",
            {
                "step": self.step,
                "best": self.best,
                "since_best": self.since_best,
                "seconds": self.clock.seconds,
                "unvalidated": self.unvalidated,
                "model": self.task.config,
                "modules": modules,
                "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
                "ema": {k: v.cpu() for k, v in self.average.weights.items()},
            },
        )

    def _write_weights(self, name: str, metrics: dict[str, float]) -> None:
        header = checkpoint.Header(
            self.task.kind,
            self.task.config,
            mel=self.task.mel,
            step=self.step,
            metrics={**metrics, "training_hours": round(self.clock.seconds / 3600, 3)},
            extra={**self.task.extra, "run": self.run_info},
        )
        checkpoint.save_weights(self.out / name, header, self.average.weights or self._weights())

    # -- the loop ------------------------------------------------------------------------------------------------------

    def loop(self) -> None:
        if self.log is not None:
            self.log.open({**self.settings, "environment": self.run_info["environment"]}, self.step)
        self.clock.start()
        position = self.average.position = self.clock.position(self.step)
        validation = Duty(self.clock, self.config.validate_every, position)
        saving = Duty(self.clock, self.config.save_every, position)
        saved = self.logged = self.step
        self.last_log = time.monotonic()
        with stop_on_signal(self), self._bar() as bar:
            if self.unvalidated:
                self._validate(bar)
                saved = -1
            for batch in self.batches():
                self.train_step(batch)
                self.clock.tick()
                bar.update((self.clock.seconds if self.clock.budget else self.step) - bar.n)
                if self.step % self.config.log_every == 0:
                    self._report(bar)
                over = self.clock.over(self.step)
                if validation.due(self.step) or over:
                    with validation:
                        self._validate(bar)
                stop = self.stop_requested or (self.config.patience and self.since_best >= self.config.patience)
                if saving.due(self.step) or over:
                    with saving:
                        self._save()
                    saved = self.step
                self.clock.ending = validation.cost + saving.cost
                if stop or over:
                    break
            if self.step > saved:
                self._save()
        if self.stop_requested and self.main:
            log.warning("stopped and saved at step %d; the same command goes on", self.step)

    def _bar(self) -> tqdm:
        """Of steps, or of seconds where these are what is given."""
        disable = None if self.main else True
        if not self.clock.budget:
            return tqdm(total=self.config.steps, initial=self.step, unit="step", disable=disable, smoothing=0.05)
        text = "{l_bar}{bar}| {n:.0f} of {total:.0f} s, {remaining} left{postfix}"
        return tqdm(total=self.clock.budget, initial=self.clock.seconds, bar_format=text, disable=disable)

    def _report(self, bar: tqdm) -> None:
        """A line of numbers over the steps since the last one."""
        count, seconds = self.step - self.logged, time.monotonic() - self.last_log
        means = {name: value / count for name, value in self._totals().items()}
        bar.set_postfix({k: f"{v:.3g}" for k, v in means.items()})
        if self.log is not None:
            speed = {"steps_per_second": count / seconds, "waiting_for_data": self.waited / seconds}
            rate = {"learning_rate": self.config.learning_rate_at(self.clock.position(self.step))}
            self.log.write("train", self.step, self.clock.seconds, means | rate | speed)
            if bar.disable:  # no terminal to show it on
                tell(bar, progress(self.step, self.clock, count / seconds, means))
        self.tally.clear()
        self.logged, self.last_log, self.waited = self.step, time.monotonic(), 0.0

    def batches(self) -> Iterator[Batch]:
        """All batches from the next step on, with `step`, the clock and the task brought up to each."""
        rank, world, device = self.accelerator.process_index, self.accelerator.num_processes, self.accelerator.device
        source = Batches(self.task, self.clock, self.step, rank, world)
        resident = self.task.resident(device)
        batches = source.made() if resident else source.loaded(self.config.workers, device)
        while not self.clock.over(self.step):
            asked = time.monotonic()
            try:
                batch = next(batches)
            except (RuntimeError, OSError, EOFError):
                if self.stop_requested:  # a signal to the whole group has ended the loaders too
                    return
                raise
            self.waited += time.monotonic() - asked
            self.step += 1
            self.clock.tick()
            self.task.progress, self.task.position = self.clock.progress(self.step), self.clock.position(self.step)
            yield to_device(batch, device)
            source.progress.fill_(self.clock.progress(self.step))

    def train_step(self, batch: Batch) -> None:
        """Learn from a batch, with every module whose turn it is."""
        values: dict[str, Tensor] = {}
        rate = self.config.learning_rate_at(self.task.position)
        torch.manual_seed(int(rng(self.config.seed, self.step, self.accelerator.process_index).integers(2**62)))
        phases = self.task.phases(self.step)
        for phase in phases:
            modules = {n: (self.wrapped[n] if n == phase else m) for n, m in self.plain.items()}
            for name, module in modules.items():
                if not module.training:
                    module.train()
                if len(modules) > 1:
                    module.requires_grad_(name == phase)
            with self.accelerator.autocast():
                losses = self.task.losses(modules, batch, phase, self.step)
            total = torch.stack([v.float() for n, v in losses.items() if not n.startswith("_")]).sum()
            self._check(losses, total)
            optimizer = self.optimizers[phase]
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(total)
            norm = self.accelerator.clip_grad_norm_(modules[phase].parameters(), self.config.clip_norm)
            if self.precision != "fp16":  # there the loss scaler skips such steps
                self._check({"gradient": norm}, norm)
            optimizer.step()
            values |= {name.lstrip("_"): value for name, value in losses.items()}
            values[f"gradient_norm/{phase}" if len(phases) > 1 else "gradient_norm"] = norm
        self.tally.add(values)
        if type(self.task).constrain is not Task.constrain:
            self.task.constrain(self._weights(), self.step)
        if self.average.weights:
            self.average.advance(self.task.position, self.step)
            self.task.constrain(self.average.weights, self.step)

    def _totals(self) -> dict[str, float]:
        """Sums of the losses since they were last cleared; the one place that waits for a GPU."""
        totals = self.tally.totals()
        if step := self.tally.first_bad():
            raise _not_finite(step, [f"{n} = {v:g}" for n, v in totals.items() if not math.isfinite(v)], self.task)
        return totals

    def _check(self, losses: Mapping[str, Tensor], total: Tensor) -> None:
        """Refuse what is not finite: at once, but on a GPU when the losses are read."""
        if self.cuda:
            self.tally.check(self.step, total)
        elif not torch.isfinite(total):
            bad = [f"{name} = {float(v.detach()):g}" for name, v in losses.items() if not torch.isfinite(v).all()]
            raise _not_finite(self.step, bad, self.task)

    # -- validation ----------------------------------------------------------------------------------------------------

    def _validate(self, bar: tqdm) -> None:
        self._totals()
        self.accelerator.wait_for_everyone()
        improved = torch.zeros(1, device=self.accelerator.device)  # -1: nothing was measured
        result = self._measure() if self.main else None
        self.unvalidated = self.main and result is None
        if self.unvalidated:
            improved[0] = -1
        elif result is not None:
            if not math.isfinite(result.score):
                raise CloningError(f"step {self.step}: the validation score is {result.score}: {result.metrics}")
            improved[0] = float(result.score < self.best)
            if improved:
                self.best = result.score
                self._write_weights("best.safetensors", {"score": result.score, **result.metrics})
            if self.log is not None:
                self.log.write("validation", self.step, self.clock.seconds, {"score": result.score, **result.metrics})
                self.log.show(result, self.step)
            numbers = ", ".join(f"{k} {v:.4g}" for k, v in {"score": result.score, **result.metrics}.items())
            tell(bar, f"step {self.step}: {numbers}{' (best)' if improved else ''}")
            for warning in result.warnings:
                tell(bar, f"step {self.step}: warning: {warning}")
        if self.accelerator.num_processes > 1:
            improved = self.accelerator.reduce(improved)
        if improved >= 0:
            self.since_best = 0 if improved else self.since_best + 1

    def _measure(self) -> Validation | None:
        """The task's validation, of the averaged weights where there are such; None when a signal ends it."""
        modules = dict(self.plain)
        for module in modules.values():
            module.eval()
        torch.manual_seed(self.config.seed)
        try:
            self.validating = True
            if self.stop_requested:
                return None
            with self.average.within(modules[self.primary]), torch.inference_mode():
                return self.task.validate(modules)
        except ValidationEnded:
            return None
        finally:
            self.validating = False

    def close(self) -> None:
        if self.log is not None:
            self.log.close()
        self.wrapped.clear()  # before the process group that they talk through is taken down
        self.accelerator.free_memory()  # it holds them too
        self.accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)  # the next run may want another device or precision


def _not_finite(step: int, bad: Sequence[str], task: Task) -> CloningError:
    names = task.names(step)
    where = f" in the batch of {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}" if names else ""
    return CloningError(
        f"step {step}: not finite: {', '.join(bad) or 'the sum'}{where}: check those files or lower "
        f"training.learning_rate; the last saved step is whole"
    )
