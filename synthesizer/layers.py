"""Small things that both synthesizers are built of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.linear import Linear


def length_mask(lengths: Tensor, size: int | None = None) -> Tensor:
    """lengths (B,) -> (B, size) bool, true inside; size defaults to the longest."""
    size = int(lengths.max()) if size is None else size
    return torch.arange(size, device=lengths.device) < lengths[:, None]


class ItemDropout:
    """Dropout whose masks depend on one seed per item, so on nothing else in the batch and on no other process.

    Called with x (B, C) or (B, N, C) and, for the latter, the lengths (B,): what is drawn for an item does not depend
    on its padding. Each call goes on in the items' random sequences.
    """

    def __init__(self, seeds: Tensor | Sequence[int], device: torch.device | str = "cpu") -> None:
        self.generators = [torch.Generator(device).manual_seed(int(seed)) for seed in seeds]

    def __call__(self, x: Tensor, probability: float, lengths: Tensor | None = None) -> Tensor:
        if probability == 0:
            return x
        return x * self.keep(x.shape, probability, x.device, lengths).to(x.dtype) / (1 - probability)

    def keep(
        self, shape: torch.Size, probability: float, device: torch.device, lengths: Tensor | None = None
    ) -> Tensor:
        """Bool (B, ...), false with `probability`; true in padding."""
        mask = torch.ones(shape, dtype=torch.bool, device=device)
        for row, generator in enumerate(self.generators):
            size = shape[1:] if lengths is None else (int(lengths[row]), *shape[2:])
            drawn = torch.rand(size, generator=generator, device=device) >= probability
            mask[row, : size[0]] = drawn
        return mask


class ConvBlock(nn.Module):
    """Depthwise convolution, layer norm shifted and scaled by a condition (FiLM), two pointwise layers, residual.

    After ConvNeXt (arXiv 2201.03545), with arXiv 1709.07871 for the condition.
    x (B, F, C), condition (B, K), mask (B, F, 1) -> (B, F, C); what is masked has no influence.
    """

    def __init__(self, channels: int, condition: int, kernel: int, expansion: int, scale: float) -> None:
        super().__init__()
        # As a 2-d convolution, since (B, F, C) is then a channels_last image: three times as fast on a CPU.
        self.depthwise = nn.Conv2d(channels, channels, (1, kernel), padding=(0, kernel // 2), groups=channels)
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.film = nn.Linear(condition, 2 * channels)
        self.up = Linear(channels, expansion * channels)
        self.down = Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        y = self.depthwise((x * mask).transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        gain, shift = self.film(condition).unsqueeze(1).chunk(2, dim=-1)
        y = self.norm(y) * (1 + gain) + shift
        return x + self.scale * self.down(F.gelu(self.up(y)))


class ConvStack(nn.Module):
    """Several ConvBlocks and a last layer norm: (B, F, C) -> (B, F, C)."""

    def __init__(self, blocks: int, channels: int, condition: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvBlock(channels, condition, kernel, expansion, 1 / max(1, blocks)) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(channels)

    def freeze_blocks(self) -> None:
        """Training then changes only how the blocks are conditioned and scaled."""
        for block in self.blocks:
            for part in (block.depthwise, block.up, block.down):
                part.requires_grad_(False)

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, condition, mask)
        return self.norm(x) * mask
