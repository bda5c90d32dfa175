"""22.05 kHz with a hop of 512 samples, end to end: corpus, two trainings, a chain that speaks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import synthesizer_preprocess
import synthesizer_train
import vocoder_preprocess
import vocoder_train
from synthesizer.inference import Synthesizer
from tests.support import corpora
from tests.support.tiny import save_tiny_models
from utils.audio.mel import SYNTHESIZER_MEL_22K
from utils.config import load_config
from utils.data.manifest import read_manifest
from vocoder.config import RunConfig
from vocoder.inference import Vocoder
from voice_cloner import VoiceCloner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A corpus of six voices whose phones are known, and an encoder."""
    root = tmp_path_factory.mktemp("22k")
    corpora.speak(root)
    save_tiny_models(root / "models")
    return root


VOCODERS = ("hifigan_22k", "source_filter_22k", "hifigan_guided_22k")


@pytest.mark.parametrize("preset", VOCODERS)
def test_the_vocoders_presets_have_the_same_mel(preset):
    assert load_config(RunConfig, "vocoder", preset).model.mel == SYNTHESIZER_MEL_22K


def test_the_guided_generator_has_the_rates_of_the_described_one_and_the_guide_of_its_preset():
    described, guide, guided = (load_config(RunConfig, "vocoder", preset).model for preset in VOCODERS)
    assert guided.source_filter == guide.source_filter and guided.hifigan.guided
    assert dataclasses.replace(guided.hifigan, channels=512, guided=False) == described.hifigan


def test_from_a_corpus_to_a_chain_that_speaks(root, capsys):
    common = ["--mel", "22k", "--jobs", "1", "--validation", "0.3"]
    assert synthesizer_preprocess.main([
        str(root / "corpus"), "--out", str(root / "s"), "--encoder", str(root / "models" / "encoder.safetensors"),
        "--alignments", str(root / "alignments.jsonl"), *common,
    ]) == 0  # fmt: skip
    found = read_manifest(root / "s")
    assert found.header["mel"]["hop_length"] == 512 and found.header["mel"]["sample_rate"] == 22050
    assert all(u.frames == 1 + round(u.seconds * 22050) // 512 for u in found.utterances)
    assert vocoder_preprocess.main([str(root / "corpus"), "--out", str(root / "v"), *common]) == 0

    chain = root / "chain"
    run = ["--device", "cpu", "--steps", "2", "--set", "training.validate_every=2", "--set", "training.workers=0"]
    assert synthesizer_train.main([
        str(root / "s"), "--out", str(chain / "rs"), "--config", "debug", *run,
        "--set", "model.architecture=transformer", "--set", "data.min_frames=1", "--set", "data.hold_out=0",
        "--set", "model.transformer.reduction=2",
    ]) == 0  # fmt: skip
    assert vocoder_train.main([
        str(root / "v"), "--out", str(chain / "rv"), "--config", "hifigan_22k", *run,
        "--set", "model.hifigan.channels=32", "--set", "discriminator.channels=4", "--set", "data.batch_size=2",
        "--set", "discriminator.multi_scale=false",
    ]) == 0  # fmt: skip
    small = ["--set", "discriminator.channels=4", "data.batch_size=2", "discriminator.start=0"]
    for preset, more in (
        ("source_filter_22k", []),
        ("hifigan_guided_22k", [f"data.guide={root / 'source_filter_22k'}"]),
    ):
        more = [f"{setting}/last.safetensors" for setting in more]
        assert vocoder_train.main([
            str(root / "v"), "--out", str(root / preset), "--config", preset, *run, *small, *more,
        ]) == 0  # fmt: skip
    guided, mel = Vocoder.load(root / "hifigan_guided_22k" / "last.safetensors"), np.zeros((80, 60), np.float32)
    whole, streamed = guided.vocode(mel).samples, np.concatenate(list(guided.stream([mel[:, :40], mel[:, 40:]])))
    assert len(whole) == 59 * 512 and np.abs(streamed - whole).max() < 5e-3 * np.abs(whole).max()

    cloner = VoiceCloner.load(
        root / "models", synthesizer=chain / "rs" / "last.safetensors", vocoder=chain / "rv" / "last.safetensors",
        device="cpu",
    )  # fmt: skip
    assert Synthesizer.load(chain / "rs" / "last.safetensors").mel == SYNTHESIZER_MEL_22K
    cloning = cloner.clone(root / "corpus" / "ann" / "anna.wav", "See it.", seed=1)
    assert cloning.audio.sample_rate == 22050 and np.isfinite(cloning.audio.samples).all()
    assert len(cloning.audio) == (cloning.mel.shape[1] - 1) * 512
