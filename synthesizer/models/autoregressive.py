"""What Tacotron and the Transformer share: decoding step by step, teacher forcing, and a postnet or a flow after it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from synthesizer.batches import AutoregressiveBatch
from synthesizer.features import step_targets
from synthesizer.models.alignment_quality import MAX_FORWARD
from synthesizer.models.base import AcousticModel, Generated, GenerationSettings, ModelInput, Recording, require_finite
from synthesizer.models.decoding import DecoderOutput, FreeRun
from synthesizer.models.emotion import EmotionOutput
from synthesizer.models.flow import FlowConditioning, FlowOutput, FlowPostnet
from synthesizer.models.layers import ItemDropout, resample
from synthesizer.models.stopping import MIN_FRAMES, Stopper, StoppingCriteria, frame_limit


@dataclass(frozen=True)
class Memory:
    """The text as the decoder sees it."""

    values: Tensor  # (B, N, E)
    mask: Tensor  # (B, N) true for tokens
    condition: Tensor  # (B, C) who speaks, for the postnet


MemoryT = TypeVar("MemoryT", bound=Memory)


class AutoregressiveOutput(NamedTuple):
    """What a training pass makes; shapes as in `DecoderOutput`."""

    mel: Tensor
    attention: Tensor
    stop: Tensor  # logits
    linear: Tensor | None = None  # (B, M, F) after the postnet
    flow: FlowOutput | None = None  # in place of a postnet
    emotion: EmotionOutput | None = None


class AutoregressiveModel(AcousticModel, Generic[MemoryT]):
    """A network that makes `reduction` frames a step, each step from the last frame of the one before."""

    untimed_symbols: ClassVar[int] = 0  # at the end of a text, that take no time
    flow: FlowPostnet | None
    native_free_run: FreeRun[MemoryT] | None = None  # decodes in place of `free_run` (see `use_native_decoder`)

    @property
    @abstractmethod
    def reduction(self) -> int:
        """Frames that a decoder step makes."""

    @abstractmethod
    def encode(self, inputs: ModelInput, dropout: ItemDropout) -> MemoryT:
        """The text and the voice as the decoder sees them."""

    @abstractmethod
    def free_run(
        self, memory: MemoryT, dropout: ItemDropout, stopper: Stopper, max_steps: int, max_forward: int = 0
    ) -> DecoderOutput:
        """Decode until `stopper` says so, at most `max_steps` steps.

        max_forward: tokens that the attention may move forward in a step, never back; 0: as the network has it.
        """

    @abstractmethod
    def force(
        self, memory: MemoryT, mel: Tensor, lengths: Tensor, dropout: ItemDropout, targets: Tensor | None
    ) -> DecoderOutput:
        """Teacher forcing: decode with the true frames mel (B, M, F) of `lengths` (B,) before each step.

        targets (B, S): the token that each step says, -1 where it is not known.
        """

    @abstractmethod
    def post(
        self, mel: Tensor, lengths: Tensor, condition: Tensor, conditioning: FlowConditioning | None = None
    ) -> Tensor:
        """The postnet: mel (B, M, F), lengths (B,) in frames, condition (B, C) of the memory -> (B, M, F).

        conditioning: input of a flow in place of the postnet.
        """

    def least_frames(self, frame_seconds: float) -> int:
        """Frames before the stop token counts."""
        return MIN_FRAMES

    def kept_frames(self, mel: Tensor) -> int:
        """How many frames of a spoken mel (M, F) are kept."""
        return mel.shape[1]

    def conditioning(
        self, attention: Tensor, memory: MemoryT, speaker: Tensor, seeds: Sequence[int]
    ) -> FlowConditioning:
        """The input of a flow: attention (B, S, N), speaker (B, D), one seed an item."""
        return FlowConditioning.from_attention(attention, memory.values, self.reduction, speaker, seeds)

    def steps_of(self, lengths: Tensor) -> Tensor:
        """Frames (B,) -> decoder steps (B,), the last one whole."""
        return torch.div(lengths + self.reduction - 1, self.reduction, rounding_mode="floor")

    def previous_frames(self, mel: Tensor) -> Tensor:
        """mel (B, M, F) -> (B, S, M): the last frame of the step before each step, zeros before the first."""
        return previous_frames(mel, self.reduction)

    def training_output(
        self, decoded: DecoderOutput, memory: MemoryT, batch: AutoregressiveBatch, emotion: EmotionOutput | None = None
    ) -> AutoregressiveOutput:
        """What `force` has made of a batch, and what the postnet or the flow makes of that."""
        frames = self.steps_of(batch["mel_lengths"]) * self.reduction
        if self.flow is None:
            return AutoregressiveOutput(*decoded, self.post(decoded.mel, frames, memory.condition), None, emotion)
        conditioning = self.conditioning(decoded.attention, memory, batch["speaker"], batch["seeds"].tolist())
        return AutoregressiveOutput(*decoded, None, self.flow(decoded.mel, conditioning, batch["mel"], frames), emotion)

    def generate(self, inputs: ModelInput, settings: GenerationSettings) -> list[Generated]:
        """The mel of each sentence (see `AcousticModel.generate`)."""
        frame_seconds, device = settings.mel.frame_seconds, inputs.tokens.device
        rate = settings.rate / settings.duration_scale
        timed = [n - self.untimed_symbols for n in inputs.token_lengths.tolist()]
        limits = [frame_limit(n, settings.table.symbol_set) for n in timed]
        stopper = StoppingCriteria(timed, limits, self.reduction, frame_seconds, least=self.least_frames(frame_seconds))
        dropout = ItemDropout(inputs.seeds, device)
        memory = self.encode(inputs, dropout)
        run = self.native_free_run or self.free_run
        steps = math.ceil(max(limits) / self.reduction)
        decoded = run(memory, dropout, stopper, steps, MAX_FORWARD if settings.monotonic else 0)
        conditioning = self.conditioning(decoded.attention, memory, inputs.speaker, inputs.seeds)
        found = []
        for i, frames in enumerate(stopper.frames):
            row, smooth = slice(i, i + 1), decoded.mel[i, :, :frames]
            alignment = decoded.attention[i, : frames // self.reduction, : int(inputs.token_lengths[i])]
            alignment = alignment.repeat_interleave(self.reduction, dim=0).t()
            flow_input = conditioning.item(i, frames)
            if self.flow is not None:  # it draws at the new rate: what it draws would be blurred by resampling
                smooth, alignment = resample(smooth, rate), resample(alignment, rate)
                flow_input = flow_input.resampled(rate)
            length = torch.tensor([smooth.shape[1]], device=device)
            mel = self.post(smooth[None], length, memory.condition[row], flow_input)[0]
            require_finite(mel, "mels")
            mel = mel.clamp(-settings.mel.max_abs, settings.mel.max_abs)
            kept = self.kept_frames(mel)
            mel, alignment = mel[:, :kept], alignment[:, :kept]
            if self.flow is None:
                mel, alignment = resample(mel, rate), resample(alignment, rate)
            found.append(Generated(mel, alignment.t(), stopper.reasons[i] or "limit"))
        return found

    def teacher_forced(self, inputs: ModelInput, recording: Recording, silence: float) -> Tensor:
        """The mel (1, M, F or a little more) with the true frame before each step."""
        missing = -recording.mel.shape[2] % self.reduction  # the last step is a whole one
        mel = F.pad(recording.mel, (0, missing), value=silence)
        lengths = torch.tensor([recording.mel.shape[2]], device=mel.device)
        targets = None
        if recording.durations is not None:
            durations, steps = recording.durations[0].cpu().numpy(), mel.shape[2] // self.reduction
            targets = torch.from_numpy(step_targets(durations, self.reduction, steps))[None].to(mel.device)
        dropout = ItemDropout(inputs.seeds, mel.device)
        memory = self.encode(inputs, dropout)
        decoded = self.force(memory, mel, lengths, dropout, targets)
        conditioning = self.conditioning(decoded.attention, memory, inputs.speaker, inputs.seeds)
        frames = lengths if self.flow is not None else self.steps_of(lengths) * self.reduction
        return self.post(decoded.mel, frames, memory.condition, conditioning)


def previous_frames(mel: Tensor, reduction: int) -> Tensor:
    """mel (B, M, F) -> (B, S, M): the last of `reduction` frames before each step, zeros before the first."""
    previous = mel[:, :, reduction - 1 : -1 : reduction]
    return torch.cat([torch.zeros_like(mel[:, :, :1]), previous], dim=2).transpose(1, 2)
