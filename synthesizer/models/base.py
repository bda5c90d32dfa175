"""What inference and training need of an acoustic model, whichever network it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from synthesizer.conversion import frame_step
from synthesizer.models.alignment_quality import AlignmentQuality, alignment_quality
from synthesizer.models.compensation import Compensation
from synthesizer.models.emotion import EmotionEncoder
from synthesizer.models.mel_conversion import MelConversion
from synthesizer.text.symbols import SymbolTable
from utils.audio.mel import MelConfig

SHORTEST_SECONDS = 0.2  # of a text, however short, at rate 1


@dataclass(frozen=True)
class ModelInput:
    """A batch of B sentences, each with the voice that speaks it."""

    tokens: Tensor  # (B, N) ids, 0 after the end of a sentence
    token_lengths: Tensor  # (B,)
    marks: Tensor  # (B, N) as in `EncodedText`
    speaker: Tensor  # (B, D) embeddings of norm 1
    seeds: list[int]  # one a sentence
    emotion: Tensor | None = None  # (B, E) or (1, E), for a network with emotions
    voice_statistics: Tensor | None = (
        None  # (B, 3) pitch and spread (`utils.voice`), log frames a phone; NaN where not known
    )
    prompt: Tensor | None = None  # (B, Q, J) tokens that the network reads off the reference
    compensation: Compensation | None = None  # of the voice of all sentences
    style: Tensor | None = None  # (B, N, 3) of each token: `synthesizer.text.marks.Style`

    def compensated(self, mels: Tensor) -> Tensor:
        """Generated mels (B, M, F) with what is known to be wrong of the voice made good."""
        return mels if self.compensation is None else self.compensation.applied(mels)


class Recording(NamedTuple):
    """What a network is teacher-forced by: one utterance."""

    mel: Tensor  # (1, M, F)
    durations: Tensor | None = None  # (1, N) in frames
    prosody: Tensor | None = None  # (1, N, 3) of `synthesizer.features.prosody`


@dataclass(frozen=True)
class GenerationSettings:
    """What the generation of mels depends on beside the network and its input."""

    mel: MelConfig
    table: SymbolTable
    rate: float = 1.0  # 2 is twice as fast
    duration_scale: float = 1.0  # durations are multiplied by it, so that speech lasts as real speech does
    pitch_scale: float = 1.0  # how far predicted pitch goes from its median is multiplied by it
    pitch_shift: float = 0.0  # octaves by which predicted pitch is moved
    monotonic: bool = False  # an attention that can go back or skip must not


class Generated(NamedTuple):
    """A sentence spoken: mel (M, F), alignment (F, N), and why it ends there."""

    mel: Tensor
    alignment: Tensor
    stop_reason: str

    def converted(self, conversion: MelConversion | None, source: MelConfig, target: MelConfig) -> Generated:
        """The same, whose mel is of `source`, as one of `target`; as it is where there is no conversion."""
        if conversion is None:
            return self
        step = frame_step(source, target)
        mel = conversion(self.mel[None].float(), step)[0].clamp(-target.max_abs, target.max_abs)
        nearest = (torch.arange(mel.shape[1], device=mel.device) * step).round().long()
        return self._replace(mel=mel, alignment=self.alignment[nearest.clamp(max=len(self.alignment) - 1)])


class AcousticModel(nn.Module, ABC):
    """A network that makes mels of tokens and a voice. `forward` is its training pass."""

    needs_durations: ClassVar[bool] = False  # in training and in teacher forcing
    needs_prosody: ClassVar[bool] = False  # in teacher forcing
    max_characters: ClassVar[int] = 130  # of a sentence; longer ones are said in clauses
    moves_pitch = False  # whether `GenerationSettings.pitch_shift` and `ModelInput.style` make a difference
    moves_attention = False  # whether `GenerationSettings.monotonic` makes a difference
    uses_voice_statistics = False  # whether its input has pitch, pace and a prompt of a voice
    finds_symbols = False  # whether `frame_symbols` answers
    adaptable = False  # whether a voice may have weights of its own (`synthesizer.adapters`): it is a `Parallel` then
    emotion: EmotionEncoder | None

    def __init__(self) -> None:
        super().__init__()
        self.conversion: MelConversion | None = None  # of what `generate` makes, to be applied to it

    @abstractmethod
    def generate(self, inputs: ModelInput, settings: GenerationSettings) -> list[Generated]:
        """The mel of each sentence. Raises FloatingPointError where the weights make numbers that are not finite."""

    @abstractmethod
    def teacher_forced(self, inputs: ModelInput, recording: Recording, silence: float) -> Tensor:
        """The mel (1, M, F or a little more) of one sentence when a recording of it is given.

        silence: the mel value of silence.
        """

    def use_native_decoder(self) -> None:
        """From now on decode by native code, where there is some for this network and processor.

        It works with a copy of the weights: they must change no more.
        """

    def pace(self, mel: Tensor) -> float:
        """log of the mean frames that a phone takes in mel (1, M, F), where `uses_voice_statistics`."""
        raise NotImplementedError

    def frame_symbols(self, mel: Tensor) -> Tensor | None:
        """Logits (B, F, V) of the symbol said in each frame of mel (B, M, F); None where not `finds_symbols`."""
        return None

    def read_prompt(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Reference mels (B, M, R) of lengths (B,) in frames, 0 for none -> tokens (B, Q, J) that stand for them in
        `ModelInput.prompt`, and which items have them (B,); None for a network without."""
        return None, None

    def alignment_quality(self, alignment: Tensor, tokens: Sequence[int], table: SymbolTable) -> AlignmentQuality:
        """How well alignment (F, N) says the tokens (N,)."""
        return alignment_quality(alignment)


def require_finite(values: Tensor, what: str) -> None:
    """Raises FloatingPointError where a network's numbers are not finite."""
    if not values.isfinite().all():
        raise FloatingPointError(f"{what} that are not finite")
