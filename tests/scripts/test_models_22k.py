"""Models of 22.05 kHz whose synthesizer is one of 16 kHz: from a corpus to a folder that speaks by its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import demo_cli
import synthesizer_preprocess
import synthesizer_train
import vocoder_preprocess
import vocoder_train
from synthesizer.config import RunConfig
from tests.support import corpora
from tests.support.tiny import save_tiny_models
from utils.audio.io import read
from utils.audio.mel import SYNTHESIZER_MEL, SYNTHESIZER_MEL_22K
from utils.config import load_config
from utils.data.corpora import EMOTIONS
from utils.weights import find
from utils.weights.checkpoint import load_weights
from utils.weights.export import export
from vocoder.config import RunConfig as VocoderRunConfig
from voice_cloner import VoiceCloner

pytestmark = pytest.mark.slow

RUN = ["--device", "cpu", "--steps", "2", "--set", "training.validate_every=2", "--set", "training.workers=0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A corpus of six voices whose phones are known, models of 16 kHz, and a set with waveforms."""
    root = tmp_path_factory.mktemp("22k")
    corpora.speak(root)
    models = root / "saved_models"
    save_tiny_models(models / "default", "non_attentive_transformer", emotions=EMOTIONS)
    encoder = str(models / "default" / "encoder.safetensors")
    common = [str(root / "corpus"), "--encoder", encoder, "--alignments", str(root / "alignments.jsonl")]
    common += ["--jobs", "1", "--validation", "0.3"]
    assert synthesizer_preprocess.main([*common, "--out", str(root / "16k"), "--keep-audio"]) == 0
    return root


@pytest.fixture(scope="module")
def chain(root) -> Path:
    """The folder of models of 22.05 kHz, as it is shared: int8, and only what differs from that of 16 kHz."""
    base = root / "saved_models" / "default" / "synthesizer.safetensors"
    assert synthesizer_train.main([
        str(root / "16k"), "--out", str(root / "rs"), "--config", "transformer_22k", *RUN,
        "--set", f"conversion_of={base}", "--set", "model.conversion.channels=16", "--set", "data.min_frames=1",
        "--set", "data.hold_out=0", "--set", "data.window=60",
    ]) == 0  # fmt: skip
    vocoder_set = [str(root / "corpus"), "--out", str(root / "v"), "--mel", "22k", "--jobs", "1", "--validation", "0.3"]
    assert vocoder_preprocess.main(vocoder_set) == 0
    assert vocoder_train.main([
        str(root / "v"), "--out", str(root / "rv"), "--config", "hifigan_22k", *RUN,
        "--set", "model.hifigan.channels=32", "--set", "discriminator.channels=4", "--set", "data.batch_size=2",
        "--set", "discriminator.multi_scale=false",
    ]) == 0  # fmt: skip
    chain = root / "saved_models" / "wide"
    chain.mkdir()
    export(root / "rs" / "best.safetensors", chain / "transformer.safetensors", base=base, int8=True)
    export(root / "rv" / "best.safetensors", chain / "hifigan.safetensors")
    return chain


def test_presets_have_the_same_mel():
    made = load_config(RunConfig, "synthesizer", "transformer_22k").model.conversion.mel
    assert load_config(VocoderRunConfig, "vocoder", "hifigan_22k").model.mel == made == SYNTHESIZER_MEL_22K


def test_all_but_the_conversion_stays_as_it_was(root, chain):
    """Bit for bit, and so it is left to the other file."""
    base = load_weights(root / "saved_models" / "default" / "synthesizer.safetensors")
    made = load_weights(chain / "transformer.safetensors")
    assert made.state.keys() - base.state.keys() == {n for n in made.state if n.startswith("conversion.")}
    assert all(torch.equal(made.state[name], value) for name, value in base.state.items())
    assert made.calibration == base.calibration and made.mel == base.mel
    learned = load_weights(root / "rs" / "last.safetensors").state["conversion.input_projection.weight"]
    run = load_config(RunConfig, "synthesizer", "transformer_22k").training
    assert learned.std() > 0 and run.frozen == ()
    own = (chain / "transformer.safetensors").stat().st_size
    assert own < (root / "saved_models" / "default" / "synthesizer.safetensors").stat().st_size


def test_a_folder_of_models_speaks_by_its_name(root, chain, tmp_path, monkeypatch):
    monkeypatch.setattr(find, "SAVED_MODELS", root / "saved_models")
    monkeypatch.setattr(find, "DEFAULT_MODELS", root / "saved_models" / "default")
    clip = str(root / "corpus" / "ann" / "anna.wav")
    common = ["--reference", clip, "--device", "cpu", "--seed", "1", "--quiet", "--models", "wide"]
    for emotion in ("happy", "sad"):
        output = tmp_path / f"{emotion}.wav"
        arguments = ["--text", "See it.", "--output", str(output), "--emotion", emotion, *common]
        assert demo_cli.main(arguments) == 0
        assert soundfile.info(output).samplerate == 22050
    happy, sad = (read(tmp_path / f"{emotion}.wav").samples for emotion in ("happy", "sad"))
    assert happy.shape != sad.shape or not np.allclose(happy, sad)


def test_sentences_last_as_long_as_at_the_other_rate(root, chain):
    """Both chains say the same; times, streams and teacher forcing are of the rate that they belong to."""
    narrow = VoiceCloner.load(root / "saved_models" / "default", device="cpu")
    wide = VoiceCloner.load(chain, encoder=root / "saved_models" / "default" / "encoder.safetensors", device="cpu")
    clip = root / "corpus" / "ann" / "anna.wav"
    ours, theirs = (c.clone(clip, "See it. See it, Ann.", seed=1, emotion="angry") for c in (wide, narrow))
    assert (ours.audio.sample_rate, theirs.audio.sample_rate) == (22050, 16000)
    assert ours.audio.seconds == pytest.approx(theirs.audio.seconds, abs=0.1)
    assert len(ours.audio) == (ours.mel.shape[1] - 1) * 512 and np.isfinite(ours.audio.samples).all()
    for own, other in zip(ours.times.words, theirs.times.words, strict=True):
        assert own.start == pytest.approx(other.start, abs=0.1) and own.stop == pytest.approx(other.stop, abs=0.1)
    streamed = [part.samples for part in wide.stream(clip, "See it. See it, Ann.", seed=1, emotion="angry")]
    assert sum(map(len, streamed)) == len(ours.audio)
    synthesizer = wide.synthesizer
    assert (synthesizer.mel, synthesizer.network_mel) == (SYNTHESIZER_MEL_22K, SYNTHESIZER_MEL)


def test_a_voice_speaks_with_either(root, chain, tmp_path):
    narrow = VoiceCloner.load(root / "saved_models" / "default", device="cpu")
    wide = VoiceCloner.load(chain, encoder=root / "saved_models" / "default" / "encoder.safetensors", device="cpu")
    assert wide.synthesizer.fingerprint != narrow.synthesizer.fingerprint
    assert wide.synthesizer.voice_fingerprint == narrow.synthesizer.fingerprint == narrow.synthesizer.voice_fingerprint
    clip = root / "corpus" / "ben" / "bena.wav"
    for cloner in (narrow, wide):
        cloner.embed_voice(clip).save(tmp_path / "ben.safetensors")
        spoken = wide.clone(tmp_path / "ben.safetensors", "See it.", seed=1)
        np.testing.assert_array_equal(spoken.mel, wide.clone(clip, "See it.", seed=1).mel)
