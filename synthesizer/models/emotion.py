"""Emotions as 128 numbers: from a label, by a table, or from a clip that carries one, by a small network over its mel.

The network is trained to find the label and to agree with the table's row, and the synthesizer is sometimes
conditioned on its embedding in place of the row, so that both mean the same to it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.config import EmotionConfig
from utils.masks import length_mask
from utils.weights.stored_names import store_as

UNKNOWN = -1  # the index of an utterance whose emotion is not known
BY_CLIP = 4  # in training, one item in so many is conditioned on its clip's embedding


class EmotionOutput(NamedTuple):
    """What a batch expresses."""

    embedding: Tensor  # (B, E) what the synthesizer is conditioned on
    table: Tensor  # (B, E) of the labels
    clip: Tensor  # (B, E) what the network finds in the mel
    logits: Tensor  # (B, V) of the labels, from `clip`


class EmotionEncoder(nn.Module):
    """Labels and clips to embeddings (B, E); an unknown label is all zeros."""

    def __init__(self, config: EmotionConfig, n_mels: int) -> None:
        super().__init__()
        self.table = nn.Embedding(len(config.labels), config.size)
        sizes = [n_mels, *[config.channels] * config.blocks]
        self.convs = nn.ModuleList(
            nn.Conv1d(before, after, 5, stride=2, padding=2) for before, after in zip(sizes, sizes[1:], strict=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.channels) for _ in self.convs)
        self.output = nn.Linear(2 * config.channels, config.size)
        self.classify = nn.Linear(config.size, len(config.labels))
        store_as(self, {"output": "leave"})

    def forward(self, labels: Tensor, mel: Tensor, lengths: Tensor, seeds: Tensor) -> EmotionOutput:
        """Training: labels (B,), mel (B, M, F) of `lengths` (B,) frames, seeds (B,) -> EmotionOutput."""
        clip, table = self.clip(mel, lengths), self.label(labels)
        embedding = table
        if self.training:
            by_clip = (seeds % BY_CLIP == 0) & (labels != UNKNOWN)
            embedding = torch.where(by_clip[:, None], clip.detach().to(table.dtype), table)
        return EmotionOutput(embedding, table, clip, self.classify(clip))

    def label(self, indexes: Tensor) -> Tensor:
        """Places in the list of labels (B,) -> (B, E)"""
        return self.table(indexes.clamp(min=0)) * (indexes != UNKNOWN)[:, None]

    def clip(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """mel (B, M, F), lengths (B,) in frames -> (B, E). How loud a recording is as a whole says nothing."""
        mask = length_mask(lengths, mel.shape[2])[:, None]
        level = (mel * mask).sum(dim=(1, 2)) / (mask.sum(dim=(1, 2)) * mel.shape[1])
        x = (mel - level[:, None, None]) * mask
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.gelu(norm(conv(x).transpose(1, 2)).transpose(1, 2))
            lengths = (lengths + 1) // 2
            mask = length_mask(lengths, x.shape[2])[:, None]
            x = x * mask
        count = lengths[:, None].clamp(min=1)
        mean = x.sum(dim=2) / count
        spread = (((x - mean[:, :, None]) * mask).square().sum(dim=2) / count + 1e-5).sqrt()
        return self.output(torch.cat([mean, spread], dim=1))
