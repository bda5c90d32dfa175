"""A voice as it goes from a reference to a synthesizer: who speaks, at what pitch and pace, and how it sounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

USUAL_SPREAD = 0.25  # octaves
LEAST_SPREAD = 0.08
USUAL_PACE = 1.9  # log of the frames of 12.5 ms that a phone takes


@dataclass(frozen=True)
class Voice:
    """What a synthesizer may be told of a voice; all but the embedding may be missing.

    embedding (D,) of norm 1; encoder: fingerprint of the encoder that made it; pitch: median in log2(Hz / 150); spread:
    of the pitch in octaves (standard deviation); pace: log of the mean seconds that a phone takes in speech;
    prompt (F, M): mel frames of the reference.
    """

    embedding: np.ndarray
    encoder: str = ""
    pitch: float | None = None
    spread: float | None = None
    pace: float | None = None
    prompt: np.ndarray | None = None


def pitch_facts(pitch: np.ndarray) -> tuple[float, float] | None:
    """Median and spread in octaves of a pitch track in log2(Hz / 150), 0 where unvoiced (`utils.audio.pitch`).

    The spread is that of a normal distribution with the same quartiles, so that octave errors do not count. None for a
    track with under 20 voiced frames.
    """
    voiced = pitch[pitch != 0].astype(np.float64)
    if len(voiced) < 20:
        return None
    low, middle, high = np.percentile(voiced, [25, 50, 75])
    return float(middle), float(np.clip((high - low) / 1.349, LEAST_SPREAD, 0.6))
