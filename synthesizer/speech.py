"""What a synthesizer gives: sentences, how well each went, and how they are joined."""

from __future__ import annotations

import dataclasses

import numpy as np

from synthesizer.models.alignment_quality import Health
from synthesizer.text.symbols import SILENCE
from utils.audio.mel import MelConfig

KEPT_FRAMES = 2  # of the silence before a sentence, however short the pause


@dataclasses.dataclass(frozen=True)
class Synthesis:
    """One sentence spoken."""

    mel: np.ndarray = dataclasses.field(repr=False)  # (M, F)
    alignment: np.ndarray = dataclasses.field(repr=False)  # (F, N): which token each frame says
    stop_reason: str  # "token", "alignment", "limit", or "durations" (parallel: its length is planned)
    text: str
    tokens: list[str] = dataclasses.field(repr=False)
    health: Health
    seed: int

    @property
    def good(self) -> bool:
        """Neither cut off by the limit nor badly aligned."""
        return self.stop_reason != "limit" and self.health.good


@dataclasses.dataclass(frozen=True)
class Speech:
    """A text spoken: the sentences, and their mels with the pauses between."""

    mel: np.ndarray = dataclasses.field(repr=False)  # (M, F)
    pieces: list[Synthesis]
    notes: list[str]  # what was left out of the text, what went wrong


def after(before: Synthesis | None, seconds: float, piece: Synthesis, mel_config: MelConfig) -> np.ndarray:
    """The mel of a sentence after so many seconds of silence in all: what both say themselves counts.

    What is missing goes from the last frame to the next, but quiet; what is too much is cut from `piece`.
    """
    if before is None:
        return piece.mel
    own = silent_ends(piece)[0]
    count = round(seconds / mel_config.frame_seconds) - silent_ends(before)[1] - own
    mel = piece.mel[:, min(-count, max(0, own - KEPT_FRAMES)) :] if count < 0 else piece.mel
    count = max(0, count)
    slope = (np.arange(count, dtype=np.float32) + 0.5) / max(1, count)
    between = before.mel[:, -1:] * (1 - slope) + mel[:, :1] * slope
    return np.concatenate([np.minimum(between, -mel_config.max_abs + 0.5), mel], axis=1)


def silent_ends(piece: Synthesis) -> tuple[int, int]:
    """Frames of silence that a sentence says itself at its start and at its end."""
    silent = np.array([token == SILENCE for token in piece.tokens])[piece.alignment.argmax(axis=1)]
    spoken = np.flatnonzero(~silent)
    return (int(spoken[0]), len(silent) - 1 - int(spoken[-1])) if len(spoken) else (0, 0)


def complaint(piece: Synthesis) -> str:
    """Why a sentence is not good."""
    found = piece.health
    if piece.stop_reason == "limit":
        return f"did not end by itself and was cut off after {piece.mel.shape[1]} frames: try another --seed"
    return (
        f"alignment health {found.number:.2f} ({found.coverage:.0%} of the symbols said, {found.skips} skips, "
        f"{found.repeats} repeats): try another --seed"
    )
