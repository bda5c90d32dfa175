"""A conditional flow-matching decoder: noise to mel in a few Euler steps (arXiv 2210.02747; 2309.03199, sec. 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.config import ParallelConfig
from synthesizer.layers import ConvStack


class FlowDecoder(nn.Module):
    """Predicts the velocity of a noisy mel at a time in [0, 1], given the mean mel, hidden frames and the speaker."""

    def __init__(self, config: ParallelConfig, n_mels: int) -> None:
        super().__init__()
        channels = config.flow_channels
        self.steps, self.temperature, self.sigma_min = config.flow_steps, config.temperature, config.sigma_min
        self.guidance = config.guidance
        self.enter = nn.Linear(2 * n_mels + config.channels, channels)
        self.time = nn.Sequential(nn.Linear(TIME_SIZE, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.speaker = nn.Linear(config.channels, channels)
        self.stack = ConvStack(config.flow_blocks, channels, channels, config.kernel, config.expansion)
        self.leave = nn.Linear(channels, n_mels)

    def velocity(self, x: Tensor, time: Tensor, mean: Tensor, hidden: Tensor, speaker: Tensor, mask: Tensor) -> Tensor:
        """x, mean (B, F, M), time (B,), hidden (B, F, C), speaker (B, C), mask (B, F, 1) -> (B, F, M)"""
        condition = F.silu(self.time(time_features(time)) + self.speaker(speaker))
        y = self.enter(torch.cat([x, mean, hidden], dim=-1))
        return self.leave(self.stack(y, condition, mask)) * mask

    def sample(
        self,
        noise: Tensor,
        mean: Tensor,
        hidden: Tensor,
        speaker: Tensor,
        mask: Tensor,
        away: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Follow the velocity from noise (B, F, M) at time 0 to a mel (B, F, M) at time 1 in `steps` Euler steps.

        away: mean, hidden and speaker of nobody's voice, to go `guidance` further away from (arXiv 2207.12598).
        """
        x = noise * self.temperature
        for step in range(self.steps):
            time = x.new_full((len(x),), step / self.steps)
            velocity = self.velocity(x, time, mean, hidden, speaker, mask)
            if away is not None:
                velocity = velocity + self.guidance * (velocity - self.velocity(x, time, *away, mask))
            x = x + velocity / self.steps
        return x

    def path(self, mel: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """The straight path from noise to mel (B, F, M): the point on it at time (B,), and its velocity."""
        time = time[:, None, None]
        keep = 1 - self.sigma_min
        return (1 - keep * time) * noise + time * mel, mel - keep * noise


TIME_SIZE = 64


def time_features(time: Tensor) -> Tensor:
    """time (B,) in [0, 1] -> (B, TIME_SIZE) sines and cosines."""
    rates = torch.exp(torch.linspace(0, math.log(1000), TIME_SIZE // 2, device=time.device))
    angles = time[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
