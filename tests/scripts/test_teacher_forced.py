"""A synthesizer's set, through the synthesizer, to a set that a vocoder trains on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vocoder_preprocess
import vocoder_train
from synthesizer.data.preprocess import Preprocessor, write_speaker_means
from synthesizer.features import prosody
from synthesizer.inference import Synthesizer
from synthesizer.teacher_forcing import TeacherForcing, seed_of
from tests.support.synthesizer_set import ROW, make_corpus
from tests.support.tiny import TINY_PARALLEL, save_tiny_models
from utils.audio.io import Waveform
from utils.audio.mel import SYNTHESIZER_MEL, mel_spectrogram
from utils.data import preprocess as preprocessing
from utils.data import selection
from utils.data.corpora import scan
from utils.data.manifest import Arrays, read_manifest
from utils.errors import CloningError
from utils.voice import Voice
from utils.weights.checkpoint import load_weights
from vocoder.config import DataConfig
from vocoder.data import held_out

pytestmark = pytest.mark.slow

MODELS = ["parallel", "tacotron"]


def embed(samples: np.ndarray, rate: int) -> np.ndarray:
    values = np.abs(np.fft.rfft(samples, 512))[:256]
    return values / np.linalg.norm(values)


def make_set(root: Path, corpus: Path, model: str, encoder: str, keep_audio: bool = True) -> Path:
    """What synthesizer_preprocess.py writes for `model`: two clips of each of two speakers, one of them held out."""
    (root / "times.jsonl").parent.mkdir(parents=True, exist_ok=True)
    names = ("ann0", "ann1", "ben0", "ben1")
    (root / "times.jsonl").write_text("".join(json.dumps({**ROW, "id": n}) + "\n" for n in names), encoding="utf-8")
    aligned, symbols = ((root / "times.jsonl",), "phonemes") if model == "parallel" else ((), "characters")
    process = Preprocessor(embed, symbols, aligned, keep_audio=keep_audio)
    clips = [clip for clip in scan(corpus).clips if clip.text and "bad" not in clip.id]
    splits = selection.splitter({c.speaker for c in clips}, 0.5, 0)
    header = process.header() | {"encoder": encoder}
    found = preprocessing.run(clips, root / "set", "synthesizer", process, assign_split=splits, header=header)
    write_speaker_means(found)
    return root / "set"


@pytest.fixture(scope="module", params=MODELS)
def made(request, tmp_path_factory):
    """The set of a synthesizer and its checkpoint, and what the script makes of them."""
    root = tmp_path_factory.mktemp(request.param)
    checkpoint = save_tiny_models(root / "models", request.param) / "synthesizer.safetensors"
    encoder = load_weights(checkpoint).extra["encoder"]
    source = make_set(root, make_corpus(root), request.param, encoder)
    assert run(source, root / "forced", checkpoint) == 0
    return source, checkpoint, root / "forced"


def run(source: Path, out: Path, checkpoint: Path, *more: object) -> int:
    arguments = ["--out", out, "--synthesizer", checkpoint, "--jobs", "1", *more, source]
    return vocoder_preprocess.main([str(a) for a in arguments])


def test_each_utterance_has_its_waveform_and_as_many_frames(made):
    source, checkpoint, out = made
    manifest, original = read_manifest(out, "vocoder"), read_manifest(source)
    assert [(u.id, u.split) for u in manifest.utterances] == [(u.id, u.split) for u in original.utterances]
    assert {u.split for u in manifest.utterances} == {"train", "validation"}
    assert manifest.header["teacher_forced"]
    assert manifest.header["synthesizer"] == Synthesizer.load(checkpoint).fingerprint
    forced, had = Arrays(out), Arrays(source)
    for utterance, before in zip(manifest.utterances, original.utterances, strict=True):
        wav, mel = forced.read(utterance, "wav"), forced.read(utterance, "mel")
        assert wav.dtype == np.int16 and np.array_equal(wav, had.read(before, "wav"))
        assert mel.dtype == np.float16 and mel.shape == (1 + len(wav) // 200, 80) == had.read(before, "mel").shape
        assert np.isfinite(mel).all() and np.abs(mel).max() <= SYNTHESIZER_MEL.max_abs
        heard = mel_spectrogram(torch.from_numpy(wav.astype(np.float32) / 32767), SYNTHESIZER_MEL).T
        assert np.abs(heard.numpy() - had.read(before, "mel")).mean() < 0.01  # the mel that the synthesizer learned


def test_an_interrupted_run_goes_on_and_makes_the_same(made, tmp_path):
    source, checkpoint, out = made
    assert run(source, tmp_path / "parts", checkpoint, "--limit", "1") == 0
    (first,) = (tmp_path / "parts" / "shards").glob("*.safetensors")
    before = first.stat().st_mtime_ns
    assert run(source, tmp_path / "parts", checkpoint) == 0
    assert first.stat().st_mtime_ns == before
    whole, parts = Arrays(out), Arrays(tmp_path / "parts")
    for a, b in zip(read_manifest(out).utterances, read_manifest(tmp_path / "parts").utterances, strict=True):
        np.testing.assert_array_equal(whole.read(a, "mel"), parts.read(b, "mel"))


@pytest.mark.parametrize("preset", ["debug", "debug_wavernn"])
def test_a_vocoder_is_tuned_on_it(made, tmp_path, preset):
    _, _, out = made
    first = [out, "--out", tmp_path / "first", "--config", preset, "--device", "cpu", "--steps", "1"]
    assert vocoder_train.main([str(a) for a in first]) == 0
    tuned = [out, "--out", tmp_path / "tuned", "--config", preset, "--device", "cpu", "--steps", "2"]
    tuned += ["--from", tmp_path / "first" / "last.safetensors", "--set", "data.teacher_forced=true"]
    assert vocoder_train.main([str(a) for a in tuned]) == 0
    weights = load_weights(tmp_path / "tuned" / "last.safetensors")
    assert weights.step == 2 and weights.extra["teacher_forced"]


def test_validation_hears_the_forced_mel_of_its_stretch(made):
    _, _, out = made
    manifest = read_manifest(out)
    config = DataConfig(crop_frames=10, teacher_forced=True, validation_seconds=0.5)
    for utterance, item in zip(manifest.split("validation"), held_out(manifest, SYNTHESIZER_MEL, config), strict=True):
        whole, stretch = (Arrays(out).read(utterance, name) for name in ("mel", "wav"))
        start = (len(stretch) // 200 - 40) // 2
        np.testing.assert_array_equal(item.mel.T, whole[start : start + 41])
        np.testing.assert_allclose(item.wav, stretch[start * 200 :][:8000] / 32767, atol=1e-6)


def test_the_recording_leads_the_model(made):
    """Another mel (Tacotron), other durations or another pitch (parallel), and what is predicted changes."""
    source, checkpoint, _ = made
    teacher = TeacherForcing(source, checkpoint)
    utterance, arrays = teacher.manifest.utterances[0], Arrays(source)
    tokens, mel = arrays.read(utterance, "tokens"), arrays.read(utterance, "mel").astype(np.float32).T
    voice, model = arrays.read(utterance, "embed"), teacher.synthesizer
    lead = {}
    if model.config.architecture == "parallel":
        lead = {"durations": arrays.read(utterance, "durations"), "prosody": np.zeros((len(tokens), 3), np.float32)}
        with pytest.raises(CloningError, match="needs durations"):
            model.teacher_forced(tokens, mel, voice)
        with pytest.raises(CloningError, match="sum to"):
            model.teacher_forced(tokens, mel[:, 1:], voice, **lead)
        with pytest.raises(CloningError, match="needs prosody"):
            model.teacher_forced(tokens, mel, voice, durations=lead["durations"])
        moved = lead["durations"].astype(int)
        moved[:2] = (-1, moved[0] + moved[1] + 1)
        for change, message in (
            ({"durations": moved}, "durations has -1 frames"),
            ({"durations": lead["durations"][1:]}, "durations has the shape"),
            ({"prosody": lead["prosody"][1:]}, "prosody has the shape"),
        ):
            with pytest.raises(CloningError, match=message):
                model.teacher_forced(tokens, mel, voice, **{**lead, **change})
    with pytest.raises(CloningError, match="the mel has the shape"):
        model.teacher_forced(tokens, mel[1:], voice, **lead)
    with pytest.raises(CloningError, match="tokens are ids from 0 to"):
        model.teacher_forced(np.full(len(tokens), 9999), mel, voice, **lead)
    once, again = (model.teacher_forced(tokens, mel, voice, **lead, seed=3) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once.shape == mel.shape
    assert not np.array_equal(once, model.teacher_forced(tokens, mel, voice, **lead, seed=4))
    if lead:
        lead["prosody"] = lead["prosody"] + 1
        assert not np.array_equal(once, model.teacher_forced(tokens, mel, voice, **lead, seed=3))
    else:
        other = mel.copy()
        other[:, : mel.shape[1] // 2] += 0.5
        assert not np.array_equal(once, model.teacher_forced(tokens, other, voice, seed=3))
        late = mel.copy()
        late[:, -1] += 1  # the last frame leads nothing any more
        np.testing.assert_allclose(once, model.teacher_forced(tokens, late, voice, seed=3), atol=1e-6)


def test_the_voice_is_described_by_another_utterance_of_the_speaker(made, tmp_path):
    """As inference describes it by a reference; a speaker's only utterance has its embedding alone."""
    source, checkpoint, _ = made
    told = replace(TINY_PARALLEL, voice_statistics=True, prompt_tokens=4, prompt_width=16)
    sets = TeacherForcing(source, checkpoint)
    if not sets.manifest.header.get("durations"):
        voice = sets.voice(sets.clips[0])
        assert voice.pitch is None and voice.pace is None and voice.prompt is None
        return
    teacher = TeacherForcing(source, save_tiny_models(tmp_path, parallel=told) / "synthesizer.safetensors")
    model, arrays = teacher.synthesizer, Arrays(source)
    for weights in (model.network.statistics_projection, model.network.prompt_voice):
        torch.nn.init.normal_(weights.weight)  # zero before training: the voice would do nothing
    first, second = (u for u in teacher.manifest.utterances if u.speaker == teacher.clips[0].speaker)
    tokens, mel, durations, track = (arrays.read(first, n) for n in ("tokens", "mel", "durations", "pitch"))
    lead = {"durations": durations, "prosody": prosody(mel.astype(np.float32), track, durations)}
    heard = Waveform(arrays.read(second, "wav").astype(np.float32) / 32767, SYNTHESIZER_MEL.sample_rate)
    plain = Voice(arrays.read(first, "embed") / np.linalg.norm(arrays.read(first, "embed")))
    voice = model.describe_voice(plain, [heard])
    assert voice.pace is not None and voice.prompt.shape == (4, 16)

    def forced(voice: np.ndarray | Voice) -> np.ndarray:
        return model.teacher_forced(tokens, mel.astype(np.float32).T, voice, **lead, seed=seed_of(first.id))

    np.testing.assert_allclose(teacher(teacher.clips[0])[1].T, forced(voice), atol=1e-4)
    np.testing.assert_array_equal(forced(plain), forced(plain.embedding))
    for other in (plain, replace(voice, prompt=None), replace(voice, pitch=2.0), replace(voice, pace=-1.0)):
        assert np.abs(forced(voice) - forced(other)).max() > 1e-2
    alone = TeacherForcing(source, teacher.checkpoint)
    alone.synthesizer.network.load_state_dict(model.network.state_dict())
    alone.manifest = replace(teacher.manifest, utterances=[first])
    np.testing.assert_allclose(alone(alone.clips[0])[1].T, forced(plain), atol=1e-4)


def test_seeds_come_from_ids_alone():
    seeds = {seed_of(f"corpus/{i}") for i in range(500)}
    assert len(seeds) == 500 and max(seeds) < 2**31 and seed_of("a") == seed_of("a")


def test_what_does_not_fit_is_one_line(made, tmp_path, capsys):
    source, checkpoint, out = made
    model = Synthesizer.load(checkpoint).config.architecture
    encoder = load_weights(checkpoint).extra["encoder"]
    mute = make_set(tmp_path / "mute", source.parent / "corpus", model, encoder, keep_audio=False)
    assert refused(capsys, mute, tmp_path / "x", checkpoint).endswith("--keep-audio --out ANOTHER_DIR)")
    foreign = make_set(tmp_path / "foreign", source.parent / "corpus", model, "another")
    assert "holds those of another" in refused(capsys, foreign, tmp_path / "x", checkpoint)
    other = save_tiny_models(tmp_path / "models", MODELS[model == "parallel"]) / "synthesizer.safetensors"
    assert "(here: synthesizer_preprocess.py --symbols)" in refused(capsys, source, tmp_path / "x", other)
    assert "takes one set" in refused(capsys, source, tmp_path / "x", checkpoint, "--seed", "1", source)
    assert "no manifest.jsonl" in refused(capsys, tmp_path, tmp_path / "x", checkpoint)
    assert "expected 'synthesizer'" in refused(capsys, out, tmp_path / "x", checkpoint)
    assert "no such checkpoint" in refused(capsys, source, tmp_path / "x", tmp_path / "none.safetensors")
    assert not (tmp_path / "x").exists()


def refused(capsys, source: Path, out: Path, checkpoint: Path, *more: str) -> str:
    capsys.readouterr()
    assert run(source, out, checkpoint, *more) == 2
    error = capsys.readouterr().err.rstrip("\n")
    assert "\n" not in error
    return error
