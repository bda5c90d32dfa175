"""The parallel synthesizer and its flow: invariants."""

from __future__ import annotations

import pytest
import torch

from synthesizer.config import LossConfig, ParallelConfig, SamplingConfig
from synthesizer.data.dataset import DataConfig, SynthesisData
from synthesizer.models.durations import upsampling, whole_durations
from synthesizer.models.flow import FlowDecoder
from synthesizer.models.layers import ConvStack
from synthesizer.training.losses import local_mean, parallel_losses
from tests.support.synthesizer_set import SIZES, SPEAKER_SIZE, make_set, small
from utils.data.manifest import read_manifest
from utils.training.sampling import rng


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> SynthesisData:
    root = make_set(tmp_path_factory.mktemp("set"))
    return SynthesisData(read_manifest(root), DataConfig(batch_size=3, min_frames=1), "train", 1)


def test_upsampling_by_hand():
    index, position = upsampling(torch.tensor([[2, 0, 1], [1, 1, 0]]))
    assert index.tolist()[0] == [0, 0, 2] and index.tolist()[1][:2] == [0, 1]
    torch.testing.assert_close(position[0, :, 0], torch.tensor([0.25, 0.75, 0.5]))
    torch.testing.assert_close(position[0, :, 0] + position[0, :, 1], torch.ones(3))


@pytest.mark.parametrize("rate", [0.5, 1.0, 1.7])
def test_rounded_durations_sum_to_the_rate_exactly(rate):
    predicted = torch.rand(4, 50) * 8
    lengths = torch.tensor([50, 40, 10, 1])
    found = whole_durations(predicted, lengths, rate)
    for row, length in enumerate(lengths):
        assert abs(float(predicted[row, :length].sum()) / rate - int(found[row].sum())) <= 0.5001
        assert found[row, length:].eq(0).all() and found.min() >= 0


@pytest.mark.parametrize("decoder", ["flow", "l1"])
def test_a_batch_gives_what_its_items_give_alone(decoder):
    model = small(decoder=decoder).eval()
    tokens, lengths = torch.randint(1, 50, (3, 8)), torch.tensor([8, 5, 6])
    voices = torch.nn.functional.normalize(torch.rand(3, SPEAKER_SIZE))

    def speak(rows: slice, size: int):
        speaker = model.condition(voices[rows])
        encoding = model.encode(tokens[rows, :size], lengths[rows], speaker)
        durations = torch.arange(size) % 4 * (torch.arange(size) < lengths[rows, None])
        seeds = [7, 8, 9][rows]
        mels, frames = model.mels(encoding, durations, encoding.prosody, speaker, seeds)
        return [mel[:, :n] for mel, n in zip(mels, frames, strict=True)]

    with torch.inference_mode():
        together = speak(slice(None), 8)
        for row in range(3):
            torch.testing.assert_close(together[row], speak(slice(row, row + 1), int(lengths[row]))[0])


def test_padding_has_no_influence_on_a_stack_of_blocks():
    stack = ConvStack(2, 8, 8, 5, 2)
    x, condition = torch.randn(1, 9, 8), torch.randn(1, 8)
    mask = torch.zeros(1, 9, 1)
    mask[:, :6] = 1
    torch.testing.assert_close(stack(x, condition, mask)[:, :6], stack(x[:, :6], condition, mask[:, :6]))


@pytest.mark.parametrize("decoder", ["flow", "l1"])
def test_gradient_reaches_every_parameter(data, decoder):
    model = small(decoder=decoder).train()
    batch = data.windows(data.choose(1), rng(1), 40)
    sum(parallel_losses(model(batch), batch, LossConfig(), local_mean).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.slow
def test_one_batch_is_learned(data):
    model = small(SamplingConfig(temperature=0.0), dropout=0.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    batch = data.windows(data.choose(1), rng(1), 60)
    first = None
    for _ in range(80):
        losses = parallel_losses(model(batch), batch, LossConfig(), local_mean)
        first = first or {name: float(value.detach()) for name, value in losses.items()}
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert float(losses["mean"].detach()) < 0.3 * first["mean"]
    assert float(losses["duration"].detach()) < 0.2 * first["duration"]
    assert float(losses["flow"].detach()) < 0.7 * first["flow"]


def test_training_depends_on_the_items_seeds_alone(data):
    model = small(dropout=0.3).train()
    batch = data.windows(data.choose(1), rng(1), 40)
    whole = model(batch).mean
    torch.manual_seed(99)  # the global generator has no say
    part = model({name: value[1::2] for name, value in batch.items()}).mean
    torch.testing.assert_close(whole[1::2], part)


def test_the_flow_follows_a_straight_path_to_its_end():
    flow = FlowDecoder(ParallelConfig(**SIZES).flow, SamplingConfig(4, 1.0), 20, 24, 24)
    mel, noise = torch.randn(2, 5, 20), torch.randn(2, 5, 20)
    start, velocity = flow.path(mel, noise, torch.zeros(2))
    end, _ = flow.path(mel, noise, torch.ones(2))
    torch.testing.assert_close(start, noise)
    torch.testing.assert_close(end, mel + flow.sigma_min * noise)
    flow.velocity = lambda *_: velocity  # were it predicted rightly, Euler's steps would end there too
    torch.testing.assert_close(flow.sample(noise, *[torch.empty(0)] * 4), end)


def test_another_voice_and_another_seed_sound_different():
    model = small().eval()
    tokens, lengths = torch.randint(1, 50, (1, 6)), torch.tensor([6])
    with torch.inference_mode():

        def speak(voice: torch.Tensor, seed: int) -> torch.Tensor:
            speaker = model.condition(voice[None])
            encoding = model.encode(tokens, lengths, speaker)
            return model.mels(encoding, torch.full((1, 6), 3), encoding.prosody, speaker, [seed])[0]

        one, two = torch.nn.functional.normalize(torch.rand(2, SPEAKER_SIZE))
        torch.testing.assert_close(speak(one, 1), speak(one, 1), rtol=0, atol=0)
        assert not torch.allclose(speak(one, 1), speak(one, 2))
        assert not torch.allclose(speak(one, 1), speak(two, 1))
