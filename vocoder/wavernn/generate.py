"""Free running of a WaveRNN: mel in, waveform out, in one stream or in folds side by side."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from utils.audio.mel import deemphasis
from utils.errors import CloningError
from utils.native.build import NoCompiler
from vocoder.wavernn.fold import crossfade, fold_starts
from vocoder.wavernn.guide import AHEAD, emphasized, guide_inputs
from vocoder.wavernn.library import library
from vocoder.wavernn.native import NativeLoop, Packed
from vocoder.wavernn.network import WaveRNN
from vocoder.wavernn.quantize import decode_mu_law, label_to_float
from vocoder.wavernn.sample_loop import Frames, TorchLoop, Weights

log = logging.getLogger(__name__)
Kernel = Literal["int8", "fp32", "torch"]
Progress = Callable[[int, int], None]  # steps done, steps in all
BLOCK = 200  # steps between two looks at the progress bar and Ctrl-C, about


@dataclass(frozen=True)
class Generation:
    """How a WaveRNN runs. Lengths in samples."""

    folded: bool = True
    target: int = 8000
    overlap: int = 800
    greedy: bool = False  # the likeliest label in place of a draw
    published: bool = False  # padding, cross-fades and fade-out exactly as the published code has them
    kernel: Literal["auto"] | Kernel = "auto"  # native code in this precision, or torch; auto: the fastest here

    def __post_init__(self) -> None:
        known = ("auto", *get_args(Kernel))
        if self.kernel not in known:
            raise ValueError(f"kernel is {self.kernel!r}; it must be one of {', '.join(known)}")


class Folds(NamedTuple):
    """Chunks of one utterance: chunk n covers samples starts[n] .. starts[n] + steps, silence past the end."""

    starts: list[int]
    steps: int


@torch.inference_mode()
def generate(
    model: WaveRNN,
    mel: Tensor,
    *,
    seed: int,
    how: Generation | None = None,
    progress: Progress | None = None,
    guide: Tensor | None = None,
) -> np.ndarray:
    """mel (M, F) in the synthesizer's units -> plain waveform ((F - 1) * hop,) float32.

    guide ((F - 1) * hop,): what the other vocoder makes of the mel, for a model with `guide_taps`.
    """
    how, weights = how or Generation(), Weights.of(model)
    if guide is not None:
        guide = emphasized(F.pad(guide[None], (0, weights.hop_length)), model.config)
    # Published: zeros, which are a loud mid level. Ours: -1, the lowest that mels scale to, silence.
    frames = conditioning_frames(model, weights, mel, guide, beyond=0.0 if how.published else -1.0)
    length = (mel.size(1) - 1) * weights.hop_length
    folds = fold(mel.size(1) * weights.hop_length, how)
    loop = make_loop(weights, len(folds.starts), how)
    samples = generate_samples(loop, frames, folds, seed, progress)
    return finish(samples, model, length, how, None if guide is None else guide[0]).float().cpu().numpy()


def conditioning_frames(
    model: WaveRNN, weights: Weights, mel: Tensor, guide: Tensor | None, beyond: float = -1.0
) -> Frames:
    """What the sample loop reads of mel (M, F) and of guide (1, F * hop), pre-emphasized; `beyond`: the mel's ends."""
    config = model.config
    scaled = F.pad(mel[None] * config.mel_scale, (config.pad, config.pad), value=beyond)
    taps = None if guide is None else guide_inputs(guide, config)[0]
    return weights.frames(scaled[0], model.upsample.resnet(scaled)[0], taps)


def fold(total: int, how: Generation) -> Folds:
    """The chunks that `how` asks for, over `total` samples."""
    if not how.folded:
        return Folds([0], total)
    return Folds(fold_starts(total, how.target, how.overlap), how.target + 2 * how.overlap)


def finish(samples: Tensor, model: WaveRNN, length: int, how: Generation, guide: Tensor | None = None) -> Tensor:
    """Labels (N, steps) (floats in mode "mol") -> waveform (length,) float64: join, expand, de-emphasize, cut.

    guide, longer than length: the pre-emphasized waveform that the labels are the difference to.
    """
    config, hop = model.config, math.prod(model.config.upsample)
    raw = config.mode == "raw"
    x = (label_to_float(samples, 2**config.bits) if raw else samples).double()
    if raw and not how.published:
        x = decode_mu_law(x, 2**config.bits)  # loudness adds up before, not after, the expansion
    x = crossfade(x, how.target, how.overlap, published=how.published) if how.folded else x[0]
    if raw and how.published:
        x = decode_mu_law(x, 2**config.bits)
    x = x[:length] if guide is None else x[:length] + guide[AHEAD : length + AHEAD]
    x = deemphasis(x, config.preemphasis)
    if how.published:
        fade = min(20 * hop, length)  # the published code raises an error where its fade does not fit
        x[length - fade :] *= torch.linspace(1, 0, 20 * hop, dtype=x.dtype, device=x.device)[20 * hop - fade :]
    return x


def make_loop(weights: Weights, folds: int, how: Generation) -> TorchLoop | NativeLoop:
    """The sample loop that `how` asks for. Raises CloningError where a native one is asked for and cannot be had."""
    native = weights.mode == "raw" and weights.fc3.device.type == "cpu"
    kernel = (best_kernel() if native else "torch") if how.kernel == "auto" else how.kernel
    if kernel != "torch" and not (native and best_kernel() != "torch"):
        why = "there is no working C compiler" if native else 'it runs on a CPU and in mode "raw" only'
        raise CloningError(f"WaveRNN's native kernel ({kernel}) cannot be had: {why}; kernel torch runs everywhere")
    if kernel == "torch":
        return TorchLoop(weights, folds, greedy=how.greedy)
    return NativeLoop(Packed(weights, kernel), folds, greedy=how.greedy, threads=torch.get_num_threads())


@lru_cache
def best_kernel() -> Kernel:
    """What "auto" stands for on this machine; found out once a process."""
    try:
        return "fp32" if library().variant() == b"plain C" else "int8"  # the faster one in each variant
    except NoCompiler as error:
        log.warning("WaveRNN runs in torch, many times slower than native code: %s", error)
        return "torch"


def uniform_draws(seed: int, fold: int, mode: str) -> Callable[[int], np.ndarray]:
    """Fold n's stream of random numbers: a call gives the next (steps, 1), or (steps, 2) in mode "mol", in [0, 1)."""
    generator, width = np.random.default_rng((seed, fold)), 1 if mode == "raw" else 2
    return lambda steps: generator.random((steps, width), dtype=np.float32)


def generate_samples(
    loop: TorchLoop | NativeLoop,
    frames: Frames,
    folds: Folds,
    seed: int,
    progress: Progress | None = None,
) -> Tensor:
    """Labels (N, steps) int16 of all folds; floats in [-1, 1] in mode "mol". The same seed gives the same samples."""
    draws = [uniform_draws(seed, n, loop.mode) for n in range(len(folds.starts))]
    out, block = [], loop.hop_length * max(1, BLOCK // loop.hop_length)
    for done in range(0, folds.steps, block):
        steps = min(block, folds.steps - done)
        out.append(loop.run(frames, folds.starts, np.stack([draw(steps) for draw in draws])))
        if progress is not None:
            progress(done + steps, folds.steps)
    return torch.cat(out, dim=1)
