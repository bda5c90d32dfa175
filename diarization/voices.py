"""From local voices to speakers: each voice of each window gets the speaker that it is most like, no two of one window
the same; then windows vote, frame by frame, on who of them speaks."""

from __future__ import annotations

import numpy as np

from diarization.segmentation import LocalVoices, overlap_add
from utils.voice import unit

NOBODY = -1


def assign(embeddings: np.ndarray, seconds: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Voices (W, V, D), which last `seconds` (W, V), 0 where there is none -> the speaker of each, or NOBODY: (W, V).

    means (S, D). Both are seen from the mean voice and have norm 1. Where there are more voices in a window than
    speakers, those left over are given to who they are most like.
    """
    from scipy.optimize import linear_sum_assignment

    found = np.full(seconds.shape, NOBODY)
    likeness = embeddings @ means.T
    for w, here in enumerate(seconds > 0):
        voices = np.flatnonzero(here)
        weighed = (1 + likeness[w, voices]) * np.sqrt(seconds[w, voices])[:, None]
        found[w, voices] = likeness[w, voices].argmax(axis=1)
        rows, columns = linear_sum_assignment(-weighed)
        found[w, voices[rows]] = columns
    return found


def speaking(local: LocalVoices, assigned: np.ndarray, speakers: int, frames: int) -> np.ndarray:
    """Who speaks in each frame: (T, S) bool, as many as `local.counts` says and as windows name.

    assigned (W, V): the speaker of each local voice, or NOBODY.
    """
    votes = np.zeros((*local.probability.shape[:2], speakers), np.float32)
    for voice in range(assigned.shape[1]):
        (w,) = np.nonzero(assigned[:, voice] != NOBODY)
        before = votes[w, :, assigned[w, voice]]
        votes[w, :, assigned[w, voice]] = np.maximum(before, local.probability[w, :, voice])
    mean = overlap_add(votes, frames)
    return strongest(mean, local.counts(frames))


def strongest(votes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of votes (T, S) the counts (T,) highest of each frame, if they are above 0: (T, S) bool."""
    order = np.argsort(-votes, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(votes.shape[1])[None], axis=1)
    return (rank < counts[:, None]) & (votes > 0)


def mean_voices(embeddings: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means, of norm 1, of embeddings (N, D) with weights (N, S): (S, D)"""
    return unit(weights.T @ embeddings)
