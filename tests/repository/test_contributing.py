"""CONTRIBUTING.md is true: what it names exists, and what it asks of a new part is enough."""

from __future__ import annotations

import re
from typing import Literal, get_type_hints

import numpy as np
import pytest
import torch
from torch import nn

import encoder.config
import encoder.model
import vocoder.config
import vocoder.model
from encoder.inference import SpeakerEncoder
from encoder.network import EncoderNetwork
from synthesizer.config import SynthesizerConfig
from synthesizer.inference import Synthesizer
from synthesizer.metadata import SynthesizerMetadata
from synthesizer.models.base import AcousticModel, Generated
from synthesizer.speech import SpeechOptions
from synthesizer.text.processor import TextProcessor
from tests.conftest import ROOT, SAMPLES
from utils.audio.io import read
from utils.data.corpora import layouts, scan
from vocoder.inference import WaveformVocoder
from vocoder.models.waveform import WaveformModel, WaveformOutput
from voice_cloner import VoiceCloner

pytestmark = pytest.mark.slow

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w/.]+\.py)` \| (.*) \|$", TEXT, flags=re.MULTILINE)


def test_files_that_are_named_exist():
    named = [path for path in re.findall(r"`([\w/.-]+\.(?:py|toml|md))`", TEXT) if "<" not in path]
    assert len(named) > 15 and [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("path", "what"), ROWS)
def test_what_is_said_of_a_file_is_in_it(path, what):
    source = (ROOT / path).read_text(encoding="utf-8")
    for name in re.findall(r"`(\w+)`", what):
        assert re.search(rf"\b{name}\b", source), f"{path} has no {name}"


class Average(EncoderNetwork):
    """The least that CONTRIBUTING asks of an encoder."""

    def __init__(self, config) -> None:
        super().__init__()
        self.linear = nn.Linear(config.mel.n_mels, config.embedding_size)
        self.similarity_weight = nn.Parameter(torch.tensor([10.0]))
        self.similarity_bias = nn.Parameter(torch.tensor([-5.0]))

    def forward(self, mel, lengths=None):
        return nn.functional.normalize(self.linear(mel.mean(dim=2)))


class Straight(WaveformModel):
    """The least that it asks of a vocoder."""

    lookahead = 0

    def __init__(self, n_mels: int, hop: int) -> None:
        super().__init__()
        self.head = nn.Linear(n_mels, hop)

    def forward(self, mel, start=None):
        return WaveformOutput(self.head(mel[:, :, :-1].transpose(1, 2)).flatten(1).tanh())


class Table(AcousticModel):
    """The least that it asks of a synthesizer: each symbol has a column of a mel, which lasts as long as all others."""

    FRAMES = 6

    def __init__(self, n_symbols: int, n_mels: int) -> None:
        super().__init__()
        self.emotion = None
        self.columns = nn.Embedding(n_symbols, n_mels)

    def generate(self, inputs, settings):
        generated = []
        for tokens, length in zip(inputs.tokens, inputs.token_lengths.tolist(), strict=True):
            place = torch.arange(length).repeat_interleave(round(self.FRAMES / settings.rate))
            alignment = nn.functional.one_hot(place, length)
            generated.append(Generated(self.columns(tokens[place]).T, alignment, "durations"))
        return generated

    def teacher_forced(self, inputs, recording, silence):
        return self.columns(inputs.tokens).transpose(1, 2).repeat_interleave(self.FRAMES, dim=2)


@pytest.fixture
def toys():
    """An encoder, a synthesizer and a vocoder, each no more than a table or a layer."""
    torch.manual_seed(0)
    config, spoken = encoder.config.EncoderConfig(), vocoder.config.VocoderConfig()
    text = TextProcessor("phonemes")
    listener = SpeakerEncoder(Average(config), config, fingerprint="toy")
    network = Table(len(text), spoken.mel.n_mels).requires_grad_(False)
    metadata = SynthesizerMetadata(mel=spoken.mel, name="table", encoder_fingerprint="toy")
    speaker = Synthesizer(network, SynthesizerConfig("parallel", config.embedding_size), text, metadata)
    straight = Straight(spoken.mel.n_mels, spoken.mel.hop_length).requires_grad_(False)
    return listener, speaker, WaveformVocoder(straight, spoken, "", "cpu")


def test_a_synthesizer_is_a_module_of_that_interface(toys):
    listener, speaker, made = toys
    cloner = VoiceCloner(listener, speaker, made, watermark=False)
    text = "One two three. Four five, six!"
    voice = cloner.embed_voice(SAMPLES / "austen_0870.wav")
    options = SpeechOptions(seed=1)
    whole = speaker.speak(text, voice, options)
    assert [piece.text for piece in whole.pieces] == ["One two three.", "Four five, six!"]
    frames = sum(Table.FRAMES * len(piece.tokens) for piece in whole.pieces)
    assert frames <= whole.mel.shape[1] and whole.times.seconds == pytest.approx(whole.mel.shape[1] / 80, abs=0.02)
    assert np.array_equal(np.concatenate(list(speaker.stream(text, voice, options)), axis=1), whole.mel)
    faster = speaker.speak(text, voice, SpeechOptions(seed=1, rate=2.0))
    assert faster.mel.shape[1] < 0.6 * whole.mel.shape[1]
    cloning = cloner.clone(voice, text, seed=1)
    np.testing.assert_array_equal(cloning.audio.samples, made.vocode(whole.mel).samples)
    pieces = list(cloner.stream(voice, text, seed=1))
    np.testing.assert_allclose(np.concatenate([p.samples for p in pieces]), cloning.audio.samples, atol=1e-6)
    tokens = speaker.encode("One two three.").tokens
    recording = np.zeros((speaker.mel.n_mels, Table.FRAMES * len(tokens)), np.float32)
    forced = speaker.teacher_forced(np.array(tokens), recording, voice)
    np.testing.assert_array_equal(forced, speaker.speak("One two three.", voice, options).mel)


def test_an_encoder_is_a_module_of_that_interface():
    config = encoder.config.EncoderConfig()
    spoken = torch.randn(20000).numpy()
    listener = SpeakerEncoder(Average(config), config)
    embedding = listener.embed_utterance(spoken)
    assert embedding.shape == (256,) and (embedding**2).sum() == pytest.approx(1, abs=1e-5)
    stream = listener.stream(min_seconds=0.5, gain=1.0)
    stream.feed(read(SAMPLES / "austen_0870.wav", sample_rate=config.mel.sample_rate).samples)
    found = stream.finish()
    assert found is not None and (found**2).sum() == pytest.approx(1, abs=1e-5)


def test_a_vocoder_is_a_module_of_that_interface():
    config = vocoder.config.VocoderConfig()
    hop = config.mel.hop_length
    made = WaveformVocoder(Straight(config.mel.n_mels, hop), config, "", "cpu")
    mel = torch.randn(config.mel.n_mels, 9)
    wav = made.vocode(mel)
    assert len(wav) == 8 * hop
    np.testing.assert_allclose(np.concatenate(list(made.stream(mel.split(4, dim=1)))), wav.samples, atol=1e-6)


def test_architectures_are_named_in_one_place_each():
    for config, build in (
        (encoder.config.EncoderConfig, encoder.model.build_network),
        (vocoder.config.VocoderConfig, vocoder.model.build_network),
    ):
        hint = get_type_hints(config)["architecture"]
        assert hint.__origin__ is Literal
        networks = {type(build(config(architecture=name))) for name in hint.__args__}
        assert len(networks) == len(hint.__args__)


def test_a_corpus_is_a_function_and_a_line(tmp_path, monkeypatch):
    def read(match, file):
        return layouts.ParsedPath(match["stem"], match["speaker"], file.text_beside(".lab"))

    line = layouts._layout("mine", r"take_(?P<stem>(?P<speaker>[a-z]+)_\d+)", read)
    monkeypatch.setattr(layouts, "LAYOUTS", (*layouts.LAYOUTS, line))
    (tmp_path / "take_ann_01.wav").write_bytes(b"RIFF")
    (tmp_path / "take_ann_01.lab").write_text("Hello.", encoding="utf-8")
    (clip,) = scan(tmp_path).clips
    assert (clip.speaker, clip.text, clip.id) == ("mine-ann", "Hello.", "mine/ann_01")
