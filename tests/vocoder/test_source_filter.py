"""The vocoder over pulses and noise: what the source sounds like, that pitch is found, locality, learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.vocoder_set import speaking_network, voice
from utils.audio.mel import SYNTHESIZER_MEL, MelConfig, mel_spectrogram
from utils.audio.pitch import REFERENCE_HZ, pitch
from utils.config import from_dict, to_dict
from utils.errors import CloningError
from utils.weights.checkpoint import Header, save_weights
from vocoder.config import HifiGanConfig, SourceFilterConfig, VocoderConfig
from vocoder.inference import Vocoder
from vocoder.loss import mel_loss, stft_loss
from vocoder.model import build_network
from vocoder.models.source import FADE, LEVEL
from vocoder.models.source_filter import SourceFilter, subframes

HOP, RATE = 200, 16000
ODD_MEL = MelConfig(n_fft=512, win_length=400, hop_length=120, n_mels=20, power=1.0, scale="db")
SIZES = {"dim": 16, "hidden": 24, "blocks": 2, "pitch_dim": 16, "pitch_blocks": 1}
SMALL = {
    "usual": VocoderConfig("source_filter", source_filter=SourceFilterConfig(**SIZES)),
    "all": VocoderConfig(
        "source_filter", source_filter=SourceFilterConfig(**SIZES, mel_envelope=True, residual_spectrum=True)
    ),
    "guided": VocoderConfig(
        "hifigan", hifigan=HifiGanConfig(channels=32, guided=True), source_filter=SourceFilterConfig(**SIZES)
    ),
    "subframes": VocoderConfig(
        "source_filter", source_filter=SourceFilterConfig(**SIZES, subframes=4, n_fft=120, mel_envelope=True)
    ),
    "guided by subframes": VocoderConfig(
        "hifigan",
        hifigan=HifiGanConfig(channels=32, guided=True),
        source_filter=SourceFilterConfig(**SIZES, subframes=5, n_fft=128, residual_spectrum=True),
    ),
    "odd": VocoderConfig("source_filter", mel=ODD_MEL, source_filter=SourceFilterConfig(**SIZES, kernel=3, n_fft=250)),
}


@pytest.fixture(params=SMALL, name="config")
def small_config(request):
    return SMALL[request.param]


def usual():
    torch.manual_seed(0)
    return speaking_network(SMALL["usual"]).eval().requires_grad_(False)


def source(hz) -> np.ndarray:
    """The pulses of a track of frequencies, without the margins."""
    model, track = usual(), torch.log2(torch.tensor(hz) / REFERENCE_HZ)[None]
    pulses = model.pulses(track, model.phases(track))[0]
    return pulses[model.margin * HOP : -model.margin * HOP].numpy()


@pytest.mark.parametrize("hz", [70.0, 123.4, 250.0, 610.0])
def test_pulses_hold_every_harmonic_equally_loud(hz):
    wav = source([hz] * 161)
    assert len(wav) == 160 * HOP and np.sqrt(np.mean(wav**2)) == pytest.approx(LEVEL, rel=0.02)
    spectrum = np.abs(np.fft.rfft(wav * np.hanning(len(wav))))
    at = np.rint(np.arange(1, int(np.ceil(RATE / 2 / hz - FADE))) * hz * len(wav) / RATE).astype(int)
    peaks = np.array([spectrum[max(0, i - 2) : i + 3].max() for i in at])
    assert peaks.min() > 0.7 * peaks.max()
    between = np.rint((np.arange(1, len(at)) + 0.5) * hz * len(wav) / RATE).astype(int)
    assert spectrum[between].max() < 0.01 * peaks.max()


def test_the_pitch_of_pulses_is_the_asked_one_also_where_it_glides():
    hz = 150 * 2 ** np.sin(np.arange(160) / 25)
    wav = np.convolve(source(hz.tolist()), np.hanning(32), "same")  # falls towards the treble as a voice does
    found = REFERENCE_HZ * 2 ** pitch(wav, RATE, HOP, high=400)
    assert np.abs(found[4:-4] / hz[4:-4] - 1).max() < 0.01


def test_pulses_go_on_across_frames_however_they_are_cut():
    model, track = usual(), torch.linspace(-1, 1, 50)[None]
    whole = model.pulses(track, model.phases(track))
    cut = slice(20, 45)
    part = model.pulses(track[:, cut], model.phases(track)[:, cut])
    inner = slice(model.margin * HOP, -model.margin * HOP)  # beyond it the ends' pitch is held
    torch.testing.assert_close(part[:, inner], whole[:, 20 * HOP :][:, : part.size(1)][:, inner], atol=1e-5, rtol=0)


def test_decoding_undoes_the_target():
    finder = usual().pitch_finder
    tracks = torch.linspace(float(finder.pitches[4]), float(finder.pitches[-5]), 97)[None]
    distance = (finder.pitches[:, None] - tracks[:, None]) * finder.bins_per_octave
    logits = -0.5 * distance.square()
    torch.testing.assert_close(finder.decode(logits), tracks, atol=1e-3, rtol=0)
    least = finder.loss(logits, tracks)
    assert least < finder.loss(logits.roll(3, dims=1), tracks) and least < finder.loss(logits / 2, tracks)


def test_unvoiced_frames_teach_no_pitch():
    finder, logits = usual().pitch_finder, torch.randn(1, 168, 6)
    track = torch.tensor([[0.5, 0.0, -0.3, 0.0, 0.0, 0.2]])
    changed = logits.clone()
    changed[:, :, [1, 3, 4]] += torch.randn(1, 168, 3)
    assert finder.loss(logits, track) == finder.loss(changed, track)
    assert finder.loss(logits, torch.zeros_like(track)) == 0


@pytest.mark.parametrize("frames", [2, 3, 17])
def test_shape_is_whole_hops(config, frames):
    mel = config.mel
    out = speaking_network(config)(torch.randn(3, mel.n_mels, frames)).wav
    assert out.shape == (3, (frames - 1) * mel.hop_length) and out.isfinite().all()


def test_items_of_a_batch_do_not_mix(config):
    """The pitch but for rounding, whose order depends on the batch; the sound, for the same pitch."""
    torch.manual_seed(1)
    model, mels = speaking_network(config).eval().requires_grad_(False), torch.randn(3, config.mel.n_mels, 9)
    pitch, start = model.pitch(mels), torch.tensor([5, 6, 7])
    torch.testing.assert_close(pitch[1:2], model.pitch(mels[1:2]), atol=1e-5, rtol=0)  # octaves
    phase = model.phases(pitch)
    alone = model.render(mels[1:2], pitch[1:2], phase[1:2], start[1:2])
    torch.testing.assert_close(model.render(mels, pitch, phase, start)[1:2], alone, atol=1e-5, rtol=0)


def test_rounding_of_the_pitch_is_not_heard():
    """A pitch that is off by a few last bits shifts the pulses by as much as its phase, and changes nothing at once."""
    model, off = usual(), 1e-6  # octaves: 8 to 16 times float32's rounding
    tracks = torch.rand(200, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    phases = model.phases(tracks)
    change = model.pulses(tracks + off, model.phases(tracks + off)) - model.pulses(tracks, phases)
    harmonics = RATE / 2 / (REFERENCE_HZ * 2 ** tracks.min(dim=1).values)
    cycles = (phases[:, -1] + model.margin * HOP / RATE * REFERENCE_HZ * 2) * np.log(2) * off
    steepest = 2 * np.pi * harmonics * (harmonics + 1) * cycles  # sum of the slopes of all harmonics, each of height 2
    fading = 2 * harmonics * np.log(2) * off / FADE
    rounding = 4 * torch.finfo(torch.float32).eps * harmonics.square()  # of the phase, in float32 at the end
    bound = (steepest + fading + rounding) * LEVEL / (2 * (harmonics - 2)).sqrt()
    assert (change.abs().amax(dim=1) / bound).max() < 1


def test_what_was_before_a_change_stays(config):
    """Phases go on from frame to frame, so a change is heard in all that comes after it, not before its lookahead."""
    model, hop = speaking_network(config).eval(), config.mel.hop_length
    mel = torch.randn(1, config.mel.n_mels, 61)
    changed = mel.clone()
    changed[:, :, 40] += 1
    samples = (model(mel).wav - model(changed).wav)[0].abs().gt(1e-7).nonzero()
    assert len(samples) and samples.min() >= (40 - model.lookahead - 1) * hop


def test_the_same_mel_gives_the_same_audio_and_another_start_other_noise():
    model, mel = usual(), torch.randn(1, 80, 20)
    assert torch.equal(model(mel).wav, model(mel).wav)
    assert not torch.allclose(model(mel).wav, model(mel, start=torch.tensor([999])).wav)


def test_gradient_reaches_every_parameter(config):
    model, mel = speaking_network(config), config.mel
    wav = torch.from_numpy(voice(0.6, 2))[None]
    wav = wav[:, : wav.size(1) // mel.hop_length * mel.hop_length]
    track = torch.from_numpy(pitch(wav[0].numpy(), RATE, mel.hop_length))[None]
    out, logits = model(mel_spectrogram(wav, mel))
    pitch_loss = model.pitch_finder.loss(logits, track)
    (stft_loss(out, wav, (64, 256), 0.9) + mel_loss(out, wav, mel) + pitch_loss).backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in model.parameters())


def test_a_fresh_filter_over_the_mel_has_the_envelope_of_the_voice():
    """With all gains 0 in log, the mel of the output is near that of the input; without the base it is not."""
    wav = torch.from_numpy(voice(1.0, 3))[None]
    mel = mel_spectrogram(wav, SYNTHESIZER_MEL)
    distances = {}
    for base in (True, False):
        config = VocoderConfig(
            "source_filter", source_filter=SourceFilterConfig(**SIZES, mel_envelope=base, residual_spectrum=True)
        )
        model = speaking_network(config)
        for head in (model.filter.head, model.free):
            nn.init.zeros_(head.weight)
        with torch.no_grad():
            distances[base] = 12.5 * mel_loss(model(mel).wav, wav[:, : 80 * HOP], SYNTHESIZER_MEL).item()
    assert distances[True] < 7 and distances[False] > 3 * distances[True], distances


def test_subframes_lie_on_straight_lines_between_frames_and_end_with_the_last():
    mel = torch.randn(2, 3, 7)
    assert torch.equal(subframes(mel, 1), mel)
    finer = subframes(mel, 4)
    assert finer.shape == (2, 3, 25) and torch.equal(finer[:, :, ::4], mel)
    torch.testing.assert_close(finer[:, :, 1:24:4], 0.75 * mel[:, :, :-1] + 0.25 * mel[:, :, 1:])
    torch.testing.assert_close(finer[:, :, 8:17], subframes(mel[:, :, 2:5], 4))


def test_a_spectrum_of_the_source_is_centered_on_its_subframe():
    model = speaking_network(SMALL["subframes"])
    for place in range(5 * 4 + 1):
        click = torch.zeros(1, (5 + 2 * model.margin) * HOP)
        click[0, model.margin * HOP + place * model.subhop] = 1
        spectra = model.spectra(click)[0]
        assert spectra.shape == (21, 61)
        torch.testing.assert_close(spectra[place].abs(), torch.ones(61))  # the middle of a window


def test_a_subframe_is_heard_at_its_place():
    """With one of four spectra alone, a frame's sound lies within half a window of that spectrum's center."""
    model = speaking_network(SMALL["subframes"]).double().eval().requires_grad_(False)
    hop, mel = model.subhop, torch.zeros(1, 80, 9, dtype=torch.float64)
    pitch, start = torch.zeros(1, 9), torch.zeros(1, dtype=torch.long)
    for place in range(4):
        head = model.filter.head.forward

        def lone(x, place=place, head=head):
            y = head(x)
            y[:, [j for j in range(y.size(1)) if j != 16 + place], : 2 * y.size(2) // 3] = -30
            return y

        model.filter.head.forward = lone
        heard = model.render(mel, pitch, model.phases(pitch), start)[0].abs().gt(1e-9).nonzero()
        model.filter.head.forward = head
        center = (16 + place) * hop
        assert center - 60 <= heard.min() < center < heard.max() < center + 60


@pytest.mark.parametrize("parts, message", [(3, "subframes 3 must divide the mel's hop 200"), (1, "two hops .400")])
def test_subframes_must_fit_the_hop_and_the_window(parts, message):
    with pytest.raises(ValueError, match=message):
        VocoderConfig("source_filter", source_filter=SourceFilterConfig(subframes=parts, n_fft=256))


def test_the_free_spectrum_alone_can_speak():
    model = speaking_network(SMALL["all"])
    for head in (model.filter.head, model.free):
        nn.init.zeros_(head.weight)
    bins = model.n_fft // 2 + 1
    model.filter.head.bias.data[: 2 * bins] = -30  # both sources off
    mel = torch.full((1, 80, 9), 1.0)
    loud = model(mel).wav.abs().max()
    model.free.bias.data[:bins] = -30
    assert loud > 1e-2 and model(mel).wav.abs().max() < 1e-6


def test_weights_from_before_the_free_spectrum_fit():
    """What is not said in a checkpoint is off: the same tensors as ever, and so the same sound."""
    config = from_dict(VocoderConfig, {"architecture": "source_filter", "source_filter": {"blocks": 1}})
    names = set(speaking_network(config).state_dict())
    assert {name.split(".")[0] for name in names} == {"pitch_finder", "filter"}
    assert {"filter.head.weight", "filter.blocks.0.depthwise.weight", "pitch_finder.head.bias"} <= names
    assert speaking_network(config).filter.head.weight.shape == (3 * 401, 256)


def test_pitch_is_learned():
    """From the mels of a few made-up voices, to a tenth of a semitone in the median."""
    torch.manual_seed(0)
    finder = speaking_network(SMALL["usual"]).pitch_finder
    wavs = [voice(1.5, seed) for seed in range(4)]
    mels = torch.cat([mel_spectrogram(torch.from_numpy(wav)[None], SYNTHESIZER_MEL) for wav in wavs])
    tracks = torch.from_numpy(np.stack([pitch(wav, RATE, HOP) for wav in wavs]))
    optimizer = torch.optim.Adam(finder.parameters(), 5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        finder.loss(finder(mels), tracks).backward()
        optimizer.step()
    off = 12 * (finder.decode(finder(mels)) - tracks)[tracks != 0].abs()
    assert off.median() < 0.1


def test_an_untrained_hifigan_adds_nothing_to_its_guide():
    network, mel = build_network(SMALL["guided"]), torch.randn(1, 80, 9)
    guide = SourceFilter(SMALL["guided"].source_filter, SMALL["guided"].mel)
    guide.load_state_dict({name: network.state_dict()[name] for name in guide.state_dict()})
    assert torch.equal(network(mel).wav, guide(mel).wav)


@pytest.mark.parametrize("stage", range(4))
def test_a_guide_is_heard_at_its_place_at_every_stage(stage):
    """A click in the guide is heard around it, as much on one side as on the other, by filters of positive weights."""
    network = speaking_network(SMALL["guided"]).eval().double().requires_grad_(False)
    for name, values in network.named_parameters():
        if name.endswith("original1"):
            values.fill_(1)
        elif name.endswith("original0"):
            values.fill_(0.1)
        elif name.endswith("bias"):
            values.zero_()
    for i, source in enumerate(network.sources):
        source.parametrizations.weight.original0.mul_(i == stage)
    mel, guide = torch.zeros(1, 80, 41, dtype=torch.float64), torch.zeros(1, 40 * HOP, dtype=torch.float64)
    guide[0, 20 * HOP] = 1e-3
    heard = network.refinement(mel, guide)[0].double()
    places = torch.arange(len(heard), dtype=torch.float64)
    assert heard.min() >= 0 and abs(heard @ places / heard.sum() - 20 * HOP) <= HOP / 10


def test_a_hifigan_of_the_former_kind_is_refused_by_its_file(tmp_path):
    """Those that got pulses and noise themselves."""
    config = to_dict(SMALL["guided"])
    del config["hifigan"]["guided"]
    config["hifigan"] |= {"source": True, "source_blocks": 3, "source_dim": 96, "source_phase": True}
    save_weights(tmp_path / "former.safetensors", Header("vocoder", config), {"x": torch.zeros(1)})
    with pytest.raises(CloningError, match="former.safetensors: hifigan.source is True, which is no longer supported"):
        Vocoder.load(tmp_path / "former.safetensors")
    config["hifigan"] |= {"source": False, "source_blocks": 0, "source_phase": False}
    assert from_dict(VocoderConfig, config) == VocoderConfig(
        "hifigan", hifigan=HifiGanConfig(channels=32), source_filter=SMALL["guided"].source_filter
    )
