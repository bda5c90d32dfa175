"""Tacotron's decoder: location-sensitive attention and two residual LSTMs; teacher forcing and free running loop over
its `step`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from synthesizer.config import TacotronConfig
from synthesizer.models.tacotron.attention import LocationSensitiveAttention, TacotronMemory
from synthesizer.models.tacotron.cbhg import PreNet, no_dropout


class CellState(NamedTuple):
    """What the recurrent cells hand to the next step."""

    query: Tensor  # (B, A) hidden state of the attention GRU
    lstm1: tuple[Tensor, Tensor]  # hidden state and cell (B, H)
    lstm2: tuple[Tensor, Tensor]


class DecoderState(NamedTuple):
    """What a step of a decoder with attention hands to the next."""

    cells: CellState
    context: Tensor  # (B, E)
    cumulative: Tensor  # (B, N) sum of all attention so far


class DecoderCells(nn.Module):
    """What both decoders have: a GRU, two residual LSTMs, and what makes `reduction` mel frames of their states."""

    def __init__(self, config: TacotronConfig, n_mels: int) -> None:
        super().__init__()
        self.n_mels, self.max_reduction = n_mels, config.max_reduction
        self.prenet = PreNet(n_mels, config.prenet, config.prenet, config.dropout)

    def add_cells(self, config: TacotronConfig, memory: int) -> None:
        """The rest, after what a decoder has of its own: the order decides which initial values are drawn."""
        self.attn_rnn = nn.GRUCell(memory + config.prenet, config.decoder)
        self.rnn_input = nn.Linear(memory + config.decoder, config.lstm)
        self.res_rnn1 = nn.LSTMCell(config.lstm, config.lstm)
        self.res_rnn2 = nn.LSTMCell(config.lstm, config.lstm)
        self.mel_proj = nn.Linear(config.lstm, self.n_mels * config.max_reduction, bias=False)

    def queries(self, before: Tensor, prenet: Tensor) -> Tensor:
        """The GRU's states of all steps at once: before (B, S, E) of the step before, prenet (B, S, P) -> (B, S, A)"""
        return _over_time(torch.gru, self.attn_rnn, torch.cat([before, prenet], dim=2))

    def hidden(self, seen: Tensor, queries: Tensor) -> Tensor:
        """The LSTMs' states of all steps at once: seen (B, S, E), queries (B, S, A) -> (B, S, H)"""
        x = self.rnn_input(torch.cat([seen, queries], dim=2))
        x = x + _over_time(torch.lstm, self.res_rnn1, x)
        return x + _over_time(torch.lstm, self.res_rnn2, x)

    def first_cells(self, values: Tensor) -> CellState:
        """The state before the first step, of as many items as `values` (B, ...): zeros."""
        query, zeros = (values.new_zeros(len(values), cell.hidden_size) for cell in (self.attn_rnn, self.res_rnn1))
        return CellState(query, (zeros, zeros), (zeros, zeros))

    def next_query(self, before: Tensor, prenet: Tensor, cells: CellState) -> Tensor:
        """`queries` of one step: before (B, E), prenet (B, P) -> (B, A)"""
        return self.attn_rnn(torch.cat([before, prenet], dim=1), cells.query)

    def next_hidden(
        self, seen: Tensor, query: Tensor, cells: CellState, keep: Tensor | None = None
    ) -> tuple[Tensor, CellState]:
        """`hidden` of one step: seen (B, E), query (B, A) -> (B, H) and the new state.

        keep (2, B, H): true keeps the LSTMs' hidden states of the step before (zoneout).
        """
        x = self.rnn_input(torch.cat([seen, query], dim=1))
        hidden1, cell1 = self.res_rnn1(x, cells.lstm1)
        hidden1 = hidden1 if keep is None else torch.where(keep[0], cells.lstm1[0], hidden1)
        x = x + hidden1
        hidden2, cell2 = self.res_rnn2(x, cells.lstm2)
        hidden2 = hidden2 if keep is None else torch.where(keep[1], cells.lstm2[0], hidden2)
        return x + hidden2, CellState(query, (hidden1, cell1), (hidden2, cell2))

    def mel_weight(self, reduction: int) -> Tensor:
        """The rows of `mel_proj` that `reduction` frames need: (M * reduction, H); the others need not be read."""
        rows = self.mel_proj.weight.view(self.n_mels, self.max_reduction, -1)
        return rows[:, :reduction].reshape(self.n_mels * reduction, -1)

    def frames(self, hidden: Tensor, mel_weight: Tensor) -> Tensor:
        """hidden (..., H) of the LSTMs -> frames (..., M, r)"""
        return nn.functional.linear(hidden, mel_weight).unflatten(-1, (self.n_mels, -1))


class Decoder(DecoderCells):
    """One step of `reduction` mel frames."""

    r: Tensor

    def __init__(self, config: TacotronConfig, memory: int, n_mels: int) -> None:
        super().__init__(config, n_mels)
        self.register_buffer("r", torch.tensor(1, dtype=torch.int32))
        self.attn_net = LocationSensitiveAttention(
            config.decoder, config.attention_filters, config.attention_kernel, config.padding
        )
        self.add_cells(config, memory)
        self.stop_proj = nn.Linear(config.lstm + memory, 1)

    def start(self, memory: TacotronMemory) -> DecoderState:
        """values (B, N, E) of the text -> the state before the first step: zeros, of the shapes in `DecoderState`."""
        values = memory.values
        return DecoderState(self.first_cells(values), torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, :, 0]))

    def step(
        self,
        memory: TacotronMemory,
        state: DecoderState,
        prenet: Tensor,
        keep: Tensor | None = None,
        allowed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, DecoderState]:
        """prenet (B, P) of the last frame so far; keep (2, B, H) for zoneout; allowed (B, N) places of attention.

        Returns what mel and stop are projected from, (B, H + E), the attention (B, N) and the new state.
        """
        query = self.next_query(state.context, prenet, state.cells)
        attention, context = self.attn_net(query, memory, state.cumulative, allowed)
        hidden, cells = self.next_hidden(context, query, state.cells, keep)
        state = DecoderState(cells, context, state.cumulative + attention)
        return torch.cat([hidden, context], dim=1), attention, state

    def forced_alignment(self, memory: TacotronMemory, prenet: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """All steps at once, each as if the attention before it had been `given` (B, S, N); prenet (B, S, P).

        Without zoneout, for which a network must run step by step. Returns what `step` does, but for the state: (B, S,
        H + E) and the attention (B, S, N).
        """
        before = torch.cat([torch.zeros_like(given[:, :1]), given[:, :-1]], dim=1)
        queries = self.queries(torch.bmm(before, memory.values), prenet)
        attention, context = self.attn_net.steps(queries, memory, before.cumsum(dim=1))
        return torch.cat([self.hidden(context, queries), context], dim=2), attention

    def project(self, output: Tensor, mel_weight: Tensor) -> tuple[Tensor, Tensor]:
        """output (..., H + E) of `step` -> frames (..., M, r), logit of the stop (...)"""
        return self.frames(output[..., : self.mel_proj.in_features], mel_weight), self.stop_proj(output).squeeze(-1)


class PlannedDecoder(DecoderCells):
    """A decoder that is told what each step sees of the text: it has no attention, and stops where the text ends.

    Each step makes `max_reduction` frames.
    """

    def __init__(self, config: TacotronConfig, memory: int, n_mels: int) -> None:
        super().__init__(config, n_mels)
        self.add_cells(config, memory)

    def forward(self, seen: Tensor, prenet: Tensor) -> Tensor:
        """All steps at once: seen (B, S, E), prenet (B, S, P) of the frames before -> mel (B, M, F)"""
        before = torch.cat([torch.zeros_like(seen[:, :1]), seen[:, :-1]], dim=1)
        hidden = self.hidden(seen, self.queries(before, prenet))
        return self.frames(hidden, self.mel_proj.weight).transpose(1, 2).flatten(2)

    def free_run(self, seen: Tensor) -> Tensor:
        """seen (B, S, E) -> mel (B, M, F), each step from the last frame of the one before, without dropout"""
        cells, mels = self.first_cells(seen), []
        frame, before = seen.new_zeros(len(seen), self.n_mels), torch.zeros_like(seen[:, 0])
        for now in seen.unbind(dim=1):
            query = self.next_query(before, self.prenet(frame, no_dropout), cells)
            hidden, cells = self.next_hidden(now, query, cells)
            mels.append(self.frames(hidden, self.mel_proj.weight))
            frame, before = mels[-1][:, :, -1], now
        return torch.cat(mels, dim=2)


def _over_time(run: Callable[..., tuple], cell: nn.RNNCellBase, x: Tensor) -> Tensor:
    """A cell's states (B, S, H) over x (B, S, C), from zeros, by `torch.gru` or `torch.lstm`: a call for all steps."""
    start = x.new_zeros(1, len(x), cell.hidden_size)
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    state = start if isinstance(cell, nn.GRUCell) else (start, start)
    return run(x, state, weights, True, 1, 0.0, cell.training, False, True)[0]
