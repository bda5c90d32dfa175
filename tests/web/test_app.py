"""The page by Streamlit's own test driver: what it offers, what it asks first, and a line for whatever goes wrong."""

from __future__ import annotations

import io
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models
from tests.web.driver import CLIP, PATIENCE, agree, lines, press, results, upload, wav

pytest.importorskip("streamlit", reason="the page is optional: pip install -r requirements/app.txt")

from streamlit.testing.v1 import AppTest

import demo_cli
from utils.library import Library
from voice_cloner import VoiceCloner
from web import clone_tab, notes, pictures, speakers_tab, takes, voice_input, weights, work

M4A = b"\0\0\0\x20ftypM4A " + bytes(64)


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


def test_a_voice_of_ones_own_needs_the_tick(page):
    upload(page, CLIP.read_bytes())
    assert any(box.label == voice_input.AGREES for box in page.checkbox)
    assert "Tick first" in lines(press(page)) and not results(page)
    agree(page)
    assert not press(page).error and len(results(page)) == 1


def test_the_next_recording_needs_its_own_tick(page):
    upload(page, CLIP.read_bytes())
    agree(page)
    upload(page, (ROOT / "samples" / "austen_0920.wav").read_bytes(), "other.wav")
    assert len(page.session_state["clips"]) == 2 and "Tick first" in lines(press(page))


def test_the_microphone_needs_the_tick_too(page):
    page.radio(key="source").set_value(voice_input.RECORD).run()
    assert "no voice yet" in lines(press(page))
    page.get("audio_input")[0].set_value(("audio.wav", CLIP.read_bytes(), "audio/wav")).run()
    assert "Tick first" in lines(press(page))
    agree(page)
    assert not press(page).error and len(results(page)) == 1


@pytest.mark.parametrize("container", ["FLAC", "OGG", "MP3"])
def test_other_formats_are_read(page, container):
    samples, rate = soundfile.read(CLIP)
    upload(page, wav(samples, rate, container), f"me.{container.lower()}")
    agree(page)
    assert not press(page).error and len(results(page)) == 1


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (M4A, "me.m4a", "me.m4a is damaged, truncated or no audio"),
        (b"no audio at all, but a letter", "me.wav", "me.wav is not audio that can be read"),
        (b"", "me.wav", "me.wav is empty"),
        (CLIP.read_bytes()[:5000], "cut.wav", "cut.wav is truncated"),
        (bytes(166 * 2**20), "big.wav", "at most 165 MB"),
        (wav(np.zeros(610 * 8000), 8000), "long.wav", "610 s long; at most 600 s"),
    ],
    ids=["m4a", "text", "empty", "truncated", "big", "long"],
)
def test_a_bad_file_is_a_line_at_once(page, data, name, words):
    upload(page, data, name)
    assert words in lines(page) and not page.exception and not page.checkbox(key="mismatch").value
    assert "no voice yet" in lines(press(page)) and not results(page)


def test_a_refused_file_says_why_and_does_not_stay_beside_good_ones(page):
    page.radio(key="source").set_value(voice_input.UPLOAD).run()
    good = ("good.wav", CLIP.read_bytes(), "audio/wav")
    page.file_uploader[0].set_value([good, ("bad.m4a", M4A, "audio/mp4")]).run()
    assert "Not taken: bad.m4a is damaged" in lines(page)
    assert [clip.name for clip in page.session_state["clips"]] == ["good.wav"] and not page.file_uploader[0].value
    agree(page)
    assert results(press(page))[0].voice == "good" and "bad" not in takes.command(results(page)[0])


def test_a_recording_is_checked_at_once(page):
    samples, rate = soundfile.read(CLIP)
    noise = np.random.default_rng(0).normal(0, 0.1 * samples.std(), len(samples))
    upload(page, wav(0.2 * (samples + 3 * noise), rate))
    (clip,) = page.session_state["clips"]
    assert "s of it voice at -" in clip.facts and any("noise or music" in warning.value for warning in page.warning)


@pytest.mark.parametrize("suffix", voice_input.SUFFIXES)
def test_every_format_that_is_offered_is_read(suffix):
    kinds = {"oga": "ogg", "mov": "mp4", "aif": "aiff", "mkv": "matroska", "wma": "asf", "aac": "adts"}
    codecs = {"m4a": "aac", "mp4": "aac", "mov": "aac", "aac": "aac", "mkv": "aac", "webm": "libopus", "wma": "wmav2",
              "amr": "amr_nb"}  # fmt: skip
    if suffix not in codecs:
        if suffix == "opus":
            data = wav(np.zeros(48000), 48000, "OGG", "OPUS")
        else:
            data = wav(np.zeros(16000), 16000, kinds.get(suffix, suffix).upper())
    elif (data := encoded(kinds.get(suffix, suffix), codecs[suffix])) is None:
        pytest.skip(f"this FFmpeg does not write {suffix}")
    assert work.read_upload(data, f"me.{suffix}").seconds == pytest.approx(1, abs=0.2)


def encoded(kind: str, codec: str) -> bytes | None:
    """A second of silence by FFmpeg, or None where it cannot write that."""
    av = pytest.importorskip("av")
    buffer, rate = io.BytesIO(), 8000 if codec == "amr_nb" else 48000
    try:
        with av.open(buffer, "w", format="ipod" if kind == "m4a" else kind) as container:
            stream = container.add_stream(codec, rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, rate), np.int16), format="s16", layout="mono")
            frame.sample_rate = rate
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
    except (ValueError, av.FFmpegError):
        return None
    return buffer.getvalue()


def test_silence_is_a_line_when_it_is_cloned(page):
    upload(page, wav(np.zeros(32000)))
    agree(page)
    assert "the reference" in lines(press(page)) and not results(page)


def test_marks_in_a_file_name_stay_what_they_are(page):
    upload(page, b"no audio", "*a* [b](c) $d$ :red[e].wav")
    (error,) = page.error
    assert error.value.startswith(r"Not taken\: \*a\* \[b\](c) \$d\$ \:red\[e\].wav is not audio")


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


def test_a_voice_of_the_library_is_cloned(page, monkeypatch, tmp_path):
    voice = VoiceCloner.load(weights.SAVED_MODELS / "default", device="cpu").embed_voice(CLIP)
    monkeypatch.setattr(voice_input, "Library", lambda: Library(tmp_path, shipped=None))
    Library(tmp_path, shipped=None).save("Ann", voice, note="of the tests")
    page.radio(key="source").set_value(voice_input.LIBRARY).run()
    assert page.button(key="voice-Ann").label == "Ann" and any("of the tests" in c.value for c in page.caption)
    assert results(press(page))[0].voice == "Ann" and not page.error


def test_a_voice_can_be_kept(page, monkeypatch, tmp_path):
    monkeypatch.setattr(voice_input, "Library", lambda: Library(tmp_path, shipped=None))
    agree(upload(page, CLIP.read_bytes()))
    next(box for box in page.text_input if box.label == "Name").set_value("Ann").run()
    next(button for button in page.button if button.label == "Keep").click().run()
    assert Library(tmp_path, shipped=None).names() == ["Ann"] and not page.error


def test_a_take_that_was_made_of_other_things_says_so(page):
    press(page)
    assert not [info for info in page.info if "older" in info.value]
    page.text_area(key="text").set_value("Another text.").run()
    page.selectbox(key="sample").set_value("goforward").run()
    assert any("the text and voice changed" in info.value for info in page.info)


def test_takes_are_listed_compared_deleted_and_zipped(page):
    for text in ("Hello there.", "Good morning to you."):
        press(page, text)
    second, first = results(page)
    page.button(key=f"compare-{first.id}").click().run()
    rows = takes.differences(second, first)
    assert ("Text", "Good morning to you.", "Hello there.") in rows and len(page.table) >= 2
    with zipfile.ZipFile(io.BytesIO(takes.zipped(results(page)))) as file:
        assert file.namelist() == ["001_austen_0870_hello-there.wav", "002_austen_0870_good-morning-to-you.wav",
                                   "takes.csv"]  # fmt: skip
        assert file.read("001_austen_0870_hello-there.wav") == first.bytes
    page.button(key=f"delete-{second.id}").click().run()
    assert results(page) == [first]


def test_takes_outlive_the_page_only_where_that_is_ticked(page, monkeypatch, tmp_path):
    monkeypatch.setattr(takes, "FOLDER", tmp_path / "takes")
    press(page)
    assert not (tmp_path / "takes").exists()
    page.checkbox(key="keep").check().run()
    press(page, "Hello \N{SNOWMAN} again.")
    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE)
    again.query_params["keep"] = "true"
    again.run()
    assert not again.exception and [t.text for t in results(again)] == [t.text for t in results(page)]
    assert [t.bytes for t in results(again)] == [t.bytes for t in results(page)]
    damaged = tmp_path / "takes" / "zz.json"
    damaged.write_text('{"kind": "take of the voice cloning page", "text": 5}', encoding="utf-8")
    damaged.with_suffix(".wav").write_bytes(b"")
    assert len(takes.kept()) == 2
    again.button(key=f"delete-{results(again)[0].id}").click().run()
    assert len(list((tmp_path / "takes").glob("2*"))) == 2


def test_a_folder_that_cannot_be_written_to_costs_no_take(page, monkeypatch, tmp_path):
    (tmp_path / "takes").write_bytes(b"a file, no folder")
    monkeypatch.setattr(takes, "FOLDER", tmp_path / "takes")
    press(page)
    page.checkbox(key="keep").check().run()
    assert not page.exception and "cannot be kept" in lines(page) and len(results(page)) == 1
    assert len(results(press(page, "Again."))) == 2 and not page.exception


def test_the_command_and_the_lines_of_python_make_the_same_again(page, models, monkeypatch, tmp_path):
    page.slider(key="rate").set_value(0.8)
    (take,) = results(press(page, 'It\'s $5 "here".\nYes.'))
    monkeypatch.chdir(tmp_path)
    _, script, *flags = shlex.split(takes.command(take))
    flags[flags.index("--reference") + 1] = str(ROOT / "samples" / "austen_0870.wav")
    assert script == "demo_cli.py"
    assert demo_cli.main([*flags, "--models", str(models / "default"), "--device", "cpu", "--quiet"]) == 0
    first = soundfile.read(tmp_path / "out" / take.file_name)[0]
    lines = takes.python(take).replace("load(", f"load({str(models / 'default')!r}, device='cpu'")
    monkeypatch.chdir(ROOT)
    exec(lines.replace("write('out/", f"write('{tmp_path.as_posix()}/out/py_"), {})
    second = soundfile.read(tmp_path / "out" / f"py_{take.file_name}")[0]
    ours = soundfile.read(io.BytesIO(take.bytes))[0]
    np.testing.assert_allclose(first, ours, rtol=0, atol=2e-3)
    np.testing.assert_array_equal(first, second)


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


@pytest.mark.parametrize("suffix", work.FORMATS)
def test_a_take_is_downloaded_in_every_format_with_its_tags(page, suffix):
    press(page)
    newest = results(page)[0]
    box = page.selectbox(key=f"format-player-{newest.id}")
    assert box.label == "Format"
    box.set_value(suffix).run()
    assert page.query_params.get("format", "wav") in (suffix, [suffix])
    again, name = work.converted(newest.bytes, suffix), newest.file_as(suffix)
    with soundfile.SoundFile(io.BytesIO(again)) as file:
        assert "synthetic speech" in file.comment and abs(file.frames / file.samplerate - newest.seconds) < 0.1
    assert name.endswith(f".{suffix}") and name in takes.command(newest, suffix)
    with zipfile.ZipFile(io.BytesIO(takes.zipped(results(page), suffix))) as zipped:
        assert zipped.namelist()[0] == f"001_{name}"


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
