"""One training loop for all stages, on Accelerate: seeds, precision, clipping, resume, validation, logs.

Nothing random is carried from step to step: the batch, the dropout masks and the learning rate of step k depend on
(seed, k) alone. A resumed run therefore equals an uninterrupted one, bit for bit on a CPU.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from utils import checkpoint
from utils.config import to_dict
from utils.distributed import is_main_process
from utils.errors import CloningError
from utils.files import write_text

log = logging.getLogger(__name__)
Batch = dict[str, Any]


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to learn. Learning rate: linear warm-up, then a cosine down to the final one."""

    steps: int = 100_000
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warmup_steps: int = 500
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.0  # > 0: a moving average of the weights is validated and saved in their place
    seed: int = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    workers: int = 1  # processes that prepare batches; 0: in the training process
    log_every: int = 50
    validate_every: int = 1000
    save_every: int = 500
    patience: int = 0  # stop after so many validations without a better score; 0: never

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not 0 < self.learning_rate or not 0 <= self.ema_decay < 1 or self.clip_norm <= 0:
            raise ValueError("need learning_rate > 0, 0 <= ema_decay < 1, clip_norm > 0")
        if min(self.log_every, self.validate_every, self.save_every) < 1 or min(self.warmup_steps, self.workers) < 0:
            raise ValueError(
                "log_every, validate_every, save_every must be at least 1; warmup_steps, workers at least 0"
            )

    def learning_rate_at(self, step: int) -> float:
        """The rate of step 1 .. steps."""
        if step <= self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * cosine


@dataclass
class Validation:
    """What a stage says of itself: `score` (lower is better) picks the best checkpoint."""

    score: float
    metrics: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Callable[[], Any]] = field(
        default_factory=dict
    )  # name -> function that draws a matplotlib Figure
    audio: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)  # name -> (samples (T,), Hz)
    warnings: list[str] = field(default_factory=list)  # shown in words, such as attention that does not align


class Task(ABC):
    """What one stage tells the loop: its modules, its batches, its losses."""

    kind: str  # of the checkpoint
    modules: dict[str, nn.Module]  # one optimizer each; the first one's weights are the checkpoint
    config: dict[str, Any]  # of the model, saved in the checkpoint
    mel: dict[str, Any] | None = None
    extra: dict[str, Any] = {}  # replaced by subclasses, never changed

    @abstractmethod
    def batch(self, step: int) -> Batch:
        """The whole batch of a step, over all processes: a pure function of (seed, step); CPU tensors (B, ...)."""

    @abstractmethod
    def losses(self, modules: Mapping[str, nn.Module], batch: Batch, phase: str, step: int) -> dict[str, Tensor]:
        """Losses for the module named `phase`; they are summed. Names that begin with "_" are only logged."""

    @abstractmethod
    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        """Measure on held-out speakers; modules are in eval mode, under inference_mode."""

    def phases(self, step: int) -> list[str]:
        """The modules to update at this step, in order."""
        return list(self.modules)

    def constrain(self, weights: Mapping[str, Tensor], step: int) -> None:  # noqa: B027 (nothing unless overridden)
        """Change weights of the first module in place after its step, such as pruned ones to 0.

        Called for the trained ones, and then for their moving average where there is one.
        """

    def shard(self, batch: Batch, rank: int, world: int) -> Batch:
        """The rows of one process: rank, rank + world, ..."""
        return {
            name: value[rank::world] if isinstance(value, Tensor | list) else value for name, value in batch.items()
        }

    def names(self, step: int) -> list[str]:
        """Utterances in the batch of a step, to name them when a loss is not finite."""
        return []


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings of `old` that differ now; one that there was not then does not count."""
    return [
        name
        for name, value in old.items()
        if (_changed(value, new.get(name) or {}) if isinstance(value, dict) else value != new.get(name))
    ]


def rng(*keys: int) -> np.random.Generator:
    """A generator that depends on the keys alone, such as (seed, step)."""
    return np.random.default_rng([k & 0xFFFFFFFF for k in keys])


class Cycler:
    """Random order without state: item `at(p)` of an endless sequence in which every round holds every item once.

    The first of a round is never the last of the round before (where there is more than one item), so every item comes
    within two rounds and never twice in a row.
    """

    def __init__(self, n: int, *seed: int) -> None:
        if n < 1:
            raise ValueError(f"nothing to cycle over: n = {n}")
        self.n, self.seed = n, seed
        self._round, self._order = -1, np.empty(0, int)

    def at(self, position: int) -> int:
        """Index (0 .. n-1) at an absolute position."""
        turn, place = divmod(position, self.n)
        if turn != self._round:
            self._round, self._order = turn, self._permutation(turn)
        return int(self._order[place])

    def _permutation(self, turn: int) -> np.ndarray:
        if self.n <= 2:
            return rng(*self.seed, 0).permutation(self.n)  # two items can only alternate
        order = rng(*self.seed, turn).permutation(self.n)
        # Only the first two places may be exchanged, so the last place of the round before is as it was drawn.
        if turn > 0 and order[0] == rng(*self.seed, turn - 1).permutation(self.n)[-1]:
            order[[0, 1]] = order[[1, 0]]
        return order


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
        run.loop()
    except torch.OutOfMemoryError as error:
        raise CloningError(
            "out of memory: lower the batch size (--set data.batch_size=...) or use --precision bf16"
        ) from error
    finally:
        run.close()
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
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision=config.precision)
        self.main = self.accelerator.is_main_process
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
        self.stop_requested = False
        self.board: Any = None

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
            if self.main:
                log.info("resuming %s at step %d", self.out, self.step)
        elif start_from is not None:
            source = checkpoint.load_weights(start_from, self.task.kind)
            kept = checkpoint.warm_start(self.task.modules[self.primary], source.state)
            if self.main:
                log.info("starting from %s; %d tensors keep fresh values: %s", start_from, len(kept), kept[:8])
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
        self._open_logs()
        with (
            _stop_on_signal(self),
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
                    self._log("train", {**means, "steps_per_second": count / (time.monotonic() - last_log)})
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
        loader = DataLoader(steps, batch_size=None, num_workers=workers, worker_init_fn=_ignore_interrupts)
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
            if not torch.isfinite(norm) and self.config.precision != "fp16":  # fp16: the loss scaler skips such steps
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

    # -- validation and logs -------------------------------------------------------------------------------------------

    def _validate(self, bar: tqdm) -> None:
        self.accelerator.wait_for_everyone()
        improved = torch.zeros(1, device=self.accelerator.device)
        if self.main:
            modules = self._unwrapped()
            trained = {k: v.clone() for k, v in self._weights().items()} if self.ema else None
            if self.ema:
                modules[self.primary].load_state_dict(self.ema)
            for module in modules.values():
                module.eval()
            torch.manual_seed(self.config.seed)
            with torch.inference_mode():
                result = self.task.validate(modules)
            if trained is not None:
                modules[self.primary].load_state_dict(trained)
            if not math.isfinite(result.score):
                raise CloningError(f"step {self.step}: the validation score is {result.score}: {result.metrics}")
            improved[0] = float(result.score < self.best)
            if improved:
                self.best = result.score
                self._write_weights("best.safetensors", {"score": result.score, **result.metrics})
            self._log("validation", {"score": result.score, **result.metrics})
            self._show(result)
            numbers = ", ".join(f"{k} {v:.4g}" for k, v in {"score": result.score, **result.metrics}.items())
            bar.write(f"step {self.step}: {numbers}{' (best)' if improved else ''}")
            for warning in result.warnings:
                bar.write(f"step {self.step}: warning: {warning}")
        if self.accelerator.num_processes > 1:
            improved = self.accelerator.reduce(improved)
        self.since_best = 0 if improved else self.since_best + 1

    def _open_logs(self) -> None:
        if not self.main:
            return
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CloningError(f"{self.out}: cannot write here: {error.strerror}; choose another --out") from error
        settings = {"training": to_dict(self.config), "model": self.task.config, "mel": self.task.mel}
        write_text(self.out / "settings.json", json.dumps(settings, indent=1) + "\n")
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(self.out / "tensorboard"))
        except ImportError:
            log.info("tensorboard is not installed: curves go to log.jsonl only")

    def _log(self, group: str, values: dict[str, float]) -> None:
        if not self.main:
            return
        row = {"step": self.step, "hours": round(self.seconds / 3600, 4), "group": group}
        row |= {k: round(float(v), 6) for k, v in values.items()}
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{group}/{name}", value, self.step)

    def _show(self, result: Validation) -> None:
        for name, (samples, rate) in result.audio.items():
            if self.board is not None:
                self.board.add_audio(name, samples[None, :], self.step, rate)
        for name, draw in result.figures.items():
            try:
                figure = draw()
            except ImportError:
                log.info("matplotlib is not installed: no pictures")
                return
            folder = self.out / "figures"
            folder.mkdir(exist_ok=True)
            figure.savefig(folder / f"{name}_{self.step:07d}.png", dpi=80)
            if self.board is not None:
                self.board.add_figure(name, figure, self.step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
        self.wrapped.clear()  # before the process group that they talk through is taken down
        self.accelerator.end_training()


class _stop_on_signal:
    """Ctrl-C and SIGTERM end the run after the step in progress, with everything saved; a second ends it at once."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
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


def _ignore_interrupts(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the training process decides


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


SEVERAL_PROCESSES = """
several processes (GPUs, or CPU processes) share the batch of a step, so that the result is that of one process:
  accelerate launch --multi_gpu --num_processes 2 {stage}_train.py DATA --out RUN
  accelerate launch --multi_gpu --num_processes 2 {stage}_train.py DATA --out RUN --device cpu --threads 1
(--multi_gpu starts them on machines without a GPU too, while accelerate's own --cpu would start only one)
"""


def add_arguments(parser: argparse.ArgumentParser, stage: str, presets: str) -> None:
    """The flags that the three train scripts share, and how to start several processes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (parser.epilog or "") + SEVERAL_PROCESSES.format(stage=stage)
    parser.add_argument("data", type=Path, help=f"a folder that {stage}_preprocess.py wrote")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="where weights, curves and pictures go; an interrupted run there goes on",
    )
    parser.add_argument("--config", default=None, help=f"preset in configs/{stage}/ ({presets}) or a .toml file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="change one setting, such as training.learning_rate=3e-4 (repeatable)",
    )
    parser.add_argument("--steps", type=int, help="how many steps to train in all (training.steps)")
    parser.add_argument(
        "--from",
        dest="start_from",
        type=Path,
        metavar="CHECKPOINT",
        help="begin with the weights of a checkpoint (layers that match)",
    )
    parser.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda"], help="auto: a GPU where there is one (default)"
    )
    parser.add_argument("--precision", choices=["no", "bf16", "fp16"], help="mixed precision (training.precision)")
    parser.add_argument("--workers", type=int, help="processes that prepare batches (training.workers)")
    parser.add_argument("--threads", type=int, help="CPU threads of each process (default: all cores)")


def say(text: str) -> None:
    """Print a line of a script's report, once however many processes there are."""
    if is_main_process():
        print(text)


def settings_of(args: argparse.Namespace) -> list[str]:
    """The assignments that shared flags stand for, `--set` last. Sets the number of threads on the way."""
    if args.threads:
        torch.set_num_threads(args.threads)
    flags = {"training.steps": args.steps, "training.workers": args.workers}
    assignments = [f"{name}={value}" for name, value in flags.items() if value is not None]
    if args.precision:
        assignments.append(f'training.precision="{args.precision}"')
    return assignments + args.settings
