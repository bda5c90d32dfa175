"""`Synthesizer`: both models and published checkpoints behind one face."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from synthesizer.config import FlowConfig, ParallelConfig, SamplingConfig, SynthesizerConfig, TacotronConfig
from synthesizer.inference import Synthesizer
from synthesizer.models.alignment_quality import MAX_FORWARD, AlignmentQuality
from synthesizer.models.build import build_network
from synthesizer.models.parallel import Parallel
from synthesizer.models.style import shift_pitch
from synthesizer.models.tacotron.network import Tacotron
from synthesizer.speech import KEPT_FRAMES, SpeechOptions, after, silent_ends
from synthesizer.text.encoding import MAX_TOKENS
from synthesizer.text.processor import TextProcessor
from utils.audio.mel import SYNTHESIZER_MEL
from utils.config import to_dict
from utils.errors import CloningError
from utils.weights.checkpoint import Header, save_weights

SIZE = 8
TACOTRON = TacotronConfig(
    embedding=8, encoder=8, decoder=8, lstm=12, postnet=8, prenet=8, max_reduction=4, norm="layer", highways=1
)
PARALLEL = ParallelConfig(channels=16, encoder_blocks=1, decoder_blocks=1, flow_blocks=1, flow_channels=16)


def save(path: Path, model: str, marks: str = "pauses", flow_blocks: int = 0) -> Path:
    torch.manual_seed(0)
    text = TextProcessor("phonemes")
    flow, sampling = FlowConfig(blocks=flow_blocks, channels=16), SamplingConfig(steps=2)
    config = SynthesizerConfig(model, SIZE, TACOTRON, PARALLEL, flow=flow, sampling=sampling)
    network = build_network(config, len(text), 80)
    if isinstance(network, Tacotron):
        network.set_reduction(3)
    else:
        assert isinstance(network, Parallel)
        network.predictor.output.weight.data[0] *= 0.1
        network.predictor.output.bias.data[0] = 2.0  # some 6 frames a token
    extra = {"text": text.describe(), "marks": marks, "encoder": "abc"}
    save_weights(
        path,
        Header("synthesizer", to_dict(config), mel=to_dict(SYNTHESIZER_MEL), step=1, extra=extra),
        network.state_dict(),
    )
    return path


SYNTHESIZERS = [
    "parallel",
    "tacotron",
    "tacotron with flow",
    "non_attentive_tacotron",
    "non_attentive_transformer",
]


@pytest.fixture(scope="module", params=SYNTHESIZERS)
def synthesizer(request, tmp_path_factory) -> Synthesizer:
    model, blocks = request.param.split()[0], int("flow" in request.param)
    return Synthesizer.load(save(tmp_path_factory.mktemp(model) / "s.safetensors", model, flow_blocks=blocks))


@pytest.fixture(scope="module")
def parallel(tmp_path_factory) -> Synthesizer:
    return Synthesizer.load(save(tmp_path_factory.mktemp("parallel") / "s.safetensors", "parallel"))


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    values = np.random.default_rng(0).random(SIZE, dtype=np.float32)
    return values / np.linalg.norm(values)


TEXTS = ["See it now.", "A rather longer sentence, with a pause.", "Go!"]


def test_what_a_checkpoint_says_of_itself(synthesizer):
    assert synthesizer.speaker_size == SIZE and synthesizer.encoder_fingerprint == "abc"
    assert synthesizer.mel == SYNTHESIZER_MEL and len(synthesizer.fingerprint) == 16


def test_a_batch_gives_what_its_texts_give_alone(synthesizer, voice):
    together = synthesizer.synthesize(TEXTS, voice, SpeechOptions(seed=3))
    for text, found in zip(TEXTS, together, strict=True):
        alone = synthesizer.synthesize([text], voice, SpeechOptions(seed=3))[0]
        assert found.text == text and found.stop_reason == alone.stop_reason
        np.testing.assert_allclose(found.mel, alone.mel, atol=1e-4)
        np.testing.assert_allclose(found.alignment, alone.alignment, atol=1e-4)
        assert found.alignment.shape == (found.mel.shape[1], len(found.tokens))


def test_the_same_seed_gives_the_same_mel(synthesizer, voice):
    first, again, other = (synthesizer.synthesize(TEXTS[:1], voice, SpeechOptions(seed=s))[0].mel for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or not np.allclose(first, other)


def test_the_state_of_the_global_generator_is_neither_used_nor_changed(synthesizer, voice):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = synthesizer.synthesize(TEXTS[:1], voice, SpeechOptions(seed=1))[0].mel
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    np.testing.assert_array_equal(first, synthesizer.synthesize(TEXTS[:1], voice, SpeechOptions(seed=1))[0].mel)


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_rate(synthesizer, voice, rate):
    plain = synthesizer.synthesize(TEXTS, voice, SpeechOptions(seed=1))
    changed = synthesizer.synthesize(TEXTS, voice, SpeechOptions(seed=1, rate=rate))
    for a, b in zip(plain, changed, strict=True):
        assert b.mel.shape[1] == pytest.approx(a.mel.shape[1] / rate, abs=1.01)


def test_pitch_is_moved_where_it_is_planned_and_else_refused(synthesizer, voice):
    plain = SpeechOptions(seed=1)
    if not synthesizer.network.moves_pitch:
        with pytest.raises(CloningError, match="plans no pitch that could be moved"):
            synthesizer.speak("Hello there.", voice, SpeechOptions(seed=1, pitch=2))
        return
    mels = [synthesizer.speak("Hello there.", voice, SpeechOptions(seed=1, pitch=p)).mel for p in (0, 0, 2, -2)]
    assert all(mel.shape == mels[0].shape for mel in mels), "as long as before"
    np.testing.assert_array_equal(mels[0], synthesizer.speak("Hello there.", voice, plain).mel)
    assert (mels[2] != mels[0]).any() and (mels[3] != mels[2]).any()


def test_a_shift_moves_what_is_voiced():
    prosody = torch.tensor([[[0.1, 0.5, 1.0], [0.2, 0.4, 0.0], [0.3, -0.2, 0.5]]])
    assert shift_pitch(prosody, 0.0) is prosody
    torch.testing.assert_close(shift_pitch(prosody, 0.5)[0, :, 1], torch.tensor([1.0, 0.4, 0.05]))
    torch.testing.assert_close(shift_pitch(prosody, 0.5)[..., [0, 2]], prosody[..., [0, 2]])


def test_every_stop_has_a_reason_and_the_text_bounds_the_length(synthesizer, voice):
    for found in synthesizer.synthesize(TEXTS, voice, SpeechOptions(seed=1)):
        planned = synthesizer.config.architecture != "tacotron"
        allowed = {"durations"} if planned else {"token", "alignment", "limit"}
        assert found.stop_reason in allowed
        assert found.mel.shape[1] <= 60 + 14 * len(found.tokens) + 3


def test_a_tacotron_that_never_stops_is_cut_off_and_says_so(tmp_path, voice):
    found = Synthesizer.load(save(tmp_path / "s.safetensors", "tacotron"))
    found.network.decoder.stop_proj.bias.data.fill_(-100)
    spoken = found.speak("Go.", voice, SpeechOptions(seed=1))
    assert spoken.pieces[0].stop_reason in ("limit", "alignment")
    assert any("try another seed" in note for note in spoken.notes)


def test_a_sentence_that_failed_is_tried_with_other_seeds(tmp_path, voice, monkeypatch):
    found = Synthesizer.load(save(tmp_path / "s.safetensors", "tacotron"))
    plain, seeds = Synthesizer.synthesize, []

    def failing_at_first(self, texts, voice, options):
        seeds.append((options.seed, list(texts)))
        quality = AlignmentQuality(1.0, 0.9 if options.seed == 6 else 0.1, 0, 0, 10)
        spoken = plain(self, texts, voice, options)
        return [
            replace(s, quality=quality, stop_reason="limit" if "One" in s.text and options.seed == 5 else "token")
            for s in spoken
        ]

    monkeypatch.setattr(Synthesizer, "synthesize", failing_at_first)
    spoken = found.speak("One. Two.", voice, SpeechOptions(seed=5, attempts=4))
    assert seeds == [(5, ["One.", "Two."]), (6, ["One.", "Two."])]
    assert [piece.seed for piece in spoken.pieces] == [6, 6]
    assert spoken.notes == ["'One.': said with seed 6, seed 5 failed", "'Two.': said with seed 6, seed 5 failed"]
    assert found.speak("Two.", voice, SpeechOptions(seed=1, attempts=1)).pieces[0].seed == 1


def test_long_text_is_split_and_joined_with_pauses(parallel, voice):
    text = "First sentence here. Second sentence there. " * 3
    spoken = parallel.speak(text, voice, SpeechOptions(seed=1))
    assert len(spoken.pieces) == 6
    frames = sum(p.mel.shape[1] for p in spoken.pieces)
    ends = [silent_ends(piece) for piece in spoken.pieces]
    assert all(start > KEPT_FRAMES and end > 0 for start, end in ends)
    own = sum(end for _, end in ends[:-1]) + sum(start for start, _ in ends[1:])
    for pause in (1.0, 0.7, 2.0, 3.0):  # what both sentences say themselves is a part of the pause
        heard = parallel.speak(text, voice, SpeechOptions(seed=1, pause=pause)).mel.shape[1] - frames + own
        assert heard * 0.0125 == pytest.approx(5 * 0.45 * pause, rel=0.1)
    none = parallel.speak(text, voice, SpeechOptions(seed=1, pause=0.0)).mel.shape[1]
    assert none == frames - sum(start - KEPT_FRAMES for start, _ in ends[1:])


def test_pauses_are_quiet_and_go_from_one_end_to_the_next(parallel, voice):
    one, two = parallel.synthesize(["Go.", "Now."], voice, SpeechOptions(seed=1))
    own = silent_ends(one)[1] + silent_ends(two)[0]
    between = after(one, 0.1 + own * 0.0125, two, parallel.mel)[:, : -two.mel.shape[1]]
    assert between.shape == (80, 8) and between.max() <= -3.5
    weights = (np.arange(8) + 0.5) / 8
    wanted = one.mel[:, -1:] * (1 - weights) + two.mel[:, :1] * weights
    np.testing.assert_allclose(between, np.minimum(wanted, -3.5), atol=1e-5)


def test_a_stream_says_the_same_sentence_by_sentence(parallel, voice):
    text = "First sentence here. Second sentence there. And a third."
    spoken = parallel.speak(text, voice, SpeechOptions(seed=1, pause=2.0, rate=1.1))
    mels = list(parallel.stream(text, voice, SpeechOptions(seed=1, pause=2.0, rate=1.1)))
    assert len(mels) == 3 and mels[0].shape == spoken.pieces[0].mel.shape
    np.testing.assert_allclose(np.concatenate(mels, axis=1), spoken.mel, atol=1e-4)
    with pytest.raises(CloningError, match="nothing that can be spoken"):
        parallel.stream("  ", voice)


def test_five_hundred_words_come_out_whole(parallel, voice):
    text = " ".join(["the ship sailed on, and nobody looked back at the shore."] * 50)
    spoken = parallel.speak(text.capitalize(), voice, SpeechOptions(seed=1))
    assert " ".join(p.text for p in spoken.pieces).lower().split() == text.split()


def test_marks_become_pauses_for_models_of_aligned_speech(parallel):
    symbols = parallel.text.decode(parallel.encode("See; it! Now?").tokens)
    assert symbols == ["SIL", "S", "IY", ",", "IH", "T", ",", "N", "AW", "SIL", "~"]


@pytest.mark.parametrize("haste", [-3.0, 2.0])
def test_single_letters_and_words_last_a_fifth_of_a_second_to_two(tmp_path, voice, haste):
    found = Synthesizer.load(save(tmp_path / "s.safetensors", "parallel"))
    found.network.predictor.output.bias.data[0] = haste  # log of the frames of a symbol
    for spoken in found.synthesize(["I", "no", "x"], voice, SpeechOptions(seed=1)):
        assert 0.2 <= spoken.mel.shape[1] * 0.0125 <= 2


def test_a_tacotron_that_stops_at_once_still_says_a_fifth_of_a_second(tmp_path, voice):
    found = Synthesizer.load(save(tmp_path / "s.safetensors", "tacotron"))
    found.network.decoder.stop_proj.bias.data.fill_(100)
    for spoken in found.synthesize(["I", "no"], voice, SpeechOptions(seed=1)):
        assert spoken.stop_reason == "token" and 0.2 <= spoken.mel.shape[1] * 0.0125 <= 0.3


def test_monotonic_attention_neither_goes_back_nor_skips(tmp_path, voice):
    found = Synthesizer.load(save(tmp_path / "s.safetensors", "tacotron"))
    for parameter in found.network.decoder.attn_net.parameters():
        torch.nn.init.normal_(parameter, std=3.0)
    text = "A rather longer sentence, with a pause."

    def moves(monotonic: bool) -> np.ndarray:
        spoken = found.synthesize([text, "Go."], voice, SpeechOptions(seed=2, monotonic=monotonic))[0]
        return np.diff(spoken.alignment.argmax(axis=1)[:: found.network.reduction])

    free = moves(False)
    assert free.min() < 0 or free.max() > MAX_FORWARD
    held = moves(True)
    assert held.min() >= 0 and held.max() <= MAX_FORWARD


def test_a_published_checkpoint(data_dir):
    voice = np.full(256, 1 / 16, np.float32)
    found = Synthesizer.load(data_dir / "tacotron_tiny.pt")
    assert found.encoder_fingerprint == "" and found.speaker_size == 256
    spoken = found.synthesize(["Hello."], voice, SpeechOptions(seed=1))[0]
    assert spoken.mel.shape[0] == 80 and np.isfinite(spoken.mel).all() and spoken.mel.shape[1] >= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": ["..."]}, "nothing that can be spoken"),
        ({"texts": ["word " * MAX_TOKENS]}, "symbols, at most .* make it shorter"),
        ({"rate": 9.0}, "rate is 9; it must be 0.25 to 4"),
        ({"attempts": 0}, "attempts is 0; it must be a whole number of at least 1"),
        ({"attempts": 1.5}, "attempts is 1.5; it must be a whole number"),
        ({"seed": 1.5}, "seed 1.5: a whole number from 0"),
        ({"seed": True}, "seed True: a whole number from 0"),
        ({"rate": "2"}, "rate is '2'; a number from 0.25 to 4 is wanted"),
        ({"rate": None}, "rate is None; a number from"),
        ({"attempts": True}, "attempts is True; it must be a whole number"),
        ({"monotonic": "yes"}, "monotonic is 'yes'; it must be True or False"),
        ({"monotonic": True}, "parallel has no attention that could go back or skip: take a Tacotron with one"),
        ({"speaker": np.ones(3, np.float32)}, "shape"),
        ({"speaker": np.zeros(SIZE, np.float32)}, "zero or not finite"),
        ({"speaker": np.full(SIZE, np.nan, np.float32)}, "zero or not finite"),
    ],
)
def test_what_makes_no_sense_is_one_line(parallel, voice, change, message):
    call = {"texts": ["Go."], "speaker": voice, **change}
    options = {name: call[name] for name in ("rate", "attempts", "seed", "monotonic") if name in call}
    with pytest.raises(CloningError, match=message) as error:
        parallel.synthesize(call["texts"], call["speaker"], SpeechOptions(**options))
    assert "\n" not in str(error.value)


def test_a_seed_of_numpy_is_the_same_seed():
    options = SpeechOptions(seed=np.int64(3))
    assert options == SpeechOptions(seed=3) and type(options.seed) is int


def test_weights_of_another_stage_are_refused(data_dir):
    with pytest.raises(CloningError, match="expected a checkpoint of kind 'synthesizer'"):
        Synthesizer.load(data_dir / "wavernn_tiny.pt")
