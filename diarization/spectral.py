"""Which pieces are one speaker where the number of speakers is known: normalized spectral clustering.

Of the cosines of each piece the highest share is kept (Park et al. 2019, arXiv 2003.02405, sec. II, with fixed shares),
and the pieces are clustered by the leading eigenvectors of the normalized graph (Ng, Jordan and Weiss 2001). Of several
shares and two trees, the one whose pieces lie nearest to their means is taken.

Letters: N pieces, S speakers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from utils.voice import unit

# Chosen on simulated talks of the list `choose`
KEPT_SHARES = (0.2, 0.3, 0.5)  # share of the cosines of a piece that stay as they are ...
DAMPING = 0.01  # ... and what is left of the others
MAX_PIECES = 1500  # pieces in the graph; of more, as many evenly spread ones
ITERATIONS = 2  # of moving pieces to the nearest mean


def means(units: np.ndarray, seconds: np.ndarray, speakers: int) -> np.ndarray:
    """Mean of each speaker, norm 1: (S, D), from units (N, D), N >= S, of so many seconds (N,)."""
    if speakers == 1:
        return unit((units * seconds[:, None]).sum(axis=0, keepdims=True))
    chosen = np.unique(np.linspace(0, len(units) - 1, min(len(units), MAX_PIECES)).astype(int))
    tried = [_refined(units, seconds, chosen, labels, speakers) for labels in _initial_labels(units[chosen], speakers)]
    return max(tried, key=lambda found: float((seconds * (units @ found.T).max(axis=1)).sum()))


def _refined(
    units: np.ndarray, seconds: np.ndarray, chosen: np.ndarray, labels: np.ndarray, speakers: int
) -> np.ndarray:
    """Means (S, D) of all pieces from labels of the chosen ones (K,)."""
    found = _centers(units[chosen], seconds[chosen], labels, speakers)
    for _ in range(ITERATIONS - 1):
        labels = (units @ found.T).argmax(axis=1)
        if len(np.unique(labels)) < speakers:  # one is left without pieces
            break
        found = _centers(units, seconds, labels, speakers)
    return found


def _initial_labels(units: np.ndarray, speakers: int) -> Iterator[np.ndarray]:
    """Labels (N,), as many as speakers: by the graph, which prefers speakers who say about as much, and by trees."""
    from scipy.cluster.hierarchy import cut_tree, linkage
    from scipy.linalg import eigh

    size = len(units)
    cosines = units @ units.T
    for share in KEPT_SHARES:
        affinity = np.maximum(0.5 + 0.5 * cosines, 0)
        kept = min(size, max(3, round(share * size)))
        low = np.argpartition(-affinity, kept - 1, axis=1)[:, kept:]
        np.put_along_axis(affinity, low, DAMPING * np.take_along_axis(affinity, low, axis=1), axis=1)
        affinity = (affinity + affinity.T) / 2
        scale = 1 / np.sqrt(affinity.sum(axis=1))
        _, vectors = eigh(scale[:, None] * affinity * scale, subset_by_index=(size - speakers, size - 1))
        yield cut_tree(linkage(unit(vectors), "ward"), speakers)[:, 0]
    yield cut_tree(linkage(units, "average", "cosine"), speakers)[:, 0]
    yield cut_tree(linkage(units, "ward"), speakers)[:, 0]


def _centers(units: np.ndarray, seconds: np.ndarray, labels: np.ndarray, speakers: int) -> np.ndarray:
    return unit((np.eye(speakers, dtype=np.float32)[labels] * seconds[:, None]).T @ units)
