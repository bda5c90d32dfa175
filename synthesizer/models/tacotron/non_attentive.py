"""Non-Attentive Tacotron (arXiv 2010.04301): what the decoder sees of the text follows durations that are predicted.

Encoder, decoder cells and flow are those of `synthesizer.models.tacotron.network`. A step of `reduction` frames sees
the mean of what its frames say, so that no token is passed over, however short it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.batches import AutoregressiveBatch
from synthesizer.config import SynthesizerConfig
from synthesizer.models.alignment_quality import AlignmentQuality, planned_quality
from synthesizer.models.autoregressive import Memory, previous_frames
from synthesizer.models.base import AcousticModel, Generated, GenerationSettings, ModelInput, Recording, require_finite
from synthesizer.models.durations import Predictor, planned_durations, upsampled
from synthesizer.models.flow import FlowConditioning, FlowOutput, FlowPostnet
from synthesizer.models.layers import ItemDropout
from synthesizer.models.tacotron.cbhg import Dropout, no_dropout
from synthesizer.models.tacotron.decoder import PlannedDecoder
from synthesizer.models.tacotron.native import NativePlannedDecoder, library_for
from synthesizer.models.tacotron.network import Encoder
from synthesizer.text.symbols import SymbolTable


@dataclass(frozen=True)
class TimedMemory(Memory):
    """The text, and how long it predicts each token to last."""

    durations_log: Tensor  # (B, N) of 1 + frames


class NonAttentiveOutput(NamedTuple):
    """What a training pass makes."""

    mel: Tensor  # (B, M, F) before the flow
    durations_log: Tensor  # (B, N)
    flow: FlowOutput


class NonAttentiveTacotron(AcousticModel):
    """tokens and a speaker embedding to a mel; mels are (B, M, F), S = F / reduction steps."""

    needs_durations = True
    native_free_run: Callable[[Tensor], Tensor] | None = None  # in place of the decoder's own loop

    def __init__(self, config: SynthesizerConfig, n_symbols: int, n_mels: int) -> None:
        super().__init__()
        sizes = self.config = config.tacotron
        memory = sizes.encoder + config.speaker_size
        self.emotion = None
        self.encoder = Encoder(sizes, n_symbols)
        self.duration_input = nn.Linear(memory, sizes.durations)
        self.durations = Predictor(sizes.durations, 1)
        self.position = nn.Linear(3, memory, bias=False)  # where in its token a frame is
        self.decoder = PlannedDecoder(sizes, memory, n_mels)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.zeros_(self.position.weight)  # so that it begins as a Tacotron that it goes on from
        self.flow = FlowPostnet(config.flow, config.sampling, n_mels, memory, config.speaker_size)

    @property
    def reduction(self) -> int:
        """Frames that a decoder step makes."""
        return self.config.max_reduction

    def encode(self, tokens: Tensor, lengths: Tensor, speaker: Tensor, dropout: Dropout = no_dropout) -> TimedMemory:
        """tokens (B, N), lengths (B,), speaker (B, D): the d-vector stands beside every encoder state."""
        values, mask = self.encoder.with_speaker(tokens, lengths, speaker, dropout)
        hidden = self.duration_input(values)
        mean = (hidden * mask[..., None]).sum(dim=1) / lengths[:, None]  # of the sentence and the voice
        durations_log = self.durations(hidden * mask[..., None], F.silu(mean), mask[..., None]).squeeze(-1)
        return TimedMemory(values, mask, speaker, durations_log)

    def seen(self, memory: TimedMemory, durations: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """durations (B, N) in frames -> what each of so many frames says (B, F, E), and its token (B, F).

        Frames after the end say what the last one says.
        """
        places = torch.arange(frames, device=durations.device).expand(len(durations), -1)
        index, position = upsampled(durations, places)
        values = memory.values.gather(1, index[..., None].expand(-1, -1, memory.values.shape[2]))
        return values + self.position(position.to(values.dtype)), index

    def forward(self, batch: AutoregressiveBatch) -> NonAttentiveOutput:
        """Teacher forcing of a batch, which has `durations`; shapes as in `AutoregressiveBatch`."""
        dropout = ItemDropout(batch["seeds"], batch["mel"].device) if self.training else no_dropout
        memory = self.encode(batch["tokens"], batch["token_lengths"], batch["speaker"], dropout)
        seen, _ = self.seen(memory, batch["durations"], batch["mel"].shape[2])
        smooth = self._forced(seen, batch["mel"], batch["mel_lengths"], dropout)
        conditioning = FlowConditioning(seen, batch["speaker"], batch["seeds"].tolist())
        flow = self.flow(smooth, conditioning, batch["mel"], batch["mel_lengths"])
        return NonAttentiveOutput(smooth, memory.durations_log, flow)

    def _forced(self, seen: Tensor, mel: Tensor, lengths: Tensor, dropout: Dropout) -> Tensor:
        """The smooth mel (B, M, F) with the true frames before each step; seen (B, F, E), mel (B, M, F)."""
        steps = torch.div(lengths + self.reduction - 1, self.reduction, rounding_mode="floor")
        prenet = self.decoder.prenet(previous_frames(mel, self.reduction), dropout, steps)
        return self.decoder(self._of_steps(seen), prenet)

    def _of_steps(self, seen: Tensor) -> Tensor:
        """Means over the frames of each step: (B, F, E), F a multiple of the reduction -> (B, S, E)"""
        return seen.unflatten(1, (-1, self.reduction)).mean(dim=2)

    def generate(self, inputs: ModelInput, settings: GenerationSettings) -> list[Generated]:
        """The mel of each sentence (see `AcousticModel.generate`)."""
        memory = self.encode(inputs.tokens, inputs.token_lengths, inputs.speaker)
        require_finite(memory.durations_log, "durations")
        durations = planned_durations(memory.durations_log, inputs.tokens, inputs.token_lengths, settings)
        mels, said, lengths = self.spoken(memory, durations, inputs.speaker, inputs.seeds)
        require_finite(mels, "mels")
        mels = mels.clamp(-settings.mel.max_abs, settings.mel.max_abs)
        sizes = zip(mels, said, lengths.tolist(), inputs.token_lengths.tolist(), strict=True)
        return [Generated(mel[:, :n], places[:n, :tokens], "durations") for mel, places, n, tokens in sizes]

    def use_native_decoder(self) -> None:
        """Decode by `NativePlannedDecoder` (see `AcousticModel.use_native_decoder`)."""
        if self.native_free_run is None and (library := library_for(self.decoder)) is not None:
            self.native_free_run = NativePlannedDecoder(self.decoder, library).free_run

    def spoken(
        self, memory: TimedMemory, durations: Tensor, speaker: Tensor, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """durations (B, N) in frames -> mel (B, M, F), alignment (B, F, N), lengths (B,) in frames"""
        lengths = durations.sum(dim=1)
        frames = max(1, int(lengths.max()))
        seen, index = self.seen(memory, durations, frames + -frames % self.reduction)
        run = self.native_free_run or self.decoder.free_run
        smooth = run(self._of_steps(seen))[:, :, :frames]
        mels = self.flow.draw(smooth, FlowConditioning(seen[:, :frames], speaker, seeds), lengths)
        return mels, F.one_hot(index[:, :frames], durations.shape[1]), lengths

    def teacher_forced(self, inputs: ModelInput, recording: Recording, silence: float) -> Tensor:
        """The mel (1, M, F) with the true frame before each step and the durations of the recording."""
        assert recording.durations is not None
        frames = recording.mel.shape[2]
        mel = F.pad(recording.mel, (0, -frames % self.reduction), value=silence)  # the last step is a whole one
        lengths = torch.tensor([frames], device=mel.device)
        memory = self.encode(inputs.tokens, inputs.token_lengths, inputs.speaker)
        seen, _ = self.seen(memory, recording.durations, mel.shape[2])
        smooth = self._forced(seen, mel, lengths, no_dropout)[:, :, :frames]
        return self.flow.draw(smooth, FlowConditioning(seen[:, :frames], inputs.speaker, inputs.seeds), lengths)

    def alignment_quality(self, alignment: Tensor, tokens: Sequence[int], table: SymbolTable) -> AlignmentQuality:
        """The quality of planned durations."""
        return planned_quality(alignment, tokens, table)
