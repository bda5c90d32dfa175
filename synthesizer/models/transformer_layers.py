"""Layers of the Transformers: attention in several heads, turned by distance, within reach of `SPAN` places."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.config import TransformerConfig
from utils.weights.stored_names import store_as

SPAN = 64  # places to either side, or steps back, that self-attention reaches
Pairs = tuple[Tensor, Tensor]  # keys and values (B, heads, N, C / heads)
Cache = list[Pairs]  # of each layer, those of all steps so far that are still seen


class Attention(nn.Module):
    """Several heads; keys and values are made apart from queries, so that they can be kept."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        store_as(self, {"output": "leave"})

    def queries(self, x: Tensor) -> Tensor:
        """(B, S, C) -> (B, heads, S, C / heads)"""
        return self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)

    def pairs(self, x: Tensor) -> Pairs:
        """x (B, N, C) -> keys and values, each (B, heads, N, C / heads)"""
        key, value = self.key_value(x).unflatten(2, (2 * self.heads, -1)).transpose(1, 2).chunk(2, dim=1)
        return key, value

    def forward(self, query: Tensor, pairs: Pairs, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """query (B, heads, S, C / heads), `pairs` each (B, heads, N, C / heads) -> (B, S, C), weights (B, heads, S, N)

        mask (B, 1, S, N) or (S, N): true for what may be seen; None: all.
        """
        key, value = pairs
        energy = (query @ key.transpose(2, 3)).float() / math.sqrt(key.shape[3])
        weights = (energy if mask is None else energy.masked_fill(~mask, -torch.inf)).softmax(dim=3)
        return self.output((weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)), weights


class EncoderLayer(nn.Module):
    """Self-attention and two linear layers, each after a norm, residual."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_norm, self.own = nn.LayerNorm(config.width), Attention(config.width, config.heads)
        self.add_cross_attention(config)
        self.last_norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.feedforward)
        self.down = nn.Linear(config.feedforward, config.width)

    def add_cross_attention(self, config: TransformerConfig) -> None:
        """What a decoder layer has between self-attention and linear layers; first values are drawn in that order."""

    def self_attention(
        self, x: Tensor, turns: Tensor, mask: Tensor | None, past: Pairs | None = None
    ) -> tuple[Tensor, Pairs]:
        """x (B, S, C), `turns` (2, S, C / heads / 2) -> (B, S, C), keys and values each (B, heads, N, C / heads).

        The first N - S of these are those of `past`, if any. mask: of `Attention.forward`.
        """
        y = self.self_norm(x)
        key, value = self.own.pairs(y)
        key = rotate(key, turns)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        return x + self.own(rotate(self.own.queries(y), turns), (key, value), mask)[0], (key, value)

    def feed_forward(self, x: Tensor) -> Tensor:
        """(B, S, C) -> (B, S, C)"""
        return x + self.down(F.gelu(self.up(self.last_norm(x))))


def read_text(layers: Iterable[EncoderLayer], x: Tensor, mask: Tensor, config: TransformerConfig) -> Tensor:
    """Layers over a text: x (B, N, C), mask (B, N) true for tokens -> (B, N, C)"""
    places = torch.arange(x.shape[1], device=x.device)
    near = (places[:, None] - places).abs() <= SPAN
    seen = (near & mask[:, None]) | torch.eye(len(places), dtype=torch.bool, device=x.device)
    turns = turns_at(places, config)
    for layer in layers:
        x = layer.feed_forward(layer.self_attention(x, turns, seen[:, None])[0])
    return x


def earlier_steps(steps: int, start: int, cache: Cache | None, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Decoder steps from `start` on: their numbers (S,), and which of the cache's and of their own they see (S, N).

    One alone sees all that the cache holds: None.
    """
    if steps == 1:
        return torch.tensor([start], device=device), None
    past = 0 if cache is None else cache[0][0].shape[2]
    times = torch.arange(start - past, start + steps, device=device)
    age = times[past:, None] - times
    return times[past:], (age >= 0) & (age <= SPAN)


def within_reach(pairs: Pairs) -> Pairs:
    """Of keys and values (B, heads, N, C / heads) those that the next step still sees: the last `SPAN`."""
    return pairs[0][:, :, -SPAN:], pairs[1][:, :, -SPAN:]


def turns_at(places: Tensor, config: TransformerConfig) -> Tensor:
    """Cosines and sines (2, S, C / heads / 2) of the rotary angles of places (S,)."""
    half = config.width // config.heads // 2
    rates = 1000 ** -(torch.arange(half, device=places.device) / half)
    angles = places[:, None] * rates
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """x (B, heads, S, C / heads) turned by `turns` (2, S, C / heads / 2) -> the same shape.

    A product of two such depends on their distance alone.
    """
    left, right = x.chunk(2, dim=3)
    cosine, sine = turns.to(x.dtype).unbind()
    return torch.cat([left * cosine - right * sine, left * sine + right * cosine], dim=3)
