"""A loop of decoder steps, and what it makes."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

from torch import Tensor

from synthesizer.models.layers import ItemDropout
from synthesizer.models.stopping import Stopper

MemoryT = TypeVar("MemoryT", contravariant=True)  # the text as the decoder sees it


class DecoderOutput(NamedTuple):
    """What a decoder makes in S steps of `reduction` frames: before any postnet."""

    mel: Tensor  # (B, M, F), F = S * reduction
    attention: Tensor  # (B, S, N)
    stop: Tensor  # (B, S) logits with teacher forcing, probabilities when it runs freely


class FreeRun(Protocol[MemoryT]):
    """A loop of decoder steps, each from the frames of the one before (`AutoregressiveModel.free_run`)."""

    def __call__(
        self, memory: MemoryT, dropout: ItemDropout, stopper: Stopper, max_steps: int, max_forward: int = 0
    ) -> DecoderOutput: ...
