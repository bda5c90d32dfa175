"""Gradual magnitude pruning of a WaveRNN's recurrent part in blocks that a kernel can skip.

From step `start` to `stop` the share of zero blocks grows from 0 to `sparsity` along a cubic (Zhu & Gupta, arXiv
1710.01878, eq. 1); each time the blocks of the smallest magnitude go, and what has gone stays away (WaveRNN, arXiv
1802.08435, 3.1: blocks of 16 rows in one column). Only what runs once a sample is pruned: the input layers see the
conditioning, which is known ahead.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vocoder.config import PruningConfig, WaveRNNConfig


def pruned_columns(config: WaveRNNConfig) -> dict[str, int]:
    """Name of each pruned matrix -> how many of its columns, from the first, run once a sample."""
    rnn, fc = config.rnn_size, config.fc_size
    return {
        "rnn1.weight_hh_l0": rnn,
        "rnn2.weight_ih_l0": rnn,
        "rnn2.weight_hh_l0": rnn,
        "fc1.weight": rnn,
        "fc2.weight": fc,
        "fc3.weight": fc,
    }


def block_magnitudes(weight: Tensor, block: int) -> Tensor:
    """weight (N, C) -> sums of absolute values (N / block, C) of `block` rows in one column"""
    return weight.abs().unflatten(0, (-1, block)).sum(dim=1)


def smallest_blocks_out(weight: Tensor, block: int, sparsity: float) -> Tensor:
    """The mask (N, C), 1 or 0, that leaves out the `sparsity` part of the blocks of the smallest magnitude."""
    magnitudes = block_magnitudes(weight, block)
    mask = torch.ones_like(magnitudes).flatten()
    gone = round(sparsity * mask.numel())
    mask[magnitudes.flatten().argsort(stable=True)[:gone]] = 0
    return mask.view_as(magnitudes).repeat_interleave(block, dim=0)


class Pruner:
    """The masks of one run. They are read off the zero blocks of the weights, so a checkpoint need not hold them."""

    def __init__(self, config: PruningConfig, sizes: WaveRNNConfig, model: nn.Module) -> None:
        self.config, self.columns = config, pruned_columns(sizes)
        self.masks: dict[str, Tensor] = {}
        self.pruned_at = 0
        parameters = dict(model.named_parameters())
        for name in self.columns:
            # a pruned weight has no say in the norm that gradients are clipped by
            parameters[name].register_hook(lambda gradient, name=name: self._without(name, gradient))

    def read(self, model: nn.Module) -> None:
        """Take up the masks of the weights as they are; does nothing once there are masks."""
        if self.masks:
            return
        parameters = dict(model.named_parameters())
        for name, columns in self.columns.items():
            alive = block_magnitudes(parameters[name].detach()[:, :columns], self.config.block) > 0
            self.masks[name] = alive.repeat_interleave(self.config.block, dim=0).float()

    def constrain(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Zero what is pruned, in place; at the steps of the schedule, the first time, prune further before."""
        self._apply(weights)
        if self.config.due(step) and step > self.pruned_at:
            target = self.config.sparsity_at(step)
            for name, columns in self.columns.items():
                self.masks[name] = smallest_blocks_out(weights[name][:, :columns], self.config.block, target)
            self.pruned_at = step
            self._apply(weights)

    @property
    def sparsity(self) -> float:
        """The zero part of what is pruned."""
        masks = self.masks.values()
        return 1 - sum(float(m.sum()) for m in masks) / sum(m.numel() for m in masks)

    def _apply(self, weights: Mapping[str, Tensor]) -> None:
        for name, columns in self.columns.items():
            weights[name][:, :columns] *= self.masks[name]

    def _without(self, name: str, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[:, : self.columns[name]] *= self.masks[name]
        return gradient
