"""`--long`: many more cases, for a night; the suite itself stays quick."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--long")
