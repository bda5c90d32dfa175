"""Free running of a WaveRNN: mel in, waveform out, in one stream or in folds side by side.

`generate_samples` is the seam: everything before it is parallel and everything after it is cheap, so a faster kernel
replaces that one function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from utils.mel import deemphasis
from vocoder.fold import crossfade, fold_starts
from vocoder.quantize import decode_mu_law, label_to_float
from vocoder.wavernn import Conditioning, WaveRNN

Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True)
class Generation:
    """How a WaveRNN runs. Lengths in samples."""

    folded: bool = True
    target: int = 8000
    overlap: int = 800
    greedy: bool = False  # the likeliest label in place of a draw
    published: bool = False  # padding, cross-fades and fade-out exactly as the published code has them


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
) -> np.ndarray:
    """mel (M, F) in the synthesizer's units -> plain waveform ((F - 1) * hop,) float32."""
    how, config = how or Generation(), model.config
    scaled = mel[None] * config.mel_scale
    # Published: zeros, which are a loud mid level. Ours: -1, the lowest that mels scale to, silence.
    scaled = F.pad(scaled, (config.pad, config.pad), value=0.0 if how.published else -1.0)
    conditioning = model.upsample(scaled)
    length = (mel.size(1) - 1) * conditioning.hop_length
    folds = fold(conditioning.mel.size(1), how)
    samples = generate_samples(conditioning, Weights.of(model), folds, seed, greedy=how.greedy, progress=progress)
    return finish(samples, model, length, how).float().cpu().numpy()


def fold(total: int, how: Generation) -> Folds:
    """The chunks that `how` asks for, over `total` samples."""
    if not how.folded:
        return Folds([0], total)
    return Folds(fold_starts(total, how.target, how.overlap), how.target + 2 * how.overlap)


def finish(samples: Tensor, model: WaveRNN, length: int, how: Generation) -> Tensor:
    """Labels (N, steps) (floats in mode "mol") -> waveform (length,) float64: join, expand, de-emphasise, cut."""
    config, hop = model.config, math.prod(model.config.upsample)
    raw = config.mode == "raw"
    x = (label_to_float(samples, 2**config.bits) if raw else samples).double()
    if raw and not how.published:
        x = decode_mu_law(x, 2**config.bits)  # loudness adds up before, not after, the expansion
    x = crossfade(x, how.target, how.overlap, published=how.published) if how.folded else x[0]
    if raw and how.published:
        x = decode_mu_law(x, 2**config.bits)
    x = deemphasis(x, config.preemphasis)[:length]
    if how.published:
        fade = min(20 * hop, length)  # the published code raises an error where its fade does not fit
        x[length - fade :] *= torch.linspace(1, 0, 20 * hop, dtype=x.dtype, device=x.device)[20 * hop - fade :]
    return x


@dataclass(frozen=True)
class Weights:
    """A WaveRNN's recurrent part with everything taken out of the loop that does not depend on the past.

    The input layer is folded into the first GRU: W_ih (W_I v + b_I) = (W_ih W_I) v + W_ih b_I.
    """

    mode: str
    levels: int
    sample_in: Tensor  # (H + 3H,) what the previous sample adds to [input layer | gates of GRU 1]
    frame_in: Tensor  # (H + 3H, M + A/4) the same for [mel | aux 1]
    bias_in: Tensor  # (H + 3H,)
    gru1: Tensor  # (3H, H) hidden to gates
    gru1_bias: Tensor
    gru2_in: Tensor  # (3H, H)
    gru2_aux: Tensor  # (3H, A/4)
    gru2_in_bias: Tensor
    gru2: Tensor  # (3H, H)
    gru2_bias: Tensor
    fc1: Tensor
    fc1_aux: Tensor
    fc1_bias: Tensor
    fc2: Tensor
    fc2_aux: Tensor
    fc2_bias: Tensor
    fc3: Tensor
    fc3_bias: Tensor

    @staticmethod
    def of(model: WaveRNN) -> Weights:
        size, fc = model.config.rnn_size, model.config.fc_size
        first, second = model.rnn1, model.rnn2
        w_in = torch.cat([model.I.weight, first.weight_ih_l0 @ model.I.weight])
        b_in = torch.cat([model.I.bias, first.weight_ih_l0 @ model.I.bias + first.bias_ih_l0])
        return Weights(
            mode=model.config.mode,
            levels=2**model.config.bits,
            sample_in=w_in[:, 0].contiguous(),
            frame_in=w_in[:, 1:].contiguous(),
            bias_in=b_in,
            gru1=first.weight_hh_l0,
            gru1_bias=first.bias_hh_l0,
            gru2_in=second.weight_ih_l0[:, :size].contiguous(),
            gru2_aux=second.weight_ih_l0[:, size:].contiguous(),
            gru2_in_bias=second.bias_ih_l0,
            gru2=second.weight_hh_l0,
            gru2_bias=second.bias_hh_l0,
            fc1=model.fc1.weight[:, :size].contiguous(),
            fc1_aux=model.fc1.weight[:, size:].contiguous(),
            fc1_bias=model.fc1.bias,
            fc2=model.fc2.weight[:, :fc].contiguous(),
            fc2_aux=model.fc2.weight[:, fc:].contiguous(),
            fc2_bias=model.fc2.bias,
            fc3=model.fc3.weight,
            fc3_bias=model.fc3.bias,
        )


def generate_samples(
    conditioning: Conditioning,
    weights: Weights,
    folds: Folds,
    seed: int,
    *,
    greedy: bool = False,
    progress: Progress | None = None,
) -> Tensor:
    """Labels (N, steps) int16 of all folds; floats in [-1, 1] in mode "mol". The same seed gives the same samples."""
    n, steps = len(folds.starts), folds.steps
    raw = weights.mode == "raw"
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand((n, steps, 1 if raw else 2), generator=generator).to(weights.fc3.device)
    stepper = Stepper(conditioning, weights, folds)
    out = torch.empty((n, steps), dtype=torch.int16 if raw else torch.float32, device=weights.fc3.device)
    x = torch.zeros((n, 1), device=weights.fc3.device)
    for step in range(steps):
        logits = stepper.step(x)
        if raw:
            labels = logits.argmax(dim=1) if greedy else draw_label(logits, draws[:, step])
            out[:, step] = labels
            x = label_to_float(labels, weights.levels).unsqueeze(1)
        else:
            x = draw_mixture(logits, draws[:, step], greedy).unsqueeze(1)
            out[:, step] = x[:, 0]
        if progress is not None and (step + 1) % conditioning.hop_length == 0:
            progress(step + 1, steps)
    return out


def draw_label(logits: Tensor, uniform: Tensor) -> Tensor:
    """logits (N, C), uniform (N, 1) in [0, 1) -> classes (N,): where the cumulated probabilities pass `uniform`"""
    cumulated = logits.softmax(dim=1).cumsum(dim=1)
    # scaled by the last sum, which rounding keeps from being 1: the result stays below C
    return (cumulated[:, :-1] <= uniform * cumulated[:, -1:]).sum(dim=1)


def draw_mixture(logits: Tensor, uniform: Tensor, greedy: bool) -> Tensor:
    """logits (N, 3 * K), uniform (N, 2) -> samples (N,) in [-1, 1] of a mixture of logistics"""
    weights, means, log_scales = logits.chunk(3, dim=1)
    kind = weights.argmax(dim=1) if greedy else draw_label(weights, uniform[:, :1])
    mean, log_scale = means.gather(1, kind[:, None])[:, 0], log_scales.gather(1, kind[:, None])[:, 0]
    if greedy:
        return mean.clamp(-1, 1)
    return (mean + log_scale.exp() * torch.logit(uniform[:, 1], eps=1e-5)).clamp(-1, 1)


class Stepper:
    """The recurrent part, one sample of all folds a call; what does not depend on the past is made a block ahead."""

    def __init__(self, conditioning: Conditioning, weights: Weights, folds: Folds) -> None:
        self.w, self.mel, self.aux = weights, conditioning.mel[0], conditioning.aux[0]
        self.hop, self.steps = conditioning.hop_length, folds.steps
        self.starts = torch.tensor(folds.starts, device=self.mel.device)
        size = weights.gru1.size(1)
        self.h1, self.h2 = self.mel.new_zeros(len(folds.starts), size), self.mel.new_zeros(len(folds.starts), size)
        self.size, self.t, self.block_start, self.block_length = size, 0, 0, 0

    def step(self, x: Tensor) -> Tensor:
        """x (N, 1) the previous sample -> logits (N, outputs)"""
        if self.t == self.block_start + self.block_length:
            self._prepare()
        i, w, size = self.t - self.block_start, self.w, self.size
        y = torch.addcmul(self.inputs[i], x, w.sample_in)
        h1 = self.h1 = _gru(y[:, size:], F.linear(self.h1, w.gru1, w.gru1_bias), self.h1)
        y = y[:, :size] + h1
        gates = torch.addmm(self.gru2_aux[i], y, w.gru2_in.t())
        h2 = self.h2 = _gru(gates, F.linear(self.h2, w.gru2, w.gru2_bias), self.h2)
        y = torch.addmm(self.fc1_aux[i], y + h2, w.fc1.t()).relu_()
        y = torch.addmm(self.fc2_aux[i], y, w.fc2.t()).relu_()
        self.t += 1
        return F.linear(y, w.fc3, w.fc3_bias)

    def _prepare(self) -> None:
        """Everything that the next `hop` steps take from the conditioning, each (steps, N, size)."""
        w = self.w
        self.block_start, self.block_length = self.t, min(self.hop, self.steps - self.t)
        positions = self.starts + torch.arange(self.t, self.t + self.block_length, device=self.starts.device)[:, None]
        inside = (positions < self.mel.size(0)).unsqueeze(2)  # the last fold reaches past the end: zeros there
        positions = positions.clamp(max=self.mel.size(0) - 1)
        mel = self.mel[positions] * inside
        a1, a2, a3, a4 = (self.aux[positions // self.hop] * inside).chunk(4, dim=2)
        self.inputs = F.linear(torch.cat([mel, a1], dim=2), w.frame_in, w.bias_in)
        self.gru2_aux = F.linear(a2, w.gru2_aux, w.gru2_in_bias)
        self.fc1_aux = F.linear(a3, w.fc1_aux, w.fc1_bias)
        self.fc2_aux = F.linear(a4, w.fc2_aux, w.fc2_bias)


def _gru(from_input: Tensor, from_hidden: Tensor, hidden: Tensor) -> Tensor:
    """The gates of a GRU cell: both linear parts (N, 3H) and the old state (N, H) -> the new state"""
    size = hidden.size(1)
    reset, update = (from_input[:, : 2 * size] + from_hidden[:, : 2 * size]).sigmoid_().chunk(2, dim=1)
    candidate = torch.addcmul(from_input[:, 2 * size :], reset, from_hidden[:, 2 * size :]).tanh_()
    return torch.lerp(candidate, hidden, update)
