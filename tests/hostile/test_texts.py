"""No text ends in a traceback, takes long or takes much memory."""

from __future__ import annotations

import pytest

from tests.hostile import limits, texts

pytestmark = pytest.mark.slow


def test_texts_by_chance(tmp_path, long):
    given = list(texts.mutations(tmp_path, 20_000 if long else 330))
    outcomes = limits.run("tests.hostile.texts:use", given, megabytes=500)
    assert len(outcomes) == len(given) and not [o for o in outcomes if not o.clean or not o.text.isprintable()]
    assert sum(o.kind == "taken" for o in outcomes) > len(given) / 2
