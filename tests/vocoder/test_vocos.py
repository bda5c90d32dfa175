"""The frame-rate vocoder: synthesis inverts analysis, shapes, locality, learning."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.vocoder_set import voice
from utils.audio.mel import SYNTHESIZER_MEL, MelConfig, mel_spectrogram
from vocoder.config import VocoderConfig, VocosConfig
from vocoder.loss import mel_loss, stft_loss
from vocoder.model import build_network
from vocoder.models.vocos import Vocos, inverse_stft

ODD_MEL = MelConfig(n_fft=512, win_length=400, hop_length=120, n_mels=20, power=1.0, scale="db")
SMALL = {
    "usual": VocoderConfig(vocos=VocosConfig(dim=16, hidden=24, blocks=2)),
    "odd": VocoderConfig(mel=ODD_MEL, vocos=VocosConfig(dim=10, hidden=6, blocks=3, kernel=3, n_fft=250)),
}


@pytest.fixture(params=SMALL, name="config")
def small_config(request):
    return SMALL[request.param]


@settings(deadline=None)
@given(st.integers(8, 40), st.integers(2, 6), st.integers(2, 9))
def test_inverse_stft_undoes_the_stft(hop, overlap, frames):
    n_fft = hop * overlap + hop * overlap % 2
    window = torch.hann_window(n_fft, dtype=torch.float64)
    wav = torch.randn(2, (frames - 1) * hop, dtype=torch.float64)
    padded = torch.nn.functional.pad(wav, (n_fft // 2, n_fft // 2))
    spectrum = torch.stft(padded, n_fft, hop, window=window, center=False, return_complex=True).transpose(1, 2)[
        :, :frames
    ]
    back = inverse_stft(spectrum, window, hop)
    inner = slice(1, -1)  # with half-overlapping windows the outermost sample is seen by a window's zero only
    torch.testing.assert_close(back[:, inner], wav[:, inner], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("frames", [2, 3, 17])
def test_shape_is_whole_hops(config, frames):
    mel = config.mel
    out = build_network(config)(torch.randn(3, mel.n_mels, frames)).wav
    assert out.shape == (3, (frames - 1) * mel.hop_length) and out.isfinite().all()


def test_items_of_a_batch_do_not_mix(config):
    model, mels = build_network(config).eval(), torch.randn(3, config.mel.n_mels, 9)
    torch.testing.assert_close(model(mels).wav[1], model(mels[1:2]).wav[0])


def test_a_frame_is_heard_only_within_the_receptive_field(config):
    model, sizes, hop = build_network(config).eval(), config.vocos, config.mel.hop_length
    mel = torch.randn(1, config.mel.n_mels, 61)
    changed = mel.clone()
    changed[:, :, 30] += 1
    samples = (model(mel).wav - model(changed).wav)[0].abs().gt(1e-7).nonzero()
    reach = (sizes.kernel // 2) * (sizes.blocks + 1) * hop + sizes.n_fft // 2
    assert len(samples) and samples.min() >= 30 * hop - reach and samples.max() <= 30 * hop + reach


def test_gradient_reaches_every_parameter(config):
    model = build_network(config)
    wav = torch.from_numpy(voice(0.6, 2))[None]
    wav = wav[:, : wav.size(1) // config.mel.hop_length * config.mel.hop_length]
    out = model(mel_spectrogram(wav, config.mel)).wav
    (stft_loss(out, wav, (64, 256), 0.9) + mel_loss(out, wav, config.mel)).backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in model.parameters())


def test_losses_are_zero_for_equal_and_grow_with_the_difference():
    wav = torch.from_numpy(voice(0.5, 4))[None]
    noise = torch.randn_like(wav)
    for loss in (lambda out: stft_loss(out, wav, (128, 512), 0.9), lambda out: mel_loss(out, wav, SYNTHESIZER_MEL)):
        assert loss(wav).item() == pytest.approx(0, abs=1e-5)
        assert 0 < loss(wav + 0.001 * noise) < loss(wav + 0.01 * noise) < loss(wav + 0.1 * noise)


def test_one_batch_can_be_overfitted():
    torch.manual_seed(0)
    model = build_network(VocoderConfig(vocos=VocosConfig(dim=48, hidden=96, blocks=2)))
    wav = torch.from_numpy(voice(0.5, 5))[None]
    mel = mel_spectrogram(wav, SYNTHESIZER_MEL)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    first = None
    for _ in range(60):
        made = model(mel).wav
        loss = stft_loss(made, wav, (256, 1024), 0.9) + 5 * mel_loss(made, wav, SYNTHESIZER_MEL)
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first


def test_default_size():
    model = Vocos(VocosConfig(), 80, 200)
    assert sum(p.numel() for p in model.parameters()) == 3_527_202


@pytest.mark.parametrize(
    "change, message",
    [({"kernel": 4}, "kernel 4 must be odd"), ({"n_fft": 801}, "n_fft 801 must be even"), ({"dim": 0}, "dim is 0")],
)
def test_refuses_nonsense(change, message):
    with pytest.raises(ValueError, match=message):
        VocosConfig(**change)


def test_refuses_windows_that_leave_gaps():
    with pytest.raises(ValueError, match="at least two hops"):
        VocoderConfig(vocos=VocosConfig(n_fft=398))
