"""A conditional flow-matching decoder: noise to mel in a few Euler steps (arXiv 2210.02747; 2309.03199, sec. 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.config import FlowConfig, SamplingConfig
from synthesizer.models.layers import ConvStack, resample
from utils.masks import length_mask
from utils.weights.stored_names import store_as


class FlowDecoder(nn.Module):
    """Predicts the velocity of a noisy mel at a time in [0, 1], given the mean mel, hidden frames and the speaker.

    hidden, condition: channels of the hidden frames and of what says who speaks. `sampling` may be replaced.
    """

    def __init__(self, config: FlowConfig, sampling: SamplingConfig, n_mels: int, hidden: int, condition: int) -> None:
        super().__init__()
        channels = config.channels
        self.sigma_min, self.sampling = config.sigma_min, sampling
        self.input_projection = nn.Linear(2 * n_mels + hidden, channels)
        self.time = nn.Sequential(nn.Linear(TIME_SIZE, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.speaker = nn.Linear(condition, channels)
        self.stack = ConvStack(config.blocks, channels, channels, config.kernel, config.expansion)
        self.output_projection = nn.Linear(channels, n_mels)
        store_as(self, {"input_projection": "enter", "output_projection": "leave"})

    def velocity(self, x: Tensor, time: Tensor, mean: Tensor, hidden: Tensor, speaker: Tensor, mask: Tensor) -> Tensor:
        """x, mean (B, F, M), time (B,), hidden (B, F, C), speaker (B, C), mask (B, F, 1) -> (B, F, M)"""
        condition = F.silu(self.time(time_features(time)) + self.speaker(speaker))
        y = self.input_projection(torch.cat([x, mean, hidden], dim=-1))
        return self.output_projection(self.stack(y, condition, mask)) * mask

    def sample(
        self,
        noise: Tensor,
        mean: Tensor,
        hidden: Tensor,
        speaker: Tensor,
        mask: Tensor,
        unconditional: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Follow the velocity from noise (B, F, M) at time 0 to a mel (B, F, M) at time 1, as `sampling` says.

        unconditional: mean, hidden and speaker without a voice, for classifier-free guidance (arXiv 2207.12598).
        """
        x, steps = noise * self.sampling.temperature, self.sampling.steps
        for step in range(steps):
            time = x.new_full((len(x),), step / steps)
            velocity = self.velocity(x, time, mean, hidden, speaker, mask)
            if unconditional is not None:
                velocity = velocity + self.sampling.guidance * (velocity - self.velocity(x, time, *unconditional, mask))
            x = x + velocity / steps
        return x

    def draw_of_seeds(
        self,
        seeds: Sequence[int],
        mean: Tensor,
        hidden: Tensor,
        speaker: Tensor,
        mask: Tensor,
        unconditional: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """`sample` from noise of one seed an item."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = normal_noise(mask.sum(dim=1).flatten(), mean, generators)
        return self.sample(noise, mean, hidden, speaker, mask, unconditional)

    def path(self, mel: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """The straight path from noise to mel (B, F, M): the point on it at time (B,), and its velocity."""
        time = time[:, None, None]
        keep = 1 - self.sigma_min
        return (1 - keep * time) * noise + time * mel, mel - keep * noise


class FlowOutput(NamedTuple):
    """What a training pass makes: velocity and what it should be (B, W, M), and which frames count (B, W, 1)."""

    velocity: Tensor
    target: Tensor
    mask: Tensor


class FlowConditioning(NamedTuple):
    """The input of a flow in place of a postnet, beside the smooth mel."""

    context: Tensor  # (B, F, E) of the text, weighted by the attention
    speaker: Tensor  # (B, D) of norm 1
    seeds: Sequence[int]  # one an item

    @classmethod
    def from_attention(
        cls, attention: Tensor, values: Tensor, reduction: int, speaker: Tensor, seeds: Sequence[int]
    ) -> FlowConditioning:
        """attention (B, S, N) over values (B, N, E), `reduction` frames a step"""
        return cls((attention @ values.to(attention.dtype)).repeat_interleave(reduction, dim=1), speaker, seeds)

    def item(self, row: int, frames: int) -> FlowConditioning:
        """One item of the batch alone, its first frames."""
        return FlowConditioning(self.context[row : row + 1, :frames], self.speaker[row : row + 1], [self.seeds[row]])

    def resampled(self, rate: float) -> FlowConditioning:
        """The conditioning of one item, `rate` times faster."""
        return self._replace(context=resample(self.context[0].t(), rate).t()[None])


class FlowPostnet(FlowDecoder):
    """Draws the mel around the smooth one of a model that goes step by step, as PortaSpeech does (arXiv 2109.15166).

    Mels are (B, M, F) here, lengths (B,) in frames. `context` is the size of what the attention sees.
    """

    mel_mean: Tensor
    mel_std: Tensor
    WINDOW = 128  # frames of each item that it learns from in a step

    def __init__(
        self, config: FlowConfig, sampling: SamplingConfig, n_mels: int, context: int, speaker_size: int
    ) -> None:
        super().__init__(config, sampling, n_mels, config.channels, config.channels)
        self.context_projection = nn.Linear(context, config.channels, bias=False)
        nn.init.zeros_(self.context_projection.weight)  # so that it begins as the flow that it takes
        self.speaker_projection = nn.Linear(speaker_size, config.channels)
        store_as(self, {"context_projection": "hear", "speaker_projection": "voice"})
        self.register_buffer("mel_mean", torch.zeros(n_mels))
        self.register_buffer("mel_std", torch.ones(n_mels))

    def forward(self, smooth: Tensor, conditioning: FlowConditioning, mel: Tensor, lengths: Tensor) -> FlowOutput:
        """Training: smooth and true mel (B, M, F) of `lengths` (B,) frames -> FlowOutput of a window of each item.

        What made `smooth` and the context gets no gradient.
        """
        draws = [
            torch.Generator().manual_seed(int(seed) + 1) for seed in conditioning.seeds
        ]  # others than the dropouts'
        time, place = torch.stack([torch.rand(2, generator=draw) for draw in draws]).to(mel).unbind(dim=1)
        width = min(self.WINDOW, mel.shape[2])
        starts = (place * (lengths - width + 1).clamp(min=1)).long()
        frames = starts[:, None] + torch.arange(width, device=mel.device)
        mask = (frames < lengths[:, None])[..., None]

        def window(x: Tensor) -> Tensor:
            return x.gather(1, frames[..., None].expand(-1, -1, x.shape[2]))

        goal, mean = window(self._normal(mel)), window(self._normal(smooth.detach()))
        noise = normal_noise(mask.sum(dim=1).flatten(), goal, draws)
        point, target = self.path(goal, noise, time)
        hidden = self.context_projection(window(conditioning.context.detach()))
        velocity = self.velocity(point, time, mean, hidden, self._condition(conditioning.speaker), mask)
        return FlowOutput(velocity, target, mask)

    def draw(self, smooth: Tensor, conditioning: FlowConditioning, lengths: Tensor) -> Tensor:
        """Inference: a mel (B, M, F) around `smooth` (B, M, F) of `lengths` (B,), the same for the same seeds."""
        mask = length_mask(lengths.clamp(max=smooth.shape[2]), smooth.shape[2])[..., None]
        mean, hidden = self._normal(smooth), self.context_projection(conditioning.context)
        drawn = self.draw_of_seeds(conditioning.seeds, mean, hidden, self._condition(conditioning.speaker), mask)
        return (drawn * self.mel_std + self.mel_mean).transpose(1, 2)

    def _normal(self, mel: Tensor) -> Tensor:
        return (mel.transpose(1, 2) - self.mel_mean) / self.mel_std

    def _condition(self, speaker: Tensor) -> Tensor:
        return F.silu(self.speaker_projection(speaker * math.sqrt(speaker.shape[1])))


def normal_noise(lengths: Tensor, like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Normal noise (B, F, M) where each item's depends on its own generator and length alone, on every device."""
    noise = torch.zeros_like(like)
    for row, (length, generator) in enumerate(zip(lengths.tolist(), generators, strict=True)):
        noise[row, :length] = torch.randn(length, like.shape[2], generator=generator).to(like)
    return noise


TIME_SIZE = 64


def time_features(time: Tensor) -> Tensor:
    """time (B,) in [0, 1] -> (B, TIME_SIZE) sines and cosines."""
    rates = torch.exp(torch.linspace(0, math.log(1000), TIME_SIZE // 2, device=time.device))
    angles = time[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
