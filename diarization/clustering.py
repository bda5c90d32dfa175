"""How many speakers there are: agglomerative clustering makes many small clusters, a mixture model joins them.

The mixture is VBx (Landini et al. 2020, arXiv 2012.14952, sec. II) without its chain, as turns are known already: a
speaker's mean is a hidden variable; variational Bayes finds means and speakers together, and empties speakers that
the evidence does not need. It stops at the nearest optimum, where one voice often has two means. So the nearest two
are then joined, again and again, and the number of speakers is the one with the highest bound of the evidence. A voice
counts by its seconds of speech.

Letters: N local voices, L directions of `Calibration.project`, S speakers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.voice import unit

# Chosen on simulated talks of the list `choose` (speakers and noises that are in no other list).
MAX_POINTS = 2000  # voices that are clustered pair by pair; of more, as many evenly spread ones
MAX_SPEAKERS = 12  # more speakers than this are not found without being asked for
FA = 0.5  # independent windows that a second of speech is worth ("Fa" a second in the paper)
FB = 2.5  # weight of the prior over their means: the larger, the fewer speakers ("Fb")
FB_SECONDS = 50.0  # of speech, to which FB belongs: it grows and shrinks with them ...
MIN_FB_SHARE = 0.4  # ... to this part of FB at least
MAX_ITERATIONS = 40
MIN_SHARE = 1e-4  # of the speech, to go on with a speaker


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
        return FB * max(MIN_FB_SHARE, float(self.seconds.sum()) / FB_SECONDS)


@dataclass(frozen=True)
class Speakers:
    """mean (S, L) and variance (S, L) of each speaker in the projected space, share (S,) of the speech."""

    mean: np.ndarray
    variance: np.ndarray
    share: np.ndarray

    def log_likelihood(self, data: Points) -> np.ndarray:
        """Of each voice and speaker, share included, up to what is the same for all: (N, S)"""
        scaled = data.points * np.sqrt(data.between)
        evidence = scaled @ self.mean.T - 0.5 * (self.variance + self.mean**2) @ data.between
        return FA * data.seconds[:, None] * evidence + np.log(np.maximum(self.share, 1e-30))


def cluster(points: np.ndarray, seconds: np.ndarray, between: np.ndarray, least: int = 1) -> np.ndarray:
    """Points (N, L) -> the speaker of each (N,), from 0 without a gap; not joined to fewer than `least` speakers."""
    if len(points) == 1:
        return np.zeros(1, int)
    data = Points(points, seconds, between)
    posterior, found = variational_bayes(_soft(initial_labels(data, MAX_SPEAKERS)), data)
    labels = np.argmax(_fewer(posterior, found, data, least), axis=1)
    return np.unique(labels, return_inverse=True)[1]


def initial_labels(data: Points, clusters: int) -> np.ndarray:
    """Labels (N,) of at most `clusters` clusters by average linkage of cosines."""
    from scipy.cluster.hierarchy import cut_tree, linkage

    chosen = np.unique(np.linspace(0, len(data.points) - 1, min(len(data.points), MAX_POINTS)).astype(int))
    clusters = min(clusters, len(chosen))
    if clusters < 2:
        return np.zeros(len(data.points), int)
    units = unit(data.points)
    tree = linkage(units[chosen], "average", "cosine")
    labels = cut_tree(tree, clusters)[:, 0]
    if len(chosen) == len(data.points):
        return labels
    centers = unit(np.stack([units[chosen][labels == k].mean(axis=0) for k in range(clusters)]))
    return np.argmax(units @ centers.T, axis=1)


def _fewer(posterior: np.ndarray, found: Speakers, data: Points, least: int) -> np.ndarray:
    """Of this many speakers (N, S) and every smaller number down to `least`, each refined from the one before: the
    likeliest."""
    best, highest = posterior, elbo(found, data)
    while (count := posterior.shape[1]) > least:
        posterior, found = variational_bayes(posterior @ np.eye(count - 1)[_merge(found, count - 1)], data)
        reached = elbo(found, data)
        if reached > highest:
            best, highest = posterior, reached
    return best


def elbo(found: Speakers, data: Points) -> float:
    """Of the log evidence (the paper's ELBO): how well speakers explain the voices, less what it costs to have them.

    Comparable between any numbers of speakers of one recording.
    """
    return float(np.logaddexp.reduce(found.log_likelihood(data), axis=1).sum()) - _cost(found, data)


def _cost(found: Speakers, data: Points) -> float:
    """Divergence of the means from their prior."""
    return data.prior * float(0.5 * (found.variance + found.mean**2 - 1 - np.log(found.variance)).sum())


def variational_bayes(posterior: np.ndarray, data: Points) -> tuple[np.ndarray, Speakers]:
    """Variational Bayes from a first guess (N, S); speakers left without voices are dropped."""
    found = update_speakers(posterior, data, np.full(posterior.shape[1], 1 / posterior.shape[1]))
    before = -np.inf
    for _ in range(MAX_ITERATIONS):
        log_likelihood = found.log_likelihood(data)
        total = np.logaddexp.reduce(log_likelihood, axis=1)
        posterior = np.exp(log_likelihood - total[:, None])
        share = posterior.T @ data.seconds / data.seconds.sum()
        kept = (share > MIN_SHARE) & (np.bincount(posterior.argmax(axis=1), minlength=len(share)) > 0)
        posterior = posterior[:, kept] / np.maximum(posterior[:, kept].sum(axis=1, keepdims=True), 1e-30)
        found = update_speakers(posterior, data, share[kept] / share[kept].sum())
        reached = float(total.sum()) - _cost(found, data)
        if abs(reached - before) < 1e-3 and kept.all():
            break
        before = reached
    return posterior, found


def update_speakers(posterior: np.ndarray, data: Points, share: np.ndarray) -> Speakers:
    """Where the speakers lie given who speaks: eq. 16 and 17 of the paper."""
    weights = posterior.T * data.seconds * (FA / data.prior)  # (S, N)
    variance = 1 / (1 + weights.sum(axis=1)[:, None] * data.between)
    return Speakers(variance * (weights @ (data.points * np.sqrt(data.between))), variance, share)


def _merge(found: Speakers, speakers: int) -> np.ndarray:
    """New label of each speaker (S,): the nearest are taken together until so many are left."""
    from scipy.cluster.hierarchy import cut_tree, linkage

    return cut_tree(linkage(found.mean, "ward"), speakers)[:, 0]


def _soft(labels: np.ndarray) -> np.ndarray:
    return np.eye(labels.max() + 1)[labels] * 0.9 + 0.1 / (labels.max() + 1)
