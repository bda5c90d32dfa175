"""Losses of a generator and of discriminators that tell what it makes from what is real."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class DiscriminatorOutput(NamedTuple):
    """What a discriminator makes of a batch of B items."""

    scores: list[Tensor]  # one a discriminator, (B, ...)
    features: list[list[Tensor]]  # one list a discriminator, of (B, ...)


def discriminator_loss(
    real: Sequence[Tensor], fake: Sequence[Tensor], objective: str, weights: Tensor | None = None
) -> Tensor:
    """What the discriminators minimize, given their scores of real and of made items, averaged -> ().

    objective: "hinge" or "least_squares" (arXiv 1611.04076). weights (B,): of the real items; None: all count as much.
    """
    if objective == "hinge":
        terms = [_mean(F.relu(1 - r.float()), weights) + F.relu(1 + f.float()).mean() for r, f in _pairs(real, fake)]
    else:
        terms = [_mean((1 - r.float()).square(), weights) + f.float().square().mean() for r, f in _pairs(real, fake)]
    return torch.stack(terms).mean()


def adversarial_loss(fake: Sequence[Tensor], objective: str) -> Tensor:
    """What the generator minimizes, given the discriminators' scores of what it made, averaged -> ()."""
    if objective == "hinge":  # as Vocos has it: bounded below by 0, so that a deceived discriminator gives no gradient
        return torch.stack([F.relu(1 - f.float()).mean() for f in fake]).mean()
    return torch.stack([(1 - f.float()).square().mean() for f in fake]).mean()


def feature_loss(
    real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]], weights: Tensor | None = None
) -> Tensor:
    """L1 between the discriminators' inner features of real and of made items, averaged (arXiv 2010.05646, eq. 4).

    weights (B,): of the items; None: all count as much. -> ()
    """
    pairs = [pair for ours, theirs in zip(real, fake, strict=True) for pair in _pairs(ours, theirs)]
    return torch.stack([_mean((f.float() - r.detach().float()).abs(), weights) for r, f in pairs]).mean()


def _pairs(real: Sequence[Tensor], fake: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(real, fake, strict=True))


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of values (B, ...); with weights (B,), of the items' means."""
    if weights is None:
        return values.mean()
    return (values.flatten(1).mean(dim=1) * weights).sum() / weights.sum().clamp(min=1)
