"""What the parts of the parallel synthesizer hand to each other, and to its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from synthesizer.models.emotion import EmotionOutput
from synthesizer.models.flow import FlowOutput
from synthesizer.models.frame_classifier import FrameClasses


class Conditioning(NamedTuple):
    """Who speaks: `vector` (B, C) conditions every block; voice_statistics (B, 3), where the model takes them; tokens
    (B, Q, J) of a prompt, where the model attends to one, and which items have it (B,).
    """

    vector: Tensor
    voice_statistics: Tensor | None = None
    tokens: Tensor | None = None
    present: Tensor | None = None
    predicted: Tensor | None = None  # voice_statistics (B, 3) as predicted from the embedding

    def unconditional(self) -> Conditioning:
        """No voice, for classifier-free guidance."""
        present = None if self.present is None else torch.zeros_like(self.present)
        return self._replace(vector=torch.zeros_like(self.vector), present=present)


@dataclass(frozen=True)
class Encoding:
    """What the text side knows: hidden (B, N, C), durations_log (B, N) = log(1 + frames), prosody (B, N, 3)."""

    hidden: Tensor
    durations_log: Tensor
    prosody: Tensor
    mask: Tensor  # (B, N, 1)
    relative: Tensor  # prosody with its pitch against the voice's own
    text: Tensor  # (B, N, C) as read, before it attends to a prompt


class FrameTargets(NamedTuple):
    """Of each frame of a window (B, W): its symbol, whether that is no phone, and how many frames it takes."""

    symbols: Tensor
    silent: Tensor
    durations: Tensor


class ParallelOutput(NamedTuple):
    """Of a training pass, over N tokens and windows of W frames."""

    durations_log: Tensor  # (B, N)
    prosody: Tensor  # (B, N, 3)
    prosody_target: Tensor  # (B, N, 3)
    mean: Tensor  # (B, W, M) the mean mel
    mel: Tensor  # (B, W, M) the recording, normalized
    mask: Tensor  # (B, W, 1)
    flow: FlowOutput | None = None
    drawn: Tensor | None = None  # (B, W, M) as at inference, where the batch has noise for it
    voice_statistics: Tensor | None = None  # (B, 3) of the voice as predicted from its embedding
    frame_classes: FrameClasses | None = None  # of `mel`, as classified
    frame_targets: FrameTargets | None = None  # what it should find
    emotion: EmotionOutput | None = None
    text: Tensor | None = None  # (B, N, C) as read
    vector: Tensor | None = None  # (B, C) of the voice
