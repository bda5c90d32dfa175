"""Durations of tokens in mel frames: predicted, made whole, and spread over frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from synthesizer.models.base import SHORTEST_SECONDS, GenerationSettings
from synthesizer.models.layers import ConvStack
from synthesizer.text.clauses import N_MARKS, ahead
from synthesizer.text.symbols import END, PAUSES, SILENCE, WORD_BOUNDARY
from utils.masks import length_mask
from utils.weights.stored_names import store_as

LONGEST_TOKEN_SECONDS = 0.75
Drop = Callable[[Tensor], Tensor]


def upsampled(durations: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """durations (B, N) in frames, places (B, F): token of each of these frames (B, F) and its place in it (B, F, 3).

    The place is (fraction from the left, fraction from the right, log duration). Frames past an item's end repeat its
    last place; mask them.
    """
    ends = durations.cumsum(dim=1)
    places = torch.minimum(places, ends[:, -1:].clamp(min=1) - 1)
    index = torch.searchsorted(ends, places.contiguous(), right=True).clamp(max=durations.shape[1] - 1)
    length = durations.gather(1, index).clamp(min=1).float()
    left = (places - (ends.gather(1, index) - durations.gather(1, index)) + 0.5) / length
    left = left.clamp(0, 1)
    return index, torch.stack([left, 1 - left, length.log()], dim=-1)


def upsampling(durations: Tensor) -> tuple[Tensor, Tensor]:
    """`upsampled` of all frames of a batch, as many as its longest item has."""
    frames = torch.arange(max(1, int(durations.sum(dim=1).max())), device=durations.device)
    return upsampled(durations, frames.expand(len(durations), -1))


def whole_durations(durations: Tensor, lengths: Tensor, rate: float = 1.0) -> Tensor:
    """Predicted durations (B, N) in fractions of frames -> whole ones, `rate` times faster.

    Boundaries are rounded, not durations, so errors do not add up and the sum is exact to half a frame.
    """
    mask = length_mask(lengths, durations.shape[1])
    ends = (durations.clamp(min=0) * mask / rate).cumsum(dim=1).round().long()
    return torch.diff(ends, dim=1, prepend=ends.new_zeros(len(ends), 1))


def planned_durations(durations_log: Tensor, tokens: Tensor, lengths: Tensor, settings: GenerationSettings) -> Tensor:
    """Predicted durations_log (B, N) as whole frames (B, N): boundaries take none, phones at least one."""
    symbols, frame_seconds = settings.table.symbols, settings.mel.frame_seconds
    frames = torch.expm1(durations_log) * settings.duration_scale
    timeless = torch.tensor([s in (END, WORD_BOUNDARY) for s in symbols], device=tokens.device)
    silent = torch.tensor([s in (SILENCE, *PAUSES) for s in symbols], device=tokens.device)
    frames = frames.clamp(max=LONGEST_TOKEN_SECONDS / frame_seconds)
    frames = torch.where(silent[tokens], frames.clamp(min=0), frames.clamp(min=1)) * ~timeless[tokens]
    totals = frames.cumsum(dim=1).gather(1, lengths[:, None] - 1)
    frames = frames * (SHORTEST_SECONDS / frame_seconds / totals).clamp(min=1)
    return whole_durations(frames, lengths, settings.rate)


class Predictor(nn.Module):
    """Durations and prosody of tokens: (B, N, C) -> (B, N, outputs)."""

    def __init__(self, channels: int, outputs: int, clauses: bool = False) -> None:
        super().__init__()
        self.stack = ConvStack(2, channels, channels, kernel=5, expansion=2)
        self.output = nn.Linear(channels, outputs)
        store_as(self, {"output": "leave"})
        self.marks = nn.Embedding(N_MARKS, 2 * channels) if clauses else None
        if self.marks is not None:
            nn.init.zeros_(self.marks.weight)  # so that weights without it go on as they were

    def forward(
        self, x: Tensor, condition: Tensor, mask: Tensor, marks: Tensor | None = None, drop: Drop = lambda x: x
    ) -> Tensor:
        """x (B, N, C), condition (B, G), mask (B, N, 1), marks (B, N) (see `clauses.ahead`) -> (B, N, outputs)

        `drop` is applied to what is predicted from.
        """
        x = drop(x)
        if self.marks is not None and marks is not None:
            mark, near = ahead(marks)
            all_along, at_end = self.marks(mark).chunk(2, dim=-1)
            x = x + all_along + at_end * near[..., None]
        return self.output(drop(self.stack(x, condition, mask)))
