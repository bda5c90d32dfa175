"""A parallel synthesizer: tokens -> durations, pitch and energy -> all frames at once.

The pieces are those of FastPitch (arXiv 2006.06873) with convolutional blocks; the speaker embedding shifts and scales
every block (FiLM). The mean mel of an L1 loss is over-smooth, so a flow-matching decoder (Matcha-TTS, arXiv 2309.03199)
draws the mel around it. Durations come from forced alignment, so it cannot skip or repeat. An emotion, where it is
trained with some, joins the speaker: it is a matter of pitch, energy and durations, which are predicted here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.clauses import N_MARKS, ahead
from synthesizer.config import SynthesizerConfig
from synthesizer.emotion import EmotionEncoder
from synthesizer.flow import FlowDecoder, normal_noise
from synthesizer.layers import ConvStack, ItemDropout, length_mask

N_PROSODY = 3  # energy, pitch, voicing: see `synthesizer.data.prosody`
N_POSITION = 3
Drop = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Encoding:
    """What the text side knows: hidden (B, N, C), durations_log (B, N) = log(1 + frames), prosody (B, N, 3)."""

    hidden: Tensor
    durations_log: Tensor
    prosody: Tensor
    mask: Tensor  # (B, N, 1)


class Predictor(nn.Module):
    """Durations and prosody of tokens: (B, N, C) -> (B, N, outputs)."""

    def __init__(self, channels: int, outputs: int, clauses: bool = False) -> None:
        super().__init__()
        self.stack = ConvStack(2, channels, channels, kernel=5, expansion=2)
        self.leave = nn.Linear(channels, outputs)
        self.marks = nn.Embedding(N_MARKS, 2 * channels) if clauses else None
        if self.marks is not None:
            nn.init.zeros_(self.marks.weight)  # so that weights without it go on as they were

    def forward(
        self, x: Tensor, condition: Tensor, mask: Tensor, marks: Tensor | None = None, drop: Drop = lambda x: x
    ) -> Tensor:
        """marks (B, N): see `clauses.ahead`; `drop` is applied to what is predicted from."""
        x = drop(x)
        if self.marks is not None and marks is not None:
            mark, near = ahead(marks)
            all_along, at_end = self.marks(mark).chunk(2, dim=-1)
            x = x + all_along + at_end * near[..., None]
        return self.leave(drop(self.stack(x, condition, mask)))


class Parallel(nn.Module):
    """Parallel synthesizer. Mels are (B, F, M) in here, normalised by `mel_mean` and `mel_std`."""

    def __init__(self, config: SynthesizerConfig, n_symbols: int, n_mels: int) -> None:
        super().__init__()
        self.config = config.parallel
        channels = self.config.channels
        sizes = (channels, channels, self.config.kernel, self.config.expansion)
        self.embedding = nn.Embedding(n_symbols, channels)
        self.speaker = nn.Linear(config.speaker_size, channels)
        self.emotion = EmotionEncoder(config.emotion, n_mels) if config.emotion.labels else None
        if self.emotion is not None:
            self.feel = nn.Linear(config.emotion.size, channels, bias=False)
            nn.init.zeros_(self.feel.weight)  # so that it begins as the model without emotions that it starts from
        self.encoder = ConvStack(self.config.encoder_blocks, *sizes)
        self.predictor = Predictor(channels, 1 + N_PROSODY, self.config.clauses)
        self.prosody = nn.Linear(N_PROSODY, channels)
        self.position = nn.Linear(N_POSITION, channels)
        self.decoder = ConvStack(self.config.decoder_blocks, *sizes)
        self.mean = nn.Linear(channels, n_mels)
        self.flow = None
        if self.config.decoder == "flow":
            self.flow = FlowDecoder(self.config.flow, n_mels, channels, channels, self.config.guidance)
        self.register_buffer("mel_mean", torch.zeros(n_mels))
        self.register_buffer("mel_std", torch.ones(n_mels))
        if config.emotion.adapt:
            self._keep_what_is_said()

    def _keep_what_is_said(self) -> None:
        """Freeze symbols and convolutional blocks: of those, training changes only how they are conditioned."""
        stacks = [self.encoder, self.decoder, *([self.flow.stack] if self.flow is not None else [])]
        for stack in stacks:
            stack.freeze_blocks()
        self.embedding.requires_grad_(False)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Training: everything the losses need, for a window of frames of each item.

        batch: tokens, marks, durations (B, N), token_lengths (B,), speaker (B, D), prosody (B, N, 3), seeds (B,);
        window_start, window_lengths (B,), mel (B, M, W) of the window, noise (B, W, M), time (B,).
        Returns durations_log (B, N), prosody (B, N, 3), mean, mel, and with a flow velocity, velocity_target (B, W, M);
        mask (B, W, 1). A model of emotions also needs emotion (B,), and returns what
        `emotion_losses` reads.
        """
        dropout = ItemDropout(batch["seeds"], batch["tokens"].device) if self.training else None
        emotion = self.emotion(batch, batch["window_lengths"]) if self.emotion is not None else None
        speaker = self.condition(batch["speaker"], emotion.embedding if emotion is not None else None)
        if dropout is not None and self.config.speaker_dropout:
            kept = dropout.keep(torch.Size((len(speaker), 1)), self.config.speaker_dropout, speaker.device)
            speaker = speaker * kept.to(speaker.dtype)
        encoding = self.encode(batch["tokens"], batch["token_lengths"], speaker, dropout, batch.get("marks"))
        width = batch["mel"].shape[2]
        index, position = upsampling(batch["durations"])
        places = batch["window_start"][:, None] + torch.arange(width, device=index.device)
        places = places.clamp(max=index.shape[1] - 1)
        position = position.gather(1, places[..., None].expand(-1, -1, N_POSITION))
        mask = length_mask(batch["window_lengths"], width)[..., None]
        hidden = self.frames(encoding.hidden, batch["prosody"], index.gather(1, places), position, speaker, mask)
        mel = (batch["mel"].transpose(1, 2) - self.mel_mean) / self.mel_std * mask
        mean = self.mean(hidden) * mask
        output = {
            "durations_log": encoding.durations_log,
            "prosody": encoding.prosody,
            "mean": mean,
            "mel": mel,
            "mask": mask,
        }
        if self.flow is not None:
            point, target = self.flow.path(mel, batch["noise"], batch["time"])
            output["velocity"] = self.flow.velocity(point, batch["time"], mean, hidden, speaker, mask)
            output["velocity_target"] = target
        if emotion is not None:
            output |= emotion.outputs()
        return output

    def condition(self, speaker: Tensor, emotion: Tensor | None = None) -> Tensor:
        """Speaker embeddings (B, D) of norm 1, emotions (B, E) if any -> what conditions every block (B, C)."""
        voice = F.silu(self.speaker(speaker * math.sqrt(speaker.shape[1])))
        return voice if emotion is None else voice + self.feel(emotion)  # a sum: it goes over to voices never acted

    def encode(
        self,
        tokens: Tensor,
        lengths: Tensor,
        speaker: Tensor,
        dropout: ItemDropout | None = None,
        marks: Tensor | None = None,
    ) -> Encoding:
        """tokens (B, N), lengths (B,), speaker (B, C) from `condition` -> Encoding; dropout in training only.

        marks (B, N): ids of the marks at which clauses end (`synthesizer.clauses`).
        """
        mask = length_mask(lengths, tokens.shape[1])[..., None]
        hidden = self.encoder(self.embedding(tokens), speaker, mask)
        if dropout is not None:
            hidden = dropout(hidden, self.config.dropout, lengths)
        predictor_dropout = self.config.predictor_dropout
        drop = (lambda x: x) if dropout is None else (lambda x: dropout(x, predictor_dropout, lengths))
        predicted = self.predictor(hidden, speaker, mask, marks, drop) * mask
        return Encoding(hidden, predicted[..., 0], predicted[..., 1:], mask)

    def frames(
        self, hidden: Tensor, prosody: Tensor, index: Tensor, position: Tensor, speaker: Tensor, mask: Tensor
    ) -> Tensor:
        """Tokens to frames: hidden (B, N, C), prosody (B, N, 3), index (B, F), position (B, F, 3) -> (B, F, C)"""
        tokens = hidden + self.prosody(prosody.to(hidden.dtype))
        frames = tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))
        return self.decoder((frames + self.position(position.to(frames.dtype))) * mask, speaker, mask)

    def mels(
        self,
        encoding: Encoding,
        durations: Tensor,
        prosody: Tensor,
        speaker: Tensor,
        seeds: list[int],
        nobody: Encoding | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Inference: durations (B, N) in frames, prosody (B, N, 3), one seed an item -> mel (B, M, F), lengths (B,).

        nobody: the same text encoded without a voice (a condition of zeros), for guidance.
        """
        lengths = durations.sum(dim=1)
        index, position = upsampling(durations)
        mask = length_mask(lengths, index.shape[1])[..., None]
        hidden = self.frames(encoding.hidden, prosody, index, position, speaker, mask)
        mel = self.mean(hidden) * mask
        if self.flow is not None:
            away = None
            if nobody is not None:
                silent = torch.zeros_like(speaker)
                other = self.frames(nobody.hidden, prosody, index, position, silent, mask)
                away = (self.mean(other) * mask, other, silent)
            noise = normal_noise(lengths, mel, [torch.Generator().manual_seed(seed) for seed in seeds])
            mel = self.flow.sample(noise, mel, hidden, speaker, mask, away)
        return (mel * self.mel_std + self.mel_mean).transpose(1, 2), lengths


def upsampling(durations: Tensor) -> tuple[Tensor, Tensor]:
    """durations (B, N) in frames -> token of each frame (B, F) and its place in the token (B, F, 3).

    The place is (fraction from the left, fraction from the right, log duration). Frames past an item's end repeat its
    last place; mask them.
    """
    ends = durations.cumsum(dim=1)
    frames = torch.arange(max(1, int(ends[:, -1].max())), device=durations.device)
    index = torch.searchsorted(ends, frames.expand(len(ends), -1).contiguous(), right=True)
    index = index.clamp(max=durations.shape[1] - 1)
    length = durations.gather(1, index).clamp(min=1).float()
    left = (frames - (ends.gather(1, index) - durations.gather(1, index)) + 0.5) / length
    left = left.clamp(0, 1)
    return index, torch.stack([left, 1 - left, length.log()], dim=-1)


def whole_durations(durations: Tensor, lengths: Tensor, rate: float = 1.0) -> Tensor:
    """Predicted durations (B, N) in fractions of frames -> whole ones, `rate` times faster.

    Boundaries are rounded, not durations, so errors do not add up and the sum is exact to half a frame.
    """
    mask = length_mask(lengths, durations.shape[1])
    ends = (durations.clamp(min=0) * mask / rate).cumsum(dim=1).round().long()
    return torch.diff(ends, dim=1, prepend=ends.new_zeros(len(ends), 1))
