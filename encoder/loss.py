"""Losses that pull a speaker's utterances together.

E is embeddings (I, U, D): I speakers, U utterances each, length 1.
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

    embeddings (I, U, D), weight and bias (1,) or () -> (I, U, I). The own speaker's centroid leaves the utterance
    itself out (GE2E, eq. 8 and 9), so U must be at least 2.
    """
    speakers, utterances, _ = embeddings.shape
    if utterances < 2:
        raise ValueError(f"the centroid without the utterance itself needs 2 utterances a speaker, got {utterances}")
    total = embeddings.sum(dim=1, keepdim=True)
    centroids = _normalized((total / utterances).squeeze(1))
    own = _normalized((total - embeddings) / (utterances - 1))
    to_all = torch.einsum("sud,kd->suk", embeddings, centroids)
    to_own = (embeddings * own).sum(dim=2)
    same = torch.eye(speakers, dtype=torch.bool, device=embeddings.device)[:, None, :]
    return torch.where(same, to_own[:, :, None], to_all) * weight + bias


def ge2e_softmax(similarity: Tensor) -> Tensor:
    """Cross entropy over speakers (GE2E, eq. 6), mean over utterances: (I, U, I) -> ()"""
    speakers, utterances, _ = similarity.shape
    target = torch.arange(speakers, device=similarity.device).repeat_interleave(utterances)
    return F.cross_entropy(similarity.flatten(0, 1), target)


def additive_margin(embeddings: Tensor, prototypes: Tensor, speakers: Tensor, margin: float, scale: float) -> Tensor:
    """Softmax over all training speakers with a margin on the own angle (ArcFace, arXiv 1801.07698, eq. 3).

    embeddings (B, D), prototypes (K, D), speakers (B,) in 0 .. K-1 -> ()
    """
    cosine = embeddings @ F.normalize(prototypes, dim=1).T
    own = cosine.gather(1, speakers[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    # Past pi - margin the cosine would rise again: go on linearly instead
    moved = torch.where(own > -np.cos(margin), torch.cos(own.acos() + margin), own - margin * float(np.sin(margin)))
    return F.cross_entropy(cosine.scatter(1, speakers[:, None], moved) * scale, speakers)


def scale_gradient(parameter: Tensor, share: float = GRADIENT_SHARE) -> Tensor:
    """The same value with a fraction of the gradient."""
    return parameter.detach() + share * (parameter - parameter.detach())


def _normalized(x: Tensor) -> Tensor:
    return x / (x.norm(dim=-1, keepdim=True) + NORM_EPSILON)
