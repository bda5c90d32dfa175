"""What a network gets wrong of a voice, mended in the mels that it makes.

First a frame gets the mean of differences that were measured on a recording, weighted by how near it is to the mel that
each of them belongs to: SPLICE (Deng et al. 2000, ICSLP). Then a linear map gives the frames the covariance and the
power that those of the recording have, half of the way. Letters: K symbols, C cepstra.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.errors import CloningError

WIDTH = 0.5  # standard deviation around a center, in units of the mel
PRIOR_FRAMES = 10.0  # that have the mean difference, beside those measured
MEAN_PRIOR_FRAMES = 50.0  # without a difference, beside those of which the mean is
CEPSTRA = 24  # of a mel, the first, that the linear map changes
MAP_PRIOR_FRAMES = 100.0  # of unit variance, recorded as generated, beside those that the map is found from
MAP_PART = 0.5  # of the way from no change to the map
NEPERS = 12.5 * math.log(10) / 10  # log of the power that a unit of the mel is


class Compensation(NamedTuple):
    """Differences that were measured, recorded less generated mels, and the map of what they leave.

    A frame x becomes x + offset + basis^T matrix basis x, the basis being that of its first cepstra.
    """

    centers: Tensor  # (K, M) generated mels
    differences: Tensor  # (K, M) at each of them
    frames: Tensor  # (K,) from which each was measured
    offset: Tensor  # (M,)
    matrix: Tensor  # (C, C)

    @classmethod
    def without_map(cls, centers: Tensor, differences: Tensor, frames: Tensor) -> Compensation:
        """Of differences alone."""
        n_mels = centers.shape[1]
        return cls(centers, differences, frames, centers.new_zeros(n_mels), centers.new_zeros(CEPSTRA, CEPSTRA))

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], n_mels: int, device: torch.device) -> Compensation:
        """From `Voice.compensation`. Raises CloningError for arrays that are none of this mel."""
        shapes = {name: np.shape(array) for name, array in arrays.items() if name in cls._fields}
        count = len(arrays["frames"]) if shapes.get("frames") else 0
        wanted = {"centers": (count, n_mels), "differences": (count, n_mels), "frames": (count,)}
        mapped = {"offset": (n_mels,), "matrix": (CEPSTRA, CEPSTRA)}
        if shapes not in (wanted, wanted | mapped) or not count or (arrays["frames"] <= 0).any():
            raise CloningError(
                f"the voice is damaged: its compensation has the shapes {shapes}, {wanted | mapped} are wanted, with "
                "frames above 0: make it anew"
            )
        given = [torch.from_numpy(arrays[name]).float().to(device) for name in cls._fields if name in arrays]
        return cls(*given) if len(given) == len(cls._fields) else cls.without_map(*given)  # a voice of before

    def arrays(self) -> dict[str, np.ndarray]:
        """As `Voice.compensation` holds it, mels in 16 bits."""
        kept = self._replace(centers=self.centers.half(), differences=self.differences.half())
        return {name: values.cpu().numpy() for name, values in kept._asdict().items()}

    def applied(self, mel: Tensor) -> Tensor:
        """mel (B, M, F) -> (B, M, F)"""
        frames = mel.transpose(1, 2).contiguous()
        mean = (self.frames @ self.differences) / (self.frames.sum() + MEAN_PRIOR_FRAMES)
        distances = torch.cdist(frames, self.centers, compute_mode="donot_use_mm_for_euclid_dist")  # (B, F, K)
        weights = (distances.square() / (-2 * WIDTH**2 * mel.shape[1])).exp() * self.frames
        total = weights.sum(dim=2, keepdim=True) + PRIOR_FRAMES
        frames = frames + (weights @ self.differences + PRIOR_FRAMES * mean) / total
        basis = cepstral_basis(mel.shape[1]).to(frames)
        return (frames + self.offset + frames @ (basis.T @ self.matrix.T @ basis)).transpose(1, 2)

    def mapping(self, generated: Tensor, recorded: Tensor, weights: Tensor) -> Compensation:
        """With `MAP_PART` of a map from generated (F, M), these differences added, to recorded mels (F, M).

        weights (F,) of the frames, 1 in the mean.

        Of all maps to the covariance of what was recorded, the one with the least squared distance to it (Procrustes of
        whitened frames; Schoenemann 1966, Psychometrika 31): a least-squares map would shrink what differs from frame
        to frame. The offset is that to the mean power of each channel.
        """
        basis = cepstral_basis(generated.shape[1]).to(generated.device, torch.float64)
        same = torch.eye(len(basis)).to(basis)
        weights = weights.double()
        mean, center = (weights @ mels.double() / len(weights) for mels in (generated, recorded))
        root = weights.sqrt()[:, None]
        source, target = root * ((generated - mean) @ basis.T), root * ((recorded - center) @ basis.T)
        whiten = _power(source.T @ source + MAP_PRIOR_FRAMES * same, -0.5)
        color = _power(target.T @ target + MAP_PRIOR_FRAMES * same, 0.5)
        left, _, right = torch.linalg.svd(whiten @ (source.T @ target + MAP_PRIOR_FRAMES * same) @ color)
        matrix = MAP_PART * (color @ right.T @ left.T @ whiten - same)
        change = basis.T @ matrix @ basis
        louder = _level(recorded.double()) - _level(generated + (generated - mean) @ change.T)
        return self._replace(offset=(MAP_PART * louder - change @ mean).float(), matrix=matrix.float())


@lru_cache(maxsize=8)
def cepstral_basis(n_mels: int) -> Tensor:
    """(C, M): the first cepstra of a mel (M,), its orthonormal cosine transform (DCT-II)."""
    places = (torch.arange(n_mels, dtype=torch.float64) + 0.5) * (math.pi / n_mels)
    basis = (torch.arange(CEPSTRA)[:, None] * places).cos() * math.sqrt(2 / n_mels)
    basis[0] /= math.sqrt(2)
    return basis


def _level(frames: Tensor) -> Tensor:
    """(F, M) -> (M,): the mean power of each channel, in units of the mel."""
    return (torch.logsumexp(NEPERS * frames, dim=0) - math.log(len(frames))) / NEPERS


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Of a symmetric matrix without eigenvalues at or below 0."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values**exponent @ vectors.T
