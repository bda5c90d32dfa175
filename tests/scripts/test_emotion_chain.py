"""Emotions in the chain and on the command line: which weights are taken, what is asked, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import demo_cli
from cloning.references import MAX_SECONDS
from tests.conftest import ROOT
from tests.support.tiny import save_tiny_models
from utils.audio.io import Waveform, write
from utils.data.corpora import EMOTIONS
from utils.errors import CloningError
from utils.weights import find
from voice_cloner import VoiceCloner

pytestmark = pytest.mark.slow

CLIP = str(ROOT / "samples" / "austen_0890.wav")
OTHER = str(ROOT / "samples" / "goforward.wav")


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder of models without emotions, and two synthesizers with, by name."""
    folder = save_tiny_models(tmp_path / "models")
    emotional = tmp_path / "emotional"
    emotional.mkdir()
    for name in ("parallel", "transformer"):
        made = save_tiny_models(tmp_path / name, name, emotions=EMOTIONS)
        (made / "synthesizer.safetensors").rename(emotional / f"{name}.safetensors")
    monkeypatch.setattr(find, "EMOTIONAL_MODELS", emotional)
    return folder


@pytest.mark.parametrize("name", ["parallel", "transformer"])
def test_a_synthesizer_is_chosen_by_name_and_speaks_with_an_emotion(models, name):
    cloner = VoiceCloner.load(models, synthesizer=name, device="cpu")
    assert cloner.synthesizer.emotions == EMOTIONS and cloner.synthesizer.name == name

    def samples(**wanted) -> np.ndarray:
        return cloner.clone(CLIP, "See it.", seed=1, **wanted).audio.samples

    plain = samples()
    np.testing.assert_array_equal(samples(emotion="neutral"), plain)
    for wanted in ({"emotion": "angry"}, {"emotion_reference": OTHER}):
        found = samples(**wanted)
        assert found.shape != plain.shape or not np.allclose(found, plain)
        np.testing.assert_array_equal(samples(**wanted), found)
    assert cloner.clone(CLIP, "See it.", seed=1, emotion="sad").report()["emotion"] == "sad"
    with pytest.raises(CloningError, match="exclude each other"):
        samples(emotion="sad", emotion_reference=OTHER)


def test_the_folders_own_comes_before_ours(models, tmp_path):
    emotional = tmp_path / "emotional"
    assert find.find_chosen(models, "synthesizer", "parallel") == emotional / "parallel.safetensors"
    ours = find.DEFAULT_MODELS / "vocoder.safetensors"
    assert find.find_chosen(tmp_path, "vocoder", "vocoder") == ours
    (models / "parallel.safetensors").write_bytes(b"")
    assert find.find_chosen(models, "synthesizer", "parallel") == models / "parallel.safetensors"
    with pytest.raises(CloningError, match="no such checkpoint"):
        VoiceCloner.load(models, synthesizer="unheard-of.safetensors", device="cpu")


def test_a_name_that_nothing_has_is_answered_with_those_there_are(models, tmp_path):
    (tmp_path / "emotional" / "transformer.safetensors").unlink()
    with pytest.raises(CloningError, match=r"^synthesizer transformer: [^\n]*choose one of parallel[^\n]*") as caught:
        VoiceCloner.load(models, synthesizer="transformer", device="cpu")
    assert "synthesizer_train.py --config transformer makes" in str(caught.value)
    with pytest.raises(CloningError, match=r"choose one of [^\n]*griffin-lim[^\n]*, or give a file$"):
        find.find_chosen(models, "vocoder", "unheard-of")
    assert str(find.find_chosen(models, "vocoder", "griffin-lim")) == "griffin-lim"


def demo(models, output, *arguments: str) -> int:
    return demo_cli.main(["--models", str(models), "--device", "cpu", "--output", str(output), "--seed", "1",
                          "--reference", CLIP, "--text", "See it.", *arguments])  # fmt: skip


def test_the_command_line_takes_a_label_or_a_clip(models, tmp_path, capsys):
    chosen = ["--synthesizer", "transformer"]
    sounds = []
    for name, wanted in (("a", []), ("b", ["--emotion", "happy"]), ("c", ["--emotion-reference", OTHER])):
        report = tmp_path / f"{name}.json"
        assert demo(models, tmp_path / f"{name}.wav", *chosen, *wanted, "--json", str(report)) == 0
        sounds.append((tmp_path / f"{name}.wav").read_bytes())
        assert json.loads(report.read_text(encoding="utf-8"))["emotion"] == {"b": "happy", "c": "as in the clip"}.get(
            name, ""
        )
    assert len(set(sounds)) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--synthesizer", "transformer", "--emotion", "joy"], "choose one of neutral, happy, sad, angry, surprised"),
        (["--emotion", "happy"], "has no emotion conditioning"),
        (["--synthesizer", "parallel", "--emotion", "sad", "--emotion-reference", OTHER], "exclude each other"),
        (["--synthesizer", "parallel", "--emotion-reference", "nowhere.wav"], "no such file: nowhere.wav"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_exit_2(models, tmp_path, capsys, arguments, said):
    assert demo(models, tmp_path / "o.wav", "--quiet", *arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_an_emotion_reference_that_is_too_long_is_named(models, tmp_path, capsys):
    path = tmp_path / "long.wav"
    write(path, Waveform(np.zeros(8000 * (int(MAX_SECONDS) + 1), np.float32), 8000))
    wanted = ["--synthesizer", "parallel", "--emotion-reference", str(path)]
    assert demo(models, tmp_path / "o.wav", "--quiet", *wanted) == 2
    error = capsys.readouterr().err
    assert f"{path} is {MAX_SECONDS + 1:g} s long" in error and error.count("\n") == 1
