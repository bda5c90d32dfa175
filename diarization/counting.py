"""How many speakers there are: a small network judges, for each number, whether one voice more is real.

Pieces are clustered to one voice, two, and so on (`diarization.spectral`). Of each such clustering a few figures are
taken, mostly of the two voices that lie nearest to each other; from them a network gives the log odds that these two
are two people. A number of voices is as likely as all steps up to it and none beyond. The network learns from the
simulated talks of the list `calibrate` (`evaluate.py diarization --calibrate`).

Letters: N pieces, K steps (from 1 voice to 2, from 2 to 3, ...), F figures of a step, H hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diarization import spectral
from diarization.segmentation import FRAME, RATE, STEP
from diarization.windows import Pieces

MAX_SPEAKERS = 8  # more are not found without being asked for
MAX_PIECES = 500  # that are clustered; of more, as many evenly spread ones
MAX_SECONDS = 30.0  # of a voice, and five times as much of a talk: more is not surer
PIECE_SECONDS = (0.05, 1.5)  # that a piece weighs
MIN_ALONE_IN_WINDOW = 1.5  # seconds, for a local voice to be somebody
NEAR = 1.0  # seconds from one piece to the next that is likely the same voice
SAME_SPEECH = 0.3  # share of a piece, heard again in the next window
FIGURES = 17


@dataclass(frozen=True)
class SpeakerCounter:
    """mean and scale (F,) of the figures; hidden (F + 1, H) and output (H + 1,): the last row of both is added."""

    mean: np.ndarray
    scale: np.ndarray
    hidden: np.ndarray
    output: np.ndarray

    @classmethod
    def untrained(cls) -> SpeakerCounter:
        """To which everything is one voice."""
        return cls(np.zeros(FIGURES), np.ones(FIGURES), np.zeros((FIGURES + 1, 1)), np.array([0.0, -1.0]))

    @property
    def fits(self) -> bool:
        """Whether shapes are as they must be."""
        return (
            self.mean.shape == self.scale.shape == (FIGURES,)
            and self.hidden.ndim == 2
            and len(self.hidden) == FIGURES + 1
            and self.output.shape == (self.hidden.shape[1] + 1,)
        )

    def log_odds(self, figures: np.ndarray) -> np.ndarray:
        """Figures (K, F) -> (K,): whether each step is real."""
        units = np.maximum((figures - self.mean) / self.scale @ self.hidden[:-1] + self.hidden[-1], 0)
        return units @ self.output[:-1] + self.output[-1]

    def count(self, figures: np.ndarray, least: int = 1) -> int:
        """The likeliest number of speakers, at least `least`, from the figures (K, F) of `steps`."""
        scores = np.append(0.0, np.cumsum(self.log_odds(figures)))[least - 1 :]
        return least + (int(scores.argmax()) if len(scores) else 0)


def steps(units: np.ndarray, pieces: Pieces) -> np.ndarray:
    """Figures (K, F) of the steps to 2, 3, ... voices, from `units` (N, D) of the pieces; none of fewer than three."""
    sure = most_at_once(pieces)
    spoken = np.log(min(float(pieces.alone.sum()) / 2, 5 * MAX_SECONDS) + 1)  # two windows hear everything
    chosen = np.unique(np.linspace(0, len(units) - 1, min(len(units), MAX_PIECES)).astype(int))
    units, pieces = units[chosen], pieces.only(chosen)
    weight = np.clip(pieces.alone, *PIECE_SECONDS).astype(np.float32)
    cosines = units @ units.T
    apart, near, at_once = relations(pieces)
    pairs = weight[:, None] * weight
    whole = [
        spoken,
        _mean(cosines, pairs * apart),
        float(np.quantile(cosines[apart], 0.9)) if apart.any() else 0.0,
        _mean(cosines, pairs * (apart & near)),
    ]
    found, before = [], _closeness(units, weight, spectral.means(units, weight, 1))
    for speakers in range(2, min(MAX_SPEAKERS, len(units) - 1) + 1):
        means = spectral.means(units, weight, speakers)
        close = _closeness(units, weight, means)
        members = np.eye(speakers, dtype=np.float32)[(units @ means.T).argmax(axis=1)]
        likeness = (members.T @ (cosines * pairs * apart) @ members) / np.maximum(
            members.T @ (pairs * apart) @ members, 1e-3
        )
        i, j = np.unravel_index((means @ means.T - 2 * np.eye(speakers)).argmax(), (speakers, speakers))
        seconds = members.T @ weight
        small, large = sorted((seconds[i], seconds[j]))
        looser, tighter = sorted((likeness[i, i], likeness[j, j]))
        both = (members.T @ (at_once * pairs) @ members)[i, j]
        found.append([
            *whole, sure >= speakers, close, close - before, _log(seconds.min()), seconds.min() / weight.sum(),
            means[i] @ means[j], likeness[i, j], looser, tighter,
            likeness[i, j] / np.sqrt(max(looser, 0.02) * max(tighter, 0.02)),
            _log(small), _log(large), both / max(small, PIECE_SECONDS[0]),
        ])  # fmt: skip
        before = close
    return np.array(found, np.float32).reshape(-1, FIGURES)


def relations(pieces: Pieces) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of pairs of pieces (N, N): whether they tell something apart (bool: not of one local voice, nor the same speech
    heard in two windows), whether they are near in time (bool), and their overlap as two voices of one window, as a
    share of the shorter one."""
    start, stop = (pieces.frames + STEP * pieces.window[:, None]).T
    length = np.maximum(stop - start, 1)
    common = np.maximum(np.minimum(stop[:, None], stop) - np.maximum(start[:, None], start), 0)
    common = common / np.minimum(length[:, None], length)
    one_window = pieces.window[:, None] == pieces.window
    one_voice = one_window & (pieces.voice[:, None] == pieces.voice)
    gap = np.maximum(start[:, None] - stop, start - stop[:, None]) * (FRAME / RATE)
    apart = ~one_voice & (one_window | (common < SAME_SPEECH))
    return apart, gap < NEAR, common * (one_window & ~one_voice)


def most_at_once(pieces: Pieces) -> int:
    """How many local voices a window has that say enough, in the window but one that has most of them (or the only)."""
    window, owner = pieces.local_voices()
    sure = np.bincount(owner, pieces.alone) >= MIN_ALONE_IN_WINDOW
    counts = np.sort(np.bincount(window[sure], minlength=1))[::-1]
    return int(counts[min(1, len(counts) - 1)])


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float((values * weights).sum() / max(float(weights.sum()), 1e-6))


def _closeness(units: np.ndarray, weight: np.ndarray, means: np.ndarray) -> float:
    """Mean cosine of pieces with the mean of their voice."""
    return _mean((units @ means.T).max(axis=1), weight)


def _log(seconds: float) -> float:
    return float(np.log(min(seconds, MAX_SECONDS) + PIECE_SECONDS[0]))
