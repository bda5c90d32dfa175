"""Tacotron as in the published SV2TTS checkpoints: CBHG encoder, location-sensitive attention, two residual LSTMs.

The names of modules are those of the published state_dict (facts: sizes and order of operations). The decoder is one
`step`; teacher forcing and free running are two short loops over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from synthesizer.config import SynthesizerConfig, TacotronConfig
from synthesizer.models.flow import FlowPostnet, Spoken
from synthesizer.models.layers import ItemDropout, length_mask
from synthesizer.models.tacotron.attention import LocationSensitiveAttention, Memory
from synthesizer.models.tacotron.cbhg import CBHG, Dropout, PreNet
from synthesizer.models.tacotron.native import NativeDecoder, library
from utils.errors import CloningError


@dataclass(frozen=True)
class Randomness:
    """Everything random in a pass: dropout of the two prenets, and which hidden states are kept (zoneout)."""

    encoder: Dropout
    decoder: Dropout
    zoneout: Tensor | None = None  # (S, 2, B, H) bool, true keeps the state of the step before; training only

    @classmethod
    def of(cls, seeds: Tensor | list[int], device: torch.device | str = "cpu") -> Randomness:
        """From one seed an item: what an item gets depends on nothing else in the batch."""
        dropout = ItemDropout(seeds, device)
        return cls(dropout, dropout)


class DecoderState(NamedTuple):
    """What a decoder step hands to the next."""

    query: Tensor  # (B, A) hidden state of the attention GRU
    hidden1: Tensor  # (B, H) and so on, of the two LSTMs
    cell1: Tensor
    hidden2: Tensor
    cell2: Tensor
    context: Tensor  # (B, E)
    cumulative: Tensor  # (B, N) sum of all attention so far


class Stopper(Protocol):
    """Told each step's stop probabilities (B,) and attention (B, N); says whether every item has stopped."""

    def __call__(self, stop: Tensor, attention: Tensor) -> bool: ...


class Encoder(nn.Module):
    """Symbols to states: (B, N) -> (B, N, encoder)."""

    def __init__(self, config: TacotronConfig, n_symbols: int) -> None:
        super().__init__()
        size = config.encoder
        self.embedding = nn.Embedding(n_symbols, config.embedding)
        self.pre_net = PreNet(config.embedding, size, size, config.dropout)
        self.cbhg = CBHG(size, size, (size, size), config.encoder_banks, config.highways, config.norm)
        self.masked = config.padding == "masked"

    def forward(self, tokens: Tensor, lengths: Tensor, dropout: Dropout) -> Tensor:
        x = self.pre_net(self.embedding(tokens), dropout, lengths)
        return self.cbhg(x.transpose(1, 2), lengths if self.masked else None)


class Decoder(nn.Module):
    """One step of `reduction` mel frames."""

    def __init__(self, config: TacotronConfig, memory: int, n_mels: int) -> None:
        super().__init__()
        self.n_mels, self.max_reduction = n_mels, config.max_reduction
        self.register_buffer("r", torch.tensor(1, dtype=torch.int32))
        self.prenet = PreNet(n_mels, config.prenet, config.prenet, config.dropout)
        self.attn_net = LocationSensitiveAttention(
            config.decoder, config.attention_filters, config.attention_kernel, config.padding
        )
        self.attn_rnn = nn.GRUCell(memory + config.prenet, config.decoder)
        self.rnn_input = nn.Linear(memory + config.decoder, config.lstm)
        self.res_rnn1 = nn.LSTMCell(config.lstm, config.lstm)
        self.res_rnn2 = nn.LSTMCell(config.lstm, config.lstm)
        self.mel_proj = nn.Linear(config.lstm, n_mels * config.max_reduction, bias=False)
        self.stop_proj = nn.Linear(config.lstm + memory, 1)

    def start(self, memory: Memory) -> DecoderState:
        values = memory.values
        batch, size = values.shape[0], self.res_rnn1.hidden_size
        zeros = values.new_zeros
        hidden = [zeros(batch, size) for _ in range(4)]
        return DecoderState(
            zeros(batch, self.attn_rnn.hidden_size),
            *hidden,
            zeros(batch, values.shape[2]),
            zeros(batch, values.shape[1]),
        )

    def mel_weight(self, reduction: int) -> Tensor:
        """The rows of `mel_proj` that `reduction` frames need: (M * reduction, H); the others need not be read."""
        rows = self.mel_proj.weight.view(self.n_mels, self.max_reduction, -1)
        return rows[:, :reduction].reshape(self.n_mels * reduction, -1)

    def step(
        self,
        memory: Memory,
        state: DecoderState,
        prenet: Tensor,
        keep: Tensor | None = None,
        allowed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, DecoderState]:
        """prenet (B, P) of the last frame so far; keep (2, B, H) for zoneout; allowed (B, N) places of attention.

        Returns what mel and stop are projected from, (B, H + E), the attention (B, N) and the new state.
        """
        query = self.attn_rnn(torch.cat([state.context, prenet], dim=1), state.query)
        attention, context = self.attn_net(query, memory, state.cumulative, allowed)
        x = self.rnn_input(torch.cat([context, query], dim=1))
        hidden1, cell1 = self.res_rnn1(x, (state.hidden1, state.cell1))
        hidden1 = hidden1 if keep is None else torch.where(keep[0], state.hidden1, hidden1)
        x = x + hidden1
        hidden2, cell2 = self.res_rnn2(x, (state.hidden2, state.cell2))
        hidden2 = hidden2 if keep is None else torch.where(keep[1], state.hidden2, hidden2)
        x = x + hidden2
        state = DecoderState(query, hidden1, cell1, hidden2, cell2, context, state.cumulative + attention)
        return torch.cat([x, context], dim=1), attention, state

    def led(self, memory: Memory, prenet: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """All steps at once, each as if the attention before it had been `given` (B, S, N); prenet (B, S, P).

        Without zoneout, for which a network must run step by step. Returns what `step` does, but for the state: (B, S,
        H + E) and the attention (B, S, N).
        """
        before = torch.cat([torch.zeros_like(given[:, :1]), given[:, :-1]], dim=1)
        query = _over_time(torch.gru, self.attn_rnn, torch.cat([torch.bmm(before, memory.values), prenet], dim=2))
        attention, context = self.attn_net.steps(query, memory, before.cumsum(dim=1))
        x = self.rnn_input(torch.cat([context, query], dim=2))
        x = x + _over_time(torch.lstm, self.res_rnn1, x)
        x = x + _over_time(torch.lstm, self.res_rnn2, x)
        return torch.cat([x, context], dim=2), attention

    def project(self, output: Tensor, mel_weight: Tensor) -> tuple[Tensor, Tensor]:
        """output (..., H + E) of `step` -> frames (..., M, r), logit of the stop (...)"""
        frames = nn.functional.linear(output[..., : self.mel_proj.in_features], mel_weight)
        return frames.unflatten(-1, (self.n_mels, -1)), self.stop_proj(output).squeeze(-1)


class Tacotron(nn.Module):
    """tokens and a speaker embedding to a mel; mels are (B, M, F)."""

    settled = False  # the weights change no more: where it can, native code generates, from a copy of them

    def __init__(self, config: SynthesizerConfig, n_symbols: int, n_mels: int) -> None:
        super().__init__()
        sizes = self.config = config.tacotron
        memory = sizes.encoder + config.speaker_size
        self.encoder = Encoder(sizes, n_symbols)
        self.encoder_proj = nn.Linear(memory, sizes.decoder, bias=False)
        self.decoder = Decoder(sizes, memory, n_mels)
        self.flow = self.postnet = None
        if not config.flow.blocks:
            self.postnet = CBHG(
                n_mels, sizes.postnet, (sizes.postnet, n_mels), sizes.postnet_banks, sizes.highways, sizes.norm
            )
            self.post_proj = nn.Linear(sizes.postnet, n_mels, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        if config.flow.blocks:  # last: it has initial values of its own
            self.flow = FlowPostnet(config.flow, n_mels, memory, config.speaker_size)

    @property
    def reduction(self) -> int:
        """Frames that a decoder step makes: part of the weights, since it grows finer in training."""
        return int(self.decoder.r)

    def set_reduction(self, reduction: int) -> None:
        if not 1 <= reduction <= self.config.max_reduction:
            raise ValueError(f"reduction is {reduction}; it must be 1 to {self.config.max_reduction}")
        self.decoder.r.fill_(reduction)
        self.__dict__.pop("_native", None)

    def remember(self, tokens: Tensor, lengths: Tensor, speaker: Tensor, dropout: Dropout) -> Memory:
        """tokens (B, N), lengths (B,), speaker (B, D): the d-vector stands beside every encoder state."""
        states = self.encoder(tokens, lengths, dropout)
        values = torch.cat([states, speaker.unsqueeze(1).expand(-1, tokens.shape[1], -1)], dim=2)
        return self.decoder.attn_net.prepare(values, self.encoder_proj(values), length_mask(lengths, tokens.shape[1]))

    def forward(
        self, batch: Mapping[str, Tensor], randomness: Randomness | None = None, led: bool = False
    ) -> dict[str, Tensor]:
        """Teacher forcing: batch as of `SynthesisData.whole`, F a multiple of the reduction.

        led: the decoder is told which token it has just spoken, too. Then no step waits for the one before, and
        all are made at once.

        Returns mel and linear (before and after the postnet) (B, M, F), attention (B, S, N), logits stop (B, S); with a
        flow, what it learns from in place of linear.
        """
        target, reduction = batch["mel"], self.reduction
        steps = target.shape[2] // reduction
        if randomness is None:
            randomness = self._randomness(batch["seeds"], steps, target.device)
        memory = self.remember(batch["tokens"], batch["token_lengths"], batch["speaker"], randomness.encoder)
        previous = target[:, :, reduction - 1 : -1 : reduction]  # the last frame of each step but the last
        previous = torch.cat([torch.zeros_like(target[:, :, :1]), previous], dim=2).transpose(1, 2)
        step_lengths = torch.div(batch["mel_lengths"] + reduction - 1, reduction, rounding_mode="floor")
        prenet = self.decoder.prenet(previous, randomness.decoder, step_lengths)
        if led:
            last = (batch["token_lengths"] - 1)[:, None]  # is spoken on when all else is said
            spoken = torch.where(batch["targets"] < 0, last, batch["targets"])
            given = nn.functional.one_hot(spoken, memory.mask.shape[1]).to(memory.values.dtype)
            output, attention = self.decoder.led(memory, prenet, given)
        else:
            output, attention = self._step_by_step(memory, prenet, randomness.zoneout)
        frames, stop = self.decoder.project(output, self.decoder.mel_weight(reduction))
        mel = frames.transpose(1, 2).flatten(2)  # (B, S, M, r) -> (B, M, F)
        found = {"mel": mel, "attention": attention, "stop": stop}
        if self.flow is not None:
            spoken = Spoken.of(attention, memory.values, self.reduction, batch["speaker"], batch["seeds"].tolist())
            return found | self.flow(mel, spoken, target, step_lengths * reduction)
        return found | {"linear": self.post(mel, step_lengths * reduction)}

    def _step_by_step(self, memory: Memory, prenet: Tensor, zoneout: Tensor | None) -> tuple[Tensor, Tensor]:
        state, outputs, attentions = self.decoder.start(memory), [], []
        for step in range(prenet.shape[1]):
            keep = None if zoneout is None else zoneout[step]
            output, attention, state = self.decoder.step(memory, state, prenet[:, step], keep)
            outputs.append(output)
            attentions.append(attention)
        return torch.stack(outputs, 1), torch.stack(attentions, 1)

    def generate(
        self, memory: Memory, dropout: Dropout, stopper: Stopper, max_steps: int, reach: int = 0
    ) -> dict[str, Tensor]:
        """Free running until `stopper` says so, at most `max_steps` steps.

        reach: tokens forward that the attention may move in a step, never back; 0: wherever it likes.
        Returns mel (B, M, F), attention (B, S, N) and probabilities stop (B, S); `post` makes the final mel of them.
        """
        if self.settled and memory.values.device.type == "cpu" and memory.values.dtype == torch.float32:
            if self._native is not None:
                return self._native.generate(memory, dropout, stopper, max_steps, reach)
        weight = self.decoder.mel_weight(self.reduction)
        state, frame = self.decoder.start(memory), memory.values.new_zeros(len(memory.values), self.decoder.n_mels)
        tokens = torch.arange(memory.mask.shape[1], device=memory.mask.device)
        place = tokens.new_zeros(len(memory.mask))
        mels, attentions, stops = [], [], []
        for _ in range(max_steps):
            prenet = self.decoder.prenet(frame, dropout)
            allowed = ((ahead := tokens - place[:, None]) >= 0) & (ahead <= reach) if reach else None
            output, attention, state = self.decoder.step(memory, state, prenet, allowed=allowed)
            place = attention.argmax(dim=1)
            frames, stop = self.decoder.project(output, weight)
            frame = frames[:, :, -1]
            mels.append(frames)
            attentions.append(attention)
            stops.append(stop.sigmoid())
            if stopper(stops[-1], attention):
                break
        return {"mel": torch.cat(mels, 2), "attention": torch.stack(attentions, 1), "stop": torch.stack(stops, 1)}

    @cached_property
    def _native(self) -> NativeDecoder | None:
        loaded = library()
        return loaded and NativeDecoder(self.decoder, self.reduction, loaded)

    def post(self, mel: Tensor, lengths: Tensor, spoken: Spoken | None = None) -> Tensor:
        """The postnet: mel (B, M, F), lengths (B,) in frames -> (B, M, F); `spoken` is for a flow."""
        if self.flow is not None:
            return self.flow.draw(mel, spoken, lengths)
        masked = lengths.clamp(max=mel.shape[2]) if self.config.padding == "masked" else None
        return self.post_proj(self.postnet(mel, masked)).transpose(1, 2)

    def _randomness(self, seeds: Tensor, steps: int, device: torch.device) -> Randomness:
        dropout = ItemDropout(seeds, device)
        zoneout = None
        if self.training and self.config.zoneout:
            shape = torch.Size([len(seeds), steps, 2, self.config.lstm])
            zoneout = ~dropout.keep(shape, self.config.zoneout, device)
            zoneout = zoneout.permute(1, 2, 0, 3)
        return Randomness(dropout, dropout, zoneout)


def _over_time(run: Callable[..., tuple], cell: nn.RNNCellBase, x: Tensor) -> Tensor:
    """A cell's states (B, S, H) over x (B, S, C), from zeros, by `torch.gru` or `torch.lstm`: a call for all steps."""
    start = x.new_zeros(1, len(x), cell.hidden_size)
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    state = start if isinstance(cell, nn.GRUCell) else (start, start)
    return run(x, state, weights, True, 1, 0.0, cell.training, False, True)[0]


def published_config(state: Mapping[str, Tensor], dropout: float = 0.5) -> tuple[SynthesizerConfig, int, int]:
    """Sizes of a published state_dict, read off its tensors: settings, number of symbols, number of mel channels.

    Raises CloningError where it lacks some, or they are of another layout.
    """
    try:
        n_symbols, embedding = state["encoder.embedding.weight"].shape
        lstm, n_mels = state["decoder.res_rnn1.weight_hh"].shape[1], state["post_proj.weight"].shape[0]
        encoder = state["encoder.pre_net.fc2.weight"].shape[0]
        sizes = TacotronConfig(
            embedding=embedding,
            encoder=encoder,
            decoder=state["decoder.attn_net.W.weight"].shape[0],
            lstm=lstm,
            postnet=state["post_proj.weight"].shape[1],
            encoder_banks=_count(state, "encoder.cbhg.conv1d_bank"),
            postnet_banks=_count(state, "postnet.conv1d_bank"),
            highways=_count(state, "postnet.highways"),
            prenet=state["decoder.prenet.fc1.weight"].shape[0],
            max_reduction=state["decoder.mel_proj.weight"].shape[0] // n_mels,
            dropout=dropout,
            attention_filters=state["decoder.attn_net.conv.weight"].shape[0],
            attention_kernel=state["decoder.attn_net.conv.weight"].shape[2],
            padding="published",
        )
        memory = state["encoder_proj.weight"].shape[1]
        return SynthesizerConfig("tacotron", speaker_size=memory - encoder, tacotron=sizes), n_symbols, n_mels
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CloningError(f"not a Tacotron of the published layout: {error}") from error


def published_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state_dict without what is not part of the network (training step, trimming threshold)."""
    return {name: value for name, value in state.items() if name not in ("step", "stop_threshold")}


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) + 1 :].split(".")[0] for name in state if name.startswith(f"{prefix}.")})
