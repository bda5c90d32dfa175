"""Embeddings as recorded, alone or together, from arrays or files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from encoder.config import EncoderConfig, LstmConfig, PartialConfig, TransformerConfig
from encoder.inference import SpeakerEncoder, partial_slices
from encoder.model import build_network
from tests.conftest import SAMPLES
from tests.support.encoder_set import RATE, voice
from utils.audio.io import Waveform, normalize_volume, read
from utils.audio.vad import trim_silence
from utils.config import to_dict
from utils.errors import CloningError
from utils.weights.checkpoint import Header, save_weights

CLIPS = ["1320", "3575", "6829", "8230", "p240", "p260"]


@pytest.fixture(scope="module")
def published(published_encoder) -> SpeakerEncoder:
    return SpeakerEncoder.load(published_encoder)


@pytest.fixture(params=["lstm", "transformer"])
def encoder(request) -> SpeakerEncoder:
    torch.manual_seed(0)
    sizes = TransformerConfig(width=16, blocks=1, heads=2, feedforward=16, pooled=8)
    config = EncoderConfig(request.param, 12, lstm=LstmConfig(12, 1), transformer=sizes)
    return SpeakerEncoder(build_network(config), config)


def voiced(path: Path) -> np.ndarray:
    """Not read by `utils.audio.io.read`, which takes out the offset that two of the samples have."""
    return trim_silence(normalize_volume(soundfile.read(path, dtype="float32")[0]))


def test_windows_are_as_recorded(data_dir):
    names = {"partial_utterance_n_frames": "frames", "overlap": "overlap", "min_pad_coverage": "min_coverage"}
    for row in json.loads((data_dir / "partial_slices.json").read_text(encoding="utf-8")):
        windows = PartialConfig(**{names[k]: v for k, v in row["kwargs"].items()})
        wav, mel = partial_slices(row["n_samples"], windows)
        assert ([list(s) for s in wav], [list(s) for s in mel]) == (row["wav"], row["mel"])


@pytest.mark.parametrize("clip", ["0870", "0890"])
def test_public_domain_embeddings_are_as_recorded(published, data_dir, clip):
    recorded = np.load(data_dir / "public_domain.npz")
    samples = voiced(SAMPLES / f"austen_{clip}.wav")
    found = published.embed_windows([samples])[0]
    np.testing.assert_allclose(found.partials, recorded[f"{clip}/partial_embeds"], atol=2e-5)
    np.testing.assert_allclose(found.embedding, recorded[f"{clip}/embed"], atol=2e-5)
    whole = published.embed_utterance(samples, partials=False)
    np.testing.assert_allclose(whole, recorded[f"{clip}/embed_whole"], atol=2e-5)


@pytest.mark.parametrize("name", ["austen_0870", "austen_0890", "goforward"])
def test_public_domain_files_give_the_recorded_embeddings(published, data_dir, name):
    recorded = np.load(data_dir / "public_domain.npz")
    assert published.embed(voiced(SAMPLES / f"{name}.wav")) @ recorded[f"{name.removeprefix('austen_')}/embed"] > 0.9999


def test_one_person_is_more_alike_than_two(published):
    a, b, c = published.embed_batch([SAMPLES / f"{n}.wav" for n in ("austen_0870", "austen_0890", "goforward")])
    assert a @ b == pytest.approx(0.918, abs=0.002) and a @ c == pytest.approx(0.609, abs=0.01)


@pytest.mark.parametrize("clip", CLIPS)
def test_embeddings_are_as_recorded(published, shared_golden, clip):
    recorded = np.load(shared_golden / "encoder.npz")
    found = published.embed_windows([recorded[f"{clip}/wav"]])[0]
    np.testing.assert_allclose(found.partials, recorded[f"{clip}/partial_embeds"], atol=2e-5)
    np.testing.assert_allclose(found.embedding, recorded[f"{clip}/embed"], atol=2e-5)
    assert [list(s) for s in found.slices] == recorded[f"{clip}/slices"][:, :2].tolist()
    whole = published.embed_utterance(recorded[f"{clip}/wav"], partials=False)
    np.testing.assert_allclose(whole, recorded[f"{clip}/embed_whole"], atol=2e-5)
    assert published.embed(shared_golden / "clips" / f"{clip}.wav") @ recorded[f"{clip}/embed"] > 0.9999


def test_silence_and_noise_are_as_recorded(published, shared_golden):
    recorded = np.load(shared_golden / "encoder.npz")
    np.testing.assert_allclose(published.embed(np.zeros(RATE, np.float32)), recorded["zeros_1s/embed"], atol=2e-5)
    np.testing.assert_allclose(published.embed(recorded["short_noise/wav"]), recorded["short_noise/embed"], atol=2e-5)


def test_together_equals_alone(encoder):
    clips = [voice(1, 2.9), voice(2, 0.4), voice(3, 5.3)]
    for partials in (True, False):
        together = encoder.embed_batch(clips, partials=partials)
        alone = [encoder.embed_utterance(clip, partials=partials) for clip in clips]
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-3)


def test_many_windows_are_embedded_in_several_passes(encoder, monkeypatch):
    clips = [voice(s, 3.0) for s in range(3)]
    expected = encoder.embed_batch(clips)
    monkeypatch.setattr("encoder.inference.WINDOWS_AT_ONCE", 2)
    np.testing.assert_allclose(encoder.embed_batch(clips), expected, atol=1e-5)


def test_a_speaker_is_the_mean_of_the_clips(encoder):
    a, b = encoder.embed_batch([voice(1, 2.0), voice(1, 1.0, 5)])
    mean = (a + b) / np.linalg.norm(a + b)
    np.testing.assert_allclose(encoder.embed([voice(1, 2.0), voice(1, 1.0, 5)]), mean, atol=1e-6)
    np.testing.assert_allclose(encoder.embed(voice(1, 2.0)), a, atol=1e-5)


def test_other_windows_by_setting(encoder):
    wav = voice(1, 4.0)
    few = encoder.embed_windows([wav], PartialConfig(200, 0.0))[0]
    many = encoder.embed_windows([wav], PartialConfig(80, 0.75))[0]
    assert (len(few.partials), len(many.partials)) == (2, 18)
    assert few.slices[1] == (32000, 64000)


def test_audio_of_another_rate_is_resampled(encoder):
    wav = Waveform(np.repeat(voice(1, 2.0), 2), 2 * RATE)  # the same sound, roughly, at 32 kHz
    assert encoder.embed(wav) @ encoder.embed(voice(1, 2.0)) > 0.99


def test_a_file_is_preprocessed_and_an_array_is_not(encoder):
    path = SAMPLES / "goforward.wav"
    ready = encoder.preprocess(path)
    raw = read(path)
    assert len(ready) < len(raw) and len(encoder.preprocess(path, trim=False)) == len(raw)
    np.testing.assert_allclose(encoder.embed(path), encoder.embed(ready), atol=1e-6)
    assert not np.allclose(encoder.embed(raw), encoder.embed(ready), atol=1e-4)


@pytest.mark.parametrize("partials", [True, False])
def test_samples_of_every_type_and_shape_give_one_embedding(encoder, partials):
    wave = voice(1, 2.0)
    forms = {
        "float64": wave.astype(np.float64),
        "int16": np.round(wave * 32768).astype(np.int16),
        "int32": np.round(wave.astype(np.float64) * 2**31).astype(np.int32),
        "stereo": np.stack([wave, wave], axis=1),
        "stereo, channels first": np.round(np.stack([wave, wave]) * 32768).astype(np.int16),
        "tensor": torch.from_numpy(wave),
        "waveform": Waveform(wave, RATE),
    }
    expected = encoder.embed_utterance(wave, partials=partials)
    for name, form in forms.items():
        found = encoder.embed_utterance(form, partials=partials)
        np.testing.assert_allclose(found, expected, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("form", [np.asarray, lambda samples: Waveform(samples, RATE)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_not_blamed_on_the_weights(encoder, form, value):
    wave = voice(1, 2.0)
    wave[RATE] = value
    with pytest.raises(CloningError, match="holds 1 samples that are NaN or infinite, the first at 1.00 s"):
        encoder.embed(form(wave))


def test_loading_keeps_weights_settings_and_fingerprint(encoder, tmp_path):
    path = tmp_path / "encoder.safetensors"
    encoder.config = dataclasses.replace(encoder.config, partials=PartialConfig(120))
    state = encoder.network.state_dict()
    name = save_weights(path, Header("encoder", to_dict(encoder.config), step=3), state)
    again = SpeakerEncoder.load(path)
    assert again.fingerprint == name and again.config == encoder.config and again.embedding_size == 12
    assert encoder.config.architecture in repr(again) and name in repr(again)
    assert "1.2 s every 0.6 s" in again._repr_html_() and name in again._repr_html_()
    np.testing.assert_array_equal(again.embed(voice(1, 2.0)), encoder.embed(voice(1, 2.0)))


def test_what_cannot_be_embedded_is_refused(encoder, tmp_path):
    with pytest.raises(CloningError, match="no clip to embed"):
        encoder.embed([])
    with pytest.raises(CloningError, match="no samples"):
        encoder.embed(np.zeros(0, np.float32))
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    with pytest.raises(CloningError, match="no samples"):
        encoder.embed(tmp_path / "silence.wav")
    with pytest.raises(CloningError, match="the array is of type int64; give floats"):
        encoder.embed(np.zeros(RATE, np.int64))
    with pytest.raises(CloningError, match=r"the array has shape \(2, 2, 2\)"):
        encoder.embed(np.zeros((2, 2, 2)))
    with pytest.raises(CloningError, match=r"missing\.wav"):
        encoder.embed(tmp_path / "missing.wav")
    with pytest.raises(CloningError, match="no such checkpoint"):
        SpeakerEncoder.load(tmp_path / "none.pt")


def test_pictures(encoder):
    from encoder import plots

    speakers = [f"s{i % 3}" for i in range(9)]
    embeddings = encoder.embed_batch([voice(i % 3, 0.6, i) for i in range(9)])
    for figure in (
        plots.plot_embedding(embeddings[0]),
        plots.plot_similarity(embeddings, speakers),
        plots.plot_similarity(embeddings[:2], speakers[:2], embeddings),
    ):
        figure.canvas.draw()
        assert figure.axes
    with pytest.raises(ValueError, match="at least 3"):
        plots.project(embeddings[:2])


@pytest.mark.slow
def test_map_keeps_speakers_together():
    pytest.importorskip("umap")
    from encoder import plots

    random = np.random.default_rng(0)
    centers = np.eye(3, 16) * 4
    embeddings = np.concatenate([c + 0.3 * random.standard_normal((6, 16)) for c in centers])
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = np.repeat(["a", "b", "c"], 6)
    figure = plots.plot_umap(embeddings, list(labels))
    figure.canvas.draw()
    threads = torch.get_num_threads()
    points = plots.project(embeddings)
    assert points.shape == (18, 2) and torch.get_num_threads() == threads
    assert np.allclose(points, plots.project(embeddings))  # the same seed, the same map
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (labels[distance.argmin(axis=1)] == labels).all()
