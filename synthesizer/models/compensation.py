"""What a network gets wrong of a voice, added to the mels that it makes: SPLICE (Deng et al. 2000, ICSLP).

A frame gets the mean of differences that were measured on a recording, weighted by how near it is to the mel that each
of them belongs to. Letters: K symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.errors import CloningError

WIDTH = 0.5  # standard deviation around a center, in units of the mel
PRIOR_FRAMES = 10.0  # that have the mean difference, beside those measured
MEAN_PRIOR_FRAMES = 50.0  # without a difference, beside those of which the mean is


class Compensation(NamedTuple):
    """Measured differences: recorded less generated mels."""

    centers: Tensor  # (K, M) generated mels
    differences: Tensor  # (K, M) at each of them
    frames: Tensor  # (K,) from which each was measured

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], n_mels: int, device: torch.device) -> Compensation:
        """From `Voice.compensation`. Raises CloningError for arrays that are none of this mel."""
        shapes = {name: np.shape(arrays[name]) if name in arrays else None for name in cls._fields}
        count = len(arrays["frames"]) if shapes["frames"] else 0
        wanted = {"centers": (count, n_mels), "differences": (count, n_mels), "frames": (count,)}
        if shapes != wanted or not count or (arrays["frames"] <= 0).any():
            raise CloningError(
                f"the voice is damaged: its compensation has the shapes {shapes}, {wanted} are wanted, with frames "
                "above 0: make it anew"
            )
        return cls(*(torch.from_numpy(arrays[name]).float().to(device) for name in cls._fields))

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
        return mel + ((weights @ self.differences + PRIOR_FRAMES * mean) / total).transpose(1, 2)
