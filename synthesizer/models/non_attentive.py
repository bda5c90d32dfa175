"""What the non-attentive networks share: what their decoders see of the text follows durations that are predicted.

Each is the parallel synthesizer (`synthesizer.models.parallel`: durations, prosody, the voice, the flow), but that an
autoregressive decoder makes the smooth mel around which the flow draws. A step of `reduction` frames sees what these
say, so that no token is passed over, and the last frame of the step before it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.config import SynthesizerConfig
from synthesizer.models.autoregressive import previous_frames
from synthesizer.models.layers import HashedDropout
from synthesizer.models.parallel import Parallel


class StepSizes(NamedTuple):
    """Of a decoder's steps."""

    width: int  # channels of what a step sees of the text
    reduction: int  # mel frames that it makes
    own_frames: float  # part of the items that are learned from frames which the network has made itself


class NonAttentive(Parallel):
    """Tokens and a voice to a mel. Mels are (B, F, M) in here, normalized; S steps of `reduction` frames.

    width: channels of what a step sees of the text, where C are those of the parallel synthesizer.
    """

    @abstractmethod
    def step_sizes(self, config: SynthesizerConfig) -> StepSizes:
        """Sizes of the steps."""

    @abstractmethod
    def add_steps(self, config: SynthesizerConfig, width: int, n_mels: int) -> None:
        """What `steps_at_once` and `free_run` need."""

    @abstractmethod
    def steps_at_once(self, seen: Tensor, heard: Tensor, dropout: HashedDropout | None) -> Tensor:
        """Training: what each step sees of the text (B, S, width), the frame before it heard (B, S, M) -> (B, F, M).

        Mels are not normalized here and in `free_run`; dropout is that of the prenet, in training only.
        """

    @abstractmethod
    def free_run(self, seen: Tensor) -> Tensor:
        """One step after another, each from the last frame of the one before: seen (B, S, width) -> (B, F, M)"""

    def add_smooth_mel(self, config: SynthesizerConfig, n_mels: int) -> None:
        """What `smooth_mel` needs."""
        width, self.reduction, self.own_frames = self.step_sizes(config)
        self.step_input = nn.Linear(self.reduction * config.parallel.channels, width)
        self.step_voice = nn.Linear(config.parallel.channels, width)
        self.add_steps(config, width, n_mels)

    def smooth_mel(
        self,
        hidden: Tensor,
        vector: Tensor,
        mask: Tensor,
        recorded: Tensor | None = None,
        dropout: HashedDropout | None = None,
    ) -> Tensor:
        """The smooth mel (B, F, M) of hidden frames (B, F, C), vector (B, C) of the voice, mask (B, F, 1).

        Each step hears the last frame of the one before: of `recorded` (B, F, M), where that is given, else its own.
        """
        frames, missing = hidden.shape[1], -hidden.shape[1] % self.reduction
        hidden = F.pad(hidden, (0, 0, 0, missing))
        seen = self.step_input(hidden.unflatten(1, (-1, self.reduction)).flatten(2)) + self.step_voice(vector)[:, None]
        smooth = self.free_run(seen) if recorded is None else self.forced(seen, recorded, missing, dropout)
        return self.normalized(smooth[:, :frames]) * mask

    def forced(self, seen: Tensor, recorded: Tensor, missing: int, dropout: HashedDropout | None) -> Tensor:
        """All steps at once: what each sees of the text (B, S, width), recorded (B, F, M) -> (B, F, M) not normalized.

        missing: frames that the last step lacks.
        """
        frames = F.pad(self.denormalized(recorded).transpose(1, 2), (0, missing))
        heard = previous_frames(frames, self.reduction)
        if dropout is not None and self.own_frames:  # so that it goes on well from what is not perfect
            with torch.no_grad():
                made = self.steps_at_once(seen, heard, dropout)
            others = dropout.keep(torch.Size((len(seen), 1, 1)), self.own_frames)
            heard = torch.where(others, heard, previous_frames(made.transpose(1, 2), self.reduction))
        return self.steps_at_once(seen, heard, dropout)
