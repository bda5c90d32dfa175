"""Random choices without state: they depend on seeds and places alone, so that a run can go on anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np


def rng(*keys: int) -> np.random.Generator:
    """A generator that depends on the keys alone, such as (seed, step)."""
    return np.random.default_rng([k & 0xFFFFFFFF for k in keys])


class Cycler:
    """Random order without state: item `at(p)` of an endless sequence in which every round holds every item once.

    The first of an epoch is never the last of the epoch before (where there is more than one item), so every item comes
    within two rounds and never twice in a row.
    """

    def __init__(self, n: int, *seed: int) -> None:
        if n < 1:
            raise ValueError(f"nothing to cycle over: n = {n}")
        self.n, self.seed = n, seed
        self._epoch, self._order = -1, np.empty(0, int)

    def at(self, position: int) -> int:
        """Index (0 .. n-1) at an absolute position."""
        epoch, place = divmod(position, self.n)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._permutation(epoch)
        return int(self._order[place])

    def _permutation(self, epoch: int) -> np.ndarray:
        if self.n <= 2:
            return rng(*self.seed, 0).permutation(self.n)  # two items can only alternate
        order = rng(*self.seed, epoch).permutation(self.n)
        # Only the first two places may be exchanged, so the last place of the epoch before is as it was drawn.
        if epoch > 0 and order[0] == rng(*self.seed, epoch - 1).permutation(self.n)[-1]:
            order[[0, 1]] = order[[1, 0]]
        return order


def by_chance(names: Iterable[str]) -> list[str]:
    """Names in an order that has nothing to do with their contents, the same everywhere."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def a_few(names: Sequence[str], most: int) -> list[str]:
    """What to hold out where no speaker can be: a fifth of the names, at least one and at most `most`; none of one."""
    return by_chance(names)[: min(most, max(1, len(names) // 5))] if len(names) > 1 else []
