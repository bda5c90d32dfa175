"""Text to speech on the page: samples, texts of any length, settings that reach the library, live sound."""

from __future__ import annotations

import io
import shlex
import shutil

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models
from tests.web.driver import PATIENCE, lines, press, results

pytest.importorskip("streamlit", reason="the page is optional: pip install -r requirements/app.txt")


import demo_cli
from web import pictures, takes, voice_input

pytestmark = pytest.mark.slow


def test_a_sample_is_cloned_at_once(page):
    page.number_input(key="seed").set_value(5)
    press(page)
    (take,) = results(page)
    assert not page.error and take.seed == 5 and take.sentences == ["Hello there."]
    assert take.file_name == "austen_0870_hello-there.wav"
    assert [player.proto.alt for player in page.get("audio")][:2] == [
        "The sample austen_0870",
        "Take in the voice austen_0870: Hello there.",
    ]
    assert page.metric[0].value == f"{take.similarity:.2f}"
    assert [button.label for button in page.get("download_button")] == ["Download", "All takes as one zip"]
    # another touch of the page does not clone again, nor lose the result
    page.radio(key="source").set_value(voice_input.UPLOAD).run()
    assert results(page) == [take]


def test_pictures_are_drawn_when_they_are_asked_for(page, monkeypatch):
    drawn = []
    draw = pictures.draw
    monkeypatch.setattr(pictures, "draw", lambda name, *rest: drawn.append(name) or draw(name, *rest))
    press(page, "It costs $5, not $x^2 or \\frac.")
    assert not drawn
    (take,) = results(page)
    page.session_state[f"pictures-player-{take.id}"] = True
    page.run()
    assert drawn == list(pictures.NAMES) and len(page.get("image")) >= 3
    page.run()
    assert len(drawn) == 3 and not any("could not be drawn" in caption.value for caption in page.caption)


def test_the_download_is_what_the_command_line_writes(page, models, tmp_path):
    page.number_input(key="seed").set_value(5)
    page.slider(key="rate").set_value(0.8)
    press(page)
    path = tmp_path / "o.wav"
    sample = str(ROOT / "samples" / "austen_0870.wav")
    demo_cli.main(["--models", str(models / "default"), "--reference", sample, "--text", "Hello there.", "--seed", "5",
                   "--rate", "0.8", "--output", str(path), "--device", "cpu", "--quiet"])  # fmt: skip
    (take,) = results(page)
    ours, rate = soundfile.read(io.BytesIO(take.wav))
    theirs, _ = soundfile.read(path)  # the page speaks sentence by sentence: the last bits may differ
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3)
    assert rate == 16000 and soundfile.SoundFile(io.BytesIO(take.wav)).comment == soundfile.SoundFile(path).comment
    with soundfile.SoundFile(path) as file:
        assert "synthetic speech" in file.comment and "watermarked" in file.comment


def test_rate_and_seed_reach_the_library(page):
    page.number_input(key="seed").set_value(7)
    page.slider(key="rate").set_value(2.0)
    fast = results(press(page))[0]
    page.slider(key="rate").set_value(0.5)
    slow = results(press(page))[0]
    assert slow.seconds > 2 * fast.seconds and fast.seed == slow.seed == 7
    page.number_input(key="seed").set_value(None)
    assert results(press(page))[0].seed != 7


def test_pauses_reach_the_library(page):
    page.number_input(key="seed").set_value(7)
    seconds = []
    for factor in (0.0, 3.0):
        page.slider(key="pause").set_value(factor)
        seconds.append(results(press(page, "One. Two."))[0].seconds)
    assert seconds[1] > seconds[0] + 0.3


@pytest.mark.parametrize("text", ["", "   \n", None])
def test_no_text_is_a_line(page, text):
    assert "nothing to say" in lines(press(page, text)) and not results(page)


def test_text_that_cannot_be_spoken_is_the_librarys_line(page):
    assert "holds nothing that can be spoken" in lines(press(page, "..."))


def test_a_text_of_any_length_is_taken(page):
    text = "Hello there. " * 400
    assert not page.text_area(key="text").proto.max_chars
    page.text_area(key="text").set_value(text)
    page.button(key="clone").click().run()
    job = page.session_state["asked"].job
    job.wait_for_sound(PATIENCE)
    page.run()  # a touch of the page does not stop it
    assert not job.done and page.button(key="clone").disabled
    page.button(key="stop").click().run()
    assert job.wait(PATIENCE)
    page.run()
    (take,) = results(page)
    assert take.text == text.strip() and 0 < len(take.sentences) < 400
    assert take.stopped == f"stopped in sentence {len(take.sentences)} of 400"


def test_speech_is_there_to_be_heard_before_all_of_it_is_made(page):
    page.text_area(key="text").set_value("Hello there. " * 60)
    page.button(key="clone").click().run()
    job = page.session_state["asked"].job
    job.wait_for_sound(PATIENCE)
    assert not job.done and job.pieces()[0][0] == 0 and job.made is None
    job.stop()
    job.wait(PATIENCE)


def test_pitch_and_volume_reach_the_file_and_what_is_copied(page, models, monkeypatch, tmp_path):
    page.number_input(key="seed").set_value(5)
    plain = results(press(page))[0]
    page.slider(key="volume").set_value(-6.0)
    page.slider(key="pitch").set_value(3.0)
    (take, _) = results(press(page))
    assert take.settings["pitch"] == 3 and take.settings["volume"] == -6
    assert ("Pitch", "3.0", "-") in takes.differences(take, plain)
    monkeypatch.chdir(tmp_path)
    _, _, *flags = shlex.split(takes.command(take, "flac"))
    flags[flags.index("--reference") + 1] = str(ROOT / "samples" / "austen_0870.wav")
    assert demo_cli.main([*flags, "--models", str(models / "default"), "--device", "cpu", "--quiet"]) == 0
    code = takes.python(take, "flac").replace("load(", f"load({str(models / 'default')!r}, device='cpu'")
    monkeypatch.chdir(ROOT)
    exec(code.replace("write('out/", f"write('{tmp_path.as_posix()}/out/py_"), {})
    ours = soundfile.read(io.BytesIO(take.bytes))[0]
    for name in (take.file_as("flac"), f"py_{take.file_as('flac')}"):
        np.testing.assert_allclose(soundfile.read(tmp_path / "out" / name)[0], ours, rtol=0, atol=2e-3)
    louder = soundfile.read(io.BytesIO(plain.bytes))[0]
    assert not np.allclose(louder[: len(ours)], ours[: len(louder)], atol=2e-3)


def test_the_volume_is_that_of_the_live_sound_too_and_nothing_clips(page):
    page.number_input(key="seed").set_value(5)
    peaks = []
    for volume in (-6.0, 0.0, 20.0):
        page.slider(key="volume").set_value(volume)
        press(page)
        pieces = [piece for *_, piece in page.session_state["asked"].job._pieces]
        peaks.append(max(piece.peak for piece in pieces))
    assert peaks[0] == pytest.approx(peaks[1] / 10**0.3, rel=0.02) and peaks[1] < peaks[2] <= 1 + 1e-6
    assert np.abs(soundfile.read(io.BytesIO(results(page)[0].bytes))[0]).max() <= 1


def test_a_pitch_that_the_synthesizer_does_not_plan_is_a_line(page, models):
    folder = save_tiny_models(models / "letters", "tacotron")
    for stage in ("encoder", "vocoder"):
        (folder / f"{stage}.safetensors").unlink()
    try:
        page.run()
        page.selectbox(key="synthesizer").set_value("Tacotron (letters)")
        page.slider(key="pitch").set_value(3.0)
        assert "leave pitch out" in lines(press(page)) and not results(page)
    finally:
        shutil.rmtree(folder)
