"""Who speaks when, on the page."""

from __future__ import annotations

import json
import sys

import pytest

from tests.conftest import ROOT
from tests.web.driver import PATIENCE, lines

pytest.importorskip("streamlit", reason="the page is optional: pip install -r requirements/app.txt")

from streamlit.testing.v1 import AppTest

from encoder import camplus
from web import speakers_tab, voice_input, weights

pytestmark = pytest.mark.slow

M4A = b"\0\0\0\x20ftypM4A " + bytes(64)


@pytest.fixture
def real_page(monkeypatch):
    """With the default weights, as diarization wants an encoder that knows voices, and its calibration."""
    for name in ("encoder.safetensors", "diarization.json"):
        if not (ROOT / "saved_models" / "default" / name).is_file():
            pytest.skip(f"no saved_models/default/{name}")
    speakers_tab._diarizer.clear()
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE).run()


def find_out(page: AppTest) -> AppTest:
    page.button(key="diarize").click().run()
    assert not page.exception
    return page


def test_who_speaks_when_in_the_example(real_page):
    found = find_out(real_page).session_state["turns"]
    report = json.loads(found.report)
    assert not real_page.error and report["recording"] == "example" and list(report["speakers"]) == ["S1", "S2"]
    assert [voice["turns"] for voice in report["speakers"].values()] == [2, 2]
    assert found.rttm.count("SPEAKER example 1 ") == 4 and "<audio" in found.html
    assert found.csv.count("\n") == 5 and found.srt.count(" --> ") == 4 and found.picture.startswith(b"\x89PNG")
    assert [b.label for b in real_page.get("download_button")] == [
        "Turns (RTTM)",
        "Turns (CSV)",
        "Subtitles (SRT)",
        "Report (JSON)",
        "This page (HTML)",
        "Picture (PNG)",
    ]


def test_people_are_recognized_by_their_clips(real_page):
    clips = [("Reader.wav", (ROOT / "samples" / "austen_0920.wav").read_bytes(), "audio/wav"),
             ("Other man.wav", (ROOT / "samples" / "goforward.wav").read_bytes(), "audio/wav")]  # fmt: skip
    real_page.file_uploader(key="people").set_value(clips).run()
    found = find_out(real_page).session_state["turns"]
    assert not real_page.error and list(json.loads(found.report)["speakers"]) == ["Reader", "Other man"]


def test_how_many_speak_can_be_said(real_page):
    real_page.selectbox(key="speakers").set_value(1)
    assert "S2" not in find_out(real_page).session_state["turns"].rttm


def test_camplus_is_offered_where_it_is_installed(real_page, monkeypatch):
    monkeypatch.setattr(camplus, "in_package", lambda package, name: None)
    assert "camplus" not in [box.key for box in real_page.run().checkbox]
    monkeypatch.setattr(camplus, "installed", lambda: True)
    real_page.run().checkbox(key="camplus").check()
    assert f"CAM++ needs the file {camplus.MODEL}" in lines(find_out(real_page))


def test_a_recording_is_asked_for_and_a_bad_one_is_a_line(real_page):
    real_page.radio(key="conversation").set_value(voice_input.UPLOAD).run()
    assert "no recording yet" in lines(find_out(real_page))
    real_page.file_uploader(key="meeting").set_value(("m.m4a", M4A, "audio/mp4")).run()
    assert "m.m4a is damaged" in lines(real_page)


def test_without_its_calibration_diarization_is_a_line(page):
    speakers_tab._diarizer.clear()
    assert "no calibration" in lines(find_out(page))


def test_without_its_packages_diarization_is_a_line(models, monkeypatch):
    monkeypatch.setattr(weights, "SAVED_MODELS", models)
    monkeypatch.setitem(sys.modules, "diarization.pipeline", None)
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE).run()
    assert not page.exception and not page.error and "package diarization is missing" in page.info[0].value
