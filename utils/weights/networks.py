"""Networks and the weights that fill them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from utils.errors import CloningError
from utils.weights.checkpoint import Checkpoint

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)
_UNTOLD = 4_000_000  # numbers that a network may hold beside its weights, such as windows and tables


def rebuild(build: Callable[[], ModuleT], checkpoint: Checkpoint, state: Mapping[str, Tensor] | None = None) -> ModuleT:
    """The network that `build` makes, filled strictly (`load_into`), without drawing first values.

    Raises CloningError when its tensors do not fit, as soon as it has grown larger than the checkpoint.
    """
    state = checkpoint.state if state is None else state
    try:
        with _Unfilled(2 * sum(tensor.numel() for tensor in state.values()) + _UNTOLD):
            module = build()
    except _TooLarge:
        raise CloningError(
            f"{checkpoint.path}: does not fit this model: its config describes a network larger than its weights"
        ) from None
    load_into(module, checkpoint, state)
    return module


def load_into(module: torch.nn.Module, checkpoint: Checkpoint, state: Mapping[str, Tensor] | None = None) -> None:
    """Fill `module` strictly; a mismatch is one line that names the tensors and both shapes."""
    state = checkpoint.state if state is None else state
    wanted = module.state_dict()
    problems = [f"{name} is missing" for name in wanted.keys() - state.keys()]
    problems += [f"{name} is unknown" for name in state.keys() - wanted.keys()]
    problems += [
        f"{name} is {list(state[name].shape)} in the file, {list(wanted[name].shape)} in the model"
        for name in wanted.keys() & state.keys()
        if wanted[name].shape != state[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        told = "; ".join(sorted(problems)[:3])
        raise CloningError(f"{checkpoint.path}: does not fit this model: {told}{more}: export it again, or train anew")
    module.load_state_dict(dict(state))


def warm_start(module: torch.nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Copy the tensors whose name and shape match; return the names in `module` that keep their own values."""
    own = module.state_dict()
    matching = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    module.load_state_dict(matching, strict=False)
    return sorted(own.keys() - matching.keys())


class _TooLarge(Exception):
    """A network that is built has more numbers than its checkpoint can fill."""


class _Unfilled(TorchFunctionMode):
    """Networks built in this context begin as zeros, nothing drawn, with at most so many numbers (else _TooLarge)."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.left = numbers

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.__name__ in ("uniform_", "normal_", "kaiming_uniform_"):
            # zeros, not what lies in the memory: `trunc_normal_` draws again until all is within its bounds
            return (args[0] if args else (kwargs or {})["tensor"]).detach().zero_()
        if func not in (torch.empty, torch.zeros, torch.ones):
            return func(*args, **(kwargs or {}))
        try:
            made = func(*args, **(kwargs or {}))  # not touched yet, so that it takes no memory
        except RuntimeError as error:  # more than the system would ever give
            raise _TooLarge from error
        self.left -= made.numel()
        if self.left < 0:
            raise _TooLarge
        return made
