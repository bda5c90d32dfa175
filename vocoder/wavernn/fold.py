"""Cutting one long generation into chunks that run side by side, and joining them again."""

from __future__ import annotations

import torch
from torch import Tensor


def fold_starts(total: int, target: int, overlap: int) -> list[int]:
    """Where chunks of target + 2 * overlap samples begin so that they cover `total` samples.

    Neighbors share `overlap` samples; the last chunk may reach past the end.
    """
    if total < 1 or target < 1 or overlap < 0:
        raise ValueError(f"cannot fold {total} samples into chunks of {target} with an overlap of {overlap}")
    hop = target + overlap
    return [i * hop for i in range(max(1, -(-(total - overlap) // hop)))]


def crossfade(chunks: Tensor, target: int, overlap: int, *, published: bool = False) -> Tensor:
    """Join chunks (N, target + 2 * overlap) into (N * (target + overlap) + overlap,).

    In a shared stretch the earlier chunk plays alone over the first half, while the later one, which began from a zero
    state, warms up; over the second half the two exchange with equal power. `published`: the earlier chunk is faded out
    over the first half already, so that the sound dips between the two, and the outer ends are faded too.
    """
    warm_up = overlap // 2
    t = torch.linspace(-1, 1, overlap - warm_up, dtype=chunks.dtype, device=chunks.device)
    falling = (0.5 * (1 - t)).clamp_min(0).sqrt()
    fade_in = torch.cat([chunks.new_zeros(warm_up), (0.5 * (1 + t)).clamp_min(0).sqrt()])
    fade_out = torch.cat([falling, chunks.new_zeros(warm_up)] if published else [chunks.new_ones(warm_up), falling])
    n, length = chunks.shape
    joined = chunks.new_zeros(n * (target + overlap) + overlap)
    for i in range(n):
        chunk = chunks[i].clone()
        if overlap and (i > 0 or published):
            chunk[:overlap] *= fade_in
        if overlap and (i < n - 1 or published):
            chunk[length - overlap :] *= fade_out
        start = i * (target + overlap)
        joined[start : start + length] += chunk
    return joined
