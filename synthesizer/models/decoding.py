"""A loop of decoder steps, and what it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from synthesizer.models.layers import ItemDropout
from synthesizer.models.stopping import Stopper


class DecoderOutput(NamedTuple):
    """What a decoder makes in S steps of `reduction` frames: before any postnet."""

    mel: Tensor  # (B, M, F), F = S * reduction
    attention: Tensor  # (B, S, N)
    stop: Tensor  # (B, S) logits with teacher forcing, probabilities when it runs freely


class FreeRun(Protocol):
    """A loop of decoder steps, each from the frames of the one before (`AutoregressiveModel.free_run`)."""

    def __call__(
        self, memory: Any, dropout: ItemDropout, stopper: Stopper, max_steps: int, max_forward: int = 0
    ) -> DecoderOutput: ...


PlannedRun = Callable[[Tensor], Tensor]  # what each decoder step sees (B, S, E) -> mel (B, M, F)
