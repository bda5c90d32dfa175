"""An autoregressive Transformer: tokens, a speaker and an emotion to a mel, `reduction` frames a step.

After Transformer TTS (arXiv 1809.08895), with three changes that let it align within thousands of steps and speak texts
of any length. Positions are relative (rotary, arXiv 2104.09864) and self-attention reaches `SPAN` places. The decoder
gets the place in the text of one step ago, by forced alignment in training and by its own guided heads when it
speaks. And all its heads look only a few tokens around that place, so the voice can neither jump nor go back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.batches import AutoregressiveBatch
from synthesizer.config import SynthesizerConfig, TransformerConfig
from synthesizer.models.autoregressive import AutoregressiveModel, AutoregressiveOutput, Memory
from synthesizer.models.base import ModelInput
from synthesizer.models.decoding import DecoderOutput
from synthesizer.models.emotion import EmotionEncoder
from synthesizer.models.flow import FlowConditioning, FlowPostnet
from synthesizer.models.layers import ConvStack, ItemDropout
from synthesizer.models.stopping import Stopper
from synthesizer.models.transformer_layers import (
    Attention,
    Cache,
    EncoderLayer,
    earlier_steps,
    read_text,
    turns_at,
    within_reach,
)
from utils.masks import length_mask
from utils.weights.stored_names import store_as

BEHIND = 1  # tokens behind the place of the step before that the decoder still sees
STORED_NAMES = {
    "emotion_projection": "feel",
    "prenet_output": "hear",
    "position_projection": "here",
    "postnet_input": "enter_post",
    "postnet_output": "leave_post",
}


@dataclass(frozen=True)
class TransformerMemory(Memory):
    """The text as the decoder sees it, with what does not change from step to step computed once.

    condition (B, C): speaker and emotion.
    """

    pairs: Cache  # (B, heads, N, C / heads): keys and values of each decoder layer's cross-attention


class DecoderLayer(EncoderLayer):
    """With cross-attention over the text between the two."""

    def add_cross_attention(self, config: TransformerConfig) -> None:
        """Adds `text_norm` and `text`."""
        self.text_norm = nn.LayerNorm(config.width)
        self.text = Attention(config.width, config.heads)

    def cross_attention(self, x: Tensor, pairs: tuple[Tensor, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attention over the text: x (B, S, C) -> (B, S, C), weights (B, heads, S, N)

        pairs: keys and values of the text, each (B, heads, N, C / heads); mask (B, 1, S, N): true for tokens to see.
        """
        y, weights = self.text(self.text.queries(self.text_norm(x)), pairs, mask)
        return x + y, weights


class Transformer(AutoregressiveModel[TransformerMemory]):
    """Autoregressive synthesizer. Mels are (B, M, F), F a multiple of the reduction; S = F / reduction steps."""

    needs_durations = True
    untimed_symbols = 1  # the end symbol

    def __init__(self, config: SynthesizerConfig, n_symbols: int, n_mels: int) -> None:
        super().__init__()
        sizes = self.config = config.transformer
        width, self.n_mels = sizes.width, n_mels
        self.embedding = nn.Embedding(n_symbols, width)
        self.encoder = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.encoder_layers))
        self.encoder_norm = nn.LayerNorm(width)
        self.speaker = nn.Linear(config.speaker_size, width)
        self.emotion = EmotionEncoder(config.emotion, n_mels) if config.emotion.labels else None
        if self.emotion is not None:
            self.emotion_projection = nn.Linear(config.emotion.size, width, bias=False)
        self.prenet = nn.ModuleList([nn.Linear(n_mels, sizes.prenet), nn.Linear(sizes.prenet, sizes.prenet)])
        self.prenet_output = nn.Linear(sizes.prenet, width)
        self.position_projection = nn.Linear(width, width)
        self.decoder = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.decoder_layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.mel = nn.Linear(width, n_mels * sizes.reduction)
        self.stop = nn.Linear(width, 1)
        self.flow = (
            FlowPostnet(config.flow, config.sampling, n_mels, width, config.speaker_size)
            if config.flow.blocks
            else None
        )
        if self.flow is None:
            self.postnet_input = nn.Linear(n_mels, sizes.postnet)
            self.postnet = ConvStack(3, sizes.postnet, width, kernel=5, expansion=2)
            self.postnet_output = nn.Linear(sizes.postnet, n_mels)
        store_as(self, STORED_NAMES)

    @property
    def reduction(self) -> int:
        """Frames that a decoder step makes."""
        return self.config.reduction

    def condition(self, speaker: Tensor, emotion: Tensor | None = None) -> Tensor:
        """Speaker embeddings (B, D) of norm 1, emotions (B, E) if any -> (B, C)"""
        voice = F.silu(self.speaker(speaker * math.sqrt(speaker.shape[1])))
        if emotion is not None:
            voice = voice + self.emotion_projection(emotion)  # a sum: it carries over to voices without acted speech
        return voice

    def encode(self, inputs: ModelInput, dropout: ItemDropout) -> TransformerMemory:
        """The text and the voice as the decoder sees them."""
        return self.encode_text(inputs.tokens, inputs.token_lengths, self.condition(inputs.speaker, inputs.emotion))

    def encode_text(
        self, tokens: Tensor, lengths: Tensor, condition: Tensor, dropout: ItemDropout | None = None
    ) -> TransformerMemory:
        """tokens (B, N), lengths (B,), condition (B, C) -> TransformerMemory; dropout in training only"""
        mask = length_mask(lengths, tokens.shape[1])
        x = self.embedding(tokens) + condition[:, None]
        x = read_text(cast(list[EncoderLayer], self.encoder), x, mask, self.config)
        x = self.encoder_norm(x) + condition[:, None]
        if dropout is not None:
            x = dropout(x, self.config.dropout, lengths)
        return TransformerMemory(
            x, mask, condition, [layer.text.pairs(x) for layer in cast(list[DecoderLayer], self.decoder)]
        )

    def forward(self, batch: AutoregressiveBatch) -> AutoregressiveOutput:
        """Teacher forcing of a batch (`AutoregressiveBatch`), whose targets say which token each step speaks."""
        dropout, emotion = ItemDropout(batch["seeds"], batch["mel"].device), None
        if self.emotion is not None:
            emotion = self.emotion(batch["emotion"], batch["mel"], batch["mel_lengths"], batch["seeds"])
        condition = self.condition(batch["speaker"], emotion.embedding if emotion is not None else None)
        memory = self.encode_text(
            batch["tokens"], batch["token_lengths"], condition, dropout if self.training else None
        )
        decoded = self.force(memory, batch["mel"], batch["mel_lengths"], dropout, batch["targets"])
        return self.training_output(decoded, memory, batch, emotion)

    def force(
        self, memory: TransformerMemory, mel: Tensor, lengths: Tensor, dropout: ItemDropout, targets: Tensor | None
    ) -> DecoderOutput:
        """Teacher forcing (see `AutoregressiveModel.force`); needs targets."""
        assert targets is not None
        places = torch.cat([torch.zeros_like(targets[:, :1]), targets[:, :-1]], dim=1)
        frames = self.prenet_projection(self.previous_frames(mel), dropout, self.steps_of(lengths))
        output, attention, _ = self.decode(memory, frames, places)
        return DecoderOutput(self.frames(output), attention, self.stop(output).squeeze(2))

    def prenet_projection(self, frames: Tensor, dropout: ItemDropout, lengths: Tensor | None = None) -> Tensor:
        """The prenet: frames (B, S, M) or (B, M) -> (B, S, C) or (B, C)"""
        for layer in self.prenet:
            frames = dropout(F.relu(layer(frames)), self.config.prenet_dropout, lengths)
        return self.prenet_output(frames)

    def decode(
        self, memory: TransformerMemory, frames: Tensor, places: Tensor, cache: Cache | None = None, start: int = 0
    ) -> tuple[Tensor, Tensor, Cache]:
        """Some steps at once: frames (B, S, C) of `prenet_projection`, places (B, S).

        places: the token of the step before, -1 where it is not known.

        `start` is the number of the first, `cache` holds those before it that are still seen. Returns (B, S, C),
        attention of the guided heads (B, S, N), and the cache for the step after these.
        """
        size, known = memory.values.shape[1], places >= 0
        index = places.clamp(0, size - 1)
        last = memory.values.gather(1, index[..., None].expand(-1, -1, memory.values.shape[2])) * known[..., None]
        ahead = torch.arange(size, device=places.device) - index[..., None]  # (B, S, N)
        near = (ahead >= -BEHIND) & (ahead <= self.config.max_attention_step)
        window = ((near | ~known[..., None]) & memory.mask[:, None])[:, None]
        x = frames + self.position_projection(last) + memory.condition[:, None]
        times, recent = earlier_steps(x.shape[1], start, cache, x.device)
        turns = turns_at(times, self.config)
        kept, guided = [], []
        for number, layer in enumerate(cast(list[DecoderLayer], self.decoder)):
            x, pairs = layer.self_attention(x, turns, recent, None if cache is None else cache[number])
            x, weights = layer.cross_attention(x, memory.pairs[number], window)
            x = layer.feed_forward(x)
            kept.append(within_reach(pairs))
            guided.append(weights[:, : self.config.guided_heads])
        return self.decoder_norm(x), torch.cat(guided, dim=1).mean(dim=1), kept

    def frames(self, output: Tensor) -> Tensor:
        """(B, S, C) -> (B, M, F)"""
        return self.mel(output).unflatten(2, (self.n_mels, self.reduction)).transpose(1, 2).flatten(2)

    def free_run(
        self,
        memory: TransformerMemory,
        dropout: ItemDropout,
        stopper: Stopper,
        max_steps: int,
        max_forward: int = 0,
    ) -> DecoderOutput:
        """Free running (see `AutoregressiveModel.free_run`); the attention never goes back nor skips."""
        count = len(memory.values)
        frame, cache = memory.values.new_zeros(count, self.n_mels), cast(Cache | None, None)
        place = torch.zeros(count, dtype=torch.long, device=frame.device)
        mels, attentions, stops = [], [], []
        for step in range(max_steps):
            projected = self.prenet_projection(frame, dropout)[:, None]
            output, attention, cache = self.decode(memory, projected, place[:, None], cache, step)
            mels.append(self.frames(output))
            frame, place = mels[-1][:, :, -1], torch.maximum(place, attention[:, 0].argmax(dim=1))
            attentions.append(attention[:, 0])
            stops.append(self.stop(output)[:, 0, 0].sigmoid())
            if stopper(stops[-1], attentions[-1]):
                break
        return DecoderOutput(torch.cat(mels, 2), torch.stack(attentions, 1), torch.stack(stops, 1))

    def post(
        self, mel: Tensor, lengths: Tensor, condition: Tensor, conditioning: FlowConditioning | None = None
    ) -> Tensor:
        """The postnet or the flow (see `AutoregressiveModel.post`)."""
        if self.flow is not None:
            assert conditioning is not None
            return self.flow.draw(mel, conditioning, lengths)
        mask = length_mask(lengths.clamp(max=mel.shape[2]), mel.shape[2])[..., None]
        correction = self.postnet_output(self.postnet(self.postnet_input(mel.transpose(1, 2)) * mask, condition, mask))
        return mel + (correction * mask).transpose(1, 2)
