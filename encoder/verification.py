"""Speaker verification errors in numpy: false alarm and miss rates, and the equal error rate (EER)."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def error_rates(
    scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """False alarm and miss rates at every threshold, from the strictest on, for a DET curve (Martin et al. 1997).

    scores (N,) higher is more alike, targets (N,) true for pairs of one speaker, weights (N,) of the pairs (default:
    one each) -> false alarms (K,) from 0 to 1, misses (K,) from 1 to 0. Equal scores fall together. Raises ValueError
    when one of the two kinds is missing or weighs nothing.
    """
    targets = np.asarray(targets, bool).ravel()
    weights = np.ones(len(targets)) if weights is None else weights
    order = np.argsort(-np.asarray(scores, np.float64).ravel(), kind="stable")
    ordered = np.asarray(scores, np.float64).ravel()[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    hits = np.cumsum(np.where(targets, weights, 0.0)[order])[last_of_ties]
    alarms = np.cumsum(np.where(targets, 0.0, weights)[order])[last_of_ties]
    if not len(scores) or not hits[-1] or not alarms[-1]:
        raise ValueError(
            f"an equal error rate needs pairs of both kinds, got {targets.sum()} targets, {(~targets).sum()} impostors"
        )
    return np.append(0.0, alarms / alarms[-1]), np.append(1.0, 1 - hits / hits[-1])


def crossing(false_alarms: np.ndarray, misses: np.ndarray) -> float:
    """Where falling misses (K,) meet rising false alarms (K,), between thresholds by a straight line."""
    gap = misses - false_alarms  # starts at +1, ends at -1, never rises
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(false_alarms[after - 1] + share * (false_alarms[after] - false_alarms[after - 1]))


def equal_error_rate(scores: np.ndarray, targets: np.ndarray) -> float:
    """The rate, 0 to 1, at which as many impostors pass as targets fail; arguments and errors as `error_rates`."""
    return crossing(*error_rates(scores, targets))


def batch_error_rate(similarity: Tensor) -> float:
    """EER of every utterance against every speaker of a batch: similarity (I, U, I)"""
    values = similarity.detach().float().cpu().numpy()
    same = np.broadcast_to(np.eye(len(values), dtype=bool)[:, None, :], values.shape)
    return equal_error_rate(values, same)


def pairwise_error_rate(embeddings: np.ndarray, speakers: np.ndarray, recordings: np.ndarray | None = None) -> float:
    """EER over all pairs: embeddings (N, D) of length 1, speakers (N,).

    With `recordings` (N,), pairs of crops of one recording do not count: they are too easy.
    """
    first, second = np.triu_indices(len(embeddings), k=1)
    if recordings is not None:
        apart = recordings[first] != recordings[second]
        first, second = first[apart], second[apart]
    return equal_error_rate((embeddings @ embeddings.T)[first, second], speakers[first] == speakers[second])
