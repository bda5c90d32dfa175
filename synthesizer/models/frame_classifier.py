"""A frame classifier over mels: which phone each frame belongs to, and how fast phones follow each other.

A small network over real mels, trained beside the parallel synthesizer on its alignments. The pace of a reference is
measured with it, and a sharpened synthesizer is held to the words that it was given (a phone loss, as DMOSpeech's,
arXiv 2410.11097, sec. 3.3, with a frame classifier in place of a recognizer).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.models.layers import ConvStack
from utils.weights.stored_names import store_as


class FrameClasses(NamedTuple):
    """In each frame: logits (B, F, V) of symbols, phones a frame (B, F), 0 in silence, logits (B, F) of speech."""

    symbols: Tensor
    density: Tensor
    speech: Tensor


class FrameClassifier(nn.Module):
    """Normalized mel (B, F, M), mask (B, F, 1) -> FrameClasses."""

    def __init__(self, n_mels: int, n_symbols: int, channels: int = 192, blocks: int = 4, kernel: int = 7) -> None:
        super().__init__()
        self.input_projection = nn.Linear(n_mels, channels)
        self.stack = ConvStack(blocks, channels, 1, kernel, 2)
        self.output_projection = nn.Linear(channels, n_symbols + 2)
        store_as(self, {"input_projection": "enter", "output_projection": "leave"})

    def forward(self, mel: Tensor, mask: Tensor) -> FrameClasses:
        """mel (B, F, M), mask (B, F, 1) -> FrameClasses"""
        one = mel.new_ones(len(mel), 1)  # these blocks have no condition
        found = self.output_projection(self.stack(self.input_projection(mel) * mask, one, mask)).float()
        return FrameClasses(found[..., :-2], F.softplus(found[..., -2]), found[..., -1])

    def pace(self, mel: Tensor, mask: Tensor) -> Tensor:
        """log of the mean frames that a phone takes in speech, (B,): mel (B, F, M), mask (B, F, 1)."""
        found = self(mel, mask)
        speech = found.speech.sigmoid() * mask[..., 0]
        phones = (found.density * speech).sum(dim=1)
        return (speech.sum(dim=1).clamp(min=1) / phones.clamp(min=0.05)).log()


def frame_class_losses(found: FrameClasses, symbols: Tensor, durations: Tensor, silent: Tensor) -> dict[str, Tensor]:
    """Losses of a frame classifier against an alignment, each (B, F), to be averaged over frames.

    symbols, durations (B, F): of each frame its symbol and the frames that this symbol takes; silent (B, F): whether it
    is no phone.
    """
    entropy = F.cross_entropy(found.symbols.transpose(1, 2), symbols, reduction="none")
    wanted = torch.where(silent, 0.0, 1 / durations.clamp(min=1).float())
    density = (found.density - wanted).square() * 25  # phones last some five frames
    speech = F.binary_cross_entropy_with_logits(found.speech, (~silent).float(), reduction="none")
    return {"symbols": entropy, "density": density, "speech": speech}
