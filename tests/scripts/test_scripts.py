"""What the scripts of the stages answer to mistakes: one line that helps, exit code 2, and nothing written."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT
from tests.support.encoder_set import write_set
from tests.support.synthesizer_set import SPEAKER_SIZE
from tests.support.synthesizer_set import make_set as make_synthesizer_set
from tests.support.vocoder_set import make_set as make_vocoder_set
from tests.support.vocoder_set import voice

pytestmark = pytest.mark.slow

STAGES = ["encoder", "synthesizer", "vocoder"]
FITTING = {"synthesizer": [f"--set=model.speaker_size={SPEAKER_SIZE}", "--set=data.min_frames=1"]}


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, Path]:
    """A small preprocessed set of each stage."""
    root = tmp_path_factory.mktemp("sets")
    write_set(root / "encoder")
    make_synthesizer_set(root / "synthesizer")
    make_vocoder_set(root / "vocoder", seconds=(1.0,))
    return {stage: root / stage for stage in STAGES}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    for speaker in ("ann", "ben"):
        (root / speaker).mkdir()
        soundfile.write(root / speaker / "a.wav", 0.3 * voice(0.9, ord(speaker[0])), 16000)
        (root / speaker / "a.txt").write_text("See it now.", encoding="utf-8")
    return root


@pytest.fixture
def refused(capsys):
    """Runs a script, which must end with one line on stderr and exit code 2; the line."""

    def run(script: str, *arguments: object) -> str:
        capsys.readouterr()
        assert importlib.import_module(script).main([str(a) for a in arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, error
        return error

    return run


def preprocess(stage: str, data_dir: Path) -> tuple[str, list[object]]:
    encoder = ["--encoder", data_dir / "encoder_tiny.pt"] if stage == "synthesizer" else []
    return f"{stage}_preprocess", ["--jobs", 1, *encoder]


@pytest.mark.parametrize("stage", STAGES)
def test_preprocessing_without_a_corpus(refused, data_dir, tmp_path, stage):
    script, flags = preprocess(stage, data_dir)
    out = tmp_path / "out"
    assert "nowhere" in refused(script, tmp_path / "nowhere", "--out", out, *flags)
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(script, tmp_path / "empty", "--out", out, *flags)
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    assert "notes.txt" in refused(script, tmp_path / "notes.txt", "--out", out, *flags)
    assert not out.exists()


@pytest.mark.parametrize("stage", STAGES)
def test_preprocessing_into_what_is_no_folder_or_no_such_set(refused, data_dir, corpus, sets, tmp_path, stage):
    script, flags = preprocess(stage, data_dir)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert "its folder is a file" in refused(script, corpus, "--out", tmp_path / "file", *flags)
    assert "its folder is a file" in refused(script, corpus, "--out", tmp_path / "file" / "below", *flags)
    with pytest.raises(SystemExit, match="2"):
        refused(script, corpus, "--out", tmp_path / "new", *flags, "--validation", 3)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_training_without_a_set(refused, sets, tmp_path, stage):
    out = ["--out", tmp_path / "out", "--config", "debug", "--device", "cpu", "--steps", 1]
    assert "no manifest.jsonl" in refused(f"{stage}_train", tmp_path / "nowhere", *out)
    (tmp_path / "empty").mkdir()
    assert f"{stage}_preprocess.py" in refused(f"{stage}_train", tmp_path / "empty", *out)
    other = sets[STAGES[STAGES.index(stage) - 1]]
    assert f"expected '{stage}'" in refused(f"{stage}_train", other, *out)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_training_with_settings_that_are_none(refused, sets, tmp_path, stage):
    script, common = f"{stage}_train", [sets[stage], "--out", tmp_path / "out", "--device", "cpu"]
    assert "one of ['debug'" in refused(script, *common, "--config", "nonsense")
    assert "unknown settings ['nonsense']" in refused(script, *common, "--config", "debug", "--set", "data.nonsense=1")
    assert "not name=value" in refused(script, *common, "--config", "debug", "--set", "data.batch_size")
    assert "steps is 0; it must be 1 to" in refused(script, *common, "--config", "debug", "--steps", 0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_training_from_or_into_what_is_not_there(refused, sets, tmp_path, stage):
    script = f"{stage}_train"
    common = [sets[stage], "--config", "debug", "--device", "cpu", "--steps", 1, *FITTING.get(stage, [])]
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert "its folder is a file" in refused(script, *common, "--out", tmp_path / "file")
    assert "its folder is a file" in refused(script, *common, "--out", tmp_path / "file" / "below")
    missing = ["--from", tmp_path / "none.safetensors"]
    assert "no such checkpoint" in refused(script, *common, "--out", tmp_path / "out", *missing)
    assert not (tmp_path / "out").exists()


def test_a_transcript_is_needed_where_text_is_learned(refused, data_dir, tmp_path):
    (tmp_path / "ann").mkdir()
    soundfile.write(tmp_path / "ann" / "a.wav", np.tile(voice(0.5, 1), 2), 16000)
    script, flags = preprocess("synthesizer", data_dir)
    assert "none of the 1 clips has a transcript" in refused(script, tmp_path, "--out", tmp_path / "out", *flags)
    assert "no such checkpoint" in refused(script, tmp_path, "--out", tmp_path / "out", "--encoder", tmp_path / "no.pt")


@pytest.mark.parametrize(
    "words",
    [
        ("diarize", str(ROOT / "samples" / "goforward.wav"), "--output", "turns.rttm"),
        ("evaluate", "watermark"),
        ("synthesizer_reembed", "set", "--encoder", "encoder.pt", "--speech", "speech"),
        ("train_all", "corpora", "--out", "chain"),
    ],
)
def test_a_device_that_is_not_there_is_refused_before_the_work(refused, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module(words[0]).main([*words[1:], "--device", "tpu"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "device cuda: not available to this torch" in refused(*words, "--device", "cuda")
    assert not any(tmp_path.iterdir())


COUNTS = {  # of each command: what it needs, and the flags that want a number above 0
    "demo_cli": ("--threads", "--only"),
    "diarize clip.wav --output turns.rttm": ("--threads",),
    "serve": ("--threads",),
    "make_voice --reference clip.wav": ("--adapt",),
    "train_all corpora --out chain": ("--threads", "--jobs", "--piece-mb"),
    "train_all pack corpora --out parts": ("--part-mb",),
    "encoder_train set --out run": ("--threads", "--profile"),
    "synthesizer_train set --out run": ("--threads", "--profile"),
    "vocoder_train set --out run": ("--threads", "--profile"),
    "encoder_preprocess corpus --out set": ("--jobs", "--limit"),
    "synthesizer_preprocess corpus --out set": ("--jobs", "--limit", "--max-seconds"),
    "vocoder_preprocess corpus --out set": ("--jobs", "--limit"),
    "evaluate encoder": ("--limit",),
    "evaluate vocoder": ("--limit", "--minutes"),
    "evaluate chain": ("--limit", "--minutes"),
    "evaluate diarization": ("--limit",),
    "evaluate emotion": ("--limit",),
    "evaluate watermark": ("--limit",),
    "evaluate speed": ("--threads", "--repeats", "--seconds"),
    "evaluate ablations file.toml --data set": ("--threads", "--steps", "--seeds"),
}


@pytest.mark.parametrize("value", ["-1", "0", "nan", "many"])
@pytest.mark.parametrize("words", COUNTS)
def test_counts_and_sizes_are_above_zero(words, value, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    script, *before = words.split()
    for flag in COUNTS[words]:
        with pytest.raises(SystemExit, match="^2$"):
            importlib.import_module(script).main([*before, flag, value])
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"error: argument {flag}: " in line and value in line
    assert not any(tmp_path.iterdir())


def test_more_threads_than_any_machine_has_are_refused(capsys):
    with pytest.raises(SystemExit, match="^2$"):
        importlib.import_module("demo_cli").main(["--threads", "100000"])
    assert "--threads: 100000: it must be 1 to 1024" in capsys.readouterr().err
