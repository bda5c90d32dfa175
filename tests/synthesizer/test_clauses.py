"""Where clauses end and with what mark, and what the parallel model makes of it."""

from __future__ import annotations

import pytest
import torch

from synthesizer.config import DataConfig, ParallelConfig, SamplingConfig, SynthesizerConfig
from synthesizer.data.dataset import SynthesisData
from synthesizer.text.clauses import UNKNOWN, ahead, mark_ids, marks_of_recording, marks_of_words
from synthesizer.text.processor import TextProcessor
from tests.support.synthesizer_set import SPEAKER_SIZE, make_set, small
from utils.config import from_dict, to_dict
from utils.data.manifest import read_manifest
from utils.training.sampling import rng
from utils.weights.networks import warm_start


@pytest.fixture(scope="module")
def text() -> TextProcessor:
    return TextProcessor("phonemes")


@pytest.fixture(scope="module")
def toy_batch(tmp_path_factory) -> dict[str, torch.Tensor]:
    root = make_set(tmp_path_factory.mktemp("set"))
    data = SynthesisData(read_manifest(root), DataConfig(batch_size=6, min_frames=1), "train", 1)
    return data.windows(data.choose(1), rng(1), 40)


def test_questions_rise_unless_a_question_word_asks(text):
    ask = text.language.melody
    assert [ask(s.split()) for s in ("do you see it", "And isn't he here", "what do you see", "now who sees")] == [
        "?", "?", ".", "."
    ]  # fmt: skip
    assert [ask(s.split()) for s in ("you see it", "do", "do see it", "")] == ["", "", "", ""]


def test_marks_after_words(text):
    words = text.words("Look, is it you? Who is it? You are here!")
    marks = marks_of_words(words, text.language)
    assert [m for m in marks if m] == [",", "?", ".", "!"]
    assert [w.text for w, m in zip(words, marks, strict=True) if m == "?"] == ["you"]


def test_marks_of_a_recording_with_punctuation_stand_at_its_boundaries(text):
    symbols = ["SIL", "S", "IY", " ", "IH", "T", ",", "N", "AW", "SIL"]
    said = ["", "see", "it", "", "now", ""]
    found = marks_of_recording(symbols, said, "See; it, now", text)
    assert found == ["", "", "", ";", "", "", ",", "", "", ""]
    assert marks_of_recording(symbols, said, "See it now.", text)[-1] == "."
    assert marks_of_recording(symbols, said, "Do see it, he said, now!", text)[6] == ","
    assert not any(marks_of_recording(symbols, ["see", "it"], "See, it.", text))  # the aligner's words do not fit
    assert mark_ids(found, text.table) == [text.table.ids[m or "_"] for m in found] + [0]


def test_without_punctuation_pauses_are_unknown_and_a_last_question_is_found(text):
    symbols = ["SIL", "S", "IY", ",", "D", "UW", " ", "Y", "UW", " ", "S", "IY", "SIL"]
    found = marks_of_recording(symbols, ["", "see", "", "do", "you", "see", ""], "SEE DO YOU SEE", text)
    assert found == ["", "", "", UNKNOWN, *[""] * 8, "?"]
    statement = marks_of_recording(symbols, ["see", "", "you", "do", "see"], "SEE YOU DO SEE", text)
    assert statement[-1] == UNKNOWN


def test_each_symbol_knows_the_mark_ahead_and_how_near_it_is():
    mark, near = ahead(torch.tensor([[0, 0, 4, 0, 1, 0, 0]]))
    assert mark.tolist() == [[4, 4, 4, 0, 0, 0, 0]]
    torch.testing.assert_close(near[0, :3], torch.exp(torch.tensor([-2.0, -1.0, 0.0]) / 6))


def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(3)
    tokens = torch.randint(1, 50, (2, 9))
    voices = torch.nn.functional.normalize(torch.rand(2, SPEAKER_SIZE))
    marks = torch.zeros(2, 9, dtype=torch.long)
    marks[:, -1] = 4
    return tokens, torch.tensor([9, 9]), voices, marks


def test_weights_from_before_marks_go_on_as_they_were():
    tokens, lengths, voices, marks = inputs()
    old = small().eval()
    new = small(clauses=True, predictor_dropout=0.4, speaker_dropout=0.1).eval()
    assert warm_start(new, old.state_dict()) == ["predictor.marks.weight"]
    with torch.inference_mode():
        one = old.encode(tokens, lengths, old.condition(voices))
        two = new.encode(tokens, lengths, new.condition(voices), marks=marks)
    torch.testing.assert_close(one.durations_log, two.durations_log, rtol=0, atol=0)
    torch.testing.assert_close(one.hidden, two.hidden, rtol=0, atol=0)


def test_marks_change_durations_and_pitch_but_not_what_the_mel_is_made_of():
    tokens, lengths, voices, marks = inputs()
    model = small(clauses=True).eval()
    torch.nn.init.normal_(model.predictor.marks.weight)
    with torch.inference_mode():
        speaker = model.condition(voices)
        asked = model.encode(tokens, lengths, speaker, marks=marks)
        told = model.encode(tokens, lengths, speaker, marks=marks.clamp(max=3))
    assert not torch.allclose(asked.durations_log, told.durations_log)
    assert not torch.allclose(asked.prosody[..., 1], told.prosody[..., 1])
    torch.testing.assert_close(asked.hidden, told.hidden, rtol=0, atol=0)


def test_the_predictors_dropout_leaves_the_frames_alone(toy_batch):
    steady, dropping = (small(predictor_dropout=p, dropout=0.2).train() for p in (0.0, 0.5))
    dropping.load_state_dict(steady.state_dict())
    one, two = steady(toy_batch), dropping(toy_batch)
    torch.testing.assert_close(one.mean, two.mean, rtol=0, atol=0)
    assert not torch.allclose(one.durations_log, two.durations_log)
    torch.testing.assert_close(steady.eval()(toy_batch).durations_log, dropping.eval()(toy_batch).durations_log)


def test_items_without_their_voice_are_unconditional(toy_batch):
    model = small(speaker_dropout=0.5).train()
    other = {**toy_batch, "speaker": toy_batch["speaker"].flip(1)}
    with torch.no_grad():
        same = [bool(torch.equal(a, b)) for a, b in zip(model(toy_batch).mean, model(other).mean, strict=True)]
        assert True in same and False in same
        model.eval()
        one, two = model(toy_batch).mean, model(other).mean
    assert not any(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_guidance_goes_on_in_the_direction_from_unconditional_to_the_voice():
    tokens, lengths, voices, _ = inputs()
    durations = torch.full((2, 9), 2)

    def speak(guidance: float, guided: bool, voice: float = 1.0) -> torch.Tensor:
        model = small(SamplingConfig(steps=1, guidance=guidance), speaker_dropout=0.1).eval()
        with torch.inference_mode():
            speaker = model.condition(voices)
            encoding = model.encode(tokens, lengths, speaker)
            without = model.encode(tokens, lengths, speaker.unconditional())
            spoken, unconditional = (encoding if voice else without), (without if guided else None)
            who = speaker if voice else speaker.unconditional()
            return model.mels(spoken, durations, encoding.prosody, who, [1, 1], unconditional)[0]

    plain = speak(0.0, False)
    torch.testing.assert_close(speak(0.0, True), plain)
    step = speak(1.0, True) - plain
    assert step.abs().max() > 1e-3
    torch.testing.assert_close(step, plain - speak(0.0, False, voice=0.0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(speak(2.0, True) - plain, 2 * step, atol=1e-4, rtol=1e-4)


def test_settings_of_sampling_are_read_where_older_files_have_them():
    sizes = {"speaker_dropout": 0.1, "guidance": 0.7, "flow_steps": 2, "temperature": 0.4}
    found = from_dict(SynthesizerConfig, {"architecture": "parallel", "parallel": sizes, "flow": {"steps": 9}})
    assert found.sampling == SamplingConfig(2, 0.4, 0.7) and found.parallel == ParallelConfig(speaker_dropout=0.1)
    postnet = {
        "model": "transformer",
        "flow": {"blocks": 2, "steps": 3},
        "parallel": {"flow_steps": 4, "guidance": 0.0},
    }
    found = from_dict(SynthesizerConfig, postnet)
    assert found.sampling == SamplingConfig(steps=3) and found.flow.blocks == 2
    assert from_dict(SynthesizerConfig, to_dict(found)) == found


def test_guidance_without_training_for_it_is_refused():
    for changes in ({}, {"speaker_dropout": 0.1, "decoder": "l1"}):
        with pytest.raises(ValueError, match="guidance 1 needs"):
            small(SamplingConfig(guidance=1.0), **changes)
    with pytest.raises(ValueError, match="dropout"):
        ParallelConfig(predictor_dropout=1.0)
