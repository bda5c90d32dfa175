"""The Transformer synthesizer: invariants."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from synthesizer.config import EmotionConfig, LossConfig, SynthesizerConfig, TransformerConfig
from synthesizer.data.dataset import DataConfig, SynthesisData
from synthesizer.models.layers import ItemDropout
from synthesizer.models.transformer import Transformer
from synthesizer.models.transformer_layers import SPAN, rotate
from synthesizer.training.losses import autoregressive_losses, local_mean
from tests.support.emotion_set import make_emotional_set
from tests.support.synthesizer_set import SPEAKER_SIZE
from tests.support.synthesizer_training import learn_by_heart
from utils.data.corpora import EMOTIONS
from utils.data.manifest import read_manifest
from utils.training.sampling import rng

SIZES = {
    "width": 32,
    "heads": 4,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "feedforward": 48,
    "prenet": 24,
    "postnet": 24,
}
SYMBOLS, MELS = 90, 20


def small(**changes) -> Transformer:
    torch.manual_seed(0)
    sizes = TransformerConfig(**{**SIZES, "reduction": 2, **changes})
    emotion = EmotionConfig(labels=EMOTIONS, channels=12)
    return Transformer(
        SynthesizerConfig("transformer", SPEAKER_SIZE, transformer=sizes, emotion=emotion), SYMBOLS, MELS
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> SynthesisData:
    root = make_emotional_set(tmp_path_factory.mktemp("set"))
    return SynthesisData(read_manifest(root), DataConfig(batch_size=4, min_frames=1), "train", 1, EMOTIONS)


class Until:
    """Stops after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self, stop: Tensor, attention: Tensor) -> bool:
        self.left -= 1
        return self.left == 0


def memory_of(model: Transformer, tokens: Tensor, lengths: Tensor, emotion: int = 0):
    voices = torch.nn.functional.normalize(torch.ones(len(tokens), SPEAKER_SIZE))
    condition = model.condition(voices, model.emotion.label(torch.full((len(tokens),), emotion)))
    return model.encode_text(tokens, lengths, condition)


def speak(model: Transformer, tokens: Tensor, lengths: Tensor, steps: int = 8, seeds=(7, 8), emotion: int = 0):
    with torch.inference_mode():
        memory = memory_of(model, tokens, lengths, emotion)
        dropout = ItemDropout(seeds[: len(tokens)])
        output = model.free_run(memory, dropout, Until(steps), steps)
        return output._replace(mel=model.post(output.mel, torch.full((len(tokens),), 2 * steps), memory.condition))


@pytest.mark.parametrize("steps", [9, SPAN + 20])
def test_step_by_step_is_all_at_once(steps):
    """With a cache that forgets what is out of reach, also beyond that reach."""
    model = small(prenet_dropout=0.0).eval()
    tokens, lengths = torch.randint(1, SYMBOLS, (2, 9)), torch.tensor([9, 6])
    heard = torch.randn(2, steps, 32)
    places = torch.sort(torch.randint(0, 6, (2, steps)))[0]
    with torch.inference_mode():
        memory = memory_of(model, tokens, lengths)
        whole, attention, _ = model.decode(memory, heard, places)
        cache, outputs, weights = None, [], []
        for step in range(steps):
            now = slice(step, step + 1)
            output, weight, cache = model.decode(memory, heard[:, now], places[:, now], cache, step)
            outputs.append(output)
            weights.append(weight)
        assert cache[0][0].shape[2] == min(steps, SPAN)
    torch.testing.assert_close(torch.cat(outputs, 1), whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.cat(weights, 1), attention, atol=1e-5, rtol=1e-4)


def test_free_running_is_teacher_forcing_with_its_own_output(data):
    model = small(prenet_dropout=0.0).eval()
    tokens, lengths = torch.randint(1, SYMBOLS, (1, 7)), torch.tensor([7])
    output = speak(model, tokens, lengths, steps=6)
    with torch.inference_mode():
        raw = model.free_run(memory_of(model, tokens, lengths), ItemDropout([0]), Until(6), 6)
        batch = {
            "tokens": tokens, "token_lengths": lengths, "mel": raw.mel, "mel_lengths": torch.tensor([12]),
            "speaker": torch.nn.functional.normalize(torch.ones(1, SPEAKER_SIZE)), "emotion": torch.tensor([0]),
            "targets": torch.cummax(raw.attention.argmax(dim=2), dim=1)[0], "seeds": torch.tensor([1]),
        }  # fmt: skip
        forced = model(batch)
    torch.testing.assert_close(forced.mel, raw.mel, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(forced.linear, output.mel, atol=1e-5, rtol=1e-4)


def test_padding_changes_nothing_and_gets_no_attention():
    model = small().eval()
    tokens, lengths = torch.randint(1, SYMBOLS, (2, 12)), torch.tensor([12, 7])
    both = speak(model, tokens, lengths)
    alone = speak(model, tokens[1:, :7], lengths[1:], seeds=(8,))
    torch.testing.assert_close(both.mel[1:], alone.mel, atol=1e-5, rtol=1e-4)
    assert both.attention[1, :, 7:].eq(0).all()


def test_padding_of_a_training_batch_changes_nothing(data):
    model = small().eval()
    batch = data.whole(data.choose(1), None, 2)
    longer = {**batch, "mel": torch.nn.functional.pad(batch["mel"], (0, 10), value=-4.0)}
    longer["targets"] = torch.nn.functional.pad(batch["targets"], (0, 5), value=-1)
    longer["tokens"] = torch.nn.functional.pad(batch["tokens"], (0, 3))
    with torch.inference_mode():
        found = [autoregressive_losses(model(b), b, LossConfig(), 2, 1, local_mean) for b in (batch, longer)]
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], msg=name, atol=1e-5, rtol=1e-4)


def test_same_seed_same_speech_and_another_seed_or_emotion_another():
    model = small().eval()
    tokens, lengths = torch.randint(1, SYMBOLS, (1, 7)), torch.tensor([7])
    once = speak(model, tokens, lengths).mel
    torch.testing.assert_close(speak(model, tokens, lengths).mel, once, rtol=0, atol=0)
    assert not torch.allclose(speak(model, tokens, lengths, seeds=(9,)).mel, once)
    assert not torch.allclose(speak(model, tokens, lengths, emotion=3).mel, once)


def test_the_voice_never_goes_back_nor_jumps():
    model = small(max_attention_step=2).eval()
    tokens, lengths = torch.randint(1, SYMBOLS, (1, 40)), torch.tensor([40])
    attention = speak(model, tokens, lengths, steps=30).attention[0]
    place = 0
    for weights in attention:
        seen = weights.nonzero().flatten()
        assert place - 1 <= int(seen.min()) and int(seen.max()) <= place + 2
        place = max(place, int(weights.argmax()))


def test_what_is_turned_depends_on_distance_alone():
    angles = torch.arange(20)[:, None] * torch.tensor([1.0, 0.3])
    q, k = torch.randn(1, 1, 1, 4).expand(1, 1, 20, 4), torch.randn(1, 1, 1, 4).expand(1, 1, 20, 4)
    turns = torch.stack([angles.cos(), angles.sin()])
    product = (rotate(q, turns) @ rotate(k, turns).transpose(2, 3))[0, 0]
    for shift in (-7, 0, 3):
        diagonal = product.diagonal(shift)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-4)
    assert not torch.isclose(product[5, 2], product[2, 5])  # before is not after


def test_gradient_reaches_every_parameter(data):
    model = small().train()
    batch = data.whole(data.choose(1), rng(1), 2)
    output = model(batch)
    losses = autoregressive_losses(output, batch, LossConfig(), 2, 0, local_mean)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.slow
def test_one_batch_is_learned_and_where_to_attend(data):
    model = small(prenet_dropout=0.0, dropout=0.0).train()
    batch = data.whole(data.choose(1), None, 2)
    assert learn_by_heart(model, batch, 60, ("mel", "linear", "attention", "stop")) > 0.8


@pytest.mark.parametrize("change", [{"width": 30}, {"guided_heads": 9}, {"max_attention_step": 0}, {"dropout": 1.0}])
def test_sizes_that_make_no_sense_are_refused(change):
    with pytest.raises(ValueError, match="must be"):
        TransformerConfig(**change)
