"""What makes several training processes equal to one with the same total batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(x: Tensor) -> Tensor:
    """Rows of all processes in the order of the undivided batch, differentiable: (B, ...) -> (B * world, ...).

    Process r holds rows r, r + world, ... (`Task.shard`), all processes equally many.
    """
    if world_size() == 1:
        return x
    from torch.distributed.nn.functional import all_gather

    return torch.stack(all_gather(x), dim=1).flatten(0, 1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` (same shape or broadcastable) is true, over the batches of all processes.

    Gradients are averaged over processes afterwards, so the sum is divided by the mean count of a process.
    """
    mask = mask.expand_as(values).to(values.dtype)
    count = mask.sum()
    if world_size() > 1:
        count = count.detach().clone()
        dist.all_reduce(count)
        count = count / world_size()
    return (values * mask).sum() / count.clamp(min=1)
