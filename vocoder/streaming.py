"""Audio while the mel still comes: a hop depends on `lookahead` frames beyond its own, and waits for no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from utils.errors import CloningError
from vocoder.models.source import Sourced
from vocoder.wavernn.generate import Generation, conditioning_frames, finish, make_loop, uniform_draws
from vocoder.wavernn.guide import emphasized
from vocoder.wavernn.network import WaveRNN
from vocoder.wavernn.sample_loop import Weights

FIRST, LARGEST = 8, 64  # hops made at a time: few at first, to be heard early; then more, to spend less on the overlap

# (frames (M, F), first hop wanted, hops wanted) -> (hops * hop_length,): hop k lies between frames k and k + 1
Render = Callable[[Tensor, int, int], np.ndarray]


def stream(chunks: Iterable[Tensor], lookahead: int, render: Render) -> Iterator[np.ndarray]:
    """The waveform of all chunks (M, f) together, in pieces, each as early as may be.

    hop k depends on the frames k - lookahead .. k + 1 + lookahead; `render` gets these, or the ends of the mel where
    there are fewer. Raises CloningError where there are no frames at all.
    """
    frames: Tensor | None = None  # from frame `first` on
    first = done = 0  # frames let go, hops made
    size = FIRST
    for chunk, ended in _marked(chunks):
        if chunk is not None:
            frames = chunk if frames is None else torch.cat([frames, chunk], dim=1)
        if frames is None or frames.size(1) == 0:
            continue
        if ended and first + frames.size(1) == 1:
            frames = frames.expand(-1, 2)  # as `Vocoder.vocode` does
        hops = first + frames.size(1) - 1 - (0 if ended else lookahead)
        while hops - done >= (1 if ended else FIRST):
            count = min(size, hops - done)
            end = done + count + 1 + lookahead - first
            yield render(frames[:, :end].contiguous(), done - first, count)
            done, size = done + count, min(2 * size, LARGEST)
            gone = max(0, done - lookahead - first)
            frames, first = frames[:, gone:], first + gone
    if frames is None or first + frames.size(1) == 0:
        raise CloningError("no mel to make audio of: the stream ended before its first frame")


class StreamedWaveRNN:
    """A WaveRNN's single, unfolded stream, hop by hop: `render` must be asked for all hops in order.

    `guide`: lookahead and `render` of the vocoder whose waveform it reads, if any.
    """

    def __init__(self, model: WaveRNN, seed: int, how: Generation, guide: tuple[int, Render] | None = None) -> None:
        self.model, self.how = model, dataclasses.replace(how, folded=False)
        self.weights = Weights.of(model)
        self.lookahead = max(model.config.pad, self.weights.half_kernel)
        self.guide = None if guide is None else guide[1]
        if guide is not None:
            self.lookahead = max(self.lookahead, guide[0] + 1)  # the taps reach into the next hop
        self.guided, self.heard = 0, np.zeros(self.weights.hop_length, np.float32)  # hops of the guide, the last ones
        self.loop = make_loop(self.weights, 1, self.how)
        self.draws = uniform_draws(seed, 0, self.loop.mode)
        self.last = 0.0  # the sample before, which de-emphasis goes on from

    def render(self, mel: Tensor, first: int, count: int) -> np.ndarray:
        """mel (M, F) from some frame on, of which hops first .. first + count are wanted -> (count * hop_length,)"""
        config, hop = self.model.config, self.weights.hop_length
        # silence where the mel ends; where only this piece of it does, the hops wanted do not depend on it
        guide = None if self.guide is None else self._hear(self.guide, mel, first, count)
        frames = conditioning_frames(self.model, self.weights, mel, guide)
        labels = self.loop.run(frames, [first * hop - self.loop.t], self.draws(count * hop)[None])
        wanted = None if guide is None else guide[0, first * hop :]
        samples = finish(labels, self.model, count * hop, self.how, wanted).cpu().numpy()
        samples += self.last * config.preemphasis ** np.arange(1, len(samples) + 1)
        self.last = samples[-1]
        return samples.astype(np.float32)

    def _hear(self, render: Render, mel: Tensor, first: int, count: int) -> Tensor:
        """The guide (1, F * hop) around the wanted hops, pre-emphasized; silence where they do not hear it."""
        hop = self.weights.hop_length
        done = self.guided - self.loop.t // hop + first  # hops of the guide, counted from this mel's first frame
        end = min(first + count + 1, mel.size(1) - 1)
        if end > done:
            self.heard = np.concatenate([self.heard, render(mel, done, end - done)])
            self.guided, done = self.guided + end - done, end
        self.heard = self.heard[-(done - first + 1) * hop :]  # from one hop before the first
        wav = mel.new_zeros(1, (mel.size(1) + 1) * hop)  # from one hop before the mel
        wav[0, first * hop : (done + 1) * hop] = torch.from_numpy(self.heard)
        return emphasized(wav, self.model.config)[:, hop:]


class StreamedSource:
    """A network whose pulses and noise go on from hop to hop: `render` must be asked for all hops in order."""

    def __init__(self, model: Sourced) -> None:
        self.model, self.lookahead = model, model.lookahead
        self.done, self.phase = 0, 0.0  # hops made, cycles gone by until then

    def render(self, mel: Tensor, first: int, count: int) -> np.ndarray:
        """mel (M, F) from some frame on, of which hops first .. first + count are wanted -> (count * hop_length,)"""
        mel, hop = mel[None], self.model.hop_length
        pitch = self.model.pitch(mel)
        phase = self.model.phases(pitch)
        phase = phase - phase[:, first, None] + self.phase
        position = torch.tensor([(self.done - first) * hop], device=mel.device)
        wav = self.model.render(mel, pitch, phase, position)[0]
        self.done, self.phase = self.done + count, float(phase[0, first + count]) % 1
        return wav[first * hop : (first + count) * hop].cpu().numpy()


def _marked(chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor | None, bool]]:
    """Every chunk, then the end."""
    for chunk in chunks:
        yield chunk, False
    yield None, True
