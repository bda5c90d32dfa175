"""Which windows are one voice: agglomerative clustering makes many small clusters, a hidden Markov model joins them.

The model is VBx (Landini et al. 2020, arXiv 2012.14952, sec. II): a state a speaker, whose place is a hidden variable;
variational Bayes finds places and turns together, and empties states that the evidence does not need. It stops at the
nearest optimum, which often has one voice in two states. So the nearest two are then joined, again and again, and the
number of speakers is the one with the highest bound of the evidence. Here a window counts by the seconds of speech that
it stands for, so that the result does not hang on the hop, and a change of speaker is likelier after a pause.

Letters: W windows, L directions of `Calibration.project`, S speakers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.errors import CloningError
from utils.voice import unit

# EVIDENCE and PRUNING were chosen on 66 conversations (45 s to 1 min, 2 to 4 voices) of speakers that are not set
# aside, 18 of them of voices that the encoder did not learn from: at 6, the number of voices was right in 94%; at 4
# one voice was oftener taken for two, from 8 on two for one. SETTLED: in 4 to 10 min, 6 split voices, 12 to 48 did
# not. `Calibration` brings every encoder to the same scale, so that they do not change with it.
AT_MOST = 2000  # windows that are clustered pair by pair; of more, as many evenly spread ones
START_CLUSTERS = 12  # more voices than this are not found without being asked for
EVIDENCE = 0.5  # independent windows that a second of speech is worth ("Fa" a second in the paper)
PRUNING = 6.0  # weight of the prior over places: the larger, the fewer speakers ("Fb")
SETTLED = 50.0  # seconds of speech to which PRUNING belongs: it grows and shrinks with them ...
SHORTEST = 0.4  # ... to this part of it: on 96 talks of 11 s it found the number in 93%, the whole of it in 80%
ROUNDS = 40
ENOUGH = 1e-4  # of a speaker's share of the time, to go on with him


@dataclass(frozen=True)
class Voices:
    """place (S, L) and spread (S, L) of each speaker in the projected space, share (S,) of the time."""

    place: np.ndarray
    spread: np.ndarray
    share: np.ndarray

    def evidence(self, points: np.ndarray, between: np.ndarray) -> np.ndarray:
        """Log likelihood of points (W, L) by speaker (W, S), up to what is the same for all."""
        scaled = points * np.sqrt(between)
        return scaled @ self.place.T - 0.5 * (self.spread + self.place**2) @ between


def start(points: np.ndarray, clusters: int) -> np.ndarray:
    """Points (W, L) -> labels (W,) of at most `clusters` clusters by average linkage of cosines."""
    chosen = np.unique(np.linspace(0, len(points) - 1, min(len(points), AT_MOST)).astype(int))
    if len(chosen) <= clusters:
        clusters = len(chosen)
    if clusters < 2:
        return np.zeros(len(points), int)
    units = unit(points)
    labels = _linked(units[chosen], clusters, "average", "cosine")
    centers = unit(np.stack([units[chosen][labels == k].mean(axis=0) for k in range(clusters)]))
    return np.argmax(units @ centers.T, axis=1)


def cluster(
    points: np.ndarray,
    seconds: np.ndarray,
    stay: np.ndarray,
    between: np.ndarray,
    speakers: int | None = None,
    least: int = 1,
) -> tuple[np.ndarray, Voices]:
    """Posterior of every window (W, S), and the voices.

    seconds (W,): speech that each window stands for; stay (W,): probability that its speaker is the window's before.
    `speakers`: how many there are, if that is known; else voices are not joined to fewer than `least`. Raises
    CloningError when there are fewer windows than speakers.
    """
    if speakers is not None and speakers > len(points):
        raise CloningError(f"speakers is {speakers}, but there are only {len(points)} windows of speech: ask for fewer")
    if speakers == 1:
        posterior = np.ones((len(points), 1))
        return posterior, places(posterior, seconds, points, between)
    labels = start(points, START_CLUSTERS if speakers is None else max(START_CLUSTERS, 2 * speakers))
    posterior, voices = refine(_soft(labels), points, seconds, stay, between)
    if speakers is None:
        return _fewer(posterior, voices, points, seconds, stay, between, least)
    if posterior.shape[1] == speakers:
        return posterior, voices
    if posterior.shape[1] > speakers:
        labels = _merge(voices, speakers)[np.argmax(posterior, axis=1)]
    else:
        from sklearn.cluster import KMeans

        labels = KMeans(speakers, n_init=10, random_state=0).fit_predict(points, sample_weight=seconds)
    return refine(_soft(labels), points, seconds, stay, between, prune=False)


def _fewer(
    posterior: np.ndarray,
    voices: Voices,
    points: np.ndarray,
    seconds: np.ndarray,
    stay: np.ndarray,
    between: np.ndarray,
    least: int,
) -> tuple[np.ndarray, Voices]:
    """Of this many voices (W, S) and every smaller number down to `least`, each refined from the one before: the
    likeliest."""
    best, highest = (posterior, voices), bound(voices, points, seconds, stay, between)
    while (count := posterior.shape[1]) > least:
        posterior = posterior @ np.eye(count - 1)[_merge(voices, count - 1)]
        posterior, voices = refine(posterior, points, seconds, stay, between)
        found = bound(voices, points, seconds, stay, between)
        if found > highest:
            best, highest = (posterior, voices), found
    return best


def bound(voices: Voices, points: np.ndarray, seconds: np.ndarray, stay: np.ndarray, between: np.ndarray) -> float:
    """Of the log evidence (the paper's ELBO): how well voices explain the windows, less what it costs to have them.

    Comparable between any numbers of voices of one recording.
    """
    log_likelihood = EVIDENCE * seconds[:, None] * voices.evidence(points, between)
    return forward_backward(log_likelihood, stay, voices.share)[1] - _cost(voices, seconds)


def _cost(voices: Voices, seconds: np.ndarray) -> float:
    """Divergence of the places from their prior."""
    divergence = 0.5 * (voices.spread + voices.place**2 - 1 - np.log(voices.spread)).sum()
    return _pruning(seconds) * float(divergence)


def _pruning(seconds: np.ndarray) -> float:
    """What a voice has in common in one mood or chapter does not average out, however long it lasts. So evidence of
    where voices lie stops growing with time, and a talk that is heard twice has as many voices as when heard once."""
    return PRUNING * max(SHORTEST, float(seconds.sum()) / SETTLED)


def refine(
    posterior: np.ndarray,
    points: np.ndarray,
    seconds: np.ndarray,
    stay: np.ndarray,
    between: np.ndarray,
    *,
    prune: bool = True,
) -> tuple[np.ndarray, Voices]:
    """Variational Bayes from a first guess (W, S); speakers left without windows are dropped if `prune`."""
    voices = places(posterior, seconds, points, between)
    before = -np.inf
    for _ in range(ROUNDS):
        log_likelihood = EVIDENCE * seconds[:, None] * voices.evidence(points, between)
        posterior, total, started = forward_backward(log_likelihood, stay, voices.share)
        kept = started > ENOUGH if prune else np.ones(len(started), bool)
        kept[np.argmax(started)] = True
        posterior = posterior[:, kept] / np.maximum(posterior[:, kept].sum(axis=1, keepdims=True), 1e-30)
        voices = places(posterior, seconds, points, between, started[kept])
        reached = total - _cost(voices, seconds)
        if abs(reached - before) < 1e-3 and kept.all():
            break
        before = reached
    if prune:
        kept = np.bincount(np.argmax(posterior, axis=1), minlength=posterior.shape[1]) > 0
        posterior = posterior[:, kept] / np.maximum(posterior[:, kept].sum(axis=1, keepdims=True), 1e-30)
        voices = Voices(voices.place[kept], voices.spread[kept], voices.share[kept] / voices.share[kept].sum())
    return posterior, voices


def forward_backward(
    log_likelihood: np.ndarray, stay: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """Posterior (W, S), log probability of all, and expected starts of turns (S,), of a chain that stays or redraws.

    At window t the speaker of t - 1 goes on with probability stay[t]; else one is drawn by `share` (S,).
    """
    count, speakers = log_likelihood.shape
    peak = log_likelihood.max(axis=1)
    likelihood = np.maximum(np.exp(log_likelihood - peak[:, None]), 1e-300)
    forward = np.empty((count, speakers))
    scale = np.empty(count)
    state = share
    for t in range(count):
        if t:
            state = stay[t] * forward[t - 1] + (1 - stay[t]) * share
        state = state * likelihood[t]
        scale[t] = state.sum()
        forward[t] = state / scale[t]
    backward = np.ones(speakers)
    posterior = np.empty_like(forward)
    starts = np.zeros(speakers)
    for t in range(count - 1, -1, -1):
        posterior[t] = forward[t] * backward
        weighted = likelihood[t] * backward / scale[t]
        drawn = share * weighted
        starts += drawn * (1 - stay[t] if t else 1.0)
        if t:
            backward = stay[t] * weighted + (1 - stay[t]) * drawn.sum()
    return posterior, float(np.log(scale).sum() + peak.sum()), starts / starts.sum()


def viterbi(log_likelihood: np.ndarray, stay: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The likeliest speaker of every frame (F,) of log_likelihood (F, S), for the chain of `forward_backward`."""
    count, speakers = log_likelihood.shape
    log_share = np.log(np.maximum(share, 1e-30))
    came = np.empty((count, speakers), int)
    own = np.arange(speakers)
    best = log_share + log_likelihood[0]
    for t in range(1, count):
        go_on = best + np.log(stay[t] + (1 - stay[t]) * share)
        origin = int(np.argmax(best))
        change = best[origin] + np.log(1 - stay[t]) + log_share
        came[t] = np.where(go_on >= change, own, origin)
        best = np.maximum(go_on, change) + log_likelihood[t]
    path = np.empty(count, int)
    path[-1] = int(np.argmax(best))
    for t in range(count - 1, 0, -1):
        path[t - 1] = came[t, path[t]]
    return path


def stay_probability(times: np.ndarray, stretch: np.ndarray, mean_turn: float, change_at_pause: float) -> np.ndarray:
    """(W,) for points in time (W,) in stretches of speech (W,): turns end at random, and oftener at a pause."""
    stay = np.exp(-np.diff(times, prepend=times[:1]) / mean_turn)
    stay[np.diff(stretch, prepend=stretch[:1]) > 0] = 1 - change_at_pause
    return np.clip(stay, 1e-6, 1 - 1e-6)


def places(
    posterior: np.ndarray, seconds: np.ndarray, points: np.ndarray, between: np.ndarray, share: np.ndarray | None = None
) -> Voices:
    """Where the speakers lie given who speaks: eq. 16 and 17 of the paper."""
    weights = posterior.T * seconds * (EVIDENCE / _pruning(seconds))  # (S, W)
    spread = 1 / (1 + weights.sum(axis=1)[:, None] * between)
    place = spread * (weights @ (points * np.sqrt(between)))
    if share is None:
        share = np.full(len(place), 1 / len(place))
    return Voices(place, spread, share / share.sum())


def _merge(voices: Voices, speakers: int) -> np.ndarray:
    """New label of each speaker (S,): the nearest are taken together until so many are left."""
    return _linked(voices.place, speakers, "ward", "euclidean")


def _linked(points: np.ndarray, clusters: int, method: str, metric: str) -> np.ndarray:
    """Agglomerative clustering of points (N, L) to exactly so many labels (N,)."""
    from scipy.cluster.hierarchy import cut_tree, linkage

    return cut_tree(linkage(points, method, metric), clusters)[:, 0]


def _soft(labels: np.ndarray) -> np.ndarray:
    return np.eye(labels.max() + 1)[labels] * 0.9 + 0.1 / (labels.max() + 1)
