"""The interface of the vocoders that make a waveform in one pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class WaveformOutput(NamedTuple):
    """What a `WaveformModel` returns."""

    wav: Tensor  # (B, (F - 1) * hop)
    pitch_logits: Tensor | None = None  # (B, bins, F) of `vocoder.models.source.PitchFinder`, where the network has one


class WaveformModel(nn.Module, ABC):
    """Mel (B, M, F) -> plain (not pre-emphasized) waveform (B, (F - 1) * hop), F >= 2.

    `lookahead`: frames beyond its two neighbors that a hop of audio depends on.
    """

    lookahead: int

    @abstractmethod
    def forward(self, mel: Tensor, start: Tensor | None = None) -> WaveformOutput:
        """mel (B, M, F) -> waveform (B, (F - 1) * hop), and pitch where the network finds it.

        start (B,): the sample of an endless noise at which frame 0 lies, 0 unless given; a network that takes no noise
        ignores it.
        """
