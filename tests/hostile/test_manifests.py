"""No edited set ends in a traceback, takes long, takes much memory, or is read outside of its folder."""

from __future__ import annotations

import pytest

from tests.hostile import limits, manifests

pytestmark = pytest.mark.slow
USE = "tests.hostile.manifests:use"
MEGABYTES = 700


def test_whole_ones_are_taken(tmp_path):
    outcomes = limits.run(USE, manifests.whole(tmp_path), MEGABYTES)
    assert [o.kind for o in outcomes] == ["taken"] * 3, outcomes


def test_edited_ones(tmp_path, long):
    given = list(manifests.cases(tmp_path, every=1 if long else 5))
    assert len(given) > 300
    outcomes = limits.run(USE, given, MEGABYTES)
    assert len(outcomes) == len(given) and not [o for o in outcomes if not o.clean or not o.text.isprintable()]


def test_faults_made_by_chance(tmp_path, long):
    given = list(manifests.mutations(tmp_path, 20_000 if long else 300))
    outcomes = limits.run(USE, given, MEGABYTES)
    assert len(outcomes) == len(given) and not [o for o in outcomes if not o.clean or not o.text.isprintable()]
