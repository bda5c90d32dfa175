"""What a training saves beside its weights (`state.pt`), looked over before a run goes on from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from utils.errors import CloningError
from utils.training.log import flat
from utils.training.task import Task
from utils.training.warm_start import changed
from utils.weights.checkpoint import load_training_state

MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of every parameter, beside its step
NUMBERS = {  # types, least and largest value
    "step": ((int,), 0, 2**53),
    "since_best": ((int,), 0, 2**53),
    "seconds": ((int, float), 0, 1e12),
    "best": ((int, float), -math.inf, math.inf),
    "unvalidated": ((bool,), False, True),
}


def read_state(path: Path, task: Task, optimizers: Mapping[str, Optimizer]) -> dict[str, Any]:
    """The state in `path`, fit for `load_state_dict` of the task's modules and of these optimizers.

    Raises CloningError: a run of another model; damaged, a key is missing, a value is of another type, size or range.
    """
    state = load_training_state(path)
    if not isinstance(state, dict) or not _plain(state.get("model")):
        raise _unfit(path, "model")
    if differing := changed(task.renamed({"model": state["model"]})["model"], task.model_config):
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise CloningError(
            f"{path.parent}: holds a run of another model ({', '.join(differing[:3])}{more}): choose another folder"
        )
    state.setdefault("unvalidated", False)  # older runs have none
    state.setdefault("ruler", {})
    if not _plain(state["ruler"]):
        raise _unfit(path, "ruler")
    for name, (kinds, least, most) in NUMBERS.items():
        value: Any = state.get(name)
        if type(value) not in kinds or not least <= value <= most:
            raise _unfit(path, name)
    for name, module in task.modules.items():
        if not _alike(_inner(state, "modules", name), module.state_dict()):
            raise _unfit(path, f"modules, {name}")
        moments = _moments(_inner(state, "optimizers", name), optimizers[name])
        if moments is None:
            raise _unfit(path, f"optimizers, {name}")
        # its settings are the run's own
        state["optimizers"][name] = {**optimizers[name].state_dict(), "state": moments}
    primary = next(iter(task.modules.values())).state_dict()
    if state.get("ema") != {} and not _alike(state.get("ema"), primary):
        raise _unfit(path, "ema")
    return state


def _plain(value: Any) -> bool:
    """Whether it is a dictionary of nothing but JSON's values, by names."""
    if not isinstance(value, dict):
        return False
    try:
        json.dumps(value)
        flat(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _inner(state: Mapping[str, Any], group: str, name: str) -> Any:
    found = state.get(group)
    return found.get(name) if isinstance(found, dict) else None


def _alike(found: Any, own: Mapping[str, Tensor]) -> bool:
    """Whether `found` holds tensors of the names, shapes and kinds of `own`, all finite."""
    return (
        isinstance(found, dict)
        and found.keys() == own.keys()
        and all(_fits(found[name], tensor.shape, tensor.is_floating_point()) for name, tensor in own.items())
    )


def _fits(tensor: Any, shape: torch.Size, floats: bool) -> bool:
    return (
        isinstance(tensor, Tensor)
        and tensor.shape == shape
        and tensor.layout == torch.strided
        and tensor.is_floating_point() == floats
        and not tensor.is_complex()
        and bool(torch.isfinite(tensor).all())
    )


def _moments(found: Any, optimizer: Optimizer) -> dict[int, Any] | None:
    """What an optimizer has kept of its parameters; None where it is not of these."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    kept = found.get("state") if isinstance(found, dict) else None
    fits = isinstance(kept, dict) and all(
        type(number) is int and 0 <= number < len(parameters) and _moments_fit(moments, parameters[number])
        for number, moments in kept.items()
    )
    return kept if fits else None


def _moments_fit(kept: Any, parameter: Tensor) -> bool:
    return (
        isinstance(kept, dict)
        and kept.keys() == {"step", *MOMENTS}
        and _fits(kept["step"], torch.Size(()), True)
        and all(_fits(kept[name], parameter.shape, True) for name in MOMENTS)
    )


def _unfit(path: Path, what: str) -> CloningError:
    return CloningError(
        f"{path}: damaged, or of another version: {what} is missing or not what a training saves; "
        "delete it to begin anew, or choose another folder"
    )
