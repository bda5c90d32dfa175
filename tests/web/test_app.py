"""The page by Streamlit's own test driver: what it offers, what it asks first, and a line for whatever goes wrong."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models

pytest.importorskip("streamlit", reason="the page is optional: pip install -r requirements/app.txt")

from streamlit.testing.v1 import AppTest

import demo_cli
from utils.errors import CloningError
from utils.plots import new_figure
from voice_cloner import VoiceCloner
from web import clone_tab, speakers_tab, weights, work

CLIP = ROOT / "samples" / "austen_0890.wav"
PATIENCE = 600  # s; a busy machine is no failure
M4A = b"\0\0\0\x20ftypM4A " + bytes(64)
DRAW = work.draw
PICTURES = ("speech", "reference", "embedding", "embedding of the reference")
DOT = work.png(new_figure(1, 1)[0])


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
    monkeypatch.setattr(weights, "SAVED_MODELS", models)
    monkeypatch.setattr(work, "draw", lambda *_: dict.fromkeys(PICTURES, DOT))  # most of the time of a tiny clone
    clone_tab._cached.clear()
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE).run()


def wav(samples, rate=16000, container="WAV", subtype=None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def lines(page: AppTest) -> str:
    """The page's errors, as read (backslashes keep Markdown from seeing marks in them)."""
    return "\n".join(error.value for error in page.error).replace("\\", "")


def upload(page: AppTest, data: bytes, name: str = "me.wav") -> AppTest:
    page.radio(key="source").set_value(clone_tab.UPLOAD).run()
    return page.file_uploader(key="upload").set_value((name, data, "application/octet-stream")).run()


def press(page: AppTest, text: str | None = "Hello there.") -> AppTest:
    if text is not None:
        page.text_area(key="text").set_value(text)
    page.button(key="clone").click().run()
    assert not page.exception
    return page


def results(page: AppTest) -> list:
    return page.session_state["outcome"].results if "outcome" in page.session_state else []


def test_it_opens_without_a_complaint(page):
    assert not page.exception and not page.error
    assert page.title[0].value == "Voice cloning"
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


def test_a_sample_is_cloned_at_once(page, monkeypatch):
    monkeypatch.setattr(work, "draw", DRAW)
    page.number_input(key="seed").set_value(5)
    press(page)
    (result,) = results(page)
    assert not page.error and result.cloning.seed == 5 and result.cloning.pieces[0].text == "Hello there."
    assert len(page.get("audio")) == 4  # the choice, the reference beside the clone, the other tab's recording
    assert page.metric[0].value == f"{result.cloning.similarity:.2f}"
    assert set(result.pictures) == set(PICTURES)
    assert all(picture.startswith(b"\x89PNG") and len(picture) > 5000 for picture in result.pictures.values())
    assert [button.label for button in page.get("download_button")] == ["Download"]
    # another touch of the page does not clone again, nor lose the result
    page.radio(key="source").set_value(clone_tab.UPLOAD).run()
    assert results(page) == [result] and len(page.get("audio")) == 3


def test_the_download_is_what_the_command_line_writes(page, models, tmp_path):
    page.number_input(key="seed").set_value(5)
    page.slider(key="rate").set_value(0.8)
    press(page)
    path = tmp_path / "o.wav"
    sample = str(ROOT / "samples" / "austen_0870.wav")
    demo_cli.main(["--models", str(models / "default"), "--reference", sample, "--text", "Hello there.", "--seed", "5",
                   "--rate", "0.8", "--output", str(path), "--device", "cpu", "--quiet"])  # fmt: skip
    assert results(page)[0].wav == path.read_bytes()
    with soundfile.SoundFile(path) as file:
        assert "synthetic speech" in file.comment and "watermarked" in file.comment


def test_rate_and_seed_reach_the_library(page):
    page.number_input(key="seed").set_value(7)
    page.slider(key="rate").set_value(2.0)
    fast = results(press(page))[0].cloning
    page.slider(key="rate").set_value(0.5)
    slow = results(press(page))[0].cloning
    assert slow.audio.seconds > 2 * fast.audio.seconds and fast.seed == slow.seed == 7
    page.number_input(key="seed").set_value(None)
    assert results(press(page))[0].cloning.seed != 7


def test_pauses_reach_the_library(page):
    page.number_input(key="seed").set_value(7)
    seconds = []
    for factor in (0.0, 3.0):
        page.slider(key="pause").set_value(factor)
        seconds.append(results(press(page, "One. Two."))[0].cloning.audio.seconds)
    assert seconds[1] > seconds[0] + 0.3


@pytest.mark.parametrize("text", ["", "   \n", None])
def test_no_text_is_a_line(page, text):
    assert "nothing to say" in lines(press(page, text)) and not results(page)


def test_text_that_cannot_be_spoken_is_the_librarys_line(page):
    assert "holds nothing that can be spoken" in lines(press(page, "..."))


def test_a_long_text_is_a_line(page):
    assert page.text_area(key="text").proto.max_chars == work.MAX_CHARACTERS
    with pytest.raises(CloningError, match="at most 1000"):
        work.require_text("word " * 300)


def test_a_voice_of_ones_own_needs_the_tick(page):
    upload(page, CLIP.read_bytes())
    assert "agrees" in page.checkbox[0].label
    assert "Tick first" in lines(press(page)) and not results(page)
    page.checkbox[0].check().run()
    assert not press(page).error and len(results(page)) == 1


def test_the_next_recording_needs_its_own_tick(page):
    upload(page, CLIP.read_bytes())
    page.checkbox[0].check().run()
    upload(page, (ROOT / "samples" / "austen_0920.wav").read_bytes())
    assert not page.checkbox[0].value and "Tick first" in lines(press(page))


def test_the_microphone_needs_the_tick_too(page):
    page.radio(key="source").set_value(clone_tab.RECORD).run()
    assert "no voice yet" in lines(press(page))
    page.get("audio_input")[0].set_value(("audio.wav", CLIP.read_bytes(), "audio/wav")).run()
    assert "Tick first" in lines(press(page))
    page.checkbox[0].check().run()
    assert not press(page).error and len(results(page)) == 1


@pytest.mark.parametrize("container", ["FLAC", "OGG", "MP3"])
def test_other_formats_are_read(page, container):
    samples, rate = soundfile.read(CLIP)
    upload(page, wav(samples, rate, container), f"me.{container.lower()}")
    page.checkbox[0].check().run()
    assert not press(page).error and len(results(page)) == 1


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (M4A, "me.m4a", "me.m4a is damaged, truncated or no audio"),
        (b"no audio at all, but a letter", "me.wav", "me.wav is not audio that can be read"),
        (b"", "me.wav", "me.wav is empty"),
        (CLIP.read_bytes()[:5000], "cut.wav", "cut.wav is truncated"),
        (bytes(26 * 2**20), "big.wav", "at most 25 MB"),
        (wav(np.zeros(130 * 8000), 8000), "long.wav", "130 s long; at most 120 s"),
    ],
    ids=["m4a", "text", "empty", "truncated", "big", "long"],
)
def test_a_bad_file_is_a_line_at_once(page, data, name, words):
    upload(page, data, name)
    assert words in lines(page) and not page.exception and not page.checkbox(key="mismatch").value
    assert "no voice yet" in lines(press(page)) and not results(page)


def test_a_picture_that_fails_costs_nothing_but_itself(page, monkeypatch):
    def fail(*_):
        raise ValueError("no such colour")

    monkeypatch.setattr(work, "draw", DRAW)
    monkeypatch.setattr(work.plots, "plot_cloning", fail)
    press(page)
    assert len(results(page)) == 1 and not page.error and not page.exception
    assert any("picture of the speech could not be drawn" in caption.value for caption in page.caption)


def test_dollars_and_backslashes_cost_no_clone(page, monkeypatch):
    monkeypatch.setattr(work, "draw", DRAW)
    assert not press(page, "It costs $5, not $x^2 or \\frac.").error and len(results(page)) == 1
    assert not any("could not be drawn" in caption.value for caption in page.caption)


def test_silence_is_a_line_when_it_is_cloned(page):
    upload(page, wav(np.zeros(32000)))
    page.checkbox[0].check().run()
    assert "the reference" in lines(press(page)) and not results(page)


def test_marks_in_a_file_name_stay_what_they_are(page):
    upload(page, b"no audio", "*a* [b](c) $d$ :red[e].wav")
    (error,) = page.error
    assert error.value.startswith(r"\*a\* \[b\](c) \$d\$ \:red\[e\].wav is not audio")


def test_an_encoder_that_does_not_fit_is_a_line(page):
    page.selectbox(key="encoder").set_value("Transformer (smaller)").run()
    assert "the encoder gives 16 numbers" in lines(page) and "--" not in lines(page)
    assert "advanced settings" in lines(press(page)) and not results(page)


def test_two_encoders_are_compared(page, models):
    shutil.copy(models / "default" / "encoder.safetensors", models / "default" / "encoder_copy.safetensors")
    try:
        page.run()
        page.selectbox(key="compare").set_value("Transformer (default/encoder_copy)")
        press(page)
    finally:
        (models / "default" / "encoder_copy.safetensors").unlink()
    first, second = results(page)
    assert first.wav == second.wav and first.cloning.seed == second.cloning.seed  # the same weights, the same seed
    table = page.dataframe[0].value
    assert list(table["cloned with"]) == ["Transformer (default)", "Transformer (default/encoder_copy)"]
    assert table.iloc[0, 1] == pytest.approx(first.cloning.similarity, abs=1e-5)
    assert len(page.get("download_button")) == 2


def test_one_of_two_may_fail(page):
    page.selectbox(key="compare").set_value("Transformer (smaller)")
    press(page)
    good, bad = results(page)
    assert good.title == "Transformer (default)" and "16 numbers" in bad and bad in lines(page)
    assert not page.dataframe


def test_emotions_are_offered_where_the_synthesizer_has_them(page, monkeypatch):
    assert "emotion" not in [box.key for box in page.selectbox]
    asked = []
    clone = VoiceCloner.clone

    def remember(self, *args, emotion=None, **kwargs):
        asked.append(emotion)
        return clone(self, *args, **kwargs)

    monkeypatch.setattr(VoiceCloner, "clone", remember)
    monkeypatch.setattr("synthesizer.inference.Synthesizer.emotions", ("neutral", "happy"), raising=False)
    page.run()
    assert page.selectbox(key="emotion").options == [clone_tab.NO_EMOTION, "neutral", "happy"]
    press(page)
    page.selectbox(key="emotion").set_value("happy")
    press(page)
    assert asked == [None, "happy"]


def test_what_nobody_foresaw_is_a_line_that_names_the_log(page, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("voice_cloner.VoiceCloner.clone", fail)
    with caplog.at_level(logging.ERROR):
        press(page)
    (error,) = page.error
    assert "secret" not in error.value and not results(page)
    reference = error.value.split()[-1].rstrip(".")
    assert any(reference in record.message and "secret" in str(record.exc_info[1]) for record in caplog.records)


def test_too_little_memory_has_its_own_line():
    assert "not enough memory" in work.explain(MemoryError())


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
        assert "damaged or cut off" in lines(page) and not page.exception
    finally:
        target.unlink()


def test_models_are_loaded_once_until_their_file_changes(page, models, monkeypatch):
    loads = []
    load = VoiceCloner.load.__func__
    monkeypatch.setattr(VoiceCloner, "load", classmethod(lambda cls, *a, **k: loads.append(1) or load(cls, *a, **k)))
    press(press(page))
    assert not loads
    path = models / "default" / "vocoder.safetensors"
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 10))
    press(page)
    assert len(loads) == 1


def test_nothing_of_an_upload_stays_on_disk(page, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    written = []
    write = work.audio.write
    monkeypatch.setattr(work.audio, "write", lambda path, *a, **k: written.append(path) or write(path, *a, **k))
    upload(page, CLIP.read_bytes())
    page.checkbox[0].check().run()
    press(page)
    assert len(results(page)) == 1 and [path.name for path in written] == ["clone.wav"]
    assert list(tmp_path.iterdir()) == []


def test_the_server_keeps_to_this_computer():
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    server = config["server"]
    assert server["address"] == "localhost" and server["headless"] and server["maxUploadSize"] == work.MAX_MEGABYTES
    assert config["browser"]["gatherUsageStats"] is False and config["client"]["showErrorDetails"] == "none"
    assert "enableXsrfProtection" not in server and "enableCORS" not in server  # on unless switched off


def test_run_as_a_script_it_says_how_to_start_it():
    done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith("streamlit run app.py")
    assert "Traceback" not in done.stderr


@pytest.fixture
def real_page(monkeypatch):
    """With the default weights, as diarization wants an encoder that knows voices, and its calibration."""
    for name in ("encoder.safetensors", "diarization.json"):
        if not (ROOT / "saved_models" / "default" / name).is_file():
            pytest.skip(f"no saved_models/default/{name}")
    pytest.importorskip("sklearn")
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
    assert [b.label for b in real_page.get("download_button")] == [
        "Turns (RTTM)",
        "Report (JSON)",
        "This picture (HTML)",
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


def test_a_recording_is_asked_for_and_a_bad_one_is_a_line(real_page):
    real_page.radio(key="conversation").set_value(clone_tab.UPLOAD).run()
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
