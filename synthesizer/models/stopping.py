"""When a free-running decoder stops: each item by itself, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from torch import Tensor

StopReason = Literal["token", "alignment", "limit"]
FRAMES_PER_TOKEN = {"phonemes": 14, "characters": 11}  # of slow speech
LIMIT_EXTRA_FRAMES = 60
MIN_FRAMES = 11  # as published: no stop before
STOP_THRESHOLD = 0.5  # of the stop token's probability
LINGER_SECONDS = 0.4  # on the last token, after which nothing is left to say


def frame_limit(n_tokens: int, symbol_set: str) -> int:
    """The most mel frames that a text of so many tokens may take."""
    return LIMIT_EXTRA_FRAMES + FRAMES_PER_TOKEN[symbol_set] * n_tokens


class Stopper(Protocol):
    """Told each step's stop probabilities (B,) and attention (B, N); says whether every item has stopped."""

    def __call__(self, stop: Tensor, attention: Tensor) -> bool: ...


class StoppingCriteria:
    """A Stopper: by the stop token, by attention that stays at the last token, or by the limit of the text's length.

    `frames` and `reasons` tell where each item ends and why; an item that has stopped is not looked at again.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        limits: Sequence[int],
        reduction: int,
        frame_seconds: float,
        least: int = MIN_FRAMES,
    ) -> None:
        """lengths: tokens of each item; limits: frames at most; least: frames before the stop token counts."""
        self.lengths, self.limits, self.reduction = lengths, limits, reduction
        self.least = least
        self.linger = max(1, round(LINGER_SECONDS / frame_seconds / reduction))
        self.frames: list[int] = [0] * len(lengths)
        self.reasons: list[StopReason | None] = [None] * len(lengths)
        self._lingering = [0] * len(lengths)

    def __call__(self, stop: Tensor, attention: Tensor) -> bool:
        places = attention.argmax(dim=1).tolist()
        for item, (probability, place) in enumerate(zip(stop.tolist(), places, strict=True)):
            if self.reasons[item] is None:
                self._look(item, probability, place)
        return all(self.reasons)

    def _look(self, item: int, probability: float, place: int) -> None:
        started = self.frames[item]
        self.frames[item] += self.reduction
        at_end = place >= self.lengths[item] - 1
        self._lingering[item] = self._lingering[item] + 1 if at_end else 0
        if probability > STOP_THRESHOLD and started >= self.least - self.reduction:
            self.reasons[item] = "token"
        elif self._lingering[item] > self.linger:
            self.reasons[item] = "alignment"
        elif self.frames[item] >= self.limits[item]:
            self.reasons[item] = "limit"
