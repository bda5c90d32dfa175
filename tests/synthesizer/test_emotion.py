"""Emotions: labels and clips, what a synthesizer learns of them, and how they are asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import synthesizer_train
from synthesizer.config import DataConfig, EmotionConfig, LossConfig, RunConfig, SynthesizerConfig, conditioning_only
from synthesizer.data.dataset import SynthesisData
from synthesizer.data.preprocess import Preprocessor, speaker_levels
from synthesizer.emotion_input import find_label
from synthesizer.features import LEVEL_DBFS, level, loud_dbfs
from synthesizer.inference import Synthesizer
from synthesizer.models.emotion import BY_CLIP, UNKNOWN, EmotionEncoder
from synthesizer.models.parallel import Parallel
from synthesizer.speech import SpeechOptions
from synthesizer.text.processor import TextProcessor
from synthesizer.train import build_task
from synthesizer.training.losses import emotion_losses, local_mean
from tests.support.emotion_set import make_emotional_set
from tests.support.synthesizer_set import SPEAKER_SIZE, make_set
from tests.support.synthesizer_training import whole_and_resumed
from tests.support.tiny import TINY_PARALLEL, save_tiny_models
from utils.audio.io import Waveform, write
from utils.config import from_dict, load_config, to_dict
from utils.data.corpora import EMOTIONS, Clip, emotion_of
from utils.data.corpora.layouts import describe_labels
from utils.data.manifest import read_manifest
from utils.errors import CloningError, MissingError
from utils.remedies import REMEDIES
from utils.weights.checkpoint import load_weights
from utils.weights.export import export

pytestmark = pytest.mark.slow

MODELS = ["parallel", "transformer", "non_attentive_tacotron", "non_attentive_transformer"]
LABELS = "model.emotion.labels=" + str(list(EMOTIONS)).replace("'", '"')
SETTINGS = [f"model.speaker_size={SPEAKER_SIZE}", "data.batch_size=4", "data.min_frames=1", "data.embedding=other"]
VOICE = np.full(256, 1 / 16, np.float32)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return make_emotional_set(tmp_path_factory.mktemp("set"))


def script(toy: Path, out: Path, model: str, *extra: str) -> int:
    settings = [f"--set={s}" for s in (*SETTINGS, f"model.architecture={model}", LABELS)]
    return synthesizer_train.main(
        [str(toy), "--out", str(out), "--config", "debug", "--device", "cpu", *settings, *extra]
    )


def encoder(channels: int = 12) -> EmotionEncoder:
    torch.manual_seed(0)
    return EmotionEncoder(EmotionConfig(labels=EMOTIONS, size=10, channels=channels), 20)


# -- the two ways to an embedding --------------------------------------------------------------------------------------


def test_a_clip_is_the_same_alone_and_padded_and_at_any_loudness():
    found, mel = encoder().eval(), torch.randn(1, 20, 33)
    padded = torch.cat([mel, torch.full((1, 20, 14), 5.0)], dim=2)
    with torch.inference_mode():
        alone = found.clip(mel, torch.tensor([33]))
        torch.testing.assert_close(found.clip(padded, torch.tensor([33])), alone)
        torch.testing.assert_close(found.clip(mel + 1.5, torch.tensor([33])), alone, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(found.clip(mel * 1.5, torch.tensor([33])), alone)


def test_a_label_is_its_row_and_none_is_nothing():
    found = encoder()
    rows = found.label(torch.tensor([2, UNKNOWN]))
    torch.testing.assert_close(rows[0], found.table.weight[2])
    assert rows[1].eq(0).all()
    assert find_label("sad", EMOTIONS) == 2
    with pytest.raises(
        CloningError, match="'joy' is unknown: choose one of neutral, happy, sad, angry, surprised, fear"
    ):
        find_label("joy", EMOTIONS)


def test_in_training_some_items_hear_their_clip_and_in_use_none():
    found = encoder()
    labels, seeds = torch.tensor([1, 1, UNKNOWN]), torch.tensor([BY_CLIP, 1, BY_CLIP])
    batch = (labels, torch.randn(3, 20, 30), torch.tensor([30, 30, 30]), seeds)
    heard = found.train()(*batch)
    torch.testing.assert_close(heard.embedding[0], heard.clip[0])
    torch.testing.assert_close(heard.embedding[1:], heard.table[1:])
    torch.testing.assert_close(found.eval()(*batch).embedding, heard.table)


def test_the_network_learns_to_tell_emotions_and_to_agree_with_the_table():
    found = encoder()
    labels = torch.arange(12) % 6
    looks = torch.randn(6, 20)
    looks -= looks.mean(dim=1, keepdim=True)
    mel = looks[labels][:, :, None] + 0.3 * torch.randn(12, 20, 25)
    batch = {"emotion": labels}
    optimizer = torch.optim.Adam([p for n, p in found.named_parameters() if n != "table.weight"], lr=1e-2)
    values = []
    for _ in range(60):
        output = found(labels, mel, torch.full((12,), 25), torch.ones(12, dtype=torch.long))
        losses = emotion_losses(output, batch, LossConfig(), local_mean)
        values.append({name: float(value.detach()) for name, value in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert (output.logits.argmax(dim=1) == labels).all()
    for name in ("emotion_class", "emotion_agreement"):
        assert values[-1][name] < 0.3 * values[0][name], name
    batch["emotion"] = torch.full((12,), UNKNOWN)
    losses = emotion_losses(output, batch, LossConfig(), local_mean)
    assert all(value.detach() == 0 for value in losses.values())


# -- data --------------------------------------------------------------------------------------------------------------


def test_what_has_no_label_is_neutral_unless_its_corpus_is_acted():
    assert emotion_of("librispeech-237", None) == emotion_of("vctk-p225", None) == "neutral"
    assert emotion_of("ravdess-01", None) is None and emotion_of("ravdess-01", "sad") == "sad"
    assert describe_labels("librispeech") == ""
    assert describe_labels("cremad") == (
        "neutral <- NEU; happy <- HAP; sad <- SAD; angry <- ANG; fear <- FEA; none of the six: DIS"
    )


def test_only_known_emotions_are_learned_and_others_than_neutral_more_often(toy):
    found = SynthesisData(
        read_manifest(toy),
        DataConfig(min_frames=1, emotional_repeats=3, hold_out=0),
        "train",
        0,
        EMOTIONS,
    )
    plain = SynthesisData(read_manifest(toy), DataConfig(min_frames=1, hold_out=0), "train", 0)
    counts = {u.id: [v.id for v in found.utterances].count(u.id) for u in plain.utterances}
    assert {counts[u.id] for u in plain.utterances if u.emotion == "neutral"} == {1}
    assert {counts[u.id] for u in plain.utterances if u.emotion not in (None, "neutral")} == {3}
    assert [counts[u.id] for u in plain.utterances if u.emotion is None] == [0]
    batch = found.common(found.utterances[:4], None)
    assert [EMOTIONS[i] for i in batch["emotion"]] == [u.emotion for u in found.utterances[:4]]
    assert "emotion" not in plain.common(plain.utterances[:2], None)
    with pytest.raises(CloningError, match="no train utterance is amused"):
        SynthesisData(read_manifest(toy), DataConfig(min_frames=1, hold_out=0), "train", 0, (*EMOTIONS, "amused"))


def test_the_embedding_to_learn_with_is_never_the_utterances_own(toy):
    found = SynthesisData(
        read_manifest(toy), DataConfig(min_frames=1, embedding="other", embedding_noise=0.0), "train", 0
    )
    utterance = found.utterances[0]
    own = found.arrays.read(utterance, "embed")
    mean = found.speakers[utterance.speaker]
    drawn = [found.speaker(utterance, np.random.default_rng(i)) for i in range(40)]
    assert not any(np.allclose(e, own / np.linalg.norm(own), atol=1e-6) for e in drawn)
    means = sum(np.allclose(e, mean, atol=1e-6) for e in drawn)
    assert 8 < means < 32
    np.testing.assert_array_equal(found.speaker(utterance), mean / np.linalg.norm(mean))


def test_an_actors_loudness_is_kept(tmp_path):
    tone = 0.02 * np.sin(np.arange(16000) * 0.1).astype(np.float32)
    clips = []
    for name, gain in (("soft", 1), ("loud", 4)):
        write(tmp_path / f"{name}.wav", Waveform(gain * tone, 16000))
        clips += [Clip(name, "ravdess-01", tmp_path / f"{name}.wav", corpus="ravdess")]
    levels = speaker_levels([*clips, dataclasses.replace(clips[0], speaker="vctk-p1", corpus="vctk")], 16000)
    assert set(levels) == {"ravdess-01"}
    soft, loud = (loud_dbfs(level(g * tone, 16000, levels["ravdess-01"]), 16000) for g in (1, 4))
    assert loud - soft == pytest.approx(12.04, abs=0.1) and (loud + soft) / 2 == pytest.approx(LEVEL_DBFS, abs=0.1)
    assert loud_dbfs(level(4 * tone, 16000), 16000) == pytest.approx(LEVEL_DBFS, abs=0.1)
    assert Preprocessor(embed=None).levels == {}


# -- synthesizers ------------------------------------------------------------------------------------------------------


def test_the_parallel_model_begins_as_the_one_without_emotions():
    text = TextProcessor("phonemes")
    torch.manual_seed(1)
    plain = Parallel(SynthesizerConfig("parallel", parallel=TINY_PARALLEL), len(text), 80)
    shape = SynthesizerConfig("parallel", parallel=TINY_PARALLEL, emotion=EmotionConfig(labels=EMOTIONS))
    feeling = Parallel(shape, len(text), 80)
    feeling.load_state_dict(plain.state_dict(), strict=False)
    speak = [Synthesizer(m, c, text) for m, c in ((plain, SynthesizerConfig("parallel")), (feeling, shape))]
    expected = speak[0].synthesize(["See it."], VOICE, SpeechOptions(seed=1))[0].mel
    for emotion in (None, "angry"):
        found = speak[1].synthesize(["See it."], VOICE, SpeechOptions(seed=1, emotion=emotion))[0].mel
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("model", MODELS)
def test_killed_and_resumed_is_uninterrupted_bit_for_bit(toy, tmp_path, monkeypatch, model):
    settings = [*SETTINGS, f"model.architecture={model}", LABELS]
    task = build_task(read_manifest(toy), load_config(RunConfig, "synthesizer", "debug", settings)).__class__
    whole = whole_and_resumed(lambda out: script(toy, out, model), task, tmp_path, monkeypatch)
    assert whole.config["emotion"]["labels"] == list(EMOTIONS)
    assert "emotion_accuracy" in load_weights(tmp_path / "whole" / "best.safetensors").metrics


def test_adapting_changes_the_condition_alone_and_is_stored_as_a_difference(toy, tmp_path, capsys):
    told = ("--set=model.parallel.voice_statistics=true", "--set=model.parallel.prompt_tokens=4")
    assert script(toy, tmp_path / "a", "parallel", "--set=model.emotion.labels=[]", *told) == 0
    base = tmp_path / "base.safetensors"
    export(tmp_path / "a" / "last.safetensors", base)
    assert script(toy, tmp_path / "b", "parallel", "--from", str(base), "--set=model.emotion.adapt=true", *told) == 0
    trained = load_weights(tmp_path / "b" / "last.safetensors")
    assert "adapt" not in trained.config["emotion"]
    before, after = load_weights(base).state, trained.state
    kept = {name for name in before if torch.equal(before[name].half(), after[name].half())}
    assert "encoder.blocks.0.up.weight" in kept and "flow.stack.blocks.0.depthwise.weight" in kept
    hearing = ("guess.", "listener.", "prompt.", "text_prompt.", "frame_prompt.", "prompt_voice.")
    assert kept >= {name for name in before if name.startswith(hearing)}
    assert "encoder.blocks.0.film.weight" not in kept and "predictor.leave.weight" not in kept

    small, whole = tmp_path / "small.safetensors", tmp_path / "whole.safetensors"
    assert export(tmp_path / "b" / "last.safetensors", small, base=base) == export(
        tmp_path / "b" / "last.safetensors", whole
    )
    assert small.stat().st_size < 0.9 * whole.stat().st_size
    for name, value in load_weights(whole).state.items():
        assert torch.equal(value, load_weights(small).state[name]), name
    export(tmp_path / "b" / "last.safetensors", base)  # other weights in its place
    with pytest.raises(CloningError, match="train and export it again") as error:
        load_weights(small)
    assert "\n" not in str(error.value)
    base.unlink()
    with pytest.raises(CloningError, match="which is missing"):
        load_weights(small)


def test_the_preset_freezes_what_the_older_setting_did():
    preset = load_config(RunConfig, "synthesizer", "parallel_emotional")
    frozen = conditioning_only(preset.model.parallel)
    assert list(preset.training.frozen) == frozen and "frame_classifier" in frozen
    older = to_dict(preset)
    older["training"]["frozen"], older["model"]["emotion"]["adapt"] = [], True
    assert from_dict(RunConfig, older) == preset
    assert from_dict(SynthesizerConfig, older["model"]) == preset.model  # a checkpoint's header


@pytest.fixture(scope="module", params=MODELS)
def spoken(request, tmp_path_factory) -> Synthesizer:
    folder = save_tiny_models(tmp_path_factory.mktemp("models"), request.param, emotions=EMOTIONS)
    return Synthesizer.load(folder / "synthesizer.safetensors")


def test_an_emotion_changes_the_speech_and_neutral_is_meant_without(spoken):
    assert spoken.emotions == EMOTIONS

    def mel(**wanted) -> np.ndarray:
        return spoken.speak("See it.", VOICE, SpeechOptions(seed=1, **wanted)).mel

    plain = mel()
    np.testing.assert_array_equal(mel(emotion="neutral"), plain)
    sad, angry = mel(emotion="sad"), mel(emotion="angry")
    assert plain.shape != sad.shape or not np.allclose(plain, sad)
    assert sad.shape != angry.shape or not np.allclose(sad, angry)
    np.testing.assert_array_equal(mel(emotion="sad"), sad)


def test_a_clip_tells_its_emotion_at_any_level_and_rate(spoken):
    time = np.arange(32000) / 16000
    samples = (0.2 * np.sin(2 * np.pi * (200 + 80 * np.sin(5 * time)) * time)).astype(np.float32)
    found = spoken.speak("See it.", VOICE, SpeechOptions(seed=1, emotion=Waveform(samples, 16000))).mel
    louder = spoken.speak("See it.", VOICE, SpeechOptions(seed=1, emotion=Waveform(3 * samples, 16000))).mel
    np.testing.assert_allclose(louder, found, atol=1e-3)
    plain = spoken.speak("See it.", VOICE, SpeechOptions(seed=1)).mel
    assert plain.shape != found.shape or not np.allclose(found, plain, atol=1e-3)
    with pytest.raises(CloningError, match="at least 0.5 s"):
        spoken.speak("See it.", VOICE, SpeechOptions(emotion=Waveform(samples[:3000], 16000)))
    with pytest.raises(CloningError, match="silence only"):
        spoken.speak("See it.", VOICE, SpeechOptions(emotion=Waveform(np.zeros(16000, np.float32), 16000)))


def test_mistakes_are_one_line(spoken, tmp_path):
    with pytest.raises(CloningError, match="choose one of neutral, happy") as error:
        spoken.synthesize(["See it."], VOICE, SpeechOptions(emotion="joy"))
    assert "\n" not in str(error.value)
    plain = Synthesizer.load(save_tiny_models(tmp_path / "plain") / "synthesizer.safetensors")
    assert plain.emotions == ()
    with pytest.raises(MissingError, match="has no emotion conditioning") as missing:
        plain.speak("See it.", VOICE, SpeechOptions(emotion="happy"))
    assert missing.value.what in REMEDIES
    assert not any(word in str(missing.value) for word in ("parallel", "transformer"))
    with pytest.raises(ValueError, match="tacotron has no emotion conditioning"):
        SynthesizerConfig("tacotron", emotion=EmotionConfig(labels=EMOTIONS))


def test_a_transformer_wants_durations(tmp_path):
    root = make_set(tmp_path / "plain", durations=False)
    settings = [f"model.speaker_size={SPEAKER_SIZE}", "data.min_frames=1", "model.architecture=transformer"]
    with pytest.raises(CloningError, match="holds no durations, which the transformer synthesizer learns from"):
        build_task(read_manifest(root), load_config(RunConfig, "synthesizer", "debug", settings))


def test_with_teacher_forcing_it_is_as_long_as_the_recording(spoken):
    tokens = np.array(spoken.encode("See it.").tokens)
    durations = np.array([3] * (len(tokens) - 1) + [0])
    mel = np.zeros((80, durations.sum()), np.float32)
    prosody = np.zeros((len(tokens), 3), np.float32)
    made = spoken.teacher_forced(tokens, mel, VOICE, durations=durations, prosody=prosody)
    assert made.shape == mel.shape and np.isfinite(made).all()
    with pytest.raises(CloningError, match="needs durations"):
        spoken.teacher_forced(tokens, mel, VOICE)
