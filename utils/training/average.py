"""An exponential moving average of weights that follows the run's position, not its count of steps.

torch.optim.swa_utils averages with a decay that is fixed when it is built; with a budget of time, a step moves the run
on by more or less than one, and the average with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Averaged tensors by name, `weights`: none where `decay` is 0, and then nothing is done."""

    def __init__(self, decay: float, weights: Mapping[str, Tensor] | None = None) -> None:
        self.decay, self.weights, self.position = decay, dict(weights or {}), 0.0
        self._live: dict[str, Tensor] = {}

    def follow(self, module: nn.Module, device: torch.device) -> None:
        """Average the parameters and buffers of `module` from now on, begun with what they are."""
        self._live = module.state_dict(keep_vars=True)
        if self.decay and not self.weights:
            self.weights = {name: value.detach().clone() for name, value in self._live.items()}
        self.weights = {name: value.to(device) for name, value in self.weights.items()}

    def advance(self, position: float, step: int) -> None:
        """Move on to `position`, as if by so many steps; early on, faster."""
        moved, self.position = position - self.position, position
        decay = min(self.decay**moved, (1 + step) / (10 + step))
        moving = [name for name, value in self._live.items() if value.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([self.weights[n] for n in moving], [self._live[n] for n in moving], 1 - decay)
            for name in self._live.keys() - set(moving):
                self.weights[name].copy_(self._live[name])

    @contextmanager
    def within(self, module: nn.Module) -> Iterator[None]:
        """`module` holds the average, where there is one, and afterwards its own weights again."""
        if not self.weights:
            yield
            return
        own = {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict(self.weights)
        try:
            yield
        finally:
            module.load_state_dict(own)
