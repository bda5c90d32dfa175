"""The published speaker encoder: a stack of LSTMs, a linear layer, ReLU, length 1."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor, nn

from encoder.config import EncoderConfig
from encoder.network import EncoderNetwork, full_lengths, normalized_log

NORM_EPSILON = 1e-5  # of the published network; keeps silence from dividing by zero
STEP_FRAMES = 32  # of `in_steps`


class LstmEncoder(EncoderNetwork):
    """Names of tensors are those of the published `encoder.pt` (similarity scale and bias included)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        sizes = config.lstm
        self.scale = sizes.scale
        self.lstm = nn.LSTM(config.mel.n_mels, sizes.hidden, sizes.layers, batch_first=True)
        for layer in range(sizes.layers):  # cells that keep at first: Jozefowicz et al., ICML 2015, sec. 2.2
            bias = getattr(self.lstm, f"bias_ih_l{layer}")
            nn.init.ones_(bias[sizes.hidden : 2 * sizes.hidden])
        self.linear = nn.Linear(sizes.hidden, config.embedding_size)
        self.similarity_weight = nn.Parameter(torch.tensor([10.0]))
        self.similarity_bias = nn.Parameter(torch.tensor([-5.0]))

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """mel (B, M, F) power, not log; lengths (B,) in frames -> embeddings (B, D), not negative, length 1.

        Without `lengths` every row is F frames long. Frames after a row's length change nothing.
        """
        frames = self._scaled(mel, lengths)
        if lengths is None:
            last = self.lstm(frames)[1][0][-1]
        else:
            outputs, _ = self.lstm(frames)
            rows = torch.arange(mel.size(0), device=mel.device)
            last = outputs[rows, lengths.clamp(min=1) - 1]
        return self._project(last)

    def in_steps(self, mel: Tensor) -> Generator[None, None, Tensor]:
        """As `forward` of full rows: mel (B, M, F) -> embeddings (B, D), in steps of STEP_FRAMES."""
        first, *others = self._scaled(mel, None).split(STEP_FRAMES, dim=1)
        state = self.lstm(first)[1]
        for frames in others:
            yield
            state = self.lstm(frames, state)[1]
        return self._project(state[0][-1])

    def _scaled(self, mel: Tensor, lengths: Tensor | None) -> Tensor:
        """mel (B, M, F) -> input of the LSTM (B, F, M)"""
        if self.scale == "log":
            mel = normalized_log(mel, full_lengths(mel) if lengths is None else lengths, "level")
        return mel.transpose(1, 2)

    def _project(self, last: Tensor) -> Tensor:
        raw = torch.relu(self.linear(last))
        return raw / (raw.norm(dim=1, keepdim=True) + NORM_EPSILON)
