"""A WaveRNN's sample loop in torch, and its weights with everything taken out that does not depend on the past.

What the mel adds to a layer is linear in it, so it is computed once a frame and mixed to samples inside the loop.
`vocoder.wavernn.native` runs the same loop in native code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vocoder.wavernn.network import UpsampleNetwork, WaveRNN
from vocoder.wavernn.quantize import label_to_float


class Frames(NamedTuple):
    """What the frames of an utterance add to each layer, biases included. H: rnn_size."""

    mel: Tensor  # (F + 2 * half_kernel, H + 3H) to [input layer | gates of GRU 1], to be mixed by `upsample_kernel`
    fixed: Tensor  # (F + 1, H + 3H + 3H + 2 * fc_size) to [input | GRU 1 | GRU 2 | fc1 | fc2]; last row: past the end
    guide: Tensor | None = None  # (F * hop + guide_taps,) of `vocoder.wavernn.guide.heard`, where there is a guide


@dataclass(frozen=True)
class Weights:
    """The input layer is folded into the first GRU: W_ih (W_I v + b_I) = (W_ih W_I) v + W_ih b_I."""

    mode: str
    levels: int
    pad: int
    upsample_kernel: Tensor  # (hop, 2 * half_kernel + 1) what each sample of a frame takes of the frames around it
    sample_in: Tensor  # (H + 3H,) what the previous sample adds to [input layer | gates of GRU 1]
    mel_in: Tensor  # (H + 3H, M)
    aux_in: Tensor  # (H + 3H, A/4)
    guide_in: Tensor  # (guide_taps, H + 3H)
    bias_in: Tensor  # (H + 3H,)
    gru1: Tensor  # (3H, H) hidden to gates
    gru1_bias: Tensor  # (H,) of the new gate; those of the other gates are part of `bias_in`
    gru2_in: Tensor  # (3H, H)
    gru2_aux: Tensor  # (3H, A/4)
    gru2_in_bias: Tensor
    gru2: Tensor  # (3H, H)
    gru2_bias: Tensor  # (H,)
    fc1: Tensor
    fc1_aux: Tensor
    fc1_bias: Tensor
    fc2: Tensor
    fc2_aux: Tensor
    fc2_bias: Tensor
    fc3: Tensor
    fc3_bias: Tensor

    @property
    def hop_length(self) -> int:
        """Samples of a frame."""
        return self.upsample_kernel.size(0)

    @property
    def half_kernel(self) -> int:
        """Frames on each side of its own that a sample depends on."""
        return self.upsample_kernel.size(1) // 2

    @staticmethod
    @torch.no_grad()
    def of(model: WaveRNN) -> Weights:
        """Those of a trained model."""
        size, fc, n_mels = model.config.rnn_size, model.config.fc_size, model.n_mels
        inputs = 1 + n_mels + model.config.res_out_size // 4
        first, second = model.rnn1, model.rnn2
        w_in = torch.cat([model.I.weight, first.weight_ih_l0 @ model.I.weight])
        b_in = torch.cat([model.I.bias, first.weight_ih_l0 @ model.I.bias + first.bias_ih_l0])
        b_in[size : 3 * size] += first.bias_hh_l0[: 2 * size]
        b_second = second.bias_ih_l0.clone()
        b_second[: 2 * size] += second.bias_hh_l0[: 2 * size]
        return Weights(
            mode=model.config.mode,
            levels=2**model.config.bits,
            pad=model.config.pad,
            upsample_kernel=upsample_kernel(model.upsample),
            sample_in=w_in[:, 0].contiguous(),
            mel_in=w_in[:, 1 : 1 + n_mels].contiguous(),
            aux_in=w_in[:, 1 + n_mels : inputs].contiguous(),
            guide_in=w_in[:, inputs:].t().contiguous(),
            bias_in=b_in,
            gru1=first.weight_hh_l0,
            gru1_bias=first.bias_hh_l0[2 * size :].contiguous(),
            gru2_in=second.weight_ih_l0[:, :size].contiguous(),
            gru2_aux=second.weight_ih_l0[:, size:].contiguous(),
            gru2_in_bias=b_second,
            gru2=second.weight_hh_l0,
            gru2_bias=second.bias_hh_l0[2 * size :].contiguous(),
            fc1=model.fc1.weight[:, :size].contiguous(),
            fc1_aux=model.fc1.weight[:, size:].contiguous(),
            fc1_bias=model.fc1.bias,
            fc2=model.fc2.weight[:, :fc].contiguous(),
            fc2_aux=model.fc2.weight[:, fc:].contiguous(),
            fc2_bias=model.fc2.bias,
            fc3=model.fc3.weight / model.config.temperature,
            fc3_bias=model.fc3.bias / model.config.temperature,
        )

    @torch.no_grad()
    def frames(self, mel: Tensor, aux: Tensor, guide: Tensor | None = None) -> Frames:
        """mel (M, F + 2 * pad) as the network reads it, aux (A, F) that its resnet makes of it, guide as in `Frames`"""
        extra = self.half_kernel - self.pad
        mel = F.pad(mel, (extra, extra))  # cuts where it is negative
        a1, a2, a3, a4 = F.pad(aux, (0, 1)).t().chunk(4, dim=1)
        fixed = [
            F.linear(a1, self.aux_in, self.bias_in),
            F.linear(a2, self.gru2_aux, self.gru2_in_bias),
            F.linear(a3, self.fc1_aux, self.fc1_bias),
            F.linear(a4, self.fc2_aux, self.fc2_bias),
        ]
        return Frames(F.linear(mel.t(), self.mel_in), torch.cat(fixed, dim=1), guide)


def upsample_kernel(upsample: UpsampleNetwork) -> Tensor:
    """The smoothing of the upsampling layers, linear and the same for every channel: (hop, 2 * half_kernel + 1)

    Entry (p, k) is what sample p of a frame takes of the frame k - half_kernel after it: the impulse response.
    """
    factors = upsample.factors
    half_kernel = math.ceil(sum(1 / math.prod(factors[:i]) for i in range(len(factors))))
    x = next(upsample.up_layers.parameters()).new_zeros(1, 1, 1, 4 * half_kernel + 1)
    x[..., 2 * half_kernel] = 1
    for layer in upsample.up_layers:
        x = layer(x)
    by_frame = x.flatten().view(4 * half_kernel + 1, math.prod(factors))[half_kernel : 3 * half_kernel + 1]
    return by_frame.flip(0).t().contiguous()


class TorchLoop:
    """The loop in torch, on any device: `folds` streams side by side. It remembers where it is between calls."""

    def __init__(self, weights: Weights, folds: int, *, greedy: bool = False) -> None:
        self.w, self.greedy, self.size = weights, greedy, weights.gru1.size(1)
        self.h1, self.h2 = (weights.gru1.new_zeros(folds, self.size) for _ in range(2))
        self.x = weights.gru1.new_zeros(folds, 1)
        self.bias1, self.bias2 = (F.pad(bias, (2 * self.size, 0)) for bias in (weights.gru1_bias, weights.gru2_bias))
        self.mode, self.hop_length, self.t = weights.mode, weights.hop_length, 0

    @torch.inference_mode()
    def run(self, frames: Frames, starts: Sequence[int], draws: np.ndarray) -> Tensor:
        """The next samples: stream n goes on at sample starts[n] + (samples made before) of `frames`.

        draws (N, steps, 1), or (N, steps, 2) in mode "mol", uniform in [0, 1) -> labels (N, steps) int16; floats in
        [-1, 1] in mode "mol".
        """
        raw, device = self.w.mode == "raw", self.h1.device
        uniform = torch.from_numpy(draws).to(device)
        offsets = torch.tensor(starts, device=device)
        out = torch.empty(draws.shape[:2], dtype=torch.int16 if raw else torch.float32, device=device)
        for step in range(draws.shape[1]):
            logits = self.step(frames, offsets)
            if raw:
                labels = logits.argmax(dim=1) if self.greedy else draw_label(logits, uniform[:, step])
                out[:, step] = labels
                self.x = label_to_float(labels, self.w.levels).unsqueeze(1)
            else:
                self.x = draw_mixture(logits, uniform[:, step], self.greedy).unsqueeze(1)
                out[:, step] = self.x[:, 0]
        return out

    def step(self, frames: Frames, starts: Tensor) -> Tensor:
        """One sample of all streams after `self.x` (N, 1) -> logits (N, outputs)"""
        w, size, end = self.w, self.size, len(frames.fixed) - 1
        frame, phase = (starts + self.t).div(w.hop_length, rounding_mode="floor"), (starts + self.t) % w.hop_length
        inside = frame < end
        fixed = frames.fixed[frame.clamp(max=end)]
        around = frame.clamp(max=end - 1)[:, None] + torch.arange(2 * w.half_kernel + 1, device=frame.device)
        mixed = (w.upsample_kernel[phase] * inside[:, None]).unsqueeze(1) @ frames.mel[around]
        y = torch.addcmul(fixed[:, : 4 * size] + mixed[:, 0], self.x, w.sample_in)
        if frames.guide is not None:
            taps = (starts + self.t).clamp(max=end * w.hop_length - 1)[:, None] + torch.arange(
                len(w.guide_in), device=frame.device
            )
            y = y + (frames.guide[taps] * inside[:, None]) @ w.guide_in
        a2, a3, a4 = fixed[:, 4 * size :].split([3 * size, w.fc1.size(0), w.fc2.size(0)], dim=1)
        h1 = self.h1 = _gru(y[:, size:], F.linear(self.h1, w.gru1, self.bias1), self.h1)
        y = y[:, :size] + h1
        h2 = self.h2 = _gru(a2 + F.linear(y, w.gru2_in), F.linear(self.h2, w.gru2, self.bias2), self.h2)
        y = (a3 + F.linear(y + h2, w.fc1)).relu_()
        y = (a4 + F.linear(y, w.fc2)).relu_()
        self.t += 1
        return F.linear(y, w.fc3, w.fc3_bias)


def _gru(from_input: Tensor, from_hidden: Tensor, hidden: Tensor) -> Tensor:
    """The gates of a GRU cell: both linear parts (N, 3H) and the old state (N, H) -> the new state"""
    size = hidden.size(1)
    reset, update = (from_input[:, : 2 * size] + from_hidden[:, : 2 * size]).sigmoid_().chunk(2, dim=1)
    candidate = torch.addcmul(from_input[:, 2 * size :], reset, from_hidden[:, 2 * size :]).tanh_()
    return torch.lerp(candidate, hidden, update)


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
