"""What all speaker encoders have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator

import torch
from torch import Tensor, nn

from utils.masks import length_mask

LOG_FLOOR = 1e-6  # of the power mel; about -60 dB under the speech that the volume normalization leaves


class EncoderNetwork(nn.Module, ABC):
    """Mel (B, M, F) of power, not log -> embeddings (B, D) of length 1."""

    similarity_weight: nn.Parameter  # scale and bias of the GE2E similarity (arXiv 1710.10467, eq. 5), (1,) each
    similarity_bias: nn.Parameter

    @abstractmethod
    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """mel (B, M, F), lengths (B,) in frames -> embeddings (B, D)

        Without `lengths` every row is F frames long. Frames after a row's length change nothing.
        """

    def in_steps(self, mel: Tensor) -> Generator[None, None, Tensor]:
        """`forward` of full rows (B, M, F) in steps of a like cost, so that none blocks long; returns (B, D).

        In one step, where a network has no others.
        """
        yield
        return self.forward(mel)


def completed(steps: Generator[None, None, Tensor]) -> Tensor:
    """What a generator returns in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def full_lengths(mel: Tensor) -> Tensor:
    """The lengths (B,) of rows of a mel (B, M, F) that have F frames each."""
    return torch.full((mel.size(0),), mel.size(2), device=mel.device)


def normalized_log(mel: Tensor, lengths: Tensor, how: str) -> Tensor:
    """Power mel (B, M, F) -> log mel, its mean over the valid part taken away, 0 where padded.

    how: "level" takes one mean away, "channel" one for each channel.
    """
    log = mel.clamp(min=LOG_FLOOR).log()
    valid = length_mask(lengths, mel.size(2))[:, None, :]
    axes = (1, 2) if how == "level" else (2,)
    cells = lengths[:, None, None] * (mel.size(1) if how == "level" else 1)
    log = log - (log * valid).sum(dim=axes, keepdim=True) / cells
    return log * valid * 0.3  # to a deviation of about 1
