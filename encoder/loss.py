"""Losses that pull a speaker's utterances together, and the equal error rate that measures how well.

E is embeddings (S, U, D): S speakers, U utterances each, length 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

NORM_EPSILON = 1e-5  # as published, so that recorded losses are met
GRADIENT_SHARE = 0.01  # of scale and bias (GE2E, arXiv 1710.10467, sec. 3.1)


def similarity_matrix(embeddings: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Scaled similarity of every utterance to every speaker's centroid.

    embeddings (S, U, D), weight and bias (1,) or () -> (S, U, S). The own speaker's centroid leaves the utterance
    itself out (GE2E, eq. 8 and 9), so U must be at least 2.
    """
    speakers, utterances, _ = embeddings.shape
    if utterances < 2:
        raise ValueError(f"the centroid without the utterance itself needs 2 utterances a speaker, got {utterances}")
    total = embeddings.sum(dim=1, keepdim=True)
    centroids = _unit((total / utterances).squeeze(1))
    own = _unit((total - embeddings) / (utterances - 1))
    to_all = torch.einsum("sud,kd->suk", embeddings, centroids)
    to_own = (embeddings * own).sum(dim=2)
    same = torch.eye(speakers, dtype=torch.bool, device=embeddings.device)[:, None, :]
    return torch.where(same, to_own[:, :, None], to_all) * weight + bias


def ge2e_softmax(similarity: Tensor) -> Tensor:
    """Cross entropy over speakers (GE2E, eq. 6), mean over utterances: (S, U, S) -> ()"""
    speakers, utterances, _ = similarity.shape
    target = torch.arange(speakers, device=similarity.device).repeat_interleave(utterances)
    return F.cross_entropy(similarity.flatten(0, 1), target)


def ge2e_contrast(similarity: Tensor) -> Tensor:
    """Own centroid near, the nearest other one far (GE2E, eq. 7), mean over utterances: (S, U, S) -> ()"""
    same = torch.eye(similarity.size(0), dtype=torch.bool, device=similarity.device)[:, None, :]
    probability = similarity.sigmoid()
    own = probability.masked_fill(~same, 0).sum(dim=2)
    other = probability.masked_fill(same, 0).amax(dim=2)
    return (1 - own + other).mean()


def angular_prototypical(embeddings: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The last utterance of each speaker against the centroids of the others (arXiv 2003.11982, sec. 2.4)."""
    prototypes = _unit(embeddings[:, :-1].mean(dim=1))
    scores = embeddings[:, -1] @ prototypes.T * weight.clamp(min=1e-6) + bias
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def additive_margin(embeddings: Tensor, prototypes: Tensor, speakers: Tensor, margin: float, scale: float) -> Tensor:
    """Softmax over all training speakers with a margin on the own angle (ArcFace, arXiv 1801.07698, eq. 3).

    embeddings (B, D), prototypes (K, D), speakers (B,) in 0 .. K-1 -> ()
    """
    cosine = embeddings @ F.normalize(prototypes, dim=1).T
    own = cosine.gather(1, speakers[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    # Past pi - margin the cosine would rise again: go on linearly instead
    moved = torch.where(own > -np.cos(margin), torch.cos(own.acos() + margin), own - margin * float(np.sin(margin)))
    return F.cross_entropy(cosine.scatter(1, speakers[:, None], moved) * scale, speakers)


def slow(parameter: Tensor, share: float = GRADIENT_SHARE) -> Tensor:
    """The same value with a fraction of the gradient."""
    return parameter.detach() + share * (parameter - parameter.detach())


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> float:
    """Where as many impostors pass as targets fail, between thresholds by a straight line.

    scores (n,) higher is more alike, same (n,) true for pairs of one speaker -> rate in 0 .. 1.
    Raises ValueError when one of the two kinds is missing.
    """
    scores, same = np.asarray(scores, np.float64).ravel(), np.asarray(same, bool).ravel()
    targets, impostors = int(same.sum()), int((~same).sum())
    if not targets or not impostors:
        raise ValueError(f"an equal error rate needs pairs of both kinds, got {targets} targets, {impostors} impostors")
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(same[order])[last_of_ties]
    accepted = np.append(0.0, hits / targets)
    false_accepted = np.append(0.0, (last_of_ties + 1 - hits) / impostors)
    gap = accepted + false_accepted - 1  # rises from -1 to 1; the rate is where it is 0
    i = int(np.argmax(gap >= 0))
    share = -gap[i - 1] / (gap[i] - gap[i - 1])
    return float(false_accepted[i - 1] + share * (false_accepted[i] - false_accepted[i - 1]))


def batch_error_rate(similarity: Tensor) -> float:
    """EER of every utterance against every speaker of a batch: similarity (S, U, S)"""
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


def _unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=-1, keepdim=True) + NORM_EPSILON)
