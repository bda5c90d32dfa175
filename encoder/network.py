"""What all speaker encoders have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator

from torch import Tensor, nn


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
        """`forward` of full rows (B, M, F) in steps of a like cost, for who has little time at once; returns (B, D).

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
