"""`Voice`: what goes from the encoder to the synthesizer, and its file."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from encoder.config import EncoderConfig, LstmConfig
from encoder.inference import SpeakerEncoder
from encoder.model import build_network
from tests.conftest import ROOT, SAMPLES
from utils.audio.io import Waveform, dbfs, normalize_volume, read
from utils.audio.reference import prepare_reference
from utils.audio.vad import trim_silence
from utils.errors import CloningError
from utils.voice import Voice, is_voice, unit
from utils.weights.checkpoint import Header, save_weights


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    torch.manual_seed(0)
    config = EncoderConfig(embedding_size=16, lstm=LstmConfig(hidden=16, layers=1))
    return SpeakerEncoder(build_network(config), config, "0123456789abcdef")


@pytest.fixture
def clip(data_dir):
    return SAMPLES / "austen_0890.wav"


def whole() -> Voice:
    embedding = unit(np.linspace(-1, 1, 8, dtype=np.float32))
    prompt = np.random.default_rng(0).normal(size=(30, 80)).astype(np.float32)
    said = {"notes": ("clip: too quiet",), "sources": ("0" * 64,), "made": "2026-11-26", "consent": "Ann", "note": "x"}
    changes = {"mean.offset": np.array([0.5, -2], np.float32), "mean.inward": np.ones((4, 2), np.float32)}
    wrong = {"centers": np.ones((3, 4), np.float16), "frames": np.array([2, 1, 9], np.float32)}
    return Voice(
        embedding, "abc", 0.3, 0.2, 1.9, prompt, "def", -21.5, 6.5, compensation=wrong, adapted=changes, **said
    )


@pytest.mark.parametrize("voice", [whole(), Voice(unit(np.ones(5, np.float32)))], ids=["whole", "embedding alone"])
def test_a_voice_is_read_as_it_was_written(tmp_path, voice):
    voice.save(tmp_path / "ann.safetensors")
    again = Voice.load(tmp_path / "ann.safetensors")
    named = ("compensation", "adapted")
    for field in named:
        read_back, written = getattr(again, field) or {}, getattr(voice, field) or {}
        assert read_back.keys() == written.keys()
        for name, values in written.items():
            np.testing.assert_array_equal(read_back[name], values)
    for field in [field for field in dataclasses.fields(Voice) if field.name not in named]:
        np.testing.assert_array_equal(getattr(again, field.name), getattr(voice, field.name))
    assert again.embedding.dtype == np.float32 and isinstance(again.notes, tuple)


@pytest.mark.parametrize(
    ("state", "config", "message"),
    [
        ({}, {}, "no embedding"),
        ({"embedding": torch.ones(2, 3) / 6**0.5}, {}, "no embedding"),
        ({"embedding": torch.ones(4)}, {}, "no embedding"),
        ({"embedding": torch.tensor([1.0]), "prompt": torch.ones(3)}, {}, "prompt is of shape"),
        ({"embedding": torch.tensor([1.0]), "prompt": torch.ones(0, 80)}, {}, "prompt is of shape"),
        ({"embedding": torch.tensor([math.nan])}, {}, "not finite"),
        ({"embedding": torch.tensor([1.0])}, {"pitch": "high"}, "its pitch cannot"),
        ({"embedding": torch.tensor([1.0])}, {"pace": math.inf}, "its pace cannot"),
        ({"embedding": torch.tensor([1.0])}, {"level": True, "encoder": 3}, "its encoder, level cannot"),
        ({"embedding": torch.tensor([1.0])}, {"notes": "loud"}, "its notes cannot"),
        ({"embedding": torch.tensor([1.0])}, {"sources": [1], "consent": ["Ann"]}, "its consent, sources cannot"),
    ],
)
def test_a_damaged_voice_is_refused_in_one_line(tmp_path, state, config, message):
    path = tmp_path / "ann.safetensors"
    save_weights(path, Header("voice", config), {"other": torch.ones(1), **state})
    with pytest.raises(CloningError, match=message) as caught:
        Voice.load(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_file_that_is_no_voice_is_refused(tmp_path):
    path = tmp_path / "ann.safetensors"
    whole().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CloningError, match="damaged or cut off"):
        Voice.load(path)
    save_weights(path, Header("encoder", {}), {"embedding": torch.ones(1)})
    with pytest.raises(CloningError, match="expected a checkpoint of kind 'voice', found 'encoder'"):
        Voice.load(path)
    with pytest.raises(CloningError, match="no such checkpoint"):
        Voice.load(tmp_path / "nobody.safetensors")


def test_numbers_for_readers():
    voice = Voice(unit(np.ones(2, np.float32)), pitch=1.0, pace=math.log(0.1))
    assert voice.pitch_hz == 300 and voice.phones_per_second == pytest.approx(10)
    bare = Voice(voice.embedding)
    assert bare.pitch_hz is None and bare.phones_per_second is None


def test_an_older_file_counts_frames(tmp_path):
    path = tmp_path / "ann.safetensors"
    save_weights(path, Header("voice", {"pace": math.log(8)}), {"embedding": torch.tensor([1.0])})
    assert Voice.load(path).phones_per_second == pytest.approx(10)
    save_weights(path, Header("voice", {"pace": None}), {"embedding": torch.tensor([1.0])})
    assert Voice.load(path).pace is None
    for voice in (ROOT / "samples" / "voices").glob("*.safetensors"):
        assert 6 < Voice.load(voice).phones_per_second < 20, voice


def test_what_is_a_voice(clip):
    assert is_voice(whole()) and is_voice("ann.safetensors")
    assert not is_voice(clip) and not is_voice(str(clip)) and not is_voice([whole()]) and not is_voice(b"RIFF")


def test_the_encoder_measures_a_voice(encoder, clip):
    wav = read(clip)
    quiet = Waveform(wav.samples * np.float32(0.1), wav.sample_rate)
    voice, quieter = encoder.embed_voice(clip), encoder.embed_voice([quiet])
    np.testing.assert_array_equal(voice.embedding, encoder.embed(clip))
    assert quieter.embedding @ voice.embedding > 0.99
    assert voice.encoder == encoder.fingerprint and voice.prompt is None and voice.pace is None
    assert voice.seconds == len(encoder.preprocess(clip)) / 16_000
    assert voice.level == pytest.approx(dbfs(wav.samples)) and quieter.level == pytest.approx(
        voice.level - 20, abs=0.01
    )
    assert voice.pitch_hz is not None and 60 < voice.pitch_hz < 400 and 0.05 < (voice.spread or 0) < 0.6
    assert encoder.embed_voice(clip, pitch=False).pitch is None
    both = encoder.embed_voice([clip, clip])
    assert both.seconds == pytest.approx(2 * voice.seconds)
    with pytest.raises(CloningError, match="no clip to embed"):
        encoder.embed_voice([])
    with pytest.raises(CloningError, match=f"too little voice.*{clip.name}"):
        encoder.embed_voice(clip, min_seconds=100)


def test_a_reference_is_read_raised_and_trimmed(clip):
    loud = normalize_volume(read(clip).samples, -20)
    np.testing.assert_array_equal(prepare_reference(clip, target_dbfs=-20, trim=False).samples, loud)
    voice = prepare_reference(clip, target_dbfs=-20)
    np.testing.assert_array_equal(voice.samples, trim_silence(loud))
    np.testing.assert_array_equal(prepare_reference(clip, target_dbfs=-20, min_seconds=0.5).samples, voice.samples)
    with pytest.raises(CloningError, match="too little voice: .* in Ann"):
        prepare_reference(clip, min_seconds=99, name="Ann")
    with pytest.raises(CloningError, match="longer than|at most"):
        prepare_reference(clip, max_seconds=0.1)


def test_vectors_of_length_one():
    rows = np.random.default_rng(1).normal(size=(4, 7)).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(unit(rows), axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit(rows[0]), unit(rows)[0], rtol=1e-6)
    assert not unit(np.zeros(3)).any()
