"""Weights on the page: which are offered, what does not fit, emotions and their license."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models
from tests.web.driver import PATIENCE, lines, press, results

pytest.importorskip("streamlit", reason="the page is optional: pip install -r requirements/app.txt")

from streamlit.testing.v1 import AppTest

from utils.audio.mel import SYNTHESIZER_MEL
from voice_cloner import VoiceCloner
from web import clone_tab, weights

pytestmark = pytest.mark.slow


def test_an_encoder_that_does_not_fit_is_a_line(page):
    page.selectbox(key="encoder").set_value("Transformer (smaller)").run()
    assert "advanced settings" in lines(press(page)) and not results(page)
    assert "the encoder gives 16 numbers" in lines(page) and "--" not in lines(page)


def test_an_emotion_is_asked_for_beside_the_text_and_brings_its_weights(page, models, monkeypatch):
    assert "emotion" not in [box.key for box in page.selectbox]
    save_tiny_models(models / "feeling", emotions=("neutral", "happy"))
    for stage in ("encoder", "vocoder"):
        (models / "feeling" / f"{stage}.safetensors").unlink()
    (models / "feeling" / "MODEL_CARD.md").write_text("# Not for commercial use\n", encoding="utf-8")
    try:
        page.run()
        assert page.selectbox(key="emotion").options == [clone_tab.NO_EMOTION, "neutral", "happy"]
        assert not results(press(page))[0].noncommercial and not page.warning
        page.selectbox(key="emotion").set_value("happy").run()
        assert any("non-commercial" in warning.value for warning in page.warning)
        (take, _) = results(press(page))
        assert take.settings["emotion"] == "happy" and take.noncommercial and "Parallel (feeling)" in take.chain
        assert len([w for w in page.warning if "non-commercial" in w.value]) == 2  # at the selector, at the download
    finally:
        shutil.rmtree(models / "feeling")


def test_a_vocoder_that_does_not_fit_is_replaced_by_one_that_does(page, models):
    """Unless stages that do not fit are allowed."""
    wide = save_tiny_models(models / "wide", vocoder_mel=replace(SYNTHESIZER_MEL, fmin=0.0))
    try:
        page.run()
        page.selectbox(key="vocoder").set_value("Vocos (wide)").run()
        assert any("spoken through Vocos (default)" in caption.value for caption in page.caption)
        (take,) = results(press(page))
        assert "Vocos (default)" in take.chain
        found = {"a": str(models / "default" / "vocoder.safetensors"), "b": str(wide / "vocoder.safetensors")}
        synthesizer = str(wide / "synthesizer.safetensors")
        assert [weights.fitting(found, name, synthesizer) for name in found] == ["a", "a"]
        page.checkbox(key="mismatch").check().run()
        assert not any("spoken through" in caption.value for caption in page.caption)
    finally:
        shutil.rmtree(wide)


def test_no_weights_is_a_line(models, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "SAVED_MODELS", tmp_path)
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE).run()
    assert not page.exception and "no encoder in any folder" in lines(page)


def test_weights_are_offered_by_what_they_are(models, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "SAVED_MODELS", tmp_path)
    shutil.copytree(models / "default", tmp_path / "aa")
    shutil.copytree(models / "default", tmp_path / "default")
    (tmp_path / "default" / "synthesizer.safetensors").rename(tmp_path / "aa" / "fancy.safetensors")
    (tmp_path / "aa" / "encoder_published.pt").write_bytes(bytes(100))
    (tmp_path / "aa" / "MODEL_CARD.md").write_text("encoder", encoding="utf-8")
    assert list(weights.find("encoder")) == ["Transformer (default)", "Transformer (aa)", "LSTM (aa/encoder_published)"]
    assert list(weights.find("synthesizer")) == ["Parallel (aa)", "Parallel (aa/fancy)"]


def test_a_damaged_file_is_a_line(page, models):
    target = models / "smaller" / "vocoder.safetensors"
    target.write_bytes((models / "default" / "vocoder.safetensors").read_bytes()[:200])
    try:
        page.run()
        page.selectbox(key="vocoder").set_value("damaged file (smaller)").run()
        assert "damaged or cut off" in lines(press(page)) and not results(page)
    finally:
        target.unlink()


def test_models_are_loaded_once_until_their_file_changes(page, models, monkeypatch):
    loads = []
    load = VoiceCloner.load.__func__
    monkeypatch.setattr(VoiceCloner, "load", classmethod(lambda cls, *a, **k: loads.append(1) or load(cls, *a, **k)))
    press(press(page))
    assert len(loads) == 1
    path = models / "default" / "vocoder.safetensors"
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 10))
    press(page)
    assert len(loads) == 2
