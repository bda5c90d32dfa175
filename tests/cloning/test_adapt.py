"""`cloning.adapt.adapt` and make_voice.py --adapt: by its own measure, what is kept is never worse than unadapted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import make_voice
from cloning import adapt as adapting
from cloning.adapt import Rating, adapt, planned_steps
from cloning.cloner import VoiceCloner
from tests.conftest import SAMPLES
from tests.support.tiny import TINY_PARALLEL, save_tiny_models
from utils.errors import CloningError, MismatchError
from utils.library import Library

CLIP = SAMPLES / "austen_0890.wav"
TOLD = dataclasses.replace(TINY_PARALLEL, voice_statistics=True, prompt_tokens=4, prompt_width=8)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_tiny_models(tmp_path_factory.mktemp("models"), parallel=TOLD)


@pytest.fixture(scope="module")
def cloner(models) -> VoiceCloner:
    return VoiceCloner.load(models, device="cpu")


@pytest.fixture
def untrained(monkeypatch):
    """An untrained frame classifier is sure of nothing."""
    monkeypatch.setattr("synthesizer.aligned_clip.SURE", 0.0)


def rated_as(monkeypatch, *similarities: float, phone_error: float = 0.1):
    """Let `hear` find these, one after the other."""
    left = [Rating(similarity, phone_error * (place > 0)) for place, similarity in enumerate(similarities)]
    monkeypatch.setattr(adapting, "rate_voice", lambda cloner, voice: left.pop(0))


def test_the_last_state_that_is_more_like_the_voice_is_kept(cloner, untrained, monkeypatch):
    lines: list[str] = []
    rated_as(monkeypatch, 0.5, 0.7, 0.4)
    voice = adapt(cloner, CLIP, steps=4, progress=lines.append)
    assert voice.adapted and lines[-1] == "kept: step 2" and len(lines) == 4
    assert voice.synthesizer == cloner.synthesizer.fingerprint and voice.sources
    clone = cloner.clone(voice, "Hello.", seed=1).audio.samples
    assert (clone != cloner.clone(dataclasses.replace(voice, adapted=None), "Hello.", seed=1).audio.samples).any()
    assert cloner.embed_voice(CLIP).compensation and voice.compensation is None  # was learned instead


@pytest.mark.parametrize(
    "steps, similarities, phone_error",
    [(3, (0.5, 0.4, 0.5, 0.3), 0.0), (3, (0.5, 0.9, 0.9, 0.9), 0.9), (0, (0.5,), 0.0)],
)
def test_a_voice_that_got_worse_or_learned_nothing_is_the_unadapted_one(
    cloner, untrained, monkeypatch, steps, similarities, phone_error
):
    rated_as(monkeypatch, *similarities, phone_error=phone_error)
    voice = adapt(cloner, CLIP, steps=steps)
    plain = cloner.embed_voice(CLIP)
    assert voice.adapted is None
    np.testing.assert_array_equal(
        cloner.clone(voice, "Hello.", seed=1).audio.samples, cloner.clone(plain, "Hello.", seed=1).audio.samples
    )


def test_time_ends_the_learning(cloner, untrained, monkeypatch):
    monkeypatch.setattr(adapting, "RATING_SHARE", 0.0)
    lines: list[str] = []
    adapt(cloner, CLIP, steps=1000, progress=lines.append)
    assert any(line.startswith("step 1 of 1000") for line in lines) and len(lines) == 3


def test_real_listening_measures_both(cloner):
    found = adapting.rate_voice(cloner, cloner.embed_voice(CLIP))
    assert -1 <= found.similarity <= 1 and 0 <= found.phone_error <= 1


def test_longer_recordings_get_more_steps():
    assert [planned_steps(seconds) for seconds in (5, 20, 100, 180, 600)] == [40, 40, 100, 160, 160]


def test_another_synthesizer_refuses_an_adapted_voice(cloner, tmp_path, untrained, monkeypatch):
    rated_as(monkeypatch, 0.5, 0.6, 0.7, 0.8)
    voice = adapt(cloner, CLIP, steps=3)
    voice.save(tmp_path / "ann.safetensors")
    plain = save_tiny_models(tmp_path / "plain") / "synthesizer.safetensors"
    other = VoiceCloner(cloner.encoder, type(cloner.synthesizer).load(plain), cloner.vocoder)
    with pytest.raises(MismatchError, match="adapted to synthesizer"):
        other.clone(tmp_path / "ann.safetensors", "Hello.")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seconds": 1}, "seconds is 1; it must be 5"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"seconds": "60"}, "seconds is '60'; a number from 5 to 3600 is wanted"),
        ({"steps": -1}, "steps is -1; it must be a whole number of at least 0"),
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number"),
        ({"seed": True}, "seed True: a whole number from 0"),
        ({"texts": ["a", "b"]}, "2 texts for 1 clips"),
    ],
)
def test_what_makes_no_sense_is_refused(cloner, changes, message):
    with pytest.raises(CloningError, match=message):
        adapt(cloner, CLIP, **changes)


def test_the_script_adapts_and_says_so(models, tmp_path, monkeypatch, capsys, untrained):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adapting, "STEPS", (3, 3))
    monkeypatch.setattr(Rating, "acceptable", lambda self, unadapted: True)
    command = [
        "--models",
        str(models),
        "--device",
        "cpu",
        "--reference",
        str(CLIP),
        "--name",
        "ann",
        "--consent",
        "yes",
    ]
    assert make_voice.main([*command, "--adapt", "60"]) == 0
    assert "kept: step 3" in capsys.readouterr().out and Library("voices").load("ann").adapted
    assert make_voice.main(["--info", "ann"]) == 0
    assert "adapted: for synthesizer" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--list", "--adapt", "60"], "--adapt: give the recordings"),
        (["--reference", "a.wav", "--name", "a", "--consent", "y", "--text", "a.txt"], "--text is for --adapt"),
        (["--reference", str(CLIP), "--name", "a", "--consent", "y", "--adapt", "60", "--text", "no.txt"], "no.txt"),
    ],
)
def test_the_script_refuses_what_makes_no_sense(models, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert make_voice.main(["--models", str(models), *arguments]) == 2
    assert message in capsys.readouterr().err
