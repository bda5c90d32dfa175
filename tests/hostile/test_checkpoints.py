"""No checkpoint ends in a traceback, takes long, takes much memory, or runs code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.hostile import checkpoints, limits

pytestmark = pytest.mark.slow
USE = "tests.hostile.checkpoints:use"
MEGABYTES = 700  # of address space beside the libraries: three times the largest file, and the pieces of the networks


def look(outcomes: Sequence[limits.Outcome], given: Sequence[Path]) -> None:
    assert len(outcomes) == len(given)
    assert not [o for o in outcomes if not o.clean]
    for outcome, path in zip(outcomes, given, strict=True):
        if outcome.kind == "refused":
            size = path.stat().st_size / 2**20 if path.exists() else 0
            assert outcome.text.isprintable() and len(outcome.text) < 1100, outcome
            assert outcome.megabytes < 64 + 3 * size, outcome


def test_whole_ones_are_taken(tmp_path):
    outcomes = limits.run(USE, list(checkpoints.whole(tmp_path).values()), MEGABYTES)
    assert [o.kind for o in outcomes] == ["taken"] * 12, outcomes


def test_faults_made_by_hand(tmp_path, long):
    given = [path for _, path in checkpoints.cases(tmp_path, every=1 if long else 7)]
    assert len(given) > 300
    look(limits.run(USE, given, MEGABYTES), given)
    assert not list(tmp_path.rglob("trap"))


def test_faults_made_by_chance(tmp_path, long):
    given = list(checkpoints.mutations(tmp_path, 20_000 if long else 300))
    look(limits.run(USE, given, MEGABYTES), given)
