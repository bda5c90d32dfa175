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
Pairs = tuple[Tensor, Tensor]  # keys and values (B, H, S, C / H)
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
        """(B, S, C) -> (B, H, S, C / H)"""
        return self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)

    def pairs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of x (B, N, C)."""
        key, value = self.key_value(x).unflatten(2, (2 * self.heads, -1)).transpose(1, 2).chunk(2, dim=1)
        return key, value

    def forward(self, query: Tensor, pairs: tuple[Tensor, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """query (B, H, S, C / H), mask of what may be seen -> (B, S, C), weights (B, H, S, N)"""
        key, value = pairs
        energy = (query @ key.transpose(2, 3)).float() / math.sqrt(key.shape[3])
        weights = energy.masked_fill(~mask, -torch.inf).softmax(dim=3)
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
        self, x: Tensor, angles: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Self-attention of x (B, S, C) at rotary `angles` (S, D); also keys and values, past ones first."""
        y = self.self_norm(x)
        key, value = self.own.pairs(y)
        key = rotate(key, angles)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        return x + self.own(rotate(self.own.queries(y), angles), (key, value), mask)[0], (key, value)

    def feed_forward(self, x: Tensor) -> Tensor:
        """(B, S, C) -> (B, S, C)"""
        return x + self.down(F.gelu(self.up(self.last_norm(x))))


def read_text(layers: Iterable[EncoderLayer], x: Tensor, mask: Tensor, config: TransformerConfig) -> Tensor:
    """Layers over a text: x (B, N, C), mask (B, N) true for tokens -> (B, N, C)"""
    places = torch.arange(x.shape[1], device=x.device)
    near = (places[:, None] - places).abs() <= SPAN
    seen = (near & mask[:, None]) | torch.eye(len(places), dtype=torch.bool, device=x.device)
    turn = angles(places, config)
    for layer in layers:
        x = layer.feed_forward(layer.self_attention(x, turn, seen[:, None])[0])
    return x


def earlier_steps(steps: int, start: int, cache: Cache | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Decoder steps from `start` on: their numbers (S,), and which of the cache's and of their own they see (S, N)."""
    past = 0 if cache is None else cache[0][0].shape[2]
    times = torch.arange(start - past, start + steps, device=device)
    age = times[past:, None] - times
    return times[past:], (age >= 0) & (age <= SPAN)


def within_reach(pairs: Pairs) -> Pairs:
    """What the step after these still sees."""
    return pairs[0][:, :, -SPAN:], pairs[1][:, :, -SPAN:]


def angles(places: Tensor, config: TransformerConfig) -> Tensor:
    """Rotary angles (S, C / H / 2) of places (S,)."""
    half = config.width // config.heads // 2
    rates = 1000 ** -(torch.arange(half, device=places.device) / half)
    return places[:, None] * rates


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """x (B, H, S, D) turned by angles (S, D / 2): a product of two such depends on their distance alone."""
    left, right = x.chunk(2, dim=3)
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([left * cosine - right * sine, left * sine + right * cosine], dim=3)
