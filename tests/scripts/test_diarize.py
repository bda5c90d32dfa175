"""diarize.py on bundled clips joined to a talk: turns, names, files, the page in a browser, mistakes in one line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import diarize
from diarization.exports import to_csv, to_srt
from diarization.page import as_data, for_script, to_html
from diarization.pipeline import UNKNOWN, Diarization, Diarizer
from diarization.plots import plot_diarization
from diarization.settings import DiarizationSettings
from diarization.turns import Turn, read_rttm, to_rttm
from utils.audio.io import Waveform, read, write
from utils.errors import CloningError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SAMPLES, MODELS = ROOT / "samples", ROOT / "saved_models" / "default"
READER, OTHER = "austen_0920.wav", "goforward.wav"
ORDER = ("austen_0870", "goforward", "austen_0890", "goforward")
BAD_NAME = "</script><img src=x onerror=alert(1)> $title & \"q\" 'z'"


@pytest.fixture(scope="module")
def diarizer() -> Diarizer:
    return Diarizer.load(MODELS)


@pytest.fixture(scope="module")
def talk() -> tuple[Waveform, list[Turn]]:
    """The reader, the other man, the reader, the other man, with 0.7 s of silence between; and when."""
    pieces, turns, now = [], [], 0.5
    pieces.append(np.zeros(8000, np.float32))
    for name in ORDER:
        clip = read(SAMPLES / f"{name}.wav").samples
        turns.append(Turn(now, now + len(clip) / 16000, "reader" if name != "goforward" else "other"))
        pieces += [clip, np.zeros(11200, np.float32)]
        now += len(clip) / 16000 + 0.7
    return Waveform(np.concatenate(pieces), 16000), turns


@pytest.fixture(scope="module")
def path(talk, tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("talk") / "my talk.wav", talk[0])


def speaker_at(turns, t):
    return next((turn.speaker for turn in turns if turn.start <= t <= turn.stop), None)


def same_people(found, expected) -> dict[str, str]:
    """Who is who, when every second of speech that was found is of one expected speaker."""
    pairs = {(speaker_at(found, t), speaker_at(expected, t)) for t in np.arange(0, expected[-1].stop, 0.25)}
    pairs = {(a, b) for a, b in pairs if a is not None}
    names = dict(pairs)
    assert len(names) == len(pairs) == len(set(names.values())), pairs
    return names


def test_voices_are_found_and_counted(diarizer, talk):
    audio, expected = talk
    result = diarizer.diarize(audio)
    assert same_people(result.turns, expected) == {"S1": "reader", "S2": "other"}
    speech = sum(turn.seconds for turn in result.turns)
    assert 0.8 * sum(t.seconds for t in expected) < speech < sum(t.seconds for t in expected)
    assert result.cosines.shape == (len(result.times), 2) and list(result.talk_time()) == ["S1", "S2"]
    assert result.turns == sorted(result.turns) and result.turns[-1].stop <= audio.seconds
    assert diarizer.diarize(audio).turns == result.turns  # no chance in it


def test_references_are_recognized_in_any_order(diarizer, talk):
    audio, expected = talk
    clips = {"reader": [SAMPLES / READER], "other": [SAMPLES / OTHER]}
    result = diarizer.diarize(audio, clips)
    assert same_people(result.turns, expected) == {"reader": "reader", "other": "other"}
    turned = diarizer.diarize(audio, dict(reversed(clips.items())))
    assert turned.turns == result.turns and turned.speakers == result.speakers
    np.testing.assert_array_equal(turned.cosines, result.cosines)


def test_who_is_not_a_reference_is_unknown(diarizer, talk):
    audio, expected = talk
    result = diarizer.diarize(audio, {"Ann": [SAMPLES / READER]})
    assert same_people(result.turns, expected) == {"Ann": "reader", UNKNOWN: "other"}
    assert result.speakers == ["Ann"] and result.cosines.shape[1] == 1


def test_a_given_number_of_voices(diarizer, talk):
    assert len(diarizer.diarize(talk[0], speakers=1).talk_time()) == 1
    assert same_people(diarizer.diarize(talk[0], speakers=2).turns, talk[1])


def test_one_clip_of_a_reference_needs_no_list_and_no_half_speaker_is_taken(diarizer):
    clip = str(SAMPLES / READER)
    np.testing.assert_array_equal(diarizer.enrol("Ann", clip), diarizer.enrol("Ann", [clip]))
    with pytest.raises(CloningError, match="speakers is 1.5; a whole number of at least 1 is wanted"):
        diarizer.diarize(clip, speakers=1.5)


def test_more_voices_than_can_be_told_apart_are_a_warning(diarizer, caplog):
    clip = Waveform(read(SAMPLES / READER).samples[: 4 * 16000], 16000)
    assert len(diarizer.diarize(clip, speakers=9).talk_time()) < 9
    assert "of 9 voices can be told apart" in caplog.text


def test_level_and_silence_around_change_little(diarizer, talk):
    audio, _ = talk
    result = diarizer.diarize(audio)
    shifted = Waveform(np.concatenate([np.zeros(48000, np.float32), 0.2 * audio.samples]), 16000)
    later = diarizer.diarize(shifted)
    assert [t.speaker for t in later.turns] == [t.speaker for t in result.turns]
    for a, b in zip(result.turns, later.turns, strict=True):
        assert abs(b.start - 3 - a.start) < 0.2 and abs(b.stop - 3 - a.stop) < 0.2


def test_two_at_once_both_have_a_turn(diarizer, talk, tmp_path, capsys):
    """The talk, and then both of its people at once: two voices are there, and RTTM has both."""
    audio, _ = talk
    first, second = (read(SAMPLES / f"{name}.wav").samples for name in ORDER[:2])
    size = min(len(first), len(second))
    start = audio.seconds
    path = write(tmp_path / "both.wav", Waveform(np.concatenate([audio.samples, first[:size] + second[:size]]), 16000))
    arguments = [str(path), "--output", str(tmp_path / "a.rttm"), "--speakers", "2"]
    assert diarize.main(arguments) == 0
    assert re.search(r"two or more at once +\d:0[1-4]\.\d", capsys.readouterr().out)
    ((_, turns),) = read_rttm(tmp_path / "a.rttm").items()
    at = np.arange(start, start + size / 16000, 0.01)
    speak = [
        sum(turn.start <= t < turn.stop and turn.speaker == who for turn in turns) for who in ("S1", "S2") for t in at
    ]
    both = np.array(speak).reshape(2, -1).astype(bool).all(axis=0)
    assert both.mean() > 0.3
    talked = [turn for turn in turns if turn.stop < start]
    assert len(same_people(talked, talk[1])) == 2


def test_a_long_silence_is_no_turn(diarizer, talk):
    audio, _ = talk
    result = diarizer.diarize(Waveform(np.concatenate([audio.samples, np.zeros(40 * 16000), audio.samples]), 16000))
    assert len(result.talk_time()) == 2
    assert not [t for t in result.turns if t.stop > audio.seconds + 0.3 and t.start < audio.seconds + 39.7]


def test_less_than_ten_seconds_will_do(diarizer, talk):
    audio, expected = talk
    short = Waveform(audio.samples[4 * 16000 : round((expected[1].stop + 0.3) * 16000)], 16000)
    assert short.seconds < 10
    later = [Turn(max(0.0, turn.start - 4), turn.stop - 4, turn.speaker) for turn in expected[:2]]
    assert len(same_people(diarizer.diarize(short).turns, later)) == 2


def test_the_hop_can_be_set(diarizer, talk):
    settings = DiarizationSettings(hop=0.8)
    coarse = Diarizer(diarizer.encoder, diarizer.calibration, settings).diarize(talk[0])
    assert same_people(coarse.turns, talk[1]) and len(coarse.times) < len(diarizer.diarize(talk[0]).times)


def test_everything_is_written(path, talk, tmp_path, capsys):
    files = {kind: tmp_path / "new" / f"a.{kind}" for kind in ("rttm", "json", "png", "html", "csv", "srt")}
    arguments = [str(path), "--output", str(files["rttm"]), "--plot", str(files["png"]), "--threads", "1"]
    arguments += ["--json", str(files["json"]), "--html", str(files["html"]), "--csv", str(files["csv"])]
    arguments += ["--srt", str(files["srt"]), "--rename", "Ann=\u5b89"]
    arguments += [f"--reference=Ann={SAMPLES / READER}", f"--reference=<b>Ben</b>={SAMPLES / OTHER}"]
    assert diarize.main(arguments) == 0
    told = capsys.readouterr().out
    assert "\u5b89" in told and "<b>Ben</b>" in told and "silence" in told and "Ann" not in told
    ((recording, turns),) = read_rttm(files["rttm"]).items()
    assert recording == "my_talk" and same_people(turns, talk[1]) == {"\u5b89": "reader", "<b>Ben</b>": "other"}
    content = json.loads(files["json"].read_text(encoding="utf-8"))
    assert [t["speaker"] for t in content["turns"]] == [t.speaker for t in turns]
    assert content["speakers"]["\u5b89"]["turns"] == 2
    assert len(content["similarity"]["times"]) == len(content["similarity"]["cosines"]["\u5b89"])
    assert files["csv"].read_text(encoding="utf-8").count("\u5b89") == 2
    assert files["srt"].read_text(encoding="utf-8").count(" --> ") == 4
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert "<b>Ben" not in files["html"].read_text(encoding="utf-8")


def run_error(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert diarize.main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--reference", "Ann"], "NAME=CLIP is wanted"),
        (["--reference", "=a.wav"], "NAME=CLIP is wanted"),
        (["--reference", "Ann="], "NAME=CLIP is wanted"),
        (["--reference", "Ann=nowhere.wav"], "there is no file nowhere.wav"),
        (["--reference", "A\nB=x.wav"], "one line"),
        (["--reference", "Ann={clip}", "--reference", "Ann={clip}"], "given twice"),
        (["--reference", "A B={clip}", "--reference", "A_B={clip}"], "white space"),
        (["--reference", "Ann={clip}", "--speakers", "2"], "does not go with --reference"),
        (["--reference", "unknown={clip}"], "none of the references"),
        (["--reference", "Ann={silence}"], "silence only"),
        (["--rename", "S1"], "OLD=NEW is wanted"),
        (["--rename", "S9=Ann", "--reference", "Ann={clip}"], "nobody is called S9: the speakers are Ann, unknown"),
        (["--rename", "S1=A", "--rename", "S2=A"], "two speakers would be called A"),
        (["--rename", "S1=A", "--rename", "S1=B"], "given twice"),
        (["--csv", "{out}"], "would be written twice"),
        (["--speakers", "0"], "1 to 50"),
        (["--speakers", "two"], "1 to 50"),
        (["--hop", "9"], "hop 9.0 s"),
        (["--plot", "{talk}"], "is read, and would be lost"),
        (["--plot", "{folder}"], "is a folder"),
        (["--html", "{out}"], "would be written twice"),
        (["--models", "{folder}"], "encoder"),
    ],
)
def test_mistakes_are_one_line(arguments, says, path, tmp_path, capsys):
    silence = write(tmp_path / "silence.wav", Waveform(np.zeros(32000), 16000))
    places = {
        "clip": SAMPLES / READER,
        "silence": silence,
        "talk": path,
        "folder": tmp_path,
        "out": tmp_path / "o.rttm",
    }
    filled = [a.format(**places) for a in arguments]
    assert says in run_error(capsys, path, "--output", tmp_path / "o.rttm", *filled)
    assert not (tmp_path / "o.rttm").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{talk}", "--csv", "{talk}/x/a.csv"], "is no folder"),
        (["nowhere.wav"], "no such file: nowhere.wav"),
        (["{talk}", "--reference", "Ann={talk}", "--rename", "Ben=B"], "the speakers are Ann, unknown"),
    ],
)
def test_what_is_known_before_is_said_before_weights_are_loaded(arguments, says, path, tmp_path, capsys, monkeypatch):
    def load(*_, **how):
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(Diarizer, "load", load)
    filled = [a.format(talk=path) for a in arguments]
    assert says in run_error(capsys, "--output", tmp_path / "o.rttm", *filled)


@pytest.mark.parametrize(
    ("rename", "says"),
    [("S9=Ann", "nobody is called S9: the speakers are S1"), ("S1=S2", "two speakers would be called S2")],
)
def test_a_name_that_proves_wrong_costs_no_work(rename, says, path, tmp_path, capsys):
    output = tmp_path / "o.rttm"
    error = run_error(capsys, path, "--output", output, "--csv", tmp_path / "o.csv", "--rename", rename)
    assert says in error and str(output) in error and (tmp_path / "o.csv").is_file()
    ((_, turns),) = read_rttm(output).items()
    assert {turn.speaker for turn in turns} == {"S1", "S2"}


def test_recordings_without_enough_speech_are_refused(diarizer, tmp_path, capsys):
    with pytest.raises(CloningError, match="silence only"):
        diarizer.diarize(Waveform(np.zeros(16000 * 5), 16000))
    short = Waveform(read(SAMPLES / READER).samples[8000:11200], 16000)
    with pytest.raises(CloningError, match=r"too little voice: found 0\.\d\d s .* at least 0\.25 s"):
        diarizer.diarize(short)
    word = Waveform(read(SAMPLES / READER).samples[8000:20000], 16000)
    assert len(diarizer.diarize(word).turns) == 1
    with pytest.raises(CloningError, match=r"found 0\.\d\d s of speech in the reference of Ann .* at least 1\.00 s"):
        diarizer.enrol("Ann", [word])
    assert "too little voice" in run_error(capsys, write(tmp_path / "t.wav", short), "--output", tmp_path / "o")
    assert "no such" in run_error(capsys, tmp_path / "none.wav", "--output", tmp_path / "o").lower()


@pytest.fixture(scope="module")
def strange() -> Diarization:
    """A result with names that want to be markup, without having listened to anything."""
    turns = [Turn(0.2, 2.0, BAD_NAME), Turn(2.2, 4.0, "Ben")]
    times = np.arange(0.4, 4.0, 0.4)
    cosines = np.stack([np.where(times < 2.1, 0.9, 0.2), np.where(times < 2.1, 0.1, 0.8)], axis=1)
    wave = 0.3 * np.sin(np.arange(4 * 16000) / 10)
    return Diarization(turns, [BAD_NAME, "Ben"], times, cosines, Waveform(wave, 16000), DiarizationSettings())


def test_the_page_is_whole_and_escaped(strange):
    page = to_html(strange, "<script>alert(2)</script>")
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))  # nothing is fetched
    assert "default-src 'none'" in page and "base64,T2dn" in page  # OggS
    assert "<img" not in page and page.count("<script") == page.count("</script>") == 2
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page)
    data = json.loads(text)
    assert data == json.loads(json.dumps(as_data(strange, "<script>alert(2)</script>"))) and data["names"] == [
        BAD_NAME,
        "Ben",
    ]
    assert data["turns"] == [[0.2, 2.0, 0], [2.2, 4.0, 1]] and len(data["times"]) == len(data["cosines"][0])
    assert json.loads(for_script({"a": "</script>&<!--"})) == {"a": "</script>&<!--"}


def test_the_picture_shows_odd_names(strange):
    figure = plot_diarization(strange, "a $ b $ c")
    figure.canvas.draw()
    assert len(figure.axes[0].lines) == 2
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()][1] == "Ben"


def test_half_an_hour_is_drawn_in_strips_of_five_minutes(strange):
    audio = Waveform(np.zeros(1800 * 100, np.float32), 100)
    times = np.arange(0.4, 1800, 0.4)
    turns = [Turn(t, t + 20, BAD_NAME if t % 100 else "Ben") for t in range(0, 1780, 25)]
    cosines = np.stack([np.ones(len(times)), np.zeros(len(times))], axis=1)
    figure = plot_diarization(replace(strange, audio=audio, turns=turns, times=times, cosines=cosines), "long")
    curves, *strips = figure.axes
    assert len(strips) == 6 and [axes.get_xlim() for axes in strips] == [(300 * k, 300 * k + 300) for k in range(6)]
    assert all(len(axes.get_yticks()) == 2 for axes in strips)
    figure.canvas.draw()
    assert "27:30" in [label.get_text() for label in strips[-1].get_xticklabels()]
    assert strips[-1].get_xlabel() == "time (h:mm:ss)" and len(curves.lines[0].get_xdata()) < 1500


PATIENCE = 600  # s; a busy machine is no failure
WATCH = """var seen = []; new MutationObserver(() => seen.push({
    time: +document.body.dataset.time, speaks: document.body.dataset.speaks, curves: curves.toDataURL()
})).observe(document.body, {attributes: true})"""


@contextlib.contextmanager
def browser(page: Path, profile: Path):
    """Headless Chromium with `page` open; gives a function that calls its DevTools."""
    program = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    if program is None or os.name == "nt":
        pytest.skip("no Chromium here (Debian: apt install chromium)")
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--mute-audio", "--no-first-run"]
    flags += ["--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}", "--window-size=1200,900"]
    # Chromium reads commands from descriptor 3 and answers on 4; both ends are moved high first, then there
    shell = f'exec 3<&{their_in} 4>&{their_out}; exec "$0" "$@"'
    process = subprocess.Popen(
        ["bash", "-c", shell, program, *flags, page.as_uri()],
        pass_fds=(their_in, their_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(their_in)
    os.close(their_out)
    count, rest, session = 0, b"", None

    def call(method: str, **params):
        nonlocal count, rest
        count += 1
        message = {"id": count, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(our_out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in rest:
                assert select.select([our_in], [], [], PATIENCE)[0], f"{method}: no answer"
                piece = os.read(our_in, 1 << 16)
                assert piece, "the browser ended"
                rest += piece
            text, _, rest = rest.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == count:
                assert "error" not in answer, answer
                return answer["result"]

    try:
        while not (pages := [t for t in call("Target.getTargets")["targetInfos"] if t["url"] == page.as_uri()]):
            time.sleep(0.1)
        session = call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)["sessionId"]
        yield call
    finally:
        process.kill()
        process.wait()
        os.close(our_out)
        os.close(our_in)


def test_the_page_plays_with_a_moving_cursor(strange, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("no bash to hand pipes to the browser")
    page = tmp_path / "page.html"
    page.write_text(to_html(strange, "a talk"), encoding="utf-8")
    with browser(page, tmp_path / "profile") as call:

        def evaluate(expression: str):
            answer = call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
            assert "exceptionDetails" not in answer, answer
            return answer["result"].get("value")

        def wait(expression: str):
            end = time.monotonic() + PATIENCE
            while not evaluate(expression):
                assert time.monotonic() < end, f"{expression}: {evaluate('JSON.stringify(document.body.dataset)')}"
                time.sleep(0.05)

        wait("typeof rows !== 'undefined' && audio.readyState >= 2 && 'time' in document.body.dataset")
        assert evaluate("document.querySelectorAll('img').length") == 0
        assert evaluate("rows[0].label.value") == BAD_NAME
        exported = {
            "rttm": to_rttm(strange.turns, "a talk"),
            "csv": to_csv(strange.turns),
            "srt": to_srt(strange.turns),
        }
        for kind, text in exported.items():
            assert evaluate(f"exported.{kind}()") == text, kind
        assert abs(evaluate("audio.duration") - 4.0) < 0.1
        evaluate("goTo(1.0)")
        wait("document.body.dataset.time === '1.00'")
        assert evaluate("document.body.dataset.speaks") == BAD_NAME
        assert evaluate("rows.map(row => row.number.textContent)") == ["0.90", "0.10"]
        evaluate(WATCH)
        evaluate("audio.play()")
        wait("seen.some(now => now.time > 2.4 && now.speaks === 'Ben') || (audio.ended && (audio.play(), false))")
        assert evaluate("seen.some(now => now.curves !== seen[0].curves)")  # the cursor moves by itself
        evaluate("audio.pause()")
        box = evaluate("(b => [b.left, b.top, b.width, b.height])(whole.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):  # a click on the picture of the whole goes there
            x = box[0] + 34 + (box[2] - 34) / 4
            call("Input.dispatchMouseEvent", type=kind, x=x, y=box[1] + 5, button="left", clickCount=1)
        wait("Math.abs(+document.body.dataset.time - 1.0) < 0.05")
        assert evaluate("document.body.dataset.speaks") == BAD_NAME

        def press(key: str, modifiers: int = 0):
            for kind in ("keyDown", "keyUp"):
                call("Input.dispatchKeyEvent", type=kind, key=key, code=key, modifiers=modifiers)

        for key, modifiers, time_shown in (
            ("End", 0, "4.00"), ("Home", 0, "0.00"), ("ArrowRight", 8, "0.20"), ("ArrowRight", 8, "2.20"),
            ("ArrowLeft", 8, "0.20"), ("ArrowRight", 0, "4.00"), ("ArrowLeft", 0, "0.00"),
        ):  # fmt: skip
            press(key, modifiers)
            wait(f"document.body.dataset.time === '{time_shown}'")
        press(" ")
        wait("!audio.paused")
        press(" ")
        wait("audio.paused")
        evaluate("document.querySelectorAll('#turns button')[1].click()")  # the list of turns
        wait(
            "document.body.dataset.speaks === 'Ben' && document.querySelector('#turns .now').innerText.includes('Ben')"
        )
        evaluate("rows[1].label.value = 'Zo\u00eb, Q'; rows[1].label.dispatchEvent(new Event('input'))")
        assert evaluate("exported.csv()").endswith('2.200,4.000,"Zo\u00eb, Q"\n') and "Ben" not in evaluate(
            "exported.srt()"
        )
        evaluate(f"rows[1].label.value = {json.dumps(BAD_NAME)}; rows[1].label.dispatchEvent(new Event('input'))")
        assert "Another speaker" in evaluate("said.textContent") and "Zo" in evaluate("exported.srt()")
