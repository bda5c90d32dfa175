"""From pieces of local voices to speakers: each piece gets the speaker that it is most like, no two at once the same;
then windows vote, frame by frame, on who of them speaks.

The network that finds local voices goes by changes within ten seconds and takes similar voices for one, so that the
pieces of a local voice need not be one speaker. Letters as in `diarization.segmentation`; P pieces.
"""

from __future__ import annotations

import numpy as np

from diarization.segmentation import LocalVoices, overlap_add
from diarization.windows import Pieces

COMMON = 0.3  # how much the likeness of a piece is that of all pieces of its local voice; chosen on the list `choose`


def shared(similarity: np.ndarray, seconds: np.ndarray, pieces: Pieces) -> np.ndarray:
    """Similarity (P, S) of pieces, mixed with the mean of their local voice, which is mostly one speaker; each weighs
    by its seconds (P,)."""
    window, owner = pieces.local_voices()
    total = np.zeros((len(window), similarity.shape[1]), similarity.dtype)
    np.add.at(total, owner, similarity * seconds[:, None])
    mean = total / np.bincount(owner, seconds)[:, None]
    return (1 - COMMON) * similarity + COMMON * mean[owner]


def assign(similarity: np.ndarray, pieces: Pieces) -> np.ndarray:
    """The speaker of each piece (P,), from its similarity (P, S) to each.

    Of two pieces that one window has at the same time, the one that loses less by it gets another.
    """
    found = similarity.argmax(axis=1)
    if similarity.shape[1] < 2:
        return found
    for i, j in zip(*_together(pieces), strict=True):
        if found[i] == found[j]:
            others = similarity[[i, j]].copy()
            others[:, found[i]] = -np.inf
            loss = similarity[[i, j]].max(axis=1) - others.max(axis=1)
            found[[i, j][int(loss.argmin())]] = others[int(loss.argmin())].argmax()
    return found


def _together(pieces: Pieces) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of pieces of a window that overlap by more than half of the shorter one: (K,) and (K,)"""
    first, second = [], []
    for own in np.split(np.arange(len(pieces)), np.flatnonzero(np.diff(pieces.window)) + 1):
        start, stop = pieces.frames[own].T
        common = np.minimum(stop[:, None], stop) - np.maximum(start[:, None], start)
        i, j = np.nonzero(np.triu(common > 0.5 * np.minimum((stop - start)[:, None], stop - start), 1))
        first.append(own[i])
        second.append(own[j])
    return np.concatenate(first), np.concatenate(second)


def speaking(local: LocalVoices, pieces: Pieces, assigned: np.ndarray, speakers: int, frames: int) -> np.ndarray:
    """Who speaks in each frame: (T, S) bool, as many as `local.counts` says and as windows name.

    assigned (P,): the speaker of each piece.
    """
    votes = np.zeros((*local.probability.shape[:2], speakers), np.float32)
    for w, v, (start, stop), who in zip(pieces.window, pieces.voice, pieces.frames, assigned, strict=True):
        vote = votes[w, start:stop, who]
        np.maximum(vote, local.probability[w, start:stop, v], out=vote)
    return strongest(overlap_add(votes, frames), local.counts(frames))


def strongest(votes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of votes (T, S) the counts (T,) highest of each frame, if they are above 0: (T, S) bool."""
    order = np.argsort(-votes, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(votes.shape[1])[None], axis=1)
    return (rank < counts[:, None]) & (votes > 0)
