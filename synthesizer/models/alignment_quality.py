"""How well an attention aligns text and sound, as one number from 0 to 1: the loss does not tell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

JUMP = 4  # tokens forward in one step that count as a skip
BACK = 3  # tokens backward that count as a repeat
GOOD = 0.5  # from here on, speech is complete as a rule


@dataclass(frozen=True)
class Health:
    """coverage: part of the tokens that were attended to; focus: mean highest weight; skips, repeats: how many."""

    coverage: float
    focus: float
    skips: int
    repeats: int
    steps: int

    @property
    def number(self) -> float:
        """1 for a sharp walk over all tokens, near 0 for none."""
        odd = min(1.0, 5 * (self.skips + self.repeats) / max(1, self.steps))
        return self.coverage * self.focus * (1 - odd)

    @property
    def good(self) -> bool:
        return self.number >= GOOD


def health(attention: Tensor) -> Health:
    """attention (S, N) of one utterance without padding -> Health.

    A token counts as covered when at some step it and its neighbours hold at least half of the weight: with a high
    reduction factor a step is longer than a phone.
    """
    attention = attention.detach().float().cpu()
    around = torch.nn.functional.pad(attention, (1, 1)).unfold(1, 3, 1).sum(dim=2)
    covered = around.amax(dim=0) >= 0.5
    moves = attention.argmax(dim=1).diff()
    return Health(
        coverage=float(covered.float().mean()),
        focus=float(attention.amax(dim=1).mean()),
        skips=int((moves > JUMP).sum()),
        repeats=int((moves < -BACK).sum()),
        steps=len(attention),
    )
