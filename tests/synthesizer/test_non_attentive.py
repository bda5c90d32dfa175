"""The non-attentive Tacotron: its text goes on as planned, and its steps are those of the training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthesizer.config import FlowConfig, LossConfig, SamplingConfig, SynthesizerConfig, TacotronConfig
from synthesizer.inference import Synthesizer
from synthesizer.models.base import GenerationSettings, ModelInput, Recording
from synthesizer.models.tacotron import native
from synthesizer.models.tacotron.native import NativePlannedDecoder
from synthesizer.models.tacotron.network import Tacotron
from synthesizer.models.tacotron.non_attentive import NonAttentiveTacotron
from synthesizer.text.processor import TextProcessor
from synthesizer.training.losses import local_mean, non_attentive_losses
from utils.audio.mel import SYNTHESIZER_MEL
from utils.errors import CloningError
from utils.weights.networks import warm_start

TEXT = TextProcessor("phonemes")
SIZES = TacotronConfig(
    embedding=12, encoder=12, decoder=18, lstm=38, prenet=20, max_reduction=3, norm="layer", highways=1, durations=16
)
LENGTHS = torch.tensor([7, 5])


def network(architecture: str = "non_attentive_tacotron") -> NonAttentiveTacotron | Tacotron:
    torch.manual_seed(3)
    config = SynthesizerConfig(architecture, 4, SIZES, flow=FlowConfig(1, 16), sampling=SamplingConfig(2))
    kind = Tacotron if architecture == "tacotron" else NonAttentiveTacotron
    model = kind(config, len(TEXT), 80).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.05 * torch.randn_like(parameter)  # what begins as zero counts too
    return model


@pytest.fixture(scope="module")
def model() -> NonAttentiveTacotron:
    return network()


def text() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens (2, 7), lengths, speakers."""
    tokens = torch.randint(11, len(TEXT), (2, 7), generator=torch.Generator().manual_seed(1))
    tokens[1, 5:] = 0
    return tokens, LENGTHS, torch.nn.functional.normalize(torch.arange(8.0).view(2, 4), dim=1)


@torch.inference_mode()
def test_no_token_is_passed_over_however_short(model):
    memory = model.encode(*text())
    durations = torch.tensor([[1, 1, 1, 5, 1, 2, 1], [1, 4, 1, 1, 2, 0, 0]])
    seen, index = model.seen(memory, durations, 12)
    assert index[0].bincount(minlength=7).tolist() == durations[0].tolist()
    steps = model._of_steps(seen)
    for token in range(7):  # each changes what a step sees
        changed = memory.values.clone()
        changed[0, token] += 1
        other, _ = model.seen(type(memory)(changed, memory.mask, memory.condition, memory.durations_log), durations, 12)
        assert not torch.allclose(model._of_steps(other), steps)


@torch.inference_mode()
def test_a_free_run_is_the_training_pass_over_its_own_frames(model):
    seen = torch.randn(2, 5, model.decoder.rnn_input.in_features - SIZES.decoder)
    mel = model.decoder.free_run(seen)
    before = torch.cat([torch.zeros(2, 80, 1), mel[:, :, 2:-1:3]], dim=2).transpose(1, 2)
    prenet = model.decoder.prenet(before, lambda x, *_: x)
    torch.testing.assert_close(model.decoder(seen, prenet), mel, atol=1e-4, rtol=1e-4)
    assert mel.shape == (2, 80, 15)


@pytest.mark.parametrize("items", [1, 2, 5])
@torch.inference_mode()
def test_native_code_makes_what_torch_makes(model, items):
    if native.library() is None:
        pytest.skip("no C compiler")
    seen = torch.randn(items, 30, model.decoder.rnn_input.in_features - SIZES.decoder)
    in_torch = model.decoder.free_run(seen)
    natively = NativePlannedDecoder(model.decoder, native.library()).free_run(seen)
    assert in_torch.abs().max() > 0.3
    torch.testing.assert_close(natively, in_torch, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
@torch.inference_mode()
def test_speech_lasts_as_long_as_is_planned(rate):
    model = network()
    model.durations.output.weight *= 0.1
    model.durations.output.bias.fill_(2.0)
    tokens, lengths, speaker = text()
    inputs = ModelInput(tokens, lengths, torch.zeros_like(tokens), speaker, [1, 2])
    memory = model.encode(tokens, lengths, speaker)
    settings = GenerationSettings(SYNTHESIZER_MEL, TEXT.table, rate=rate, duration_scale=1.5)
    made = model.generate(inputs, settings)
    for i, item in enumerate(made):
        wanted = 1.5 / rate * torch.expm1(memory.durations_log[i, : LENGTHS[i]]).clamp(min=0).sum()
        assert abs(item.mel.shape[1] - float(wanted)) <= len(tokens[i])  # a phone has a frame at least
        assert item.alignment.shape == (item.mel.shape[1], LENGTHS[i]) and item.stop_reason == "durations"


@torch.inference_mode()
def test_teacher_forcing_follows_the_recording(model):
    tokens, lengths, speaker = (x[:1] for x in text())
    inputs = ModelInput(tokens, lengths, torch.zeros_like(tokens), speaker, [4])
    mel = torch.randn(1, 80, 10, generator=torch.Generator().manual_seed(2))
    made = model.teacher_forced(inputs, Recording(mel, torch.tensor([[1, 1, 1, 3, 1, 2, 1]])), -4.0)
    other = model.teacher_forced(inputs, Recording(mel, torch.tensor([[3, 1, 1, 1, 1, 2, 1]])), -4.0)
    assert made.shape == mel.shape and not torch.allclose(made, other)
    mel[:, :, 5:] += 1
    later = model.teacher_forced(inputs, Recording(mel, torch.tensor([[1, 1, 1, 3, 1, 2, 1]])), -4.0)
    assert not torch.allclose(made, later)


def test_it_is_teacher_forced_without_prosody_which_it_does_not_read(model):
    sizes = SynthesizerConfig("non_attentive_tacotron", 4, SIZES, flow=FlowConfig(1, 16), sampling=SamplingConfig(2))
    speaker, mel, durations = np.full(4, 0.5, np.float32), np.zeros((80, 9), np.float32), np.array([3, 3, 3])
    synthesizer = Synthesizer(model, sizes, TEXT)
    assert synthesizer.teacher_forced(np.array([12, 13, 14]), mel, speaker, durations=durations).shape == mel.shape
    with pytest.raises(CloningError, match="needs durations:"):
        synthesizer.teacher_forced(np.array([12, 13, 14]), mel, speaker)


def test_it_learns_a_batch_by_heart():
    model = network().requires_grad_(True)
    tokens, lengths, speaker = text()
    durations = torch.tensor([[2, 3, 1, 5, 4, 2, 1], [1, 4, 3, 2, 2, 0, 0]])
    mel = torch.randn(2, 80, 18, generator=torch.Generator().manual_seed(2))
    batch = {
        "tokens": tokens, "token_lengths": lengths, "speaker": speaker, "seeds": torch.tensor([1, 2]),
        "durations": durations, "mel": mel, "mel_lengths": durations.sum(dim=1),
    }  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    values = []
    for _ in range(60):
        losses = non_attentive_losses(model(batch), batch, LossConfig(), local_mean)
        values.append({name: float(value.detach()) for name, value in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert values[-1]["mel"] < 0.5 * values[0]["mel"]
    assert values[-1]["duration"] < 0.1 * values[0]["duration"]


def test_padding_changes_no_loss(model):
    tokens, lengths, speaker = text()
    durations = torch.tensor([[2, 3, 1, 5, 4, 2, 1], [1, 4, 3, 2, 2, 0, 0]])
    mel = torch.randn(2, 80, 18, generator=torch.Generator().manual_seed(2))
    batch = {"tokens": tokens, "token_lengths": lengths, "speaker": speaker, "seeds": torch.tensor([1, 2])}
    batch |= {"durations": durations, "mel": mel, "mel_lengths": durations.sum(dim=1)}
    pad = torch.nn.functional.pad
    longer = batch | {"tokens": pad(tokens, (0, 4)), "durations": pad(durations, (0, 4)), "mel": pad(mel, (0, 9))}
    one, two = (non_attentive_losses(model(b), b, LossConfig(), local_mean) for b in (batch, longer))
    for name in one:
        torch.testing.assert_close(one[name], two[name], msg=name)


def test_it_begins_with_the_weights_of_a_tacotron():
    fresh = network()
    kept = warm_start(fresh, network("tacotron").state_dict())
    assert all(name.startswith(("duration", "position")) for name in kept)


def test_what_it_lacks_is_said():
    with pytest.raises(ValueError, match=r"needs flow.blocks"):
        SynthesizerConfig("non_attentive_tacotron", 4, SIZES)
