"""What a batch changes: the networks of a task, their optimizers, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from utils.errors import CloningError
from utils.training.average import Average
from utils.training.sampling import rng
from utils.training.tally import Tally
from utils.training.task import Batch, Task, TrainingConfig


class Learner:
    """Updates each module of a task with an AdamW of its own."""

    def __init__(self, task: Task, config: TrainingConfig, accelerator: Accelerator) -> None:
        self.task, self.config, self.accelerator = task, config, accelerator
        freeze(self.first, config.frozen)
        self._trained = {n: [p for p in m.parameters() if p.requires_grad] for n, m in task.modules.items()}
        cuda = accelerator.device.type == "cuda"
        self.optimizers: dict[str, Any] = {}
        for name, module in task.modules.items():
            module.to(accelerator.device)  # before its optimizer, whose restored state follows the parameters
            self.optimizers[name] = torch.optim.AdamW(
                module.parameters(),
                config.learning_rate,
                config.betas,
                weight_decay=config.weight_decay,
                fused=cuda or None,
            )
        self.average = Average(config.ema_decay)
        self.tally = Tally(accelerator.device)
        self.checks_late = cuda  # whether losses are finite is asked when they are read: no step waits for the device
        self.modules: dict[str, nn.Module] = {}
        self._wrapped: dict[str, nn.Module] = {}  # the same, as several processes train them

    @property
    def first(self) -> nn.Module:
        """The module whose weights are the checkpoint."""
        return next(iter(self.task.modules.values()))

    def prepare(self) -> None:
        """Wrap what is trained, for the device and for several processes."""
        for name, module in self.task.modules.items():
            self._wrapped[name], self.optimizers[name] = self.accelerator.prepare(module.train(), self.optimizers[name])
        self.modules = {name: self.accelerator.unwrap_model(module) for name, module in self._wrapped.items()}
        self.average.follow(self._learned, self.accelerator.device)

    @property
    def _learned(self) -> nn.Module:
        return next(iter(self.modules.values()))

    # -- learning ------------------------------------------------------------------------------------------------------

    def step(self, batch: Batch, step: int, position: float) -> None:
        """Update every module whose turn it is. `position`: what settings in steps are compared with (`Clock`).

        Raises CloningError for a loss or gradient that is not finite.
        """
        torch.manual_seed(int(rng(self.config.seed, step, self.accelerator.process_index).integers(2**62)))
        values: dict[str, Tensor] = {}
        self.task.begin_step(batch)
        phases = self.task.phases(step)
        for phase in phases:
            losses, norm = self._update(phase, batch, step, self.config.learning_rate_at(position))
            values |= {name.lstrip("_"): value for name, value in losses.items()}
            values[f"gradient_norm/{phase}" if len(phases) > 1 else "gradient_norm"] = norm
        self.tally.add(values)
        if type(self.task).constrain is not Task.constrain:
            self.task.constrain(self._learned.state_dict(), step)
        if self.average.weights:
            self.average.advance(position, step)
            self.task.constrain(self.average.weights, step)

    def _update(self, phase: str, batch: Batch, step: int, learning_rate: float) -> tuple[dict[str, Tensor], Tensor]:
        """One step of the optimizer of the module `phase`; returns its losses and the norm of its gradient."""
        modules = {name: (self._wrapped[name] if name == phase else m) for name, m in self.modules.items()}
        for name, module in modules.items():
            if not module.training:
                module.train()
            if len(modules) > 1:
                for parameter in self._trained[name]:
                    parameter.requires_grad_(name == phase)
        with self.accelerator.autocast():
            losses = self.task.losses(modules, batch, phase, step)
        total = torch.stack([v.float() for n, v in losses.items() if not n.startswith("_")]).sum()
        self._check(step, losses, total)
        optimizer = self.optimizers[phase]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(total)
        norm = self.accelerator.clip_grad_norm_(modules[phase].parameters(), self.config.clip_norm)
        if self.accelerator.mixed_precision != "fp16":  # there the loss scaler skips such steps
            self._check(step, {"gradient": norm}, norm)
        optimizer.step()
        return losses, norm

    def _check(self, step: int, losses: Mapping[str, Tensor], total: Tensor) -> None:
        if self.checks_late:
            self.tally.check(step, total)
        elif not torch.isfinite(total):
            bad = [f"{name} = {float(v.detach()):g}" for name, v in losses.items() if not torch.isfinite(v).all()]
            raise _not_finite(step, bad, self.task)

    def check_finite(self) -> None:
        """Raises CloningError where a step was not finite; called before anything is saved or measured.

        This and `take_totals` are the places that wait for a GPU.
        """
        if step := self.tally.first_bad():
            bad = [f"{name} = {value:g}" for name, value in self.tally.totals().items() if not math.isfinite(value)]
            raise _not_finite(step, bad, self.task)

    def take_totals(self) -> dict[str, float]:
        """Sums of the losses since the last call. Raises CloningError for a step that was not finite."""
        self.check_finite()
        totals = self.tally.totals()
        self.tally.clear()
        return totals

    # -- what it has learned -------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """The weights of the first module: the moving average where there is one."""
        return self.average.weights or self._learned.state_dict()

    @contextmanager
    def evaluating(self) -> Iterator[Mapping[str, nn.Module]]:
        """The modules in eval mode, without gradients, the first with the averaged weights where there are such."""
        for module in self.modules.values():
            module.eval()
        torch.manual_seed(self.config.seed)
        with self.average.within(self._learned), torch.inference_mode():
            yield dict(self.modules)

    def state_dict(self) -> dict[str, Any]:
        """`modules`, `optimizers` and `ema` of `state.pt`, weights on the CPU."""
        return {
            "modules": {name: _on_cpu(module.state_dict()) for name, module in self.modules.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "ema": _on_cpu(self.average.weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Before `prepare`: go on from what `state_dict` returned."""
        for name, module in self.task.modules.items():
            module.load_state_dict(state["modules"][name])
            self.optimizers[name].load_state_dict(state["optimizers"][name])
        self.average.weights = state["ema"]

    def close(self) -> None:
        """Let go of the wrapped modules, before the process group that they use is taken down."""
        self._wrapped.clear()


def freeze(module: nn.Module, parts: Sequence[str]) -> None:
    """Keep the named parts of `module` from being trained; "*" stands for anything, as in "encoder.blocks.*.up".

    Raises CloningError for a part that it does not have.
    """
    parameters = dict(module.named_parameters())
    for part in parts:
        found = [parameter for name, parameter in parameters.items() if fnmatchcase(f"{name}.", f"{part}.*")]
        if not found:
            there = ", ".join(sorted({name.split(".")[0] for name in parameters}))
            raise CloningError(f"training.frozen has {part!r}, which is no part of the network: {there}")
        for parameter in found:
            parameter.requires_grad_(False)


def _on_cpu(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in weights.items()}


def _not_finite(step: int, bad: Sequence[str], task: Task) -> CloningError:
    names = task.names(step)
    where = f" in the batch of {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}" if names else ""
    return CloningError(
        f"step {step}: not finite: {', '.join(bad) or 'the sum'}{where}: check those files or lower "
        f"training.learning_rate; the last saved step is whole"
    )
