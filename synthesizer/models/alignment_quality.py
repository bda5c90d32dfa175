"""How well an attention aligns text and sound, as one number from 0 to 1: the loss does not show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synthesizer.text.symbols import END, PAUSES, SILENCE, WORD_BOUNDARY, SymbolTable

MAX_FORWARD = 4  # tokens in one step; more is a skip
MAX_BACKWARD = 3  # tokens; more is a repeat
GOOD = 0.5  # from here on, speech is complete as a rule


@dataclass(frozen=True)
class AlignmentQuality:
    """coverage: part of the tokens that were attended to; focus: mean highest weight; skips, repeats: how many."""

    coverage: float
    focus: float
    skips: int
    repeats: int
    steps: int

    @property
    def score(self) -> float:
        """1 for a sharp walk over all tokens, near 0 for none."""
        odd = min(1.0, 5 * (self.skips + self.repeats) / max(1, self.steps))
        return self.coverage * self.focus * (1 - odd)

    @property
    def good(self) -> bool:
        """Whether speech with this alignment is complete as a rule."""
        return self.score >= GOOD


def alignment_quality(attention: Tensor) -> AlignmentQuality:
    """attention (S, N) of one utterance without padding -> AlignmentQuality.

    A token counts as covered when at some step it and its neighbors hold at least half of the weight: with a high
    reduction factor a step is longer than a phone.
    """
    attention = attention.detach().float().cpu()
    around = torch.nn.functional.pad(attention, (1, 1)).unfold(1, 3, 1).sum(dim=2)
    covered = around.amax(dim=0) >= 0.5
    moves = attention.argmax(dim=1).diff()
    return AlignmentQuality(
        coverage=float(covered.float().mean()),
        focus=float(attention.amax(dim=1).mean()),
        skips=int((moves > MAX_FORWARD).sum()),
        repeats=int((moves < -MAX_BACKWARD).sum()),
        steps=len(attention),
    )


def planned_quality(alignment: Tensor, tokens: Sequence[int], table: SymbolTable) -> AlignmentQuality:
    """The quality of (F, N) by planned durations, which cannot skip; symbols that take no time are not missed."""
    said = alignment.any(dim=0).tolist()
    wanted = [table.symbols[t] not in (SILENCE, END, WORD_BOUNDARY, *PAUSES) for t in tokens]
    covered = [a for a, w in zip(said, wanted, strict=True) if w]
    return AlignmentQuality(sum(covered) / max(1, len(covered)), 1.0, 0, 0, len(alignment))
