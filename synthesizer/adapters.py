"""What is added to a parallel synthesizer's weights so that it speaks as one voice does: a few numbers for each layer.

A matrix W becomes W + outward @ inward, of low rank (LoRA, arXiv 2106.09685), and layers that shift get an offset. Only
the flow is changed, which draws the mel: it says how a voice sounds. What is said, when, and at what pitch, stays.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.models.base import AcousticModel
from synthesizer.models.parallel import Parallel
from utils.errors import CloningError

PART = "flow"  # of the network
RANK = 4
ADAPTER = ("inward", "outward", "offset")  # what is learned of a layer
_LOW_RANK = ("up", "down", "input_projection", "output_projection")  # layers whose matrix is changed
_OFFSET = ("film", "down", "output_projection", "speaker")  # layers that get an offset


class AdaptedLinear(nn.Module):
    """A linear layer that stays as it is, and what is learned beside it: x (..., inputs) -> (..., outputs)."""

    def __init__(self, frozen: nn.Linear, rank: int, offset: bool, generator: torch.Generator) -> None:
        """`rank` 0: the offset alone."""
        super().__init__()
        self.frozen = frozen
        self.inward: nn.Parameter | None = None
        self.outward: nn.Parameter | None = None
        self.offset: nn.Parameter | None = None
        if rank:
            inward = torch.randn(rank, frozen.in_features, generator=generator) / math.sqrt(frozen.in_features)
            self.inward = nn.Parameter(inward)
            self.outward = nn.Parameter(torch.zeros(frozen.out_features, rank))  # so that it begins as it was
        if offset:
            self.offset = nn.Parameter(torch.zeros(frozen.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., inputs) -> (..., outputs)"""
        bias = self.frozen.bias if self.offset is None else self.frozen.bias + self.offset
        y = F.linear(x, self.frozen.weight, bias)
        if self.inward is None or self.outward is None:
            return y
        return y + F.linear(F.linear(x, self.inward), self.outward)


def with_adapters(network: Parallel, seed: int, rank: int = RANK) -> Parallel:
    """A copy of `network` that computes the same, in which only adapters learn."""
    network = copy.deepcopy(network).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, layer in list(_layers(network)):
        parent, _, leaf = name.rpartition(".")
        adapted = AdaptedLinear(layer, rank * (leaf in _LOW_RANK), leaf in _OFFSET, generator).to(layer.weight.device)
        setattr(network.get_submodule(parent), leaf, adapted)
    return network


def numbers_of(network: Parallel) -> dict[str, np.ndarray]:
    """What the adapters of `with_adapters` learned, as `adapted` takes it, in numbers that 16 bits hold."""
    return {
        name: value.half().float().cpu().numpy()
        for name, value in network.state_dict().items()
        if name.rpartition(".")[2] in ADAPTER
    }


def adapted(network: AcousticModel, numbers: Mapping[str, np.ndarray]) -> AcousticModel:
    """A copy of `network` with the changes of `numbers_of` in its weights.

    Raises CloningError where they are of another network.
    """
    if not network.adaptable:
        raise CloningError(
            "the voice is adapted to a parallel synthesizer with a flow, and this is none: make it anew for this one"
        )
    network = copy.deepcopy(network)
    left = dict(numbers)
    stored = {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}
    for _, layer in _layers(network):
        name = stored[id(layer.weight)].removesuffix(".weight")
        inward, outward, offset = (_taken(left, f"{name}.{part}") for part in ADAPTER)
        if inward is not None and outward is not None and inward.ndim == outward.ndim == 2:
            _add(name, layer.weight, outward[:, : len(inward)] @ inward[: outward.shape[1]])
        if offset is not None:
            _add(name, layer.bias, offset)
    if left:
        raise CloningError(f"the voice is damaged: the synthesizer has no {next(iter(left))} to adapt")
    return network


def _add(name: str, weight: Tensor, change: Tensor) -> None:
    if weight.shape != change.shape or not change.isfinite().all():
        raise CloningError(f"the voice is damaged: what it changes in {name} does not fit the synthesizer")
    with torch.no_grad():
        weight += change.to(weight)


def _taken(numbers: dict[str, np.ndarray], name: str) -> Tensor | None:
    found = numbers.pop(name, None)
    return None if found is None else torch.from_numpy(found)


def _layers(network: AcousticModel) -> Iterator[tuple[str, nn.Linear]]:
    """Those that adapters change."""
    for name, layer in network.named_modules():
        chosen = name.rpartition(".")[2] in {*_LOW_RANK, *_OFFSET} and name.partition(".")[0] == PART
        if chosen and isinstance(layer, nn.Linear):
            yield name, layer
