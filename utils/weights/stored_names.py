"""Attributes of networks under better names than those that their tensors have in files.

Checkpoints, training states, adapted voices and fingerprints go by the names in files, which therefore stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn


def store_as(module: nn.Module, names: Mapping[str, str]) -> None:
    """Give attributes of `module`, such as "output", other names in state dicts, such as {"output": "leave"}."""
    module.register_state_dict_post_hook(partial(_rename, dict(names)))
    module.register_load_state_dict_pre_hook(partial(_rename, {stored: own for own, stored in names.items()}))


def _rename(names: Mapping[str, str], module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    renamed = {_new_name(name, prefix, names): tensor for name, tensor in state.items()}
    state.clear()
    state.update(renamed)


def _new_name(name: str, prefix: str, names: Mapping[str, str]) -> str:
    if not name.startswith(prefix):
        return name
    part, dot, rest = name.removeprefix(prefix).partition(".")
    return f"{prefix}{names.get(part, part)}{dot}{rest}"
