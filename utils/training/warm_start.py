"""Weights that a training begins with, and whether a run can go on with other settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from utils.errors import CloningError
from utils.training.log import flat
from utils.training.task import Task
from utils.weights import checkpoint
from utils.weights.networks import warm_start


def begin_from(path: str | Path, task: Task, module: nn.Module) -> list[str]:
    """Give `module` the tensors of a checkpoint that fit it; returns the names of those that keep fresh values.

    Raises CloningError: of another kind or architecture, or nothing fits.
    """
    source = checkpoint.load_weights(path, task.kind)
    theirs, ours = (_architecture(config) for config in (source.config, task.model_config))
    if theirs and theirs != ours and theirs not in task.begins_as:
        raise CloningError(
            f"{path}: its architecture is {theirs}, that of this run is {ours}: choose settings with "
            f"architecture {theirs}, or begin without it"
        )
    state = source.state if theirs == ours else task.taken_from(theirs, source.state)
    fresh = warm_start(module, state)
    if {name for name, value in module.state_dict().items() if value.ndim > 1} <= set(fresh):
        raise CloningError(
            f"{path}: none of its matrices fits this run's network: choose the settings that it was trained with, "
            "or begin without it"
        )
    return fresh


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings of `old` that differ now, with both values; one that there was not then does not count."""
    now = flat(dict(new))
    return [f"{name} {value} -> {now.get(name)}" for name, value in flat(dict(old)).items() if value != now.get(name)]


def _architecture(config: Mapping[str, Any]) -> str | None:
    """The network's name in a stage's config; None in what published checkpoints lack."""
    return config.get("architecture") or config.get("model")
