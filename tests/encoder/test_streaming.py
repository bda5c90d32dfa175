"""A stream hears what the whole recording gives, however it is cut, and little at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.config import EncoderConfig, LstmConfig, PartialConfig, TransformerConfig
from encoder.inference import SpeakerEncoder
from encoder.lstm import STEP_FRAMES
from encoder.model import build_network
from tests.conftest import SAMPLES
from tests.support.work import work_of
from utils.audio.io import normalize_volume, read
from utils.audio.vad import VadConfig, smooth, trim_silence, voiced_mask
from utils.errors import CloningError

RATE = 16_000
PIECE = 320  # 20 ms


def small(architecture: str, frames: int = 160, overlap: float = 0.5, scale: str = "power") -> SpeakerEncoder:
    torch.manual_seed(0)
    sizes = TransformerConfig(width=16, blocks=1, heads=2, feedforward=16, pooled=8)
    windows = PartialConfig(frames, overlap)
    config = EncoderConfig(architecture, 12, lstm=LstmConfig(12, 1, scale), transformer=sizes, partials=windows)
    return SpeakerEncoder(build_network(config), config)


@pytest.fixture(params=["lstm", "transformer"])
def encoder(request) -> SpeakerEncoder:
    return small(request.param, 160 if request.param == "lstm" else 300)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Two sentences of one reader with pauses, 20 dB below their level."""
    first, second = (read(SAMPLES / f"austen_{n}.wav").samples for n in ("0870", "0890"))
    pause = np.random.default_rng(0).normal(0, 1e-4, RATE).astype(np.float32)
    return 0.1 * np.concatenate([pause, first, pause, second[:60000], pause])


def gain_of(wav: np.ndarray) -> float:
    return float(np.abs(normalize_volume(wav)).max() / np.abs(wav).max())


def heard(stream, wav: np.ndarray, size: int = PIECE) -> list[np.ndarray]:
    found = [stream.feed(wav[start : start + size]) for start in range(0, len(wav), size)]
    return [embedding for embedding in found if embedding is not None]


def test_at_a_known_level_the_stream_equals_the_recording(encoder, speech):
    stream = encoder.stream(gain=gain_of(speech))
    heard(stream, speech)
    embedding = stream.finish()
    loud = normalize_volume(speech)
    np.testing.assert_array_equal(stream.mask, voiced_mask(loud))
    voice = trim_silence(loud)
    assert stream.seconds == len(voice) / RATE
    assert embedding @ encoder.embed_utterance(voice) > 1 - 1e-5
    np.testing.assert_allclose(embedding, encoder.embed_utterance(voice), atol=1e-4)


def test_every_update_is_the_embedding_of_the_voice_until_then(encoder, speech):
    stream = encoder.stream(gain=gain_of(speech))
    voice, updates = trim_silence(normalize_volume(speech)), []
    for start in range(0, len(speech), PIECE):
        embedding = stream.feed(speech[start : start + PIECE])
        if embedding is not None:
            updates.append(stream.embedded_seconds)
            offline = encoder.embed_utterance(voice[: round(stream.embedded_seconds * RATE)])
            np.testing.assert_allclose(embedding, offline, atol=1e-4)
            assert embedding is stream.embedding and 0 <= stream.seconds - stream.embedded_seconds < 0.25
    complete = encoder.config.partials.frames / 100 + encoder.config.partials.step / 100 * np.arange(3)
    early = [1.6, 2.6] if complete[0] > 2.6 else []  # every second until a window is complete
    assert updates[: len(early) + 3] == pytest.approx([*early, *complete], abs=0.04)


def test_more_voice_may_be_wanted_than_a_window_holds(encoder, speech):
    stream = encoder.stream(min_seconds=4.0, gain=gain_of(speech))
    found = heard(stream, speech)
    assert stream.seconds > 4 and found[0] @ encoder.embed_utterance(trim_silence(normalize_volume(speech))) > 0.99


@pytest.mark.parametrize("architecture", ["lstm", "transformer"])
def test_no_piece_costs_more_than_one_step_of_the_network(architecture, speech):
    encoder, calls = small(architecture, 160), []
    parts = [encoder.network.lstm] if architecture == "lstm" else [*encoder.network.blocks, encoder.network.project]
    for part in parts:
        part.register_forward_hook(lambda part, inputs, output: calls.append(inputs[0].shape[1]))
    stream, windows = encoder.stream(), 0
    for start in range(0, len(speech), PIECE):
        calls.clear()
        stream.feed(speech[start : start + PIECE])
        assert len(calls) <= 1 and (architecture == "transformer" or sum(calls) <= STEP_FRAMES)
        windows += len(calls)
    assert windows > 10


@pytest.mark.parametrize(("architecture", "scale"), [("lstm", "power"), ("lstm", "log"), ("transformer", "power")])
def test_a_pass_in_steps_is_the_pass(architecture, scale):
    network, mel = small(architecture, scale=scale).network, torch.rand(2, 40, 150)
    found = []

    def running():
        found.append((yield from network.in_steps(mel)))

    assert len(list(running())) >= 2
    torch.testing.assert_close(found[0], network(mel))


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.75, 0.9])
def test_windows_of_any_overlap(speech, overlap):
    encoder = small("transformer", 120, overlap)
    stream = encoder.stream(gain=gain_of(speech))
    heard(stream, speech)
    whole = encoder.embed_utterance(trim_silence(normalize_volume(speech)))
    np.testing.assert_allclose(stream.finish(), whole, atol=1e-4)


def test_an_unknown_level_is_followed_and_met_in_the_end(encoder, speech):
    stream = encoder.stream()
    heard(stream, speech)
    embedding = stream.finish()
    samples = len(speech) // 480 * 480
    assert stream.gain == pytest.approx(gain_of(speech[:samples]), rel=1e-5)
    kept = speech[:samples].reshape(-1, 480)[stream.mask].reshape(-1) * np.float32(stream.gain)
    assert embedding @ encoder.embed_utterance(kept) > 1 - 1e-3
    assert np.mean(stream.mask != voiced_mask(normalize_volume(speech))) < 0.1


def test_loud_audio_is_left_at_its_level(encoder):
    stream = encoder.stream()
    stream.feed(np.full(960, 0.5, np.float32))
    assert stream.gain == 1.0


@settings(deadline=None, max_examples=5)
@given(st.lists(st.integers(0, 9000), max_size=40))
def test_how_audio_is_cut_into_pieces_changes_nothing(speech, cuts):
    encoder = small("lstm")
    stream, other = encoder.stream(), encoder.stream()
    heard(stream, speech)
    for piece in np.split(speech, np.minimum(np.cumsum([*cuts]), len(speech))):
        other.feed(piece)
    np.testing.assert_array_equal(stream.embedding, other.embedding)
    np.testing.assert_array_equal(stream.finish(), other.finish())
    np.testing.assert_array_equal(stream.mask, other.mask)


@pytest.mark.parametrize(("kind", "full_scale"), [(np.int16, 2**15), (np.int32, 2**31)])
def test_integers_of_full_scale_are_taken(speech, kind, full_scale):
    encoder = small("lstm")
    pcm = np.round(speech.astype(np.float64) * full_scale).astype(kind)
    a, b = encoder.stream(), encoder.stream()
    a.feed(pcm), b.feed(pcm.astype(np.float32) / full_scale)
    np.testing.assert_array_equal(a.finish(), b.finish())


def test_integers_without_a_scale_are_refused():
    with pytest.raises(CloningError, match="a piece of the stream is of type int64; give floats"):
        small("lstm").stream().feed(np.zeros(RATE, np.int64))


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence_and_hiss_give_nothing(encoder, level):
    wav = np.random.default_rng(1).normal(0, 1, 4 * RATE).astype(np.float32) * np.float32(level)
    stream = encoder.stream()
    assert heard(stream, wav) == [] and stream.finish() is None and stream.seconds == 0


def test_too_little_voice_gives_nothing_and_says_how_much_there_was(encoder, speech):
    stream = encoder.stream(min_seconds=2.5)
    heard(stream, speech[RATE : 3 * RATE])
    assert stream.finish() is None and stream.embedding is None and 0.5 < stream.seconds < 2.5


def test_a_decision_comes_as_late_as_stated(speech):
    for vad in (VadConfig(), VadConfig(average_width=5, max_silence=3), VadConfig(average_width=1, max_silence=0)):
        stream = small("lstm").stream(vad=vad)
        heard(stream, speech)
        assert len(speech) // 480 - len(stream.mask) == vad.lookahead
        flags = np.random.default_rng(0).random(60) < 0.3
        later = flags.copy()
        later[30 + vad.lookahead + 1 :] = True
        np.testing.assert_array_equal(smooth(flags, vad)[:31], smooth(later, vad)[:31])


def test_memory_does_not_grow(speech):
    stream = small("lstm").stream()
    for _ in range(4):
        heard(stream, speech)
    assert stream.seconds > 20 and len(stream._voice) < 2.5 * RATE


def test_a_piece_costs_little_and_no_more_after_a_minute():
    """The detector, the smoothing and the buffers: 200 lines of Python; the network's passes are its own."""
    stream = small("lstm").stream()
    wav = np.random.default_rng(0).normal(0, 1e-3, RATE).astype(np.float32)
    heard(stream, wav)
    early = work_of(lambda: heard(stream, wav))
    for _ in range(60):
        heard(stream, wav)
    late = work_of(lambda: heard(stream, wav))
    assert stream.seconds == 0 and early < 500 * len(wav) / PIECE and late < 1.1 * early


def test_what_is_no_audio_is_refused(encoder):
    stream = encoder.stream()
    with pytest.raises(ValueError, match=r"mono, \(n,\), not \(2, 320\)"):
        stream.feed(np.zeros((2, PIECE), np.float32))
    with pytest.raises(CloningError, match="NaN"):
        stream.feed(np.full(PIECE, np.nan, np.float32))
    with pytest.raises(ValueError, match="above 0"):
        encoder.stream(gain=0)
    stream.finish()
    with pytest.raises(ValueError, match="finished"):
        stream.feed(np.zeros(PIECE, np.float32))
