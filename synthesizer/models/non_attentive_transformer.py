"""A Transformer without attention over the text: what its decoder sees of it follows durations that are predicted.

A Transformer reads the text, and another makes the smooth mel (`synthesizer.models.non_attentive`): its steps see those
before them by causal self-attention. Layers are those of `synthesizer.models.transformer`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.config import SynthesizerConfig
from synthesizer.models.layers import HashedDropout
from synthesizer.models.non_attentive import NonAttentive, StepSizes
from synthesizer.models.transformer_layers import Cache, EncoderLayer, earlier_steps, read_text, turns_at, within_reach
from utils.weights.stored_names import store_as

STORED_NAMES = {"prenet_output": "hear", "step_frames": "mel"}  # as of the Transformer that it may begin with


class NonAttentiveTransformer(NonAttentive):
    """Tokens and a voice to a mel. Mels are (B, F, M) in here; width: the Transformer's channels."""

    def text_width(self, config: SynthesizerConfig) -> int:
        """Channels of a symbol."""
        return config.transformer.width

    def step_sizes(self, config: SynthesizerConfig) -> StepSizes:
        """Sizes of the steps."""
        sizes = config.transformer
        return StepSizes(sizes.width, sizes.reduction, sizes.own_frames)

    def add_text_encoder(self, config: SynthesizerConfig) -> None:
        """What `read_text` needs."""
        sizes = self.transformer = config.transformer
        self.voice_input = nn.Linear(config.parallel.channels, sizes.width)
        self.encoder = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.encoder_layers))  # type: ignore[assignment]
        self.encoder_norm = nn.LayerNorm(sizes.width)
        self.text_output = nn.Linear(sizes.width, config.parallel.channels)
        self.text_output_norm = nn.LayerNorm(config.parallel.channels)

    def read_text(self, tokens: Tensor, vector: Tensor, mask: Tensor) -> Tensor:
        """tokens (B, N), vector (B, C) of the voice, mask (B, N, 1) -> (B, N, C)"""
        x = self.embedding(tokens) + self.voice_input(vector)[:, None]
        x = read_text(cast(list[EncoderLayer], self.encoder), x, mask[..., 0], self.transformer)
        return self.text_output_norm(self.text_output(self.encoder_norm(x))) * mask

    def add_steps(self, config: SynthesizerConfig, width: int, n_mels: int) -> None:
        """What `decode` needs."""
        sizes, self.n_mels = config.transformer, n_mels
        self.prenet = nn.ModuleList([nn.Linear(n_mels, sizes.prenet), nn.Linear(sizes.prenet, sizes.prenet)])
        self.prenet_output = nn.Linear(sizes.prenet, width)
        self.steps = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.decoder_layers))
        self.step_norm = nn.LayerNorm(width)
        self.step_frames = nn.Linear(width, n_mels * sizes.reduction)
        store_as(self, STORED_NAMES)

    def steps_at_once(self, seen: Tensor, heard: Tensor, dropout: HashedDropout | None) -> Tensor:
        """Training: seen (B, S, width), heard (B, S, M) -> (B, F, M) (see `NonAttentive.steps_at_once`)"""
        return self.decode(seen + self.prenet_projection(heard, dropout))[0]

    def free_run(self, seen: Tensor) -> Tensor:
        """One step after another: seen (B, S, width) -> (B, F, M) (see `NonAttentive.free_run`)"""
        frame = seen.new_zeros(len(seen), self.n_mels)
        cache: Cache | None = None
        made = []
        for step in range(seen.shape[1]):
            x = seen[:, step : step + 1] + self.prenet_projection(frame)[:, None]
            frames, cache = self.decode(x, cache, step)
            made.append(frames)
            frame = frames[:, -1]
        return torch.cat(made, dim=1)

    def decode(self, x: Tensor, cache: Cache | None = None, start: int = 0) -> tuple[Tensor, Cache]:
        """Some steps at once: x (B, S, width) -> frames (B, F, M), and the cache for the step after.

        start: number of the first; cache: of the steps before that are still seen.
        """
        times, recent = earlier_steps(x.shape[1], start, cache, x.device)
        turns, kept = turns_at(times, self.transformer), []
        for number, layer in enumerate(cast(list[EncoderLayer], self.steps)):
            x, pairs = layer.self_attention(x, turns, recent, None if cache is None else cache[number])
            x = layer.feed_forward(x)
            kept.append(within_reach(pairs))
        frames = self.step_frames(self.step_norm(x)).unflatten(2, (self.n_mels, self.reduction))
        return frames.transpose(2, 3).flatten(1, 2), kept

    def prenet_projection(self, frames: Tensor, dropout: HashedDropout | None = None) -> Tensor:
        """The prenet: frames (B, S, M) or (B, M), not normalized -> (B, S, width) or (B, width)"""
        for layer in self.prenet:
            frames = F.relu(layer(frames))
            frames = frames if dropout is None else dropout(frames, self.transformer.prenet_dropout)
        return self.prenet_output(frames)
