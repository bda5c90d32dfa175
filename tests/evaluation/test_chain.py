"""`evaluate.py chain`: for chosen voices, with several synthesizers; nothing real is judged twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import evaluate
from cloning.cloner import VoiceCloner
from evaluation import measure
from evaluation.commands import chain as cloning
from evaluation.lists.voices import AT_LEAST, plan_of
from evaluation.models import chain_digest, vocoder_columns
from tests.support.tiny import save_tiny_models
from utils.audio.io import Waveform
from utils.errors import CloningError
from utils.weights.export import export

pytestmark = pytest.mark.slow

RATE = 16_000


def corpus(folder: Path, *speakers: str, clips: int = 10, seconds: float = 5.0) -> Path:
    """Buzzes, a pitch a speaker, that say "word <k>"."""
    time = np.arange(round(seconds * RATE)) / RATE
    for number, speaker in enumerate(speakers):
        (folder / speaker).mkdir(parents=True)
        tone = 0.1 * sum(np.sin(2 * np.pi * (110 + 40 * number) * k * time) / k for k in range(1, 20))
        for clip in range(clips):
            gain = 0.5 + 0.05 * clip  # no two clips are one
            soundfile.write(folder / speaker / f"{speaker}{clip}.flac", gain * tone, RATE)
            text = f"Word {'abcdefghijklm'[clip]}, please."
            (folder / speaker / f"{speaker}{clip}.txt").write_text(text, encoding="utf-8")
    return folder


def test_a_plan_of_chosen_voices_uses_no_clip_twice(tmp_path):
    root = corpus(tmp_path / "Toys", "ann", "ben", "cat")
    plan = plan_of(root, ["Toys-ann", "*-b?n"])
    assert list(plan.enrolment) == ["Toys-ann", "Toys-ben"]
    for speaker, clips in plan.enrolment.items():
        own = [item for item in plan.items if item.speaker == speaker]
        used = [*clips, *(item.real for item in own), own[0].reference]
        assert len(own) == 4 and len(clips) == 5 and len(set(used)) == len(used)
        assert {item.reference for item in own} == {own[0].reference}
        assert own == plan.real[speaker] and own[0].spoken == own[0].text.lower().replace(",", "").rstrip(".")
    assert [item.speaker for item in plan.items[:3]] == ["Toys-ann", "Toys-ben", "Toys-ann"]
    assert plan_of(root, ["Toys-ann", "*-b?n"]) == plan


def test_voices_that_cannot_be_taken_are_refused(tmp_path):
    root = corpus(tmp_path / "Toys", "ann", "acb1b5d5f47e")
    corpus(root, "few", clips=AT_LEAST - 1)
    for name, why in (("Toys-few", "no such speaker with"), ("Toys-acb1b5d5f47e", "set aside"), ("x", "no such")):
        with pytest.raises(CloningError, match=why):
            plan_of(root, ["Toys-ann", name])
    with pytest.raises(CloningError, match="no clip of 4 to 12 s"):
        plan_of(corpus(tmp_path / "Short", "ann", seconds=2.0), ["Short-ann"])


def test_voices_need_a_corpus(capsys):
    assert evaluate.main(["chain", "--voices", "x"]) == 2
    assert "need --corpus" in capsys.readouterr().err


class ByPitch:
    """A judge of similarity by the strongest frequency."""

    name = about = fingerprint = "toy"
    embedded = 0

    def embed(self, waveform: Waveform) -> np.ndarray:
        type(self).embedded += 1
        power = np.abs(np.fft.rfft(waveform.samples[:16000], 16000))[80:280]
        return (power / np.linalg.norm(power)).astype(np.float32)


def test_two_checkpoints_by_two_judges_and_a_shared_cache(tmp_path, monkeypatch, capsys):
    numbers = {"f0_hz": 100.0, "f0_spread": 2.0, "pause_s": 0.1, "speech_seconds": 1.0}
    monkeypatch.setattr(measure, "voice_numbers", lambda waveform: numbers)
    monkeypatch.setattr(measure, "naturalness_judges", lambda dnsmos: [])
    monkeypatch.setattr(cloning, "aligned_distance", lambda real, other: 1.0)
    monkeypatch.setattr(measure, "speaker_judges", lambda path: [ByPitch(), ByPitch()])
    root = corpus(tmp_path / "Toys", "ann", "ben")
    models = save_tiny_models(tmp_path / "models")
    other = save_tiny_models(tmp_path / "other", "tacotron") / "synthesizer.safetensors"
    command = [
        "chain", "--models", str(models), "--corpus", str(root), "--voices", "Toys-*", "--limit", "2",
        "--synthesizer", str(models / "synthesizer.safetensors"), str(other),
        "--recognizer", "none", "--no-copies", "--cache", str(tmp_path / "cache"), "--report",
    ]  # fmt: skip
    assert evaluate.main([*command, str(tmp_path / "first")]) == 0
    assert "| chain models/synthesizer | 2 |" in capsys.readouterr().out
    embedded = ByPitch.embedded
    assert evaluate.main([*command, str(tmp_path / "second")]) == 0
    assert ByPitch.embedded == embedded  # all was known, real recordings and clones
    tables = json.loads((tmp_path / "second" / "chain.json").read_text(encoding="utf-8"))["tables"]
    rows = tables[0]["rows"]
    assert list(rows) == ["real recordings", "chain models/synthesizer", "chain other/synthesizer"]
    for heading in ("way to the voice %", "by the 2nd judge %"):
        assert rows["real recordings"][heading]["value"] == pytest.approx(100, abs=1)
        assert rows["chain other/synthesizer"][heading]["value"] < 90
    assert tables[1]["rows"]["chain other/synthesizer"]["CPU s / s"]["value"] > 0


def test_what_a_chain_said_is_kept_by_its_weights_and_by_how_they_are_used(tmp_path):
    models = save_tiny_models(tmp_path / "models")
    other = tmp_path / "calmer.safetensors"
    export(models / "synthesizer.safetensors", other, ["sampling.temperature=0.1"])
    same, again, calmer = (VoiceCloner.load(models, **stage) for stage in ({}, {}, {"synthesizer": other}))
    assert chain_digest(same) == chain_digest(again) != chain_digest(calmer)
    export(models / "synthesizer.safetensors", other, [])
    assert chain_digest(VoiceCloner.load(models, synthesizer=other)) != chain_digest(calmer)


def test_every_vocoder_of_a_folder_is_compared_whatever_its_name(tmp_path):
    models = save_tiny_models(tmp_path / "models")
    (models / "vocoder.safetensors").rename(models / "wavernn.safetensors")
    (models / "vocoder_old.pt").write_bytes(b"")
    for extra in ([], [Path("wavernn")]):  # named once more, it is still one column
        names = [column.name for column in vocoder_columns([models], extra)]
        assert names == ["models/vocoder_old", "models/wavernn", "griffin-lim"]
    with pytest.raises(CloningError, match="no such checkpoint"):
        vocoder_columns([models], [Path("wavernnn")])


def test_all_synthesizers_are_a_chain_each_and_what_does_not_fit_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "naturalness_judges", lambda dnsmos: [])
    monkeypatch.setattr(measure, "speaker_judges", lambda path: [ByPitch(), ByPitch()])
    models = save_tiny_models(tmp_path / "models")
    save_tiny_models(tmp_path / "letters", "tacotron")
    shutil.copy(tmp_path / "letters" / "synthesizer.safetensors", models / "tacotron.safetensors")
    emotional = save_tiny_models(tmp_path / "emotional", embedding_size=16)  # of another encoder
    monkeypatch.setattr(cloning, "EMOTIONAL_MODELS", emotional)
    command = ["chain", "--models", str(models), "--synthesizer", "all", "--limit", "1", "--recognizer", "none",
               "--no-copies", "--report", str(tmp_path / "report")]  # fmt: skip
    assert evaluate.main(command) == 0
    out = capsys.readouterr().out
    assert "| chain models/synthesizer |" in out and "| chain models/tacotron |" in out
    assert "missing: chain emotional/synthesizer: " in out and "was trained with encoder" in out
    page = (tmp_path / "report" / "chain.html").read_text(encoding="utf-8")
    assert page.count("<audio") >= 2
