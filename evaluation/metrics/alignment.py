"""Whether a synthesizer read its text once, in order, to the end: errors of an alignment. Pure functions.

`synthesizer.models.alignment_quality` judges the same while a model trains or speaks, in decoder steps: a step may be
several frames long and pass whole phones, so its bounds are wider. Here the unit is a frame, whatever the model.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ATTENDED_FRAMES = 0.5  # summed weight from which a token counts as read
LONGEST_STEP = 3  # tokens: a longer step forward left something out
END_TOKENS = 2  # the end is reached when the path comes to the last two spoken tokens


class AlignmentErrors(NamedTuple):
    """The measures of one alignment, or of all pieces of a text (`combine`)."""

    coverage: float  # share of the tokens that were attended to
    skips: int  # tokens that steps forward left out
    repeats: int  # steps back by two tokens or more
    early_stop: bool  # stopped before the end of the text was reached
    overrun: int  # frames after the path reached the end, beyond the longest other token's frames


def alignment_errors(alignment: np.ndarray, spoken: np.ndarray | None = None) -> AlignmentErrors:
    """alignment (F, N): how much frame f attends to token n, rows sum to about 1.

    spoken (N,) bool: tokens that take time; punctuation, word boundaries and end symbols may pass unattended (default:
    every token is spoken). The path is the most attended token of every frame. An alignment without frames covers
    nothing and stopped early.
    """
    frames, tokens = alignment.shape
    if frames == 0 or tokens == 0:
        return AlignmentErrors(0.0, tokens, 0, True, 0)
    path = alignment.argmax(axis=1)
    steps = np.diff(path, prepend=0)
    skipped = steps[steps > LONGEST_STEP] - 1
    spoken = np.ones(tokens, bool) if spoken is None or not spoken.any() else spoken
    end = max(int(np.flatnonzero(spoken)[-1]) + 1 - END_TOKENS, 0)
    reached = np.flatnonzero(path >= end)
    others = np.bincount(path, minlength=tokens)[:end]
    usual = int(others.max()) if len(others) else frames
    return AlignmentErrors(
        coverage=float((alignment.sum(axis=0) >= ATTENDED_FRAMES)[spoken].mean()),
        skips=int(skipped.sum()),
        repeats=int((steps <= -2).sum()),
        early_stop=len(reached) == 0,
        overrun=max(0, frames - int(reached[0]) - END_TOKENS * usual) if len(reached) else 0,
    )


def combine(pieces: list[AlignmentErrors]) -> AlignmentErrors:
    """The measures of a text that was spoken in several pieces: mean coverage, sums of the rest."""
    return AlignmentErrors(
        coverage=float(np.mean([h.coverage for h in pieces])),
        skips=sum(h.skips for h in pieces),
        repeats=sum(h.repeats for h in pieces),
        early_stop=any(h.early_stop for h in pieces),
        overrun=sum(h.overrun for h in pieces),
    )
