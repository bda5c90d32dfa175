"""What makes several training processes equal to one with the same total batch."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

if dist.is_available():
    # Default arguments in there keep, for ever, the process group that exists when it is loaded.
    # DistributedDataParallel loads it when there is one, whose threads then outlive `destroy_process_group` and now and
    # then abort the process as it ends. Loaded before, it keeps none.
    import torch.distributed.nn.functional


def is_main_process() -> bool:
    """Whether this is the process that prints and writes; also before the processes have met."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    return os.environ.get("RANK", "0") == "0"  # set by accelerate launch and torchrun


def world_size() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(x: Tensor) -> Tensor:
    """Rows of all processes in the order of the undivided batch, differentiable: (B, ...) -> (B * world, ...).

    Process r holds rows r, r + world, ... (`Task.shard`), all processes equally many.
    """
    return x if world_size() == 1 else _GatherRows.apply(x)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        """x (B, ...) -> (B * world, ...)"""
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """gradient (B * world, ...) -> of this process's rows (B, ...)"""
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)  # each process has a loss of its own, all of which look at these rows
        return gradient[dist.get_rank() :: world_size()]


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
