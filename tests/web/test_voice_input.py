"""Voices on the page: recordings and consent, what is wrong with a clip, the library."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT
from tests.web.driver import CLIP, agree, lines, press, results, upload, wav

pytest.importorskip("streamlit", reason="the page is optional: pip install -r requirements/app.txt")


from utils.library import Library
from voice_cloner import VoiceCloner
from web import takes, voice_input, weights, work

pytestmark = pytest.mark.slow

M4A = b"\0\0\0\x20ftypM4A " + bytes(64)


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
