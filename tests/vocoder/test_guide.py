"""A guided WaveRNN: phases of the guide, its place in time, and where its weights are found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from utils.config import to_dict
from utils.errors import CloningError
from utils.weights.checkpoint import Header, save_weights
from vocoder import inference
from vocoder.config import VocoderConfig, VocosConfig, WaveRNNConfig
from vocoder.inference import Vocoder
from vocoder.model import build_network
from vocoder.wavernn.guide import emphasized, guide_inputs, with_phases_of

SMALL = {"rnn_size": 16, "fc_size": 16, "compute_size": 8, "res_out_size": 8, "res_blocks": 1}
GUIDED = VocoderConfig("wavernn", wavernn=WaveRNNConfig(**SMALL, guide_taps=8))
VOCOS = VocoderConfig(vocos=VocosConfig(dim=8, hidden=8, blocks=1))


def save(path, config: VocoderConfig, **extra) -> str:
    torch.manual_seed(1)
    header = Header("vocoder", to_dict(config), mel=to_dict(config.mel), extra=extra)
    return save_weights(path, header, build_network(config).state_dict())


def test_the_phases_are_the_guides_and_the_magnitudes_the_recordings():
    generator = torch.Generator().manual_seed(0)
    wav, guide = torch.randn(2, 4096, generator=generator)
    torch.testing.assert_close(with_phases_of(wav[None], 0.5 * wav[None]), 0.5 * wav[None], atol=1e-5, rtol=0)
    torch.testing.assert_close(with_phases_of(-wav[None], wav[None]), -wav[None], atol=1e-5, rtol=0)
    made = with_phases_of(guide[None], wav[None])[0]
    agreement = torch.nn.functional.cosine_similarity
    assert agreement(made, guide, dim=0) > 0.7 > 0.1 > agreement(wav, guide, dim=0).abs()


def test_a_quarter_of_the_taps_lies_before_the_sample_that_a_row_predicts():
    config = WaveRNNConfig(guide_taps=8, preemphasis=0.0)
    wav = torch.zeros(1, 50)
    wav[0, 20] = 1.0
    taps = guide_inputs(emphasized(wav, config), config).unfold(1, 8, 1)[0, :-1]
    assert taps.shape == (50, 8) and [int(row.argmax()) for row in taps if row.any()] == list(range(7, -1, -1))
    assert taps[19, 2] == 1  # row 19 predicts sample 20


@pytest.mark.parametrize(
    "settings, message",
    [({"guide_taps": 6}, "guide_taps 6 must be a multiple of 4"), ({"guide_taps": 8, "mode": "mol"}, "mode 'raw'")],
)
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(ValueError, match=message):
        WaveRNNConfig(**settings)


def test_the_guide_is_found_by_its_weights_beside_it_or_among_those_that_ship(tmp_path, monkeypatch):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(inference, "DEFAULT_MODELS", shipped)
    (shipped / "a.safetensors").write_bytes(b"damaged")
    mark = save(shipped / "any.safetensors", VOCOS)
    path = tmp_path / "mine" / "wavernn.safetensors"
    path.parent.mkdir()
    save(path, GUIDED, guide=mark)
    mel = np.zeros((80, 5), np.float32)
    first = Vocoder.load(path).vocode(mel, seed=0).samples
    (shipped / "any.safetensors").rename(path.parent / "beside.safetensors")
    assert np.array_equal(Vocoder.load(path).vocode(mel, seed=0).samples, first)
    (path.parent / "beside.safetensors").unlink()
    with pytest.raises(
        CloningError, match=rf"reads vocoder '{mark}', which lies neither beside it nor in .*shipped: put"
    ):
        Vocoder.load(path)
    save(path, GUIDED)
    with pytest.raises(CloningError, match="reads vocoder 'None'"):
        Vocoder.load(path)


def test_a_wavernn_is_no_guide(tmp_path, monkeypatch):
    """Else two files that name each other would be loaded without end."""
    monkeypatch.setattr(inference, "DEFAULT_MODELS", tmp_path)
    path = tmp_path / "wavernn.safetensors"
    mark = save(path, GUIDED)
    save(tmp_path / "other.safetensors", GUIDED, guide=mark)
    with pytest.raises(CloningError, match=r"\.safetensors, a WaveRNN, which cannot guide"):
        Vocoder.load(tmp_path / "other.safetensors")
