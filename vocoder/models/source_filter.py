"""A frame-rate vocoder that is given its phases: a filter over the spectra of pulses and noise.

The blocks of Vocos say, for each frame and frequency, how loud pulses and noise are and by how much the pulses' phase
is turned, and, with `residual_spectrum`, a spectrum of their own for what neither source has, such as the click of a
stop; an inverse STFT at the mel's hop does the rest. With `mel_envelope` the gains are relative to the envelope that
the mel shows, so that the network only learns what is left (as FreeV, arXiv 2406.08196, with the pseudo-inverse of the
filterbank). Where the mel's hop is long, `subframes` spectra are made a frame, from straight lines between the frames.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.audio.mel import MelConfig
from utils.linear import Linear
from vocoder.config import SourceFilterConfig
from vocoder.models.source import Envelope, Sourced
from vocoder.models.vocos import MAX_LOG_MAGNITUDE, ConvNeXt, inverse_stft

QUIET = -3.0  # log gain of an untrained free spectrum under the envelope


class SourceFilter(Sourced):
    """Mel (B, M, F) -> plain (not pre-emphasized) waveform (B, (F - 1) * hop), F >= 2."""

    def __init__(self, config: SourceFilterConfig, mel: MelConfig) -> None:
        super().__init__(config, mel)
        bins = config.n_fft // 2 + 1
        inputs = mel.n_mels + 1 + (config.subframes if config.subframes > 1 else 0)  # mel, pitch, which subframe it is
        # log gains of pulses and of noise, turns of phase in radians
        self.filter = ConvNeXt(inputs, 3 * bins, config.dim, config.hidden, config.blocks, config.kernel)
        self.free = Linear(config.dim, 2 * bins) if config.residual_spectrum else None  # log gains and phases
        self.envelope = Envelope(mel, config.n_fft) if config.mel_envelope else None
        if self.free is not None:
            nn.init.trunc_normal_(self.free.weight, std=0.02)
            nn.init.zeros_(self.free.bias)
            self.free.bias.data[bins + 1 :: 2] = math.pi  # a click in the middle of the window
        reach = self.filter.receptive_field + math.ceil(config.n_fft / 2 / self.subhop) - 1  # subframes
        self.lookahead = self.pitch_finder.receptive_field + math.ceil(reach / self.subframes)

    def render(self, mel: Tensor, pitch: Tensor, phase: Tensor, start: Tensor) -> Tensor:
        """mel (B, M, F), pitch and phase (B, F), start (B,) -> waveform (B, (F - 1) * hop)"""
        inputs = subframes(torch.cat([mel, pitch[:, None].to(mel.dtype)], dim=1), self.subframes)
        base = 0.0 if self.envelope is None else self.envelope(inputs[:, :-1])
        features = self.filter.features(self._numbered(inputs))
        log_pulse_gain, log_noise_gain, turn = self.filter.head(features).float().chunk(3, dim=2)
        pulses, noise = self.spectra(self.pulses(pitch, phase)), self.spectra(self.noise_of(start, mel.size(2)))
        spectrum = torch.polar(_gain(base + log_pulse_gain), turn) * pulses + _gain(base + log_noise_gain) * noise
        if self.free is not None:
            log_gain, angle = self.free(features).float().chunk(2, dim=2)
            spectrum = spectrum + torch.polar(_gain(base + log_gain + QUIET), angle)
        return inverse_stft(spectrum, self.window.float(), self.subhop)

    def _numbered(self, inputs: Tensor) -> Tensor:
        """inputs (B, C, subframes) -> the same with a channel for each place between two frames, 1 where it is there"""
        if self.subframes == 1:
            return inputs
        place = torch.arange(inputs.size(2), device=inputs.device) % self.subframes
        places = F.one_hot(place, self.subframes).T.to(inputs.dtype)
        return torch.cat([inputs, places.expand(len(inputs), -1, -1)], dim=1)


def subframes(x: Tensor, count: int) -> Tensor:
    """x (B, C, F) -> (B, C, (F - 1) * count + 1), straight lines from frame to frame"""
    if count == 1:
        return x
    part = torch.arange(count, device=x.device, dtype=x.dtype) / count
    between = x[:, :, :-1, None] + x.diff(dim=2)[:, :, :, None] * part
    return torch.cat([between.flatten(2), x[:, :, -1:]], dim=2)


def _gain(log_gain: Tensor) -> Tensor:
    return log_gain.clamp(max=MAX_LOG_MAGNITUDE).exp()
