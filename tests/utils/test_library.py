"""`Library`: voices by name, never lost by accident, and blends; the shipped ones fit the default encoder."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as xml

import numpy as np
import pytest

from tests.conftest import ROOT, SAMPLES
from utils.errors import CloningError
from utils.faces import face
from utils.library import SHIPPED, Library
from utils.voice import Voice, unit
from utils.weights.checkpoint import read_header
from utils.weights.find import DEFAULT_MODELS


def voice(seed: int, encoder: str = "abc", **facts) -> Voice:
    return Voice(unit(np.random.default_rng(seed).normal(size=8).astype(np.float32)), encoder, **facts)


@pytest.fixture
def library(tmp_path) -> Library:
    return Library(tmp_path / "voices", tmp_path / "shipped")


def test_a_voice_is_kept_under_its_name_with_day_consent_and_note(library):
    path = library.save("ann", voice(1, note="hers"), consent="Ann agreed")
    assert path == library.folder / "ann.safetensors" and library.names() == ["ann"]
    kept = library.load("ANN")
    assert kept.consent == "Ann agreed" and kept.note == "hers" and len(kept.made) == 10
    np.testing.assert_array_equal(kept.embedding, voice(1).embedding)


def test_a_voice_is_written_over_only_by_force(library):
    library.save("ann", voice(1))
    for name in ("ann", "Ann"):
        with pytest.raises(CloningError, match="there is a voice .* already"):
            library.save(name, voice(2))
    np.testing.assert_array_equal(library.load("ann").embedding, voice(1).embedding)
    library.save("Ann", voice(2), force=True)
    assert library.names() == ["ann"]
    np.testing.assert_array_equal(library.load("ann").embedding, voice(2).embedding)


def test_an_installation_without_its_checkout_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.library.SHIPPED", tmp_path / "samples")
    with pytest.raises(CloningError, match="samples: no such folder: the toolkit runs from a checkout"):
        Library(tmp_path / "voices", tmp_path / "samples").load("lucy")


def test_shipped_voices_are_read_and_never_changed(library, tmp_path):
    Library(tmp_path / "shipped", None).save("bob", voice(3))
    library.save("ann", voice(1))
    assert library.names() == ["ann", "bob"] and library.load("bob").encoder == "abc"
    with pytest.raises(CloningError, match="already"):
        library.save("bob", voice(1))
    with pytest.raises(CloningError, match="comes with the toolkit"):
        library.remove("bob")
    library.save("bob", voice(4), force=True)  # one's own goes first
    np.testing.assert_array_equal(library.load("bob").embedding, voice(4).embedding)
    library.remove("bob")
    np.testing.assert_array_equal(library.load("bob").embedding, voice(3).embedding)
    library.remove("ann")
    assert library.names() == ["bob"]
    with pytest.raises(CloningError, match="no voice 'ann' in .*; there are: bob"):
        library.load("ann")


NO_NAMES = [
    "",
    "../ann",
    "a/b",
    "a\\b",
    ".ann",
    "-ann",
    "a.safetensors",
    "a" * 65,
    "ann\n",
    "änn",
    "a b",
    "CON",
    "lpt1",
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_is_no_path(library, tmp_path, name):
    voice(1).save(tmp_path / "ann.safetensors")
    for use in (library.load, library.remove, library.path, lambda name: library.save(name, voice(1), force=True)):
        with pytest.raises(CloningError, match="cannot be a voice's name"):
            use(name)
    assert sorted(os.listdir(tmp_path)) == ["ann.safetensors"]


def test_files_that_are_no_voices_are_left_out_or_refused(library):
    library.save("ann", voice(1))
    (library.folder / "my voice.safetensors").write_bytes(b"x")
    (library.folder / "notes.txt").write_text("x", encoding="utf-8")
    (library.folder / "bob.safetensors").write_bytes(b"\xff" * 100)
    assert library.names() == ["ann", "bob"]
    with pytest.raises(CloningError, match=r"bob\.safetensors"):
        library.load("bob")


def test_a_blend_lies_between_its_voices(library):
    ann = voice(
        1, pitch=1.0, spread=0.2, pace=2.0, synthesizer="s", level=-20.0, seconds=5.0, sources=("1",), consent="A"
    )
    ben = voice(2, pitch=0.0, spread=0.4, pace=3.0, synthesizer="t", level=-30.0, seconds=7.0, sources=("2", "1"))
    library.save("ann", ann)
    library.save("ben", ben)
    blend = library.blend({"ann": 3, "ben": 1})
    np.testing.assert_allclose(blend.embedding, unit(0.75 * ann.embedding + 0.25 * ben.embedding), atol=1e-6)
    assert (blend.pitch, blend.spread, blend.level) == pytest.approx((0.75, 0.25, -22.5))
    assert blend.pace is None and blend.prompt is None  # measured by two synthesizers
    assert blend.encoder == "abc" and blend.seconds == 12 and set(blend.sources) == {"1", "2"}
    assert "ann: A" in blend.consent and "ben: nothing said" in blend.consent and "ann 75%" in blend.note


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"ann": 1}, "no blend"),
        ({"ann": 1, "ANN": 1}, "no blend"),
        ({"ann": 1, "ben": 0}, "above 0"),
        ({"ann": 1, "ben": float("nan")}, "above 0"),
        ({"ann": 1, "eve": 1}, "no voice 'eve'"),
        ({"ann": 1, "other": 1}, "different encoders"),
        ({"ann": 1, "opposite": 1}, "opposites"),
    ],
)
def test_what_cannot_be_blended(library, shares, message):
    ann = voice(1)
    library.save("ann", ann)
    library.save("ben", voice(2))
    library.save("other", voice(2, "def"))
    library.save("opposite", Voice(-ann.embedding, "abc"))
    with pytest.raises(CloningError, match=message):
        library.blend(shares)


def test_the_shipped_voices_fit_the_default_encoder_and_are_as_their_recipes_say():
    encoder = read_header(DEFAULT_MODELS / "encoder.safetensors")["fingerprint"]
    library = Library("nowhere at all")
    recipes = [json.loads(line) for line in (SAMPLES / "voices.jsonl").read_text(encoding="utf-8").splitlines()]
    assert library.names() == sorted(recipe["name"] for recipe in recipes) and len(recipes) >= 4
    for recipe in recipes:
        found = library.load(recipe["name"])
        assert found.encoder == encoder, "make them again: samples/README.md has the command"
        assert (found.seconds or 0) >= 5 and found.pitch_hz and found.notes == () and found.made
        assert found.consent == recipe["consent"] and found.note == recipe["note"]
        assert len(found.sources) == len(recipe["clips"])
        assert library.path(recipe["name"]).parent == SHIPPED == ROOT / "samples" / "voices"


def test_every_name_has_a_small_face_of_its_own():
    names = [f"name{i}" for i in range(40)]
    faces = {name: face(name) for name in names}
    assert all(xml.fromstring(drawn).tag.endswith("svg") and len(drawn) < 1024 for drawn in faces.values())
    assert len(set(faces.values())) > 35 and face("Ann") == face("ann")
