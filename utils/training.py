"""One training loop for all stages, on Accelerate: seeds, precision, clipping, resume, validation, logs.

Nothing random is carried from step to step: the batch, the dropout masks and the learning rate of step k depend on
(seed, k) alone. A resumed run therefore equals an uninterrupted one, bit for bit on a CPU.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from utils import checkpoint, precision
from utils.config import to_dict
from utils.errors import CloningError
from utils.interrupts import ValidationEnded, ignore_interrupts, stop_on_signal
from utils.sampling import rng
from utils.task import Batch, Task, TrainingConfig, Validation
from utils.training_log import RunLog, progress, setting, taken_over, tell

log = logging.getLogger(__name__)


class _Steps(Dataset):
    """Batches by number, for loader processes."""

    def __init__(self, task: Task, start: int, stop: int, rank: int, world: int) -> None:
        self.task, self.start, self.stop, self.rank, self.world = task, start, stop, rank, world

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Batch:
        if index >= len(self):
            raise IndexError(index)
        return self.task.shard(self.task.batch(self.start + index), self.rank, self.world)


def train(
    task: Task,
    config: TrainingConfig,
    out_dir: str | Path,
    *,
    device: str = "auto",
    start_from: str | Path | None = None,
) -> Path:
    """Train until `config.steps`; returns the path of the best weights, or of the last before any validation.

    Goes on by itself where `out_dir/state.pt` is. Raises CloningError: a loss that is not finite, memory that does
    not suffice, a state that belongs to another model.
    """
    run = _Run(task, config, Path(out_dir), device)
    run.restore(start_from)
    try:
        try:
            run.loop()
        finally:
            run.close()
    except torch.OutOfMemoryError as error:
        raise CloningError(
            "out of memory: lower the batch size (--set data.batch_size=...) or use --precision auto"
        ) from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        if not config.workers or not _loader_died(error):
            raise
        raise CloningError(
            f"a process that prepares batches died, perhaps for want of memory: run the same command again with fewer "
            f"--workers (now {config.workers}) or smaller batches (--set data....); it goes on from the last saved step"
        ) from error
    best, last = run.out / "best.safetensors", run.out / "last.safetensors"
    return best if best.is_file() else last  # stopped before the first validation


class _Run:
    """One run: modules, optimizers, position, logs."""

    def __init__(self, task: Task, config: TrainingConfig, out: Path, device: str) -> None:
        self.task, self.config, self.out = task, config, out
        if device not in ("auto", "cpu", "cuda"):
            raise CloningError(f"device {device!r}: choose auto, cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise CloningError("device cuda: this machine or this torch has no CUDA; use --device cpu")
        kind = PartialState(cpu=device == "cpu").device.type
        self.precision = precision.resolve(config.precision, kind)
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision=self.precision)
        self.main = self.accelerator.is_main_process
        if self.main:
            log.info("training to step %d on %s", config.steps, setting(config, kind))
        for module in task.modules.values():
            module.to(self.accelerator.device)  # before the optimizers, whose restored state follows their parameters
        self.optimizers = {
            name: torch.optim.AdamW(
                m.parameters(), config.learning_rate, config.betas, weight_decay=config.weight_decay
            )
            for name, m in task.modules.items()
        }
        self.step, self.best, self.since_best, self.seconds = 0, math.inf, 0, 0.0
        self.primary = next(iter(task.modules))
        self.ema: dict[str, Tensor] = {}
        self.wrapped: dict[str, nn.Module] = {}  # for several processes
        self.stop_requested = self.validating = False
        self.unvalidated = False  # a signal ended the validation of this step: it is made good when the run goes on
        self.log = RunLog(out) if self.main else None

    # -- state ---------------------------------------------------------------------------------------------------------

    def restore(self, start_from: str | Path | None) -> None:
        state_path = self.out / "state.pt"
        if state_path.is_file():
            state = checkpoint.load_training_state(state_path)
            if changed := _changed(state["model"], self.task.config):
                raise CloningError(
                    f"{self.out}: holds a run of another model (differs in {sorted(changed)}): choose another --out"
                )
            for name, module in self.task.modules.items():
                module.load_state_dict(state["modules"][name])
                self.optimizers[name].load_state_dict(state["optimizers"][name])
            self.step, self.best, self.since_best = state["step"], state["best"], state["since_best"]
            self.seconds, self.ema = state["seconds"], state["ema"]
            self.unvalidated = state.get("unvalidated", False)
            if self.main:
                log.info("resuming %s at step %d", self.out, self.step)
        elif start_from is not None:
            source = checkpoint.load_weights(start_from, self.task.kind)
            theirs, ours = (_architecture(config) for config in (source.config, self.task.config))
            if theirs and theirs != ours:
                raise CloningError(
                    f"{start_from}: its architecture is {theirs}, that of this run is {ours}: give a --config of "
                    f"architecture {theirs}, or leave out --from"
                )
            module = self.task.modules[self.primary]
            kept = checkpoint.warm_start(module, source.state)
            if {name for name, value in module.state_dict().items() if value.ndim > 1} <= set(kept):
                raise CloningError(
                    f"{start_from}: none of its matrices fits this run's network: give the --config that it was "
                    "trained with, or leave out --from"
                )
            if self.main:
                log.info("starting from %s: %s", start_from, taken_over(module, kept))
        for name, module in self.task.modules.items():
            self.wrapped[name], self.optimizers[name] = self.accelerator.prepare(module, self.optimizers[name])
        if self.config.ema_decay and not self.ema:
            self.ema = {k: v.detach().clone() for k, v in self._weights().items()}
        self.ema = {k: v.to(self.accelerator.device) for k, v in self.ema.items()}

    def _unwrapped(self) -> dict[str, nn.Module]:
        return {name: self.accelerator.unwrap_model(m) for name, m in self.wrapped.items()}

    def _weights(self) -> dict[str, Tensor]:
        return self._unwrapped()[self.primary].state_dict()

    def _save(self) -> None:
        if not self.main:
            return
        self._write_weights("last.safetensors", {})
        modules = {name: {k: v.cpu() for k, v in m.state_dict().items()} for name, m in self._unwrapped().items()}
        checkpoint.save_training_state(
            self.out / "state.pt",
            {
                "step": self.step,
                "best": self.best,
                "since_best": self.since_best,
                "seconds": self.seconds,
                "unvalidated": self.unvalidated,
                "model": self.task.config,
                "modules": modules,
                "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
                "ema": {k: v.cpu() for k, v in self.ema.items()},
            },
        )

    def _write_weights(self, name: str, metrics: dict[str, float]) -> None:
        checkpoint.save_weights(
            self.out / name,
            kind=self.task.kind,
            state=self.ema or self._weights(),
            config=self.task.config,
            mel=self.task.mel,
            step=self.step,
            metrics={**metrics, "training_hours": round(self.seconds / 3600, 3)},
            extra=self.task.extra,
        )

    # -- the loop ------------------------------------------------------------------------------------------------------

    def loop(self) -> None:
        if self.log is not None:
            self.log.open({"training": to_dict(self.config), "model": self.task.config, "mel": self.task.mel})
        with (
            stop_on_signal(self),
            tqdm(
                total=self.config.steps,
                initial=self.step,
                unit="step",
                disable=None if self.main else True,
                smoothing=0.05,
            ) as bar,
        ):
            sums: dict[str, float] = {}
            began = last_log = time.monotonic()
            seconds_before, saved, logged = self.seconds, self.step, self.step
            if self.unvalidated:
                self._validate(bar)
                saved = -1
            for batch in self._batches():
                self.step += 1
                values = self._train_step(_to_device(batch, self.accelerator.device))
                self.seconds = seconds_before + time.monotonic() - began
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + value
                bar.update()
                if self._due(self.config.log_every):
                    count = self.step - logged
                    means = {name: value / count for name, value in sums.items()}
                    bar.set_postfix({k: f"{v:.3g}" for k, v in means.items()})
                    rate = count / (time.monotonic() - last_log)
                    if self.log is not None:
                        self.log.write("train", self.step, self.seconds, {**means, "steps_per_second": rate})
                        if bar.disable:  # no terminal to show it on
                            tell(bar, progress(self.step, self.config.steps, rate, means))
                    sums, last_log, logged = {}, time.monotonic(), self.step
                if self._due(self.config.validate_every) or self.step == self.config.steps:
                    self._validate(bar)
                stop = self.stop_requested or (self.config.patience and self.since_best >= self.config.patience)
                if self._due(self.config.save_every) or self.step == self.config.steps:
                    self._save()
                    saved = self.step
                if stop:
                    break
            if self.step > saved:
                self._save()
        if self.stop_requested and self.main:
            log.warning("stopped and saved at step %d; the same command goes on", self.step)

    def _due(self, every: int) -> bool:
        return self.step % every == 0

    def _batches(self) -> Iterator[Batch]:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        steps = _Steps(self.task, self.step + 1, self.config.steps + 1, rank, world)
        workers = self.config.workers
        loader = DataLoader(steps, batch_size=None, num_workers=workers, worker_init_fn=ignore_interrupts)
        batches = iter(loader) if len(steps) > 0 else iter(())
        while True:
            try:
                yield next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError):
                if self.stop_requested:  # a signal to the whole group has ended the loaders too
                    return
                raise

    def _train_step(self, batch: Batch) -> dict[str, float]:
        values: dict[str, float] = {}
        rate = self.config.learning_rate_at(self.step)
        torch.manual_seed(int(rng(self.config.seed, self.step, self.accelerator.process_index).integers(2**62)))
        phases = self.task.phases(self.step)
        for phase in phases:
            modules = {n: (self.wrapped[n] if n == phase else m) for n, m in self._unwrapped().items()}
            for name, module in modules.items():
                module.train()
                if len(modules) > 1:
                    module.requires_grad_(name == phase)
            with self.accelerator.autocast():
                losses = self.task.losses(modules, batch, phase, self.step)
            total = torch.stack([v.float() for n, v in losses.items() if not n.startswith("_")]).sum()
            self._refuse_non_finite(losses, total)
            optimizer = self.optimizers[phase]
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(total)
            norm = self.accelerator.clip_grad_norm_(modules[phase].parameters(), self.config.clip_norm)
            if not torch.isfinite(norm) and self.precision != "fp16":  # fp16: the loss scaler skips such steps
                self._refuse_non_finite({"gradient": norm}, norm)
            optimizer.step()
            values |= {name.lstrip("_"): float(value.detach()) for name, value in losses.items()}
            values[f"gradient_norm/{phase}" if len(phases) > 1 else "gradient_norm"] = float(norm)
        weights = self._weights()
        self.task.constrain(weights, self.step)
        if self.ema:
            decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
            for name, value in weights.items():
                self.ema[name].lerp_(value, 1 - decay) if value.is_floating_point() else self.ema[name].copy_(value)
            self.task.constrain(self.ema, self.step)
        return values

    def _refuse_non_finite(self, losses: Mapping[str, Tensor], total: Tensor) -> None:
        if torch.isfinite(total):
            return
        bad = [f"{name} = {float(v.detach()):g}" for name, v in losses.items() if not torch.isfinite(v).all()]
        names = self.task.names(self.step)
        where = f" in the batch of {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}" if names else ""
        raise CloningError(
            f"step {self.step}: not finite: {', '.join(bad) or 'the sum'}{where}: check those files or lower "
            f"--set training.learning_rate; the last saved step is whole"
        )

    # -- validation ----------------------------------------------------------------------------------------------------

    def _validate(self, bar: tqdm) -> None:
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
            self.log.write("validation", self.step, self.seconds, {"score": result.score, **result.metrics})
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
        modules = self._unwrapped()
        trained = {k: v.clone() for k, v in self._weights().items()} if self.ema else None
        if self.ema:
            modules[self.primary].load_state_dict(self.ema)
        for module in modules.values():
            module.eval()
        torch.manual_seed(self.config.seed)
        try:
            self.validating = True
            if self.stop_requested:
                return None
            with torch.inference_mode():
                return self.task.validate(modules)
        except ValidationEnded:
            return None
        finally:
            self.validating = False
            if trained is not None:
                modules[self.primary].load_state_dict(trained)

    def close(self) -> None:
        if self.log is not None:
            self.log.close()
        self.wrapped.clear()  # before the process group that they talk through is taken down
        self.accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)  # the next run may want another device or precision


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings of `old` that differ now; one that there was not then does not count."""
    return [
        name
        for name, value in old.items()
        if (_changed(value, new.get(name) or {}) if isinstance(value, dict) else value != new.get(name))
    ]


def _loader_died(error: BaseException | None) -> bool:
    """Torch says so wherever the run is, so that the file it writes fails too; or a batch breaks off first."""
    while error is not None:
        if str(error).startswith("DataLoader worker (pid"):
            return True
        if isinstance(error, ConnectionError | EOFError) and not str(error).startswith("Caught"):  # in the loader
            return True
        error = error.__cause__ or error.__context__
    return False


def _architecture(config: Mapping[str, Any]) -> str | None:
    """The network's name in a stage's config; None in what published checkpoints lack."""
    return config.get("architecture") or config.get("model")


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
