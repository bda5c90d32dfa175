"""No recording, whatever its bytes, ends in a traceback, takes long or takes much memory."""

from __future__ import annotations

import pytest

from tests.hostile import limits, sounds

pytestmark = pytest.mark.slow
USE = "tests.hostile.sounds:use"
MEGABYTES = 500


def test_whole_ones_are_taken(tmp_path):
    outcomes = limits.run(USE, sounds.whole(tmp_path), MEGABYTES)
    assert {o.kind for o in outcomes} == {"taken"}, outcomes


def test_faults_made_by_chance(tmp_path, long):
    given = list(sounds.mutations(tmp_path, 20_000 if long else 330))
    outcomes = limits.run(USE, given, MEGABYTES)
    assert len(outcomes) == len(given) and not [o for o in outcomes if not o.clean or not o.text.isprintable()]
    assert max(o.megabytes for o in outcomes) < 200  # 60 s at 192 kHz in two channels of 64 bits
