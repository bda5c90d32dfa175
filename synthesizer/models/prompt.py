"""Frames of the reference beside its embedding: some learned tokens that the text and the frames attend to.

After P-Flow (NeurIPS 2023) and DEX-TTS (arXiv 2406.19135): a d-vector says who speaks, the frames say how. The tokens
are narrow, so that words are not copied.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.models.layers import ConvStack
from utils.weights.stored_names import store_as

HEADS = 4


class Prompt(nn.Module):
    """Normalized mel (B, R, M) of a reference, mask (B, R, 1) -> tokens (B, Q, J)."""

    def __init__(self, n_mels: int, channels: int, tokens: int, width: int, blocks: int = 3, kernel: int = 7) -> None:
        super().__init__()
        self.input_projection = nn.Linear(n_mels, channels)
        self.stack = ConvStack(blocks, channels, 1, kernel, 2)
        self.queries = nn.Parameter(torch.randn(tokens, channels) * 0.5)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.output_projection = nn.Linear(channels, width)
        store_as(self, {"input_projection": "enter", "key_value": "attend", "output_projection": "leave"})

    def forward(self, mel: Tensor, mask: Tensor) -> Tensor:
        """mel (B, R, M), mask (B, R, 1) -> (B, Q, J)"""
        one = mel.new_ones(len(mel), 1)  # these blocks have no condition
        hidden = self.stack(self.input_projection(mel) * mask, one, mask)
        keys, values = self.key_value(hidden).chunk(2, dim=-1)
        queries = self.queries.to(keys.dtype).expand(len(mel), -1, -1)
        seen = mask[:, None, None, :, 0]
        seen = seen | ~seen.any(dim=-1, keepdim=True)  # an item without a reference: all of it, and not used
        return self.output_projection(attention(queries, keys, values, seen))


class TokenAttention(nn.Module):
    """x (B, N, C) and what it reads in the tokens (B, Q, J), nothing where `present` (B,) is false -> (B, N, C)"""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(width, 2 * channels)
        self.output = nn.Linear(channels, channels, bias=False)
        nn.init.zeros_(self.output.weight)  # so that weights without it go on as they were
        store_as(self, {"query": "ask", "key_value": "read", "output": "leave"})

    def forward(self, x: Tensor, tokens: Tensor, present: Tensor) -> Tensor:
        """x (B, N, C), tokens (B, Q, J), present (B,) -> (B, N, C)"""
        keys, values = self.key_value(tokens).chunk(2, dim=-1)
        found = self.output(attention(self.query(self.norm(x)), keys, values))
        return x + found * present[:, None, None].to(found.dtype)


def attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """In HEADS heads: queries (B, N, C), keys and values (B, Q, C) -> (B, N, C); mask (B, 1, 1, Q) true where seen."""
    query, key, value = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (queries, keys, values))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
