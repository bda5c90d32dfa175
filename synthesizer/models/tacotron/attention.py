"""Location-sensitive attention (arXiv 1506.07503) over the cumulative weights, as the published Tacotron has it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.models.autoregressive import Memory


@dataclass(frozen=True)
class TacotronMemory(Memory):
    """What the decoder attends to, with everything that does not change from step to step computed once.

    values: the encoder states; condition (B, D): the speaker embeddings.
    """

    keys: Tensor  # (B, N, A) projected values, with all biases
    location: Tensor  # (K, A) convolution and projection of the cumulative weights in one


class LocationSensitiveAttention(nn.Module):
    """Energies v . tanh(W query + keys + L conv(cumulative)).

    With padding "masked", padding gets exactly no weight; with "published", its energy is 0, so it keeps some.
    """

    def __init__(self, channels: int, filters: int, kernel: int, padding: str) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, filters, kernel, padding=kernel // 2)
        self.L = nn.Linear(filters, channels, bias=False)
        self.W = nn.Linear(channels, channels)
        self.v = nn.Linear(channels, 1, bias=False)
        self.published = padding == "published"

    def prepare(self, values: Tensor, projected: Tensor, mask: Tensor, condition: Tensor) -> TacotronMemory:
        """values (B, N, E), projected (B, N, A), mask (B, N), condition (B, D) -> TacotronMemory"""
        bias = self.W.bias + self.L(self.conv.bias)
        location = self.conv.weight.squeeze(1).t() @ self.L.weight.t()
        return TacotronMemory(values, mask, condition, projected + bias, location)

    def forward(
        self, query: Tensor, memory: TacotronMemory, cumulative: Tensor, allowed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step: query (B, A), cumulative (B, N) -> weights (B, N), context (B, E)

        allowed (B, N): the only places that may get weight; one of them at least must be a token.
        """
        allowed = None if allowed is None else allowed[:, None]
        weights, context = self.steps(query[:, None], memory, cumulative[:, None], allowed)
        return weights[:, 0], context[:, 0]

    def steps(
        self, query: Tensor, memory: TacotronMemory, cumulative: Tensor, allowed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Several steps at once, where it is known what each comes after: the same with (B, S, ...) for (B, ...)."""
        half = self.conv.kernel_size[0] // 2
        around = F.pad(cumulative, (half, half)).unfold(2, 2 * half + 1, 1)  # (B, S, N, K)
        energy = F.linear(query, self.W.weight).unsqueeze(2) + memory.keys.unsqueeze(1) + around @ memory.location
        energy = self.v(energy.tanh()).squeeze(3)
        mask = memory.mask.unsqueeze(1)
        if self.published:
            energy = energy * mask
        else:
            energy = energy.masked_fill(~mask, -torch.inf)
        if allowed is not None:
            energy = energy.masked_fill(~allowed, -torch.inf)
        weights = energy.softmax(dim=2)
        return weights, torch.bmm(weights, memory.values)
