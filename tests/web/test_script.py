"""A script of several voices on the page: by Streamlit's own test driver, with tiny models."""

from __future__ import annotations

import io
import shlex
import threading

import numpy as np
import pytest
import soundfile

import demo_cli
from tests.conftest import ROOT
from tests.web.driver import CLIP, PATIENCE, agree, lines, press, results, upload
from utils.library import Library
from voice_cloner import VoiceCloner

pytest.importorskip("streamlit", reason="the page is optional: pip install -r requirements/app.txt")

from web import clone_tab, script, takes, voice_input, weights

PLAY = "[Ann] Hello there.\n[Ben] Hello.\n[pause 0.5]\n[Ann] How are you today?\n"


@pytest.fixture
def play(page, monkeypatch, tmp_path):
    """The page as it takes scripts, with Ann and Ben in its library."""
    cloner = VoiceCloner.load(weights.SAVED_MODELS / "default", device="cpu")
    library = Library(tmp_path / "voices", shipped=None)
    for name, clip in {"Ann": CLIP, "Ben": ROOT / "samples" / "austen_0870.wav"}.items():
        library.save(name, cloner.embed_voice(clip), consent="a sample")
    for module in (clone_tab, script, voice_input):
        monkeypatch.setattr(module, "Library", lambda: library)
    page.toggle(key="script").set_value(True).run()
    return page


def parts(page) -> dict[str, bytes]:
    folder = page.session_state["workshop"].output
    return {path.name[:4]: path.read_bytes() for path in folder.with_name("script.wav.parts").glob("*.wav")}


def test_a_script_is_one_take_of_all_its_voices(play):
    play.number_input(key="seed").set_value(4)
    (take,) = results(press(play, PLAY))
    assert not play.error and take.script and take.voice == "Ann, Ben" and take.seed == 4
    assert take.sentences == ["Hello there.", "Hello.", "How are you today?"]
    assert take.file_name == "Ann-Ben_hello-there-hello-how-are-you.wav"
    assert not play.info  # it is not older than what stands above
    words = [word for word, *_ in take.words]
    assert [word.strip(".?") for word in words] == ["Hello", "there", "Hello", "How", "are", "you", "today"]
    starts = [start for _, start, _ in take.words]
    assert starts == sorted(starts) and take.words[-1][2] <= take.seconds + 0.01
    assert starts[3] > take.words[2][2] + 0.5  # the pause
    assert [b.label for b in play.get("download_button")][-2:] == [f"The script, {take.file_as('txt')}",
                                                                    "All takes as one zip"]  # fmt: skip


def test_what_did_not_change_is_kept_and_pressed_again_all_is_new(play):
    press(play, PLAY)
    before = parts(play)
    press(play, PLAY.replace("today", "now"))
    after = parts(play)
    assert after["0001"] == before["0001"] and after["0002"] == before["0002"] and after["0004"] != before["0004"]
    first = results(play)[0]
    press(play, None)
    assert results(play)[0].seed != first.seed and not set(parts(play).values()) & set(after.values())


def test_one_line_is_made_anew(play):
    play.number_input(key="seed").set_value(4)
    first = results(press(play, PLAY))[0]
    before = parts(play)
    play.selectbox(key="line").set_value(2)
    play.button(key="anew").click().run()
    assert play.session_state["asked"].job.wait(PATIENCE)
    play.run()
    after, second = parts(play), results(play)[0]
    assert not play.error and list(second.own) == ["2"] and second.seed == 4 and second.words
    assert after["0001"] == before["0001"] and after["0004"] == before["0004"] and after["0002"] != before["0002"]
    assert first.bytes != second.bytes and any("made anew\\: line 2" in c.value for c in play.caption)


def test_the_commands_and_the_lines_of_python_make_the_same_again(play, models, monkeypatch, tmp_path):
    play.slider(key="rate").set_value(0.8)
    play.slider(key="volume").set_value(-3.0)
    press(play, f"And this is said by the sample.\n{PLAY}")
    play.selectbox(key="line").set_value(3)
    play.button(key="anew").click().run()
    assert play.session_state["asked"].job.wait(PATIENCE)
    take = results(play.run())[0]
    assert take.voice == "austen_0870, Ann, Ben" and take.reference == ["samples/austen_0870.wav"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / take.file_as("txt")).write_text(take.text, encoding="utf-8")
    sample = str(ROOT / "samples" / "austen_0870.wav")
    for command in takes.command(take).splitlines():
        _, program, *flags = shlex.split(command)
        flags[flags.index("--reference") + 1] = sample
        assert program == "demo_cli.py"
        fixed = ["--models", str(models / "default"), "--voices", "voices", "--device", "cpu", "--quiet"]
        assert demo_cli.main([*flags, *fixed]) == 0
    output = tmp_path / "out" / take.file_name
    ours = soundfile.read(io.BytesIO(take.bytes))[0]
    np.testing.assert_array_equal(soundfile.read(output)[0], ours)
    code = takes.python(take).replace("load(", f"load({str(models / 'default')!r}, device='cpu'", 1)
    exec(code.replace("samples/austen_0870.wav", sample).replace("out/", "py/"), {})
    np.testing.assert_array_equal(soundfile.read(tmp_path / "py" / take.file_name)[0], ours)


def test_it_is_heard_line_by_line_and_stopped(play):
    play.text_area(key="text").set_value("\n".join(["[Ann] Hello there."] * 400))
    play.button(key="clone").click().run()
    job = play.session_state["asked"].job
    job.wait_for_sound(PATIENCE)
    assert not job.done and job.pieces()[0][0] == 0 and "Line 1 of 400" in str(job.progress) or job.progress.begun > 1
    play.run()
    play.button(key="stop").click().run()
    assert job.wait(PATIENCE)
    play.run()
    (take,) = results(play)
    assert 0 < len(take.sentences) < 400 and take.stopped == f"stopped after line {len(take.sentences)}"


def test_after_a_stop_it_goes_on(play, monkeypatch):
    told, clone = threading.Event(), VoiceCloner.clone
    monkeypatch.setattr(VoiceCloner, "clone", lambda *a, **how: told.wait(PATIENCE) and clone(*a, **how))
    play.text_area(key="text").set_value(PLAY)
    play.button(key="clone").click().run()
    job = play.session_state["asked"].job
    job.stop()
    told.set()
    assert job.wait(PATIENCE)
    first = results(play.run())[0]
    before = parts(play)
    assert first.stopped == "stopped after line 1" and list(before) == ["0001"]
    second = results(press(play, None))[0]
    assert not second.stopped and len(second.sentences) == 3 and second.seed == first.seed
    assert before.items() <= parts(play).items()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing to say"),
        ("[pause 1]", "nothing is said in it"),
        ("[Ann Hello.", "the script line 1: its [ has no ]"),
        ("[Ann] Hello.\n[Ann]", "the script line 2: Ann says nothing"),
        ("[Ann] Hello.\n\n[Carl] Hello.", "the script line 3: no voice 'Carl' in"),
        ("[../x] Hello.", "cannot be a voice's name"),
        ("[Ann|happy] Hello.", "the script line 1: no emotion 'happy'; these weights know none"),
        ("[Ann] ...", "holds nothing that can be spoken"),
        ("[Ann] Hello.\n[pause 1000]", "a pause of 1000 s"),
    ],
)
def test_what_makes_no_sense_is_a_line(play, text, words):
    assert words in lines(press(play, text)) and not results(play)
    assert not press(play, PLAY).error and len(results(play)) == 1


def test_lines_without_a_name_need_a_voice_and_its_tick(play):
    upload(play, CLIP.read_bytes())
    assert "line 1: Tick first" in lines(press(play, "Hello.\n[Ann] Hello.")) and not results(play)
    agree(play)
    assert results(press(play, None))[0].voice == "me, Ann" and not play.error


def test_the_sample_script_is_one_and_the_text_outlives_the_switch(play):
    play.button(key="fill").click().run()
    text = play.text_area(key="text").value
    assert text.startswith("[Ann] ") and len(script.parse(text)) == 3
    play.toggle(key="script").set_value(False).run()
    assert play.text_area(key="text").value == text
    assert any("Ann, Ben" in c.value for c in play.toggle(key="script").set_value(True).run().caption)


def test_a_take_that_was_made_of_other_voices_says_so(play):
    press(play, PLAY)
    play.selectbox(key="sample").set_value("goforward").run()
    assert not play.info  # nobody of the script
    play.text_area(key="text").set_value(PLAY.replace("[Ben]", "[Ann]")).run()
    assert any("the text and voice changed" in info.value for info in play.info)
    play.toggle(key="script").set_value(False).run()
    assert any("older" in info.value for info in play.info)


def test_a_script_is_kept_on_disk_as_one(play, monkeypatch, tmp_path):
    monkeypatch.setattr(takes, "FOLDER", tmp_path / "takes")
    play.checkbox(key="keep").check().run()
    press(play, PLAY)
    (kept,) = takes.kept()
    assert kept.script and kept.words == results(play)[0].words and kept.own == {}
