"""One speaker, one recording, one clip a speaker: what cannot work is said, and what is said to help does."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from tests.support.encoder_set import RATE, voice

pytestmark = pytest.mark.slow

TINY = {"encoder": [], "vocoder": ["--threads", "1"], "synthesizer": ["--set", "model.speaker_size=16"]}


@pytest.fixture
def stage(tmp_path, data_dir, capsys) -> Callable[..., str]:
    """Preprocess what is recorded, train a step, and return what was said of a mistake, "" for none."""

    def run(name: str, script: str, *flags: str) -> str:
        capsys.readouterr()
        fixed = {"train": [tmp_path / "set", "--out", tmp_path / "run", "--config", "debug", "--steps", 1, "--device"]}
        fixed["train"] += ["cpu", *TINY[name]]
        fixed["preprocess"] = [tmp_path / "voices", "--out", tmp_path / "set", "--jobs", 1]
        fixed["preprocess"] += ["--encoder", data_dir / "encoder_tiny.pt"] if name == "synthesizer" else []
        code = importlib.import_module(f"{name}_{script}").main([*map(str, fixed[script]), *flags])
        error = capsys.readouterr().err.strip().split("\n")[-1]
        assert code in (0, 2) and error.startswith("error: ") == (code == 2)
        return error if code else ""

    return run


def record(root: Path, speaker: str, *names: str) -> None:
    (root / "voices" / speaker).mkdir(parents=True, exist_ok=True)
    for name in names:
        seed = ord(name) + ord(speaker)
        soundfile.write(root / "voices" / speaker / f"{name}.wav", voice(ord(speaker) % 5, 4.0, seed), RATE)
        (root / "voices" / speaker / f"{name}.txt").write_text("See it now.", encoding="utf-8")


@pytest.mark.parametrize("name", ["vocoder", "synthesizer"])
def test_one_recording_is_too_little_and_two_will_do(stage, tmp_path, name):
    record(tmp_path, "a", "1")
    assert stage(name, "preprocess") == ""
    assert "2 are needed" in stage(name, "train")
    record(tmp_path, "a", "2")
    assert stage(name, "preprocess") == ""
    assert stage(name, "train") == ""


@pytest.mark.parametrize("name", ["vocoder", "synthesizer"])
def test_one_recording_of_each_of_two_speakers_will_do(stage, tmp_path, name):
    record(tmp_path, "a", "1")
    record(tmp_path, "b", "1")
    assert stage(name, "preprocess") == "" and stage(name, "train") == ""


def test_an_encoder_says_how_many_speakers_it_needs(stage, tmp_path):
    record(tmp_path, "a", "1", "2", "3")
    assert stage("encoder", "preprocess") == ""
    assert "1 speakers" in (said := stage("encoder", "train")) and "at least 4" in said
    for speaker in "bcd":
        record(tmp_path, speaker, "1")
    assert stage("encoder", "preprocess", "--validation", "0") == ""
    assert "0 held-out speakers" in (said := stage("encoder", "train")) and "--validation 0.5" in said
    assert stage("encoder", "preprocess", "--validation", "0.5") == ""
    assert stage("encoder", "train", "--set", "data.speakers=9") == ""  # a batch has both
