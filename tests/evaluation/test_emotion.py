"""`evaluate.py emotion`: its numbers separate pitch from level, its classifier is fair, its page is written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import evaluate
from evaluation.commands import emotion as subject
from evaluation.judges.expression import ActedUtterance, Classifier, describe, higher_and_louder, relative
from tests.support.tiny import save_tiny_models
from utils.audio.io import Waveform, write
from utils.data.corpora import EMOTIONS

pytestmark = pytest.mark.slow

RATE = 16000


def voice(hz: float, gain: float = 0.1, seconds: float = 1.0, wobble: float = 0.0, rate: int = RATE) -> Waveform:
    """A buzz with some overtones, its pitch going up and down by `wobble` of itself."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(hz * (1 + wobble * np.sin(9 * time))) / rate
    samples = sum(np.sin(k * phase) / k for k in range(1, 6))
    return Waveform((gain * samples).astype(np.float32), rate)


def test_an_octave_a_gain_and_a_length_are_measured_as_such():
    low, high = describe(voice(120)), describe(voice(240))
    assert high["pitch"] - low["pitch"] == pytest.approx(12, abs=0.3)
    assert describe(voice(120, gain=0.2))["level"] - low["level"] == pytest.approx(6.02, abs=0.1)
    assert describe(voice(120, seconds=0.5))["rate"] - low["rate"] == pytest.approx(100 * np.log(2), abs=4)
    assert describe(voice(150, wobble=0.3))["pitch_range"] > low["pitch_range"] + 3
    assert describe(voice(120, rate=22050))["pitch"] == pytest.approx(low["pitch"], abs=0.3)
    assert all(np.isfinite(list(describe(Waveform(np.zeros(RATE, np.float32), RATE)).values())))


def takes_of(shifts: dict[str, float], voices: int = 6, noise: float = 0.0) -> list[ActedUtterance]:
    draw = np.random.default_rng(0)
    return [
        ActedUtterance(
            f"v{v}", f"s{s}", emotion, {"pitch": 10 * v + s + shift + noise * draw.normal(), "level": shift + v}
        )
        for v in range(voices)
        for s in range(3)
        for emotion, shift in shifts.items()
    ]


def test_numbers_are_relative_to_the_same_voice_and_sentence():
    shifts = {"neutral": 0.0, "happy": 4.0, "sad": -1.0}
    found = relative(takes_of(shifts), list(shifts))
    assert {(t.emotion, round(t.numbers["pitch"], 6)) for t in found} == {("neutral", -1), ("happy", 3), ("sad", -2)}
    found = relative(takes_of(shifts), list(shifts), "neutral")
    assert {(t.emotion, round(t.numbers["level"], 6)) for t in found} == {("neutral", 0), ("happy", 4), ("sad", -1)}
    incomplete = [t for t in takes_of(shifts) if (t.voice, t.emotion) != ("v0", "sad")]
    assert {t.voice for t in relative(incomplete, list(shifts))} == {f"v{v}" for v in range(1, 6)}


def test_the_classifier_learns_what_differs_and_counts_rows_by_what_was_asked():
    pytest.importorskip("sklearn")
    shifts = {"neutral": 0.0, "happy": 5.0, "angry": 9.0}
    classifier = Classifier(list(shifts)).learn(relative(takes_of(shifts, noise=0.5), list(shifts)))
    np.testing.assert_array_equal(classifier.confusion(relative(takes_of(shifts), list(shifts))), 18 * np.eye(3))
    swapped = {"neutral": 0.0, "happy": 9.0, "angry": 5.0}
    counts = classifier.confusion(relative(takes_of(swapped), list(swapped)))
    assert counts[1, 2] == counts[2, 1] == counts[0, 0] == 18


def test_higher_and_louder_needs_both():
    takes = takes_of({"angry": 2.0, "sad": 1.0})
    assert set(higher_and_louder(takes).values()) == {True}
    softer = [
        replace(t, numbers={**t.numbers, "level": -t.numbers["level"]}) if t.sentence == "s1" else t for t in takes
    ]
    assert higher_and_louder(softer) == {"s0": True, "s1": False, "s2": True}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Models without and with emotions; a corpus of actors, one of whom is set aside."""
    models = save_tiny_models(tmp_path / "models")
    save_tiny_models(tmp_path / "other", emotions=EMOTIONS)
    (tmp_path / "emotional").mkdir()
    (tmp_path / "other" / "synthesizer.safetensors").rename(tmp_path / "emotional" / "parallel.safetensors")
    monkeypatch.setattr(subject, "EMOTIONAL_MODELS", tmp_path / "emotional")
    monkeypatch.setattr("utils.weights.find.EMOTIONAL_MODELS", tmp_path / "emotional")
    codes = {"neutral": 1, "happy": 3, "sad": 4, "angry": 5, "fear": 6, "surprised": 8}
    for actor in (1, 2, 21):
        for number, emotion in enumerate(EMOTIONS):
            path = tmp_path / "corpus" / "RAVDESS" / f"Actor_{actor:02d}"
            path.mkdir(parents=True, exist_ok=True)
            wav = voice(100 + 5 * actor + 20 * number, gain=0.05 + 0.02 * number)
            write(path / f"03-01-{codes[emotion]:02d}-01-01-01-{actor:02d}.wav", wav)
    return tmp_path, models


def test_the_report_says_what_shows_and_what_is_missing(folders, capsys):
    pytest.importorskip("sklearn")
    root, models = folders
    arguments = ["emotion", "--models", str(models), "--limit", "4", "--report", str(root / "report")]
    assert evaluate.main(arguments) == 0
    found = json.loads((root / "report" / "emotion.json").read_text(encoding="utf-8"))
    assert any("no acted corpus" in row["reason"] for row in found["missing"])
    bars = next(t for t in found["tables"] if t["title"] == "Bars")["rows"]["parallel"]
    assert bars["accuracy / chance"]["value"] is None and bars["aligned %"]["value"] == 100
    assert len(found["details"]["takes"]["parallel"]) % 6 == 0
    assert (root / "report" / "emotion.html").read_text(encoding="utf-8").count("<audio") >= 6
    assert "Bars" in capsys.readouterr().out


def test_a_folder_with_emotions_of_its_own_is_measured_itself(folders, monkeypatch, capsys):
    """Beside the default models, which have none."""
    pytest.importorskip("sklearn")
    root, models = folders
    monkeypatch.setattr(subject, "DEFAULT_MODELS", models)
    own = save_tiny_models(root / "own", emotions=EMOTIONS)
    (own / "synthesizer.safetensors").rename(own / "feeling.safetensors")
    assert subject.with_emotions(own) == [str(own / "feeling.safetensors")] and subject.with_emotions(models) == []
    arguments = ["emotion", "--models", str(own), "--limit", "4", "--report", str(root / "report")]
    assert evaluate.main(arguments) == 0
    found = json.loads((root / "report" / "emotion.json").read_text(encoding="utf-8"))
    assert set(next(t for t in found["tables"] if t["title"] == "Bars")["rows"]) == {"feeling"}


def test_real_speech_is_the_ceiling(folders):
    pytest.importorskip("sklearn")
    root, _ = folders
    report = subject.Report("emotion", {})
    real = subject.real_takes(root / "corpus", subject.Cache(root / "cache.jsonl"), report)
    assert {t.voice for t in real["train"]} == {"ravdess-01", "ravdess-02"} and not report.missing
    assert {t.voice for t in real["test"]} == {"ravdess-21"} and len(real["raw"]) == 18
    counts = Classifier(EMOTIONS).learn(real["train"]).confusion(real["test"])
    assert counts.sum(axis=1).tolist() == [1] * 6


def test_mistakes_are_one_line(folders, capsys):
    root, models = folders
    plain = str(models / "synthesizer.safetensors")
    assert evaluate.main(["emotion", "--models", str(models), "--synthesizer", plain, "--limit", "4",
                          "--report", str(root / "r")]) == 2  # fmt: skip
    assert "has no emotions" in capsys.readouterr().err
    (root / "emotional" / "parallel.safetensors").unlink()
    assert evaluate.main(["emotion", "--models", str(models), "--report", str(root / "r")]) == 2
    error = capsys.readouterr().err
    assert "give --synthesizer FILE" in error and error.count("\n") == 1
