"""Non-Attentive Tacotron (arXiv 2010.04301): what the decoder sees of the text follows durations that are predicted.

Tacotron's prenet and recurrent cells make the smooth mel (`synthesizer.models.non_attentive`). The text is read as in
the parallel synthesizer: a CBHG learned that too slowly (`saved_models/default/MODEL_CARD.md`).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from synthesizer.config import SynthesizerConfig
from synthesizer.models.layers import HashedDropout
from synthesizer.models.non_attentive import NonAttentive, StepSizes
from synthesizer.models.tacotron.cbhg import no_dropout
from synthesizer.models.tacotron.decoder import PlannedDecoder
from synthesizer.models.tacotron.native import NativePlannedDecoder, library_for


class NonAttentiveTacotron(NonAttentive):
    """Tokens and a voice to a mel. Mels are (B, F, M) in here; a step sees as many channels of the text as C."""

    native_free_run: Callable[[Tensor], Tensor] | None = None  # in place of the decoder's own loop

    def step_sizes(self, config: SynthesizerConfig) -> StepSizes:
        """Sizes of the steps."""
        return StepSizes(config.parallel.channels, config.tacotron.max_reduction, config.tacotron.own_frames)

    def add_steps(self, config: SynthesizerConfig, width: int, n_mels: int) -> None:
        """The decoder."""
        self.steps = PlannedDecoder(config.tacotron, width, n_mels)

    def steps_at_once(self, seen: Tensor, heard: Tensor, dropout: HashedDropout | None) -> Tensor:
        """Training: seen (B, S, C), heard (B, S, M) -> (B, F, M) (see `NonAttentive.steps_at_once`)"""
        prenet = self.steps.prenet(heard, no_dropout if dropout is None else dropout)
        return self.steps(seen, prenet).transpose(1, 2)

    def free_run(self, seen: Tensor) -> Tensor:
        """One step after another: seen (B, S, C) -> (B, F, M) (see `NonAttentive.free_run`)"""
        return (self.native_free_run or self.steps.free_run)(seen).transpose(1, 2)

    def use_native_decoder(self) -> None:
        """Decode by `NativePlannedDecoder` (see `AcousticModel.use_native_decoder`)."""
        if self.native_free_run is None and (library := library_for(self.steps)) is not None:
            self.native_free_run = NativePlannedDecoder(self.steps, library).free_run
