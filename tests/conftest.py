"""What all tests share: one thread, the recorded outputs, and the golden files that cannot be redistributed."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT, DATA = TESTS.parent, TESTS / "data"
SAMPLES = ROOT / "samples"


def pytest_configure(config: pytest.Config) -> None:
    """Only in processes that run tests: the one that hands them out needs neither package."""
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        return
    import utils  # noqa: F401, I001 - before torch: it settles how idle threads wait
    import torch
    from hypothesis import HealthCheck, settings

    torch.set_num_threads(1)
    # No verdict by the clock, and the same examples on every machine.
    checks = [HealthCheck.too_slow]
    settings.register_profile("steady", deadline=None, suppress_health_check=checks, derandomize=True)
    settings.load_profile("steady")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Modules of which nothing would be run are not loaded: some load a web server."""
    return True if config.getoption("markexpr") == "not slow" and _is_slow(collection_path) else None


def pytest_collection_finish() -> None:
    gc.freeze()  # what is loaded by now stays: no collection of garbage looks through it again


def _is_slow(path: Path) -> bool:
    """Whether a module says `pytestmark = pytest.mark.slow`: it trains, starts processes, drives the page, searches."""
    return path.suffix == ".py" and "\npytestmark = pytest.mark.slow\n" in path.read_text(encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="many more cases of tests/hostile, for a night")


@pytest.fixture(autouse=True)
def root_log_level() -> Iterator[None]:
    """A script's --quiet is that of one test: `logging.basicConfig` sets the level of the whole process."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture(autouse=True)
def pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Trainings within the tests' process draw for tests marked `pictures` only: it takes longer than to train."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("pictures") is None:
            patch.setattr("utils.training.log.RunLog.show", lambda *_: None)
            patch.setattr("utils.training.log.RunLog._draw_curves", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Recorded outputs that the repository carries."""
    return DATA


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """Recorded outputs that hold audio which is not redistributed here; tests skip where they are missing."""
    path = Path(os.environ.get("VOICE_GOLDEN", ROOT.parent / "shared" / "golden"))
    if not (path / "encoder.npz").is_file():
        pytest.skip(f"no recorded outputs of redistributed clips at {path} (set VOICE_GOLDEN)")
    return path


@pytest.fixture(scope="session")
def published_encoder() -> Path:
    """The published encoder.pt: $PUBLISHED_ENCODER, in saved_models/published, or inside the package Resemblyzer."""
    from evaluation.judges.likeness import find_published_encoder

    named = Path(os.environ.get("PUBLISHED_ENCODER", ""))
    if path := named if named.is_file() else find_published_encoder():
        return path
    pytest.skip("no published encoder.pt (demo_cli.py --models published fetches it; or set PUBLISHED_ENCODER)")
