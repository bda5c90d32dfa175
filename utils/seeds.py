"""Which seeds are taken."""

from __future__ import annotations

from numbers import Integral

from utils.errors import CloningError

SEEDS = 2**62  # what is derived from a seed still has 64 bits


def require_seed(seed: int | None) -> None:
    """Raises CloningError for a seed that no generator takes."""
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    if seed is not None and not (whole and 0 <= seed < SEEDS):
        raise CloningError(f"seed {seed}: a whole number from 0 to {SEEDS - 1} is wanted")
