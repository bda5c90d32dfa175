"""Mels of one front end from mels of another: other frame rate, window, pre-emphasis and band.

A synthesizer of one sample rate so speaks at another: texts, voices and emotions are read by the network that has
learned them, and what is learned is how one spectrum of a sound follows from another, which recordings without texts
teach. Convolutional blocks at the frame rate of either, with a linear interpolation between them. Letters: none for the
frames that are made ("made").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synthesizer.conversion import ConversionConfig, converted_frames
from synthesizer.models.layers import ConvStack


class MelConversion(nn.Module):
    """Mel (B, M, F) -> mel (B, its channels, made), neither normalized."""

    def __init__(self, config: ConversionConfig, n_mels: int) -> None:
        super().__init__()
        channels, sizes = config.channels, (1, config.kernel, config.expansion)
        self.input_projection = nn.Linear(n_mels, channels)
        self.before, self.after = (ConvStack(blocks, channels, *sizes) for blocks in config.blocks)
        self.output_projection = nn.Linear(channels, config.mel.n_mels)
        self.skip = nn.Linear(n_mels, config.mel.n_mels)
        nn.init.eye_(self.skip.weight)  # it begins with what it is given
        for parameter in (self.skip.bias, self.output_projection.weight, self.output_projection.bias):
            nn.init.zeros_(parameter)

    def forward(self, mel: Tensor, step: float) -> Tensor:
        """mel (B, M, F), `step` of its frames (see `frame_step`) to each of what is made -> (B, channels, made)"""
        frames = mel.transpose(1, 2)
        places = torch.arange(converted_frames(frames.shape[1], step), device=mel.device) * step
        hidden = at_places(_run(self.before, self.input_projection(frames)), places)
        made = self.skip(at_places(frames, places)) + self.output_projection(_run(self.after, hidden))
        return made.transpose(1, 2)


def at_places(frames: Tensor, places: Tensor) -> Tensor:
    """Frames (B, F, C) at fractions of places (made,), between two by linear interpolation -> (B, made, C)"""
    left = places.long().clamp(max=frames.shape[1] - 1)
    right = (left + 1).clamp(max=frames.shape[1] - 1)
    return torch.lerp(frames[:, left], frames[:, right], (places - left)[:, None].to(frames.dtype))


def _run(stack: ConvStack, x: Tensor) -> Tensor:
    """x (B, F, C) -> (B, F, C); these blocks have no condition, and nothing is padding."""
    return stack(x, x.new_ones(len(x), 1), torch.ones_like(x[..., :1], dtype=torch.bool))
