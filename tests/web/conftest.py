"""The page with tiny models."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models
from tests.web.driver import PATIENCE


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """saved_models/ with our three stages in default/ and a second encoder in other/."""
    folder = tmp_path_factory.mktemp("saved_models")
    save_tiny_models(folder / "default")
    save_tiny_models(folder / "smaller", embedding_size=16)
    for stage in ("synthesizer", "vocoder"):
        (folder / "smaller" / f"{stage}.safetensors").unlink()
    return folder


@pytest.fixture
def page(models, monkeypatch):
    from streamlit.testing.v1 import AppTest

    from web import chain, weights

    monkeypatch.setattr(weights, "SAVED_MODELS", models)
    chain._cached.clear()
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE).run()
