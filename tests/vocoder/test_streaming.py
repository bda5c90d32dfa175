"""Streams: the same audio as of the whole mel, however it is cut, and no later than it must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.vocoder_set import speaking_network
from utils.audio.mel import SYNTHESIZER_MEL
from utils.errors import CloningError
from vocoder.config import HifiGanConfig, SourceFilterConfig, VocoderConfig, VocosConfig, WaveRNNConfig
from vocoder.inference import GriffinLimVocoder, WaveformVocoder, WaveRNNVocoder
from vocoder.model import build_network
from vocoder.streaming import FIRST, StreamedWaveRNN
from vocoder.wavernn.generate import Generation
from vocoder.wavernn.guide import emphasized

pytestmark = pytest.mark.slow

HOP = 200
SIZES = {"dim": 16, "hidden": 32, "blocks": 2, "pitch_dim": 16, "pitch_blocks": 1}
CONFIGS = {
    "vocos": VocoderConfig(vocos=VocosConfig(dim=16, hidden=32, blocks=3)),
    "vocos, long windows": VocoderConfig(vocos=VocosConfig(dim=16, hidden=32, blocks=1, kernel=5, n_fft=1000)),
    "source_filter": VocoderConfig("source_filter", source_filter=SourceFilterConfig(**SIZES)),
    "source_filter, all": VocoderConfig(
        "source_filter", source_filter=SourceFilterConfig(**SIZES, mel_envelope=True, residual_spectrum=True)
    ),
    "source_filter, subframes": VocoderConfig(
        "source_filter", source_filter=SourceFilterConfig(**SIZES, subframes=4, n_fft=128)
    ),
    "hifigan over a source_filter of subframes": VocoderConfig(
        "hifigan",
        hifigan=HifiGanConfig(channels=32, guided=True),
        source_filter=SourceFilterConfig(**SIZES, subframes=4, n_fft=128, mel_envelope=True),
    ),
    "hifigan over a source_filter": VocoderConfig(
        "hifigan", hifigan=HifiGanConfig(channels=32, guided=True), source_filter=SourceFilterConfig(**SIZES)
    ),
    "hifigan": VocoderConfig(architecture="hifigan", hifigan=HifiGanConfig(channels=32)),
    "hifigan, other rates": VocoderConfig(
        architecture="hifigan",
        hifigan=HifiGanConfig(
            channels=32,
            upsample_rates=(8, 5, 5),
            upsample_kernels=(16, 11, 11),
            resblock_kernels=(3, 5),
            resblock_dilations=(1, 2),
        ),
    ),
}
SMALL = {"rnn_size": 16, "fc_size": 16, "compute_size": 8, "res_out_size": 8, "res_blocks": 1}


def waveform_vocoder(name: str) -> WaveformVocoder:
    torch.manual_seed(3)
    model = speaking_network(CONFIGS[name])
    for parameter in model.parameters():
        parameter.data *= 2 if parameter.dim() > 1 else 1  # a fresh network hardly looks beside its own frame
    return WaveformVocoder(model.eval().requires_grad_(False), CONFIGS[name], "", "cpu")


def wavernn(mode: str = "raw", **more) -> WaveRNNVocoder:
    torch.manual_seed(3)
    config = VocoderConfig(architecture="wavernn", wavernn=WaveRNNConfig(**SMALL, mode=mode, **more))
    model = build_network(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.data *= 3
    return WaveRNNVocoder(model, config, "", "cpu", Generation(folded=False, kernel="torch"))


def guided(name: str = "source_filter", **more) -> WaveRNNVocoder:
    vocoder = wavernn(guide_taps=8, **more)
    vocoder.guide = waveform_vocoder(name)
    return vocoder


def noise(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).uniform(-4, 4, (SYNTHESIZER_MEL.n_mels, frames)).astype(np.float32)


def cut(mel: np.ndarray, *sizes: int) -> list[np.ndarray]:
    return np.split(mel, np.cumsum(sizes), axis=1)


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("sizes", [(), (1, 1, 1, 0, 40), (150,), tuple([7] * 25)])
def test_a_streamed_waveform_is_the_whole_one(name, sizes):
    vocoder, mel = waveform_vocoder(name), noise(190)
    whole = vocoder.vocode(mel, seed=0).samples
    joined = np.concatenate(list(vocoder.stream(cut(mel, *sizes))))
    # rounding of the pitch adds up in the phase of what sums it up
    tolerance = 5e-3 if "source" in name else 1e-5
    np.testing.assert_allclose(joined, whole, rtol=0, atol=tolerance * np.abs(whole).max())


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize(
    "make",
    [lambda: waveform_vocoder("vocos"), lambda: waveform_vocoder("source_filter"), wavernn, lambda: guided("vocos")],
    ids=["vocos", "source_filter", "wavernn", "wavernn, guided"],
)
def test_a_short_mel_streams_too(make, frames):
    mel = noise(frames)
    whole = make().vocode(mel, seed=1).samples
    joined = np.concatenate(list(make().stream([mel], seed=1)))
    assert len(whole) == max(1, frames - 1) * HOP
    np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "more", [{}, {"mode": "mol"}, {"pad": 1}, {"pad": 4}, {"upsample": (2, 4, 25)}], ids=lambda more: str(more)
)
def test_a_streamed_wavernn_is_the_unfolded_one(more):
    vocoder, mel = wavernn(**more), noise(12)
    whole = vocoder.vocode(mel, seed=5).samples
    joined = np.concatenate(list(vocoder.stream(cut(mel, 3, 1, 4, 1), seed=5)))
    np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("name", ["vocos", "source_filter", "hifigan"])
@pytest.mark.parametrize("sizes", [(), (3, 1, 4, 1), (40,)])
def test_a_streamed_wavernn_hears_the_guide_of_the_whole_mel(name, sizes, monkeypatch):
    """Samples are drawn, so that they would tell only where rounding of the guide moves none of the labels."""
    vocoder, mel, heard = guided(name), noise(50), []
    hear = StreamedWaveRNN._hear

    def remembered(self, render, mel, first, count):
        found = hear(self, render, mel, first, count)
        heard.append(found[0, first * HOP : (first + count) * HOP + 6])  # the last row hears 6 samples of the next hop
        return found

    monkeypatch.setattr(StreamedWaveRNN, "_hear", remembered)
    joined = np.concatenate(list(vocoder.stream(cut(mel, *sizes), seed=5)))
    assert len(joined) == 49 * HOP and np.isfinite(joined).all()
    guide = torch.nn.functional.pad(torch.from_numpy(vocoder.guide.vocode(mel).samples)[None], (0, 6))
    whole, start = emphasized(guide, vocoder.model.config)[0], 0
    for piece in heard:
        expected = whole[start : start + len(piece)]
        torch.testing.assert_close(piece, expected, rtol=0, atol=5e-3 * float(whole.abs().max()))
        start += len(piece) - 6
    assert start == len(joined)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_output_depends_on_the_lookahead_and_hardly_less(name):
    """A frame that is not a number spoils what depends on it: no hop further away, and nearly all up to there."""
    model, middle = waveform_vocoder(name).model, 60
    mel = torch.zeros(1, 80, 121)
    mel[:, :, middle] = torch.nan
    spoilt = model(mel).wav[0].isnan().view(-1, HOP).any(dim=1).nonzero().flatten()
    assert model.lookahead - 1 <= middle - spoilt.min() <= model.lookahead + 1
    if "source" not in name:  # whose phases carry on what was
        assert model.lookahead - 2 <= spoilt.max() - middle <= model.lookahead


def test_audio_comes_as_soon_as_its_frames_are_there():
    vocoder, mel = waveform_vocoder("vocos"), noise(100)
    given = 0

    def frame_by_frame():
        nonlocal given
        for frame in mel.T:
            given += 1
            yield frame[:, None]

    made, pieces = 0, []
    for piece in vocoder.stream(frame_by_frame()):
        if not pieces:
            assert given == vocoder.model.lookahead + 1 + FIRST  # the first hops, the frame they end in, what it hears
        made += len(piece)
        pieces.append(len(piece) // HOP)
        if given < 100:
            assert given - 1 - made // HOP <= vocoder.model.lookahead + FIRST
    assert made == 99 * HOP
    at_once = [len(piece) // HOP for piece in vocoder.stream([noise(300)])]
    assert at_once[:4] == [8, 16, 32, 64] and max(at_once) == 64


def test_what_cannot_stream_says_so_at_once():
    with pytest.raises(CloningError, match="griffin-lim cannot stream"):
        GriffinLimVocoder(SYNTHESIZER_MEL).stream([])
    assert not GriffinLimVocoder(SYNTHESIZER_MEL).streams and wavernn().streams
    as_published = wavernn()
    as_published.generation = Generation(published=True)
    assert not as_published.streams
    with pytest.raises(CloningError, match="cannot stream as published"):
        as_published.stream([])
    vocoder = waveform_vocoder("vocos")
    for mels in ([], [np.zeros((80, 0))]):
        with pytest.raises(CloningError, match="no mel to make audio of"):
            list(vocoder.stream(mels))
    with pytest.raises(CloningError, match=r"wants \(80, F\)"):
        list(vocoder.stream([np.zeros((79, 3))]))
    with pytest.raises(CloningError, match="not finite"):
        list(vocoder.stream([np.full((80, 3), np.nan)]))
