"""The command line as a user meets it: files, standard input, the loop, one line and exit code 2 for what is wrong."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

import demo_cli
from tests.conftest import DATA, ROOT
from tests.support.tiny import save_tiny_models
from utils.version import VERSION
from utils.weights import published

pytestmark = pytest.mark.slow

CLIP = str(ROOT / "samples" / "austen_0890.wav")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return str(save_tiny_models(tmp_path_factory.mktemp("models")))


@pytest.fixture
def run(models, tmp_path, capsys, monkeypatch):
    """run(*arguments, stdin=...) -> (exit code, stdout, stderr); output goes to tmp_path."""

    def call(*arguments: str, stdin: str | None = None, terminal: bool = False):
        stream = io.StringIO(stdin or "")
        stream.isatty = lambda: terminal
        monkeypatch.setattr(sys, "stdin", stream)
        everything = ["--models", models, "--device", "cpu", "--output", str(tmp_path / "o.wav"), *arguments]
        code = demo_cli.main(everything)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_wav_a_picture_and_a_report(run, tmp_path):
    code, out, _ = run("--reference", CLIP, "--text", "Hello there.", "--seed", "5", "--plot", str(tmp_path / "p.png"),
                       "--json", str(tmp_path / "r.json"))  # fmt: skip
    assert code == 0 and "real-time factor" in out and "similarity" in out and "seed 5" in out
    with soundfile.SoundFile(tmp_path / "o.wav") as wav:
        assert (
            wav.samplerate == 16000
            and wav.subtype == "PCM_16"
            and "synthetic" in wav.comment
            and VERSION in wav.comment
        )
        report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
        assert report["audio_seconds"] == pytest.approx(wav.frames / 16000, abs=1e-3)
    assert report["seed"] == 5 and report["sentences"][0]["text"] == "Hello there."
    assert {"encoder", "synthesizer", "vocoder"} == set(report["seconds"]) == set(report["models"])
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_times_are_written_beside_and_another_ending_is_refused_before_any_work(run, tmp_path):
    path = tmp_path / "t.json"
    assert run("--reference", CLIP, "--text", "Hello there.", "--times", str(path))[0] == 0
    assert [word["text"] for word in json.loads(path.read_text(encoding="utf-8"))["words"]] == ["Hello", "there"]
    (tmp_path / "o.wav").unlink()
    code, _, err = run("--reference", CLIP, "--text", "Hello.", "--times", str(tmp_path / "t.doc"))
    assert code == 2 and ".srt, .vtt, .textgrid, .json, .rttm" in err and not (tmp_path / "o.wav").exists()


def test_the_same_seed_writes_the_same_bytes(run, tmp_path):
    written = []
    for _ in range(2):
        run("--reference", CLIP, "--text", "Hello.", "--seed", "5")
        written.append((tmp_path / "o.wav").read_bytes())
    assert written[0] == written[1]


def test_text_from_a_file_from_standard_input_and_several_references(run, tmp_path):
    (tmp_path / "t.txt").write_text("Hello.\nThere.", encoding="utf-8")
    assert run("--reference", CLIP, CLIP, "--text-file", str(tmp_path / "t.txt"))[0] == 0
    assert run("--reference", CLIP, stdin="Hello.")[0] == 0
    assert (tmp_path / "o.wav").is_file()


def test_quiet_prints_nothing(run):
    assert run("--reference", CLIP, "--text", "Hi.", "--quiet")[1] == ""


def test_the_loop_asks_goes_on_after_an_error_and_ends_at_end_of_input(run, tmp_path):
    answers = "missing.wav\n" + CLIP + "\nHello.\n...\nAgain."
    code, out, _ = run(stdin=answers, terminal=True)
    assert code == 0
    assert "no such file: missing.wav" in out and "nothing that can be spoken" in out
    assert [p.name for p in sorted(tmp_path.glob("o_*.wav"))] == ["o_000.wav", "o_001.wav"]


def test_the_loop_writes_over_nothing(run, tmp_path):
    (tmp_path / "o_000.wav").write_bytes(b"an earlier one")
    code, _, _ = run("--plot", str(tmp_path / "o.png"), stdin=f"{CLIP}\nHello.\nAgain.", terminal=True)
    assert code == 0 and (tmp_path / "o_000.wav").read_bytes() == b"an earlier one"
    assert [p.name for p in sorted(tmp_path.glob("o_*.*"))] == [
        "o_000.wav", "o_001.png", "o_001.wav", "o_002.png", "o_002.wav"
    ]  # fmt: skip


def test_an_empty_line_ends_the_loop(run):
    assert run(stdin="\n", terminal=True)[0] == 0


def test_show_text_tells_what_will_be_read(run, tmp_path):
    text = "# Mambo No. 5\nIt costs $5. 😀 No. It isn't."
    code, out, _ = run("--text", text, "--show-text")
    assert code == 0 and not (tmp_path / "o.wav").exists()
    spoken = [line for line in out.splitlines() if not line.startswith("note: ")]
    assert spoken == ["Mambo number five.", "It costs five dollars.", "No.", "It isn't."]
    assert "note: Markdown left out: #" in out and "note: emoji left out: 😀" in out
    assert run("--reference", CLIP, "--text", text, "--json", str(tmp_path / "o.json"))[0] == 0
    report = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert [sentence["text"] for sentence in report["sentences"]] == spoken


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", "nowhere.wav", "--text", "Hi."], "no such file: nowhere.wav"),
        (["--text", "Hi."], "no --reference given"),
        (["--reference", CLIP, "--text", "..."], "nothing that can be spoken"),
        (["--reference", CLIP, "--text", "Hi.", "--monotonic"], "parallel has no attention that could go back"),
        (["--reference", CLIP, "--text", "a", "--text-file", "b"], "exclude each other"),
        (["--reference", CLIP, "--text-file", "b"], "--text-file b: no such file"),
        (["--reference", CLIP, "--text-file", str(ROOT)], "cannot be read: "),
        (["--reference", CLIP, "--text-file", CLIP], "not UTF-8 at byte"),
        (["--reference", CLIP, "--text", "Hi.", "--models", "nowhere"], "no encoder.safetensors or .pt"),
        (["--reference", CLIP, "--text", "Hi.", "--rate", "99"], "rate is 99; it must be 0.25 to 4"),
        (["--reference", CLIP, "--text", "Hi.", "--output", "x.m4a"], "cannot write .m4a"),
        (["--reference", CLIP, "--text", "Hi.", "--output", "x.mp3", "--bits", "24"], "24 bits are asked for"),
        (["--reference", CLIP, "--text", "Hi.", "--output", "x.mp3", "--sample-rate", "96000"], "a rate of 96000 Hz"),
        (["--reference", CLIP, "--text", "Hi.", "--sample-rate", "1"], "a rate of 1 Hz"),
        (["--reference", CLIP, "--text", "Hi.", "--volume", "nan"], "--volume nan: give -60 to 60 dB"),
        (["--reference", CLIP, "--text", "Hi.", "--pitch", "13"], "pitch is 13; it must be -12 to 12"),
        (["--reference", CLIP, "--text", "Hi.", "--output", str(ROOT)], "cannot write a file without suffix"),
        (["--reference", CLIP, "--text", "Hi.", "--plot", "x.wav"], "cannot draw .wav; use .png, "),
        (["--reference", CLIP, "--text", "Hi.", "--seed", str(2**64)], "seed 18446744073709551616: a whole number"),
        (["--reference", CLIP, "--text", "Hi.", "--seed", "-1"], "seed -1: a whole number from 0"),
        (["--reference", CLIP, "--text", "Hi.", "--json", CLIP], "is read, and would be lost"),
        (["--reference", CLIP, "--text", "Hi.", "--json", "o.png", "--plot", "./o.png"], "would be written twice"),
        (["--reference", CLIP, "--text", "Hi.", "--vocoder", str(DATA / "tacotron_tiny.pt")], "expected a checkpoint"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_exit_code_2(run, tmp_path, arguments, message):
    code, _, err = run(*arguments)
    assert code == 2
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]
    assert not list(tmp_path.glob("o*")), "nothing half-written"


@pytest.fixture
def unloaded(monkeypatch):
    """No model is loaded, and so no work begun."""

    def load(args):
        raise AssertionError("what is wrong with the outputs is known before")

    monkeypatch.setattr(demo_cli, "_load", load)


@pytest.mark.parametrize("how", ["itself", "symbolic link", "hard link", "other spelling"])
@pytest.mark.parametrize("flag", ["--reference", "--emotion-reference"])
def test_a_recording_is_never_written_over(run, tmp_path, unloaded, how, flag):
    clip = tmp_path / "me.wav"
    clip.write_bytes(Path(CLIP).read_bytes())
    output = tmp_path / "other.wav"
    if how == "symbolic link":
        output.symlink_to(clip)
    elif how == "hard link":
        output.hardlink_to(clip)
    elif how == "other spelling":
        output = tmp_path / "new" / ".." / "me.wav"
    else:
        output = clip
    references = ["--reference", CLIP] if flag != "--reference" else []
    code, _, err = run(*references, flag, str(clip), "--text", "Hi.", "--output", str(output))
    assert code == 2 and "is read, and would be lost" in err and err.count("\n") == 1
    assert clip.read_bytes() == Path(CLIP).read_bytes()


@pytest.mark.parametrize(
    "wrong",
    [
        ["--output", "x.m4a"], ["--plot", "x.doc"], ["--seed", str(2**65)], ["--json", CLIP], ["--plot", "a/b"],
        ["--output", f"{CLIP}/x/a.wav"], ["--json", f"{CLIP}/a.json"], ["--reference", "nowhere.wav"],
        ["--emotion-reference", "nowhere.wav"],
    ],
)  # fmt: skip
def test_outputs_are_checked_before_any_work(run, unloaded, wrong):
    assert run("--reference", CLIP, "--text", "Hi.", *wrong)[0] == 2


@pytest.mark.parametrize(
    "wrong", [["--pause", "11"], ["--emotion", "sad", "--emotion-reference", CLIP], ["--seed", "-1"], ["--text", "  "]]
)
def test_ways_of_speaking_are_checked_before_any_work(run, unloaded, wrong):
    code, _, err = run("--reference", CLIP, "--text", "Hi.", *wrong)
    assert code == 2 and err.startswith("error: ")


def test_an_unknown_emotion_is_refused_before_a_reference_is_read(run, monkeypatch):
    def clone(*_, **how):
        raise AssertionError("the emotion is known to be wrong before")

    monkeypatch.setattr("voice_cloner.VoiceCloner.clone", clone)
    code, _, err = run("--reference", CLIP, "--text", "Hi.", "--emotion", "happy")
    assert code == 2 and "has no emotion conditioning" in err and err.count("\n") == 1
    assert err.endswith("(here: demo_cli.py --synthesizer parallel, of saved_models/emotional)\n")


def test_home_is_where_the_tilde_says(run, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "me.wav").write_bytes(Path(CLIP).read_bytes())
    (home / "t.txt").write_text("\ufeffHi.", encoding="utf-8")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    code, _, err = run("--reference", "~/me.wav", "--text-file", "~/t.txt", "--output", "~/o.wav", "--json", "~/o.json",
                       "--plot", "~/o.png")  # fmt: skip
    assert (code, err) == (0, "") and {p.name for p in home.iterdir()} >= {"o.wav", "o.json", "o.png"}


@pytest.mark.parametrize(
    "text", ["It costs $5 and $x^2.", "$\\frac{a}$ and \\alpha", "$$", "a\\b $\\", "🎉 日本 hello"]
)
def test_any_text_can_be_drawn(run, tmp_path, text, recwarn):
    code, _, err = run("--reference", CLIP, "--text", f"Hello. {text}", "--plot", str(tmp_path / "p.png"))
    assert (code, err) == (0, "") and (tmp_path / "p.png").stat().st_size > 1000
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_picture_that_fails_costs_nothing_but_itself(run, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("no such color\nand more")

    monkeypatch.setattr("utils.plots.plot_cloning", fail)
    code, out, err = run("--reference", CLIP, "--text", "Hi.", "--plot", str(tmp_path / "p.png"), "--json",
                         str(tmp_path / "r.json"))  # fmt: skip
    assert code == 2 and "p.png could not be drawn (ValueError: no such color); the speech is in" in err
    assert err.count("\n") == 1 and "similarity" in out
    assert (tmp_path / "o.wav").is_file() and (tmp_path / "r.json").is_file() and not (tmp_path / "p.png").exists()


@pytest.mark.parametrize("full", ["o.wav", "r.json", "p.png"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(run, tmp_path, monkeypatch, full):
    everything = ["--reference", CLIP, "--text", "Hi.", "--plot", str(tmp_path / "p.png"), "--json",
                  str(tmp_path / "r.json")]  # fmt: skip
    assert run(*everything)[0] == 0
    before = (tmp_path / full).read_bytes()
    real = io.open

    def opened(path, mode="r", *rest, **named):
        if isinstance(path, str | Path) and Path(path).name.startswith(full) and mode != "r":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr("io.open", opened)
        patch.setattr("builtins.open", opened)
        code, _, err = run(*everything)
    lines = [line for line in err.splitlines() if line]
    assert code == 2 and len(lines) == 1 and full in lines[0] and " MiB free); make room" in lines[0]
    assert (tmp_path / full).read_bytes() == before and not list(tmp_path.glob("*.partial"))
    assert run(*everything)[0] == 0


def test_published_models_without_a_network_say_what_to_put_where(run, monkeypatch):
    def offline(name, target):
        raise published.CloningError(f"cannot fetch {name}: put it at {target}")

    monkeypatch.setattr(published, "_fetch", offline)
    code, _, err = run("--reference", CLIP, "--text", "Hi.", "--models", "published")
    assert code == 2 and "saved_models" in err and "encoder.pt" in err


def test_it_starts_without_a_terminal_or_input():
    done = subprocess.run(
        [sys.executable, "demo_cli.py"], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr


def test_format_rate_pitch_and_volume_of_the_output(run, tmp_path):
    def said(*arguments: str):
        assert run("--reference", CLIP, "--text", "Hello.", "--seed", "5", *arguments)[0] == 0
        samples, rate = soundfile.read(tmp_path / "o.wav")
        return samples, rate, soundfile.info(tmp_path / "o.wav").subtype

    plain = said("--bits", "float", "--no-watermark")
    assert plain[1:] == (16000, "FLOAT")
    quieter = said("--bits", "float", "--volume", "-20", "--no-watermark")[0]
    assert quieter == pytest.approx(plain[0] / 10, abs=1e-6)
    other = said("--bits", "24", "--sample-rate", "44100")
    assert other[1:] == (44100, "PCM_24") and abs(len(other[0]) / 44100 - len(plain[0]) / 16000) < 1e-3
    assert (said("--bits", "float", "--pitch", "3", "--no-watermark")[0] != plain[0]).any()


@pytest.mark.parametrize("flag", ["rate", "pause", "pitch"])
def test_speech_out_of_bounds_is_refused_before_models_load(flag, monkeypatch, tmp_path, capsys):
    def loaded(args):
        raise AssertionError("models are loaded")

    monkeypatch.setattr(demo_cli, "_load", loaded)
    words = ["--reference", "a.wav", "--text", "Hi.", "--output", str(tmp_path / "o.wav")]
    for value in ("99", "nan"):
        assert demo_cli.main([*words, f"--{flag}", value]) == 2
        assert f"{flag} is {value}; it must be" in capsys.readouterr().err
