"""Adapting a parallel synthesizer to one voice from some seconds of it: only `synthesizer.adapters` learn.

What each symbol sounds like in this voice is learned from recordings of it (`synthesizer.aligned_clip`). All but the
flow is frozen, so it is run once. With the decoder adapted beside it, the voice was as much alike and noise was learned
too.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from synthesizer.adapters import RANK, numbers_of, with_adapters
from synthesizer.aligned_clip import AlignedClip
from synthesizer.inference import Synthesizer
from synthesizer.models.parallel import Parallel
from synthesizer.models.parallel_output import Conditioning
from utils.errors import CloningError
from utils.masks import length_mask
from utils.precision import resolve
from utils.voice import Voice

WINDOW, WINDOWS = 400, 3  # frames of a window, windows of a step
DRAWS = 2  # of noise and time, for each window: drawing is cheaper than decoding
LEARNING_RATE = 2e-3
WARMUP = 10  # steps
LARGEST_GRADIENT = 1.0


class _Frames(NamedTuple):
    """A clip on the device: what the flow sees, hidden (F, C) and mean (F, M); mel (F, M), normalized; sure (F, 1)."""

    hidden: Tensor
    mean: Tensor
    mel: Tensor
    aligned: Tensor


class Adaptation:
    """Adapters that learn a voice, step by step."""

    def __init__(
        self,
        synthesizer: Synthesizer,
        voice: Voice,
        clips: Sequence[AlignedClip],
        steps: int,
        seed: int = 0,
        rank: int = RANK,
        learning_rate: float = LEARNING_RATE,
    ) -> None:
        """`steps`: those planned, over which the learning rate falls.

        Raises CloningError: not a parallel synthesizer with a flow; no frame whose symbol is known.
        """
        network = cast(Parallel, synthesizer.network)
        if not network.adaptable:
            raise CloningError(f"{synthesizer.name}: only a parallel synthesizer with a flow can be adapted to a voice")
        if not any(clip.aligned.any() for clip in clips):
            raise CloningError(
                "no speech in the recordings that could be learned from: give clips in which the voice alone is clear"
            )
        self.steps, self.learning_rate, self.step = steps, learning_rate, 0
        self.network = with_adapters(network, seed, rank)
        inputs = synthesizer.voice_input(voice)
        with torch.no_grad():
            self._conditioning = network.condition(
                inputs.speaker, inputs.emotion, inputs.voice_statistics, inputs.prompt
            )
        self._clips = [_frames(network, clip, self._conditioning) for clip in clips]
        self._weights = torch.tensor([max(1, len(clip.mel)) for clip in self._clips], dtype=torch.float)
        self._parameters = [p for p in self.network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, learning_rate, betas=(0.9, 0.99), weight_decay=0)
        self._generator = torch.Generator().manual_seed(seed)
        self._device = synthesizer.device
        self._bf16 = resolve("auto", self._device.type) == "bf16"

    def learn(self) -> float:
        """One step; returns its loss."""
        falls = 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / max(1, self.steps))))
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate * min(1.0, (self.step + 1) / WARMUP) * max(0.05, falls)
        with torch.autocast(self._device.type, torch.bfloat16) if self._bf16 else contextlib.nullcontext():
            loss = self._loss(*self._windows())
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, LARGEST_GRADIENT)
        self._optimizer.step()
        self.step += 1
        return loss.item()

    def numbers(self) -> dict[str, np.ndarray]:
        """What was learned so far, as `Voice.adapted` holds it."""
        return numbers_of(self.network)

    def _windows(self) -> tuple[_Frames, Tensor]:
        """Random windows of random clips, (B, W, ...), padded, and their mask (B, W, 1)."""
        chosen = torch.multinomial(self._weights, WINDOWS, replacement=True, generator=self._generator)
        places = torch.rand(WINDOWS, generator=self._generator).tolist()
        cut = []
        for clip, place in zip((self._clips[i] for i in chosen.tolist()), places, strict=True):
            start = round(place * max(0, len(clip.mel) - WINDOW))
            cut.append(_Frames(*(array[start : start + WINDOW] for array in clip)))
        lengths = torch.tensor([len(window.mel) for window in cut], device=self._device)
        padded = [torch.nn.utils.rnn.pad_sequence(list(arrays), batch_first=True) for arrays in zip(*cut, strict=True)]
        return _Frames(*padded), length_mask(lengths)[..., None]

    def _loss(self, windows: _Frames, mask: Tensor) -> Tensor:
        """The loss of the flow, as in training."""
        flow = self.network.flow
        assert flow is not None
        hidden, mean, mel, aligned = windows
        voice = self._conditioning.vector.expand(len(mel), -1)
        times = (torch.rand(DRAWS, generator=self._generator) + torch.arange(DRAWS)) / DRAWS
        loss = mel.new_zeros(())
        for time in times.tolist():
            noise = torch.randn(mel.shape, generator=self._generator).to(mel)
            at = mel.new_full((len(mel),), time)
            point, target = flow.path(mel, noise, at)
            velocity = flow.velocity(point, at, mean, hidden, voice, mask)
            loss = loss + ((velocity.float() - target).square() * aligned).sum()
        return loss / (aligned.sum().clamp(min=1) * mel.shape[2] * DRAWS)


def _frames(network: Parallel, clip: AlignedClip, conditioning: Conditioning) -> _Frames:
    tokens, recording = clip.tensors(network.mel_mean.device)
    with torch.no_grad():
        hidden, smooth, _ = network.spoken_again(tokens, recording, conditioning)
        mel = network.normalized(recording.mel.transpose(1, 2))
        aligned = torch.from_numpy(clip.aligned).to(mel)
        return _Frames(hidden[0], smooth[0], mel[0], aligned[:, None])
