"""make_voice.py, and demo_cli.py --voice: a voice is made once with consent, and speaks by its name."""

from __future__ import annotations

import hashlib
import json
import logging

import pytest

import demo_cli
import make_voice
from tests.conftest import SAMPLES
from tests.support.tiny import save_tiny_models
from utils.library import Library
from utils.weights.checkpoint import read_header

pytestmark = pytest.mark.slow

CLIP = SAMPLES / "austen_0890.wav"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def run(models, tmp_path, capsys, monkeypatch):
    """run(*arguments) -> (exit code, stdout, stderr), in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str):
        code = make_voice.main(["--models", str(models), "--device", "cpu", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def make(run, name: str = "ann", *more: str):
    return run("--reference", str(CLIP), "--name", name, "--consent", "Ann agreed", *more)


def test_a_voice_is_made_listed_and_told_about(run, models):
    code, out, _ = make(run, "ann", "--note", "a note")
    assert code == 0 and "s heard" in out
    voice = Library("voices").load("ann")
    assert voice.sources == (hashlib.sha256(CLIP.read_bytes()).hexdigest(),)
    assert voice.encoder == read_header(models / "encoder.safetensors")["fingerprint"]
    assert (voice.consent, voice.note) == ("Ann agreed", "a note") and voice.pitch is not None
    lines = run("--list")[1].splitlines()
    assert any(line.startswith("ann ") and "a note" in line for line in lines)
    assert any(line.startswith("henry ") for line in lines), "the shipped ones too"
    said = run("--info", "ann", "--face", "ann.svg")[1]
    assert "Ann agreed" in said and voice.sources[0] in said and "not the default one" in said
    assert run("--info", "henry")[1].count("not the default one") == 0


def test_where_the_recordings_lie_is_not_in_the_voice(run, tmp_path):
    short = tmp_path / "folder" / "short.wav"
    short.parent.mkdir()
    short.write_bytes((SAMPLES / "goforward.wav").read_bytes())
    assert run("--reference", str(short), "--name", "ann", "--consent", "mine")[0] == 0
    assert Library("voices").load("ann").notes and b"folder" not in Library("voices").path("ann").read_bytes()


def test_a_voice_is_replaced_by_force_and_removed(run):
    make(run)
    code, _, err = make(run)
    assert code == 2 and "there is a voice 'ann' already" in err and "--force" in err
    assert make(run, "ann", "--force")[0] == 0
    assert run("--remove", "ann")[0] == 0 and "ann" not in Library("voices").names()


def test_a_blend_is_a_voice(run):
    make(run, "ann")
    make(run, "ben")
    assert run("--blend", "ann=0.7,ben=0.3", "--name", "both")[0] == 0
    assert "ann 70%, ben 30%" in Library("voices").load("both").note


def test_recipes_make_several_and_nothing_where_one_is_wrong(run, tmp_path):
    (tmp_path / "clip.wav").write_bytes(CLIP.read_bytes())
    recipes = [{"name": name, "clips": ["clip.wav"], "consent": "mine", "note": name} for name in ("ann", "ben")]
    file = tmp_path / "r.jsonl"
    file.write_text("\n".join(json.dumps(recipe) for recipe in recipes), encoding="utf-8")
    assert run("--recipes", str(file), "--root", "elsewhere")[0] == 0
    assert {"ann", "ben"} <= set(Library("voices").names()) and Library("voices").load("ben").note == "ben"
    file.write_text(json.dumps(recipes[0] | {"name": "eve"}) + "\n" + json.dumps(recipes[1]), encoding="utf-8")
    code, _, err = run("--recipes", str(file))
    assert code == 2 and "'ben' already" in err and "eve" not in Library("voices").names()


RECIPES = ["{", "3", "{}", '{"clips": "a"}', '{"clips": [1]}', '{"name": "a", "clips": ["a"]}', "[" * 100_000]


@pytest.mark.parametrize("line", RECIPES)
def test_a_recipe_that_is_none_is_one_line(run, tmp_path, line):
    (tmp_path / "r.jsonl").write_text(line, encoding="utf-8")
    code, _, err = run("--recipes", str(tmp_path / "r.jsonl"))
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and "r.jsonl line 1" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", str(CLIP), "--name", "ann"], "no --consent given"),
        (["--reference", str(CLIP), "--name", "ann", "--consent", " "], "no --consent given"),
        (["--reference", str(CLIP), "--consent", "mine"], "no --name given"),
        (["--reference", "nowhere.wav", "--name", "ann", "--consent", "mine"], "no such file: nowhere.wav"),
        (["--reference", str(CLIP), "--name", "../ann", "--consent", "mine"], "cannot be a voice's name"),
        (["--blend", "ann", "--name", "x"], "'ann' is not NAME=SHARE"),
        (["--blend", "a=1,A=2", "--name", "x"], "named twice"),
        (["--blend", "henry=1,nobody=1", "--name", "x"], "no voice 'nobody'"),
        (["--blend", "henry=1,laura=-1", "--name", "x"], "above 0"),
        (["--info", "nobody"], "there are: "),
        (["--remove", "henry"], "comes with the toolkit"),
        (["--list", "--face", "a.svg"], "give it with --info"),
        (["--recipes", "nowhere.jsonl"], "no such file"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_made(run, tmp_path, arguments, message):
    code, _, err = run(*arguments)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert not list(tmp_path.iterdir())


def test_a_damaged_voice_does_not_hide_the_others(run, tmp_path):
    make(run)
    (tmp_path / "voices" / "bad.safetensors").write_bytes(b"\x00" * 50)
    code, out, _ = run("--list")
    assert code == 0 and any(line.startswith("ann ") for line in out.splitlines())
    assert any(line.startswith("bad ") and "bad.safetensors" in line for line in out.splitlines())


def speak(models, *arguments: str) -> int:
    logging.getLogger().handlers.clear()
    return demo_cli.main(
        ["--models", str(models), "--device", "cpu", "--quiet", "--seed", "1", "--text", "Hi.", *arguments]
    )


def test_a_name_speaks_as_its_recording_does(run, models, tmp_path):
    make(run)
    assert speak(models, "--voice", "Ann", "--output", "by_name.wav") == 0
    assert speak(models, "--reference", str(CLIP), "--output", "by_clip.wav") == 0
    assert (tmp_path / "by_name.wav").read_bytes() == (tmp_path / "by_clip.wav").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--voice", "nobody"], "no voice 'nobody' in voices; there are: emily, "),
        (["--voice", "../henry"], "cannot be a voice's name"),
        (["--voice", "henry", "--reference", str(CLIP)], "exclude each other"),
        (["--voice", "henry"], "the voice was made by encoder"),
    ],
)
def test_a_voice_that_cannot_speak_is_refused_in_one_line(run, models, capsys, arguments, message):
    assert speak(models, *arguments, "--output", "x.wav") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
