"""Sums of the losses of many steps, kept on their device: nothing waits for it until they are read."""

from __future__ import annotations

import torch
from torch import Tensor


class Tally:
    """Named values, summed since they were last read, and the first step at which something was not finite."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[tuple[str, ...], Tensor] = {}
        self.bad: Tensor | None = None  # (1,): that step, 0 as long as there is none

    def add(self, values: dict[str, Tensor]) -> None:
        """Scalars of one step."""
        names = tuple(values)
        vector = torch.stack([v.detach().to(self.device, torch.float64).reshape(()) for v in values.values()])
        self.sums[names] = self.sums[names] + vector if names in self.sums else vector

    def check(self, step: int, total: Tensor) -> None:
        """Remember `step` if its `total` is the first that is not finite."""
        if self.bad is None:
            self.bad = torch.zeros((), dtype=torch.int64, device=self.device)
        at = torch.full_like(self.bad, step)  # filled by a kernel: a copy from the host would wait
        self.bad = torch.where(torch.isfinite(total.detach()) | (self.bad > 0), self.bad, at)

    def first_bad(self) -> int:
        """The first step that was not finite, 0 if there was none."""
        return 0 if self.bad is None else int(self.bad)

    def totals(self) -> dict[str, float]:
        """The sums of each name so far."""
        totals: dict[str, float] = {}
        for names, vector in self.sums.items():
            for name, value in zip(names, vector.tolist(), strict=True):
                totals[name] = totals.get(name, 0.0) + value
        return totals

    def clear(self) -> None:
        """Begin again."""
        self.sums = {}
