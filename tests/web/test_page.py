"""The page as a whole: how it opens, its address, what it keeps and serves, and a line for what nobody foresaw."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import tomllib

import pytest

from tests.conftest import ROOT
from tests.web.driver import CLIP, PATIENCE, agree, press, results, upload

pytest.importorskip("streamlit", reason="the page is optional: pip install -r requirements/app.txt")

from streamlit.testing.v1 import AppTest

from web import notes, speakers_tab, work

pytestmark = pytest.mark.slow


def test_it_opens_without_a_complaint(page):
    assert not page.exception and not page.error
    assert page.title[0].value == "Voice cloning" and [h.value for h in page.header] == [
        "1. A voice",
        "2. A text",
        "Takes",
    ]
    assert page.selectbox(key="sample").options == ["austen_0870", "austen_0890", "austen_0920", "goforward"]
    assert page.selectbox(key="encoder").options == ["Transformer (default)", "Transformer (smaller)"]
    assert page.selectbox(key="vocoder").options == ["Vocos (default)", "Griffin-Lim (no weights)"]
    assert "owners agree" in page.caption[-1].value


def test_the_button_fills_in_one_text_after_the_other(page):
    seen = []
    for _ in range(len(work.TEXTS) + 1):
        page.button(key="fill").click().run()
        seen.append(page.text_area(key="text").value)
    assert tuple(seen) == (*work.TEXTS, work.TEXTS[0])


def test_settings_and_text_stand_in_the_address(page, models):
    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE)
    for name, value in {"text": "Hello.", "seed": "5", "rate": "0.8", "sample": "goforward", "pause": "99"}.items():
        again.query_params[name] = value
    again.run()
    assert not again.exception and again.text_area(key="text").value == "Hello."
    assert again.number_input(key="seed").value == 5 and again.slider(key="rate").value == 0.8
    assert again.selectbox(key="sample").value == "goforward" and again.slider(key="pause").value == 1.0
    page.text_area(key="text").set_value("Good morning.").run()
    assert page.query_params["text"] in ("Good morning.", ["Good morning."])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Guten Morgen! Der Kessel steht auf dem Herd, und das Brot ist noch warm.", "German"),
        ("Bonjour tout le monde, comment allez-vous aujourd'hui ?", "French"),
        ("\u0414\u043e\u0431\u0440\u043e\u0435 \u0443\u0442\u0440\u043e", "Cyrillic"),
        ("\u65e9\u4e0a\u597d", "Cjk"),
        ("Good morning! The kettle is on, and the bread is still warm.", ""),
        ("Hi.", ""),
        ("The caf\u00e9 is open.", ""),
    ],
)
def test_what_is_not_english_is_noticed(text, words):
    if words in ("German", "French"):
        pytest.importorskip("py3langid")
    note = notes.of_text(text)
    assert words in note and bool(note) == bool(words)


def test_a_likeness_is_put_into_words():
    (encoder,) = notes.SCALES
    said = [notes.of_similarity(value, encoder).partition(":")[0] for value in (0.85, 0.7, 0.2)]
    assert said[1:] == ["Near", "Far"] and said[0].startswith("As near as another recording")
    assert "not known" in notes.of_similarity(0.8, "another")


def test_what_nobody_foresaw_is_a_line_that_names_the_log(page, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("voice_cloner.VoiceCloner.follow", fail)
    with caplog.at_level(logging.ERROR):
        press(page)
    (error,) = page.error
    assert "secret" not in error.value and not results(page)
    reference = error.value.split()[-1].rstrip(".")
    assert any(reference in record.message and "secret" in str(record.exc_info[1]) for record in caplog.records)


def test_too_little_memory_has_its_own_line():
    assert "not enough memory" in work.explain(MemoryError())


def test_nothing_of_an_upload_stays_on_disk(page, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    written = []
    write = work.audio.write
    monkeypatch.setattr(work.audio, "write", lambda path, *a, **k: written.append(path) or write(path, *a, **k))
    upload(page, CLIP.read_bytes())
    agree(page)
    press(page)
    assert len(results(page)) == 1 and [path.name for path in written] == ["clone.wav"]
    assert list(tmp_path.iterdir()) == []


def test_the_server_keeps_to_this_computer():
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    server = config["server"]
    assert (
        server["address"] == "localhost"
        and server["headless"]
        and server["maxUploadSize"] == work.megabytes(speakers_tab.MAX_SECONDS)
    )
    assert config["browser"]["gatherUsageStats"] is False and config["client"]["showErrorDetails"] == "none"
    assert "enableXsrfProtection" not in server and "enableCORS" not in server  # on unless switched off


def test_run_as_a_script_it_says_how_to_start_it():
    done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith("streamlit run app.py")
    assert "Traceback" not in done.stderr
