"""One face for all vocoders: what loads, what is refused, how long the result is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.vocoder_set import speaking_network
from utils.audio.io import Waveform
from utils.audio.mel import SYNTHESIZER_MEL, MelConfig
from utils.config import to_dict
from utils.errors import CloningError
from utils.weights.checkpoint import Header, save_weights
from vocoder.config import HifiGanConfig, SourceFilterConfig, VocoderConfig, VocosConfig, WaveRNNConfig
from vocoder.inference import Vocoder
from vocoder.model import build_network
from vocoder.wavernn.generate import Generation

ODD_MEL = MelConfig(
    sample_rate=8000, n_fft=128, win_length=96, hop_length=30, n_mels=11, fmax=4000.0, power=1.0, scale="db"
)
CONFIGS = {
    "vocos": VocoderConfig(vocos=VocosConfig(dim=8, hidden=8, blocks=1)),
    "vocos, odd": VocoderConfig(mel=ODD_MEL, vocos=VocosConfig(dim=6, hidden=5, blocks=2, kernel=3, n_fft=90)),
    "source_filter, odd": VocoderConfig(
        "source_filter",
        mel=ODD_MEL,
        source_filter=SourceFilterConfig(dim=6, hidden=5, blocks=2, kernel=3, n_fft=90, pitch_dim=4, pitch_blocks=1),
    ),
    "hifigan": VocoderConfig("hifigan", hifigan=HifiGanConfig(channels=16, resblock_kernels=(3,))),
    "hifigan, guided": VocoderConfig(
        "hifigan",
        hifigan=HifiGanConfig(channels=16, resblock_kernels=(3,), guided=True),
        source_filter=SourceFilterConfig(dim=6, hidden=5, blocks=2, pitch_dim=4, pitch_blocks=1),
    ),
    "wavernn, odd": VocoderConfig(
        "wavernn",
        mel=ODD_MEL,
        wavernn=WaveRNNConfig(
            rnn_size=8, fc_size=6, bits=7, pad=1, upsample=(5, 6), compute_size=4, res_out_size=4, res_blocks=1
        ),
    ),
}


@pytest.fixture(scope="module", params=CONFIGS)
def saved(request, tmp_path_factory):
    """A fresh model of each kind, saved as training saves it: path, config, model."""
    config = CONFIGS[request.param]
    torch.manual_seed(1)
    model = speaking_network(config).eval()
    path = tmp_path_factory.mktemp("model") / "vocoder.safetensors"
    mel = to_dict(config.mel)
    save_weights(path, Header("vocoder", to_dict(config), mel=mel, step=3), model.state_dict())
    return path, config, model


@pytest.mark.parametrize("frames", [1, 2, 30])
def test_any_length_from_one_frame_up(saved, frames):
    path, config, _ = saved
    vocoder = Vocoder.load(path, generation=Generation(target=200, overlap=40))
    mel = np.random.default_rng(0).uniform(-4, 4, (config.mel.n_mels, frames))
    wav = vocoder.vocode(mel, seed=1)
    assert isinstance(wav, Waveform) and wav.sample_rate == config.mel.sample_rate
    assert len(wav) == max(frames - 1, 1) * config.mel.hop_length
    assert wav.samples.dtype == np.float32 and np.isfinite(wav.samples).all()
    assert vocoder.mel == config.mel and vocoder.name == config.architecture and len(vocoder.fingerprint) == 16


def test_loaded_model_is_the_saved_one(saved):
    path, config, model = saved
    mel = torch.rand(config.mel.n_mels, 9) * 4 - 2
    if config.architecture == "wavernn":
        pytest.skip("draws samples; tests/vocoder/test_wavernn.py compares the network")
    torch.testing.assert_close(
        torch.from_numpy(Vocoder.load(path).vocode(mel).samples),
        model(mel[None]).wav[0].detach(),
        atol=1e-5,
        rtol=1e-4,
    )


def test_same_seed_same_samples(saved):
    path, config, _ = saved
    vocoder, mel = Vocoder.load(path), torch.zeros(config.mel.n_mels, 4)
    first, second, other = (vocoder.vocode(mel, seed=seed).samples for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert np.array_equal(first, other) == (config.architecture != "wavernn")
    vocoder.vocode(mel)  # without a seed too
    for either in (vocoder, Vocoder.load("griffin-lim", mel=config.mel)):
        of_numpy = either.vocode(mel, seed=np.int64(3))
        assert np.array_equal(of_numpy.samples, either.vocode(mel, seed=3).samples)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "x", 2**62])
def test_a_wrong_seed_is_named(saved, seed):
    path, config, _ = saved
    mel = np.zeros((config.mel.n_mels, 4))
    for vocoder in (Vocoder.load(path), Vocoder.load("griffin-lim", mel=config.mel)):
        with pytest.raises(CloningError, match=f"seed {seed}: a whole number"):
            vocoder.vocode(mel, seed=seed)
        with pytest.raises(CloningError, match=f"seed {seed}: a whole number"):
            vocoder.stream([mel], seed=seed)


def test_levels_beyond_the_mel_are_cut_off(saved):
    path, config, _ = saved
    vocoder, mel = Vocoder.load(path), torch.full((config.mel.n_mels, 3), 3.9)
    mel[0] = 9.0
    cut = mel.clamp(max=4.0)
    assert np.array_equal(vocoder.vocode(mel, seed=0).samples, vocoder.vocode(cut, seed=0).samples)


@pytest.mark.parametrize(
    "mel, message",
    [
        (np.zeros((79, 5)), r"shape \(79, 5\).*wants \(80, F\)"),
        (np.zeros((80, 0)), r"shape \(80, 0\).*F at least 1"),
        (np.zeros((1, 80, 5)), r"shape \(1, 80, 5\)"),
        (np.full((80, 5), np.nan), "not finite in 5 of 5 frames"),
        (np.where(np.arange(5) == 2, np.inf, np.zeros((80, 5))), "not finite in 1 of 5 frames"),
    ],
)
def test_refuses_other_mels_in_one_line(mel, message):
    with pytest.raises(CloningError, match=message) as raised:
        Vocoder.load("griffin-lim").vocode(mel)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("layout", ["", "_bare"])
def test_published_checkpoint_by_its_path(data_dir, layout):
    vocoder = Vocoder.load(data_dir / f"wavernn_tiny{layout}.pt", generation=Generation(target=600, overlap=100))
    assert (vocoder.name, vocoder.mel) == ("wavernn", SYNTHESIZER_MEL)
    seen = []
    wav = vocoder.vocode(np.zeros((80, 10)), seed=3, progress=lambda done, total: seen.append((done, total)))
    assert len(wav) == 1800 and seen[-1] == (800, 800)


def test_refuses_other_files_in_one_line(tmp_path, data_dir):
    with pytest.raises(CloningError, match="no such checkpoint"):
        Vocoder.load(tmp_path / "nothing.pt")
    with pytest.raises(CloningError, match="expected a checkpoint of kind 'vocoder', found 'synthesizer'"):
        Vocoder.load(data_dir / "tacotron_tiny.pt")
    config = CONFIGS["vocos"]
    state = build_network(CONFIGS["vocos, odd"]).state_dict()
    path = tmp_path / "vocoder.safetensors"
    save_weights(path, Header("vocoder", to_dict(config)), state)
    with pytest.raises(CloningError, match="does not fit this model"):
        Vocoder.load(path)


@pytest.mark.slow
def test_wide_imports_are_left_to_training():
    """Speaking must not wait for what only training needs."""
    import subprocess
    import sys

    code = "import sys, vocoder.inference; print([m for m in ('accelerate', 'librosa', 'scipy') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
