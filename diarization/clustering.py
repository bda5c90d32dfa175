"""How many speakers there are: agglomerative clustering makes many small clusters, a mixture model joins them.

The mixture is VBx (Landini et al. 2020, arXiv 2012.14952, sec. II) without its chain, as turns are known already: a
speaker's place is a hidden variable; variational Bayes finds places and speakers together, and empties speakers that
the evidence does not need. It stops at the nearest optimum, which often has one voice in two places. So the nearest two
are then joined, again and again, and the number of speakers is the one with the highest bound of the evidence. A voice
counts by its seconds of speech.

Letters: N local voices, L directions of `Calibration.project`, S speakers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.voice import unit

# Chosen on simulated talks of the list `choose` (speakers and noises that are in no other list).
AT_MOST = 2000  # voices that are clustered pair by pair; of more, as many evenly spread ones
START_CLUSTERS = 12  # more speakers than this are not found without being asked for
EVIDENCE = 0.5  # independent windows that a second of speech is worth ("Fa" a second in the paper)
PRUNING = 2.5  # weight of the prior over places: the larger, the fewer speakers ("Fb")
SETTLED = 50.0  # seconds of speech to which PRUNING belongs: it grows and shrinks with them ...
SHORTEST = 0.4  # ... to this part of it
ROUNDS = 40
ENOUGH = 1e-4  # of the speech, to go on with a speaker


@dataclass(frozen=True)
class Points:
    """What is clustered: points (N, L), seconds (N,) of speech of each, variance between speakers (L,)."""

    points: np.ndarray
    seconds: np.ndarray
    between: np.ndarray

    @property
    def prior(self) -> float:
        """What a voice has in common in one mood or chapter does not average out, however long it lasts. So evidence of
        where speakers lie stops growing with time: a talk that is heard twice has as many speakers as when heard once.
        """
        return PRUNING * max(SHORTEST, float(self.seconds.sum()) / SETTLED)


@dataclass(frozen=True)
class Speakers:
    """place (S, L) and spread (S, L) of each speaker in the projected space, share (S,) of the speech."""

    place: np.ndarray
    spread: np.ndarray
    share: np.ndarray

    def log_likelihood(self, of: Points) -> np.ndarray:
        """Of each voice and speaker, share included, up to what is the same for all: (N, S)"""
        scaled = of.points * np.sqrt(of.between)
        evidence = scaled @ self.place.T - 0.5 * (self.spread + self.place**2) @ of.between
        return EVIDENCE * of.seconds[:, None] * evidence + np.log(np.maximum(self.share, 1e-30))


def cluster(points: np.ndarray, seconds: np.ndarray, between: np.ndarray, least: int = 1) -> np.ndarray:
    """Points (N, L) -> the speaker of each (N,), from 0 without a gap; not joined to fewer than `least` speakers."""
    if len(points) == 1:
        return np.zeros(1, int)
    of = Points(points, seconds, between)
    posterior, found = refine(_soft(start(of, START_CLUSTERS)), of)
    labels = np.argmax(_fewer(posterior, found, of, least), axis=1)
    return np.unique(labels, return_inverse=True)[1]


def start(of: Points, clusters: int) -> np.ndarray:
    """Labels (N,) of at most `clusters` clusters by average linkage of cosines."""
    from scipy.cluster.hierarchy import cut_tree, linkage

    chosen = np.unique(np.linspace(0, len(of.points) - 1, min(len(of.points), AT_MOST)).astype(int))
    clusters = min(clusters, len(chosen))
    if clusters < 2:
        return np.zeros(len(of.points), int)
    units = unit(of.points)
    tree = linkage(units[chosen], "average", "cosine")
    labels = cut_tree(tree, clusters)[:, 0]
    if len(chosen) == len(of.points):
        return labels
    centers = unit(np.stack([units[chosen][labels == k].mean(axis=0) for k in range(clusters)]))
    return np.argmax(units @ centers.T, axis=1)


def _fewer(posterior: np.ndarray, found: Speakers, of: Points, least: int) -> np.ndarray:
    """Of this many speakers (N, S) and every smaller number down to `least`, each refined from the one before: the
    likeliest."""
    best, highest = posterior, bound(found, of)
    while (count := posterior.shape[1]) > least:
        posterior, found = refine(posterior @ np.eye(count - 1)[_merge(found, count - 1)], of)
        reached = bound(found, of)
        if reached > highest:
            best, highest = posterior, reached
    return best


def bound(found: Speakers, of: Points) -> float:
    """Of the log evidence (the paper's ELBO): how well speakers explain the voices, less what it costs to have them.

    Comparable between any numbers of speakers of one recording.
    """
    return float(np.logaddexp.reduce(found.log_likelihood(of), axis=1).sum()) - _cost(found, of)


def _cost(found: Speakers, of: Points) -> float:
    """Divergence of the places from their prior."""
    return of.prior * float(0.5 * (found.spread + found.place**2 - 1 - np.log(found.spread)).sum())


def refine(posterior: np.ndarray, of: Points) -> tuple[np.ndarray, Speakers]:
    """Variational Bayes from a first guess (N, S); speakers left without voices are dropped."""
    found = places(posterior, of, np.full(posterior.shape[1], 1 / posterior.shape[1]))
    before = -np.inf
    for _ in range(ROUNDS):
        log_likelihood = found.log_likelihood(of)
        total = np.logaddexp.reduce(log_likelihood, axis=1)
        posterior = np.exp(log_likelihood - total[:, None])
        share = posterior.T @ of.seconds / of.seconds.sum()
        kept = (share > ENOUGH) & (np.bincount(posterior.argmax(axis=1), minlength=len(share)) > 0)
        posterior = posterior[:, kept] / np.maximum(posterior[:, kept].sum(axis=1, keepdims=True), 1e-30)
        found = places(posterior, of, share[kept] / share[kept].sum())
        reached = float(total.sum()) - _cost(found, of)
        if abs(reached - before) < 1e-3 and kept.all():
            break
        before = reached
    return posterior, found


def places(posterior: np.ndarray, of: Points, share: np.ndarray) -> Speakers:
    """Where the speakers lie given who speaks: eq. 16 and 17 of the paper."""
    weights = posterior.T * of.seconds * (EVIDENCE / of.prior)  # (S, N)
    spread = 1 / (1 + weights.sum(axis=1)[:, None] * of.between)
    return Speakers(spread * (weights @ (of.points * np.sqrt(of.between))), spread, share)


def _merge(found: Speakers, speakers: int) -> np.ndarray:
    """New label of each speaker (S,): the nearest are taken together until so many are left."""
    from scipy.cluster.hierarchy import cut_tree, linkage

    return cut_tree(linkage(found.place, "ward"), speakers)[:, 0]


def _soft(labels: np.ndarray) -> np.ndarray:
    return np.eye(labels.max() + 1)[labels] * 0.9 + 0.1 / (labels.max() + 1)
