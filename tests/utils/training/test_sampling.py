"""Cyclers are fair, and need no history."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.training.sampling import Cycler


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), seed=st.integers(0, 2**31), rounds=st.integers(1, 6))
def test_cycler_shows_every_item_once_a_round_and_never_twice_in_a_row(n, seed, rounds):
    order = [Cycler(n, seed).at(p) for p in range(0, n * rounds)] if n < 5 else None
    cycler = Cycler(n, seed)
    order = order or [cycler.at(p) for p in range(n * rounds)]
    for turn in range(rounds):
        assert Counter(order[turn * n : (turn + 1) * n]) == Counter(range(n))
    if n > 1:
        assert all(a != b for a, b in zip(order, order[1:], strict=False))


def test_cycler_needs_no_history():
    cycler = Cycler(7, 1, 2)
    forward = [cycler.at(p) for p in range(50)]
    assert [Cycler(7, 1, 2).at(p) for p in reversed(range(50))] == forward[::-1]
    with pytest.raises(ValueError, match="nothing to cycle over"):
        Cycler(0)
