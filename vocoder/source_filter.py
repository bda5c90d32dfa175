"""A frame-rate vocoder that is given its phases: a filter over the spectra of pulses and noise.

The blocks of Vocos say, for each frame and frequency, how loud pulses and noise are and by how much the pulses' phase
is turned, and, with `free`, a spectrum of their own for what neither source has, such as the click of a stop; an
inverse STFT at the mel's hop does the rest. With `mel_base` the gains are relative to the envelope that the mel shows,
so that the network only learns what is left (as FreeV, arXiv 2406.08196, with the pseudo-inverse of the filterbank).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.linear import Linear
from utils.mel import MelConfig, hann_window, mel_filterbank
from vocoder.config import SourceFilterConfig
from vocoder.source import LEVEL, Sourced
from vocoder.vocos import MAX_LOG_MAGNITUDE, ConvNeXt, inverse_stft

QUIET = -3.0  # log gain of an untrained free spectrum under the envelope
STEEPEST = 0.03  # least response of the mel's pre-emphasis that is divided by: that of 0.97 at 0 Hz


class SourceFilter(Sourced):
    """Mel (B, M, F) -> plain (not pre-emphasised) waveform (B, (F - 1) * hop), F >= 2."""

    def __init__(self, config: SourceFilterConfig, mel: MelConfig) -> None:
        # frames whose source a window reaches into
        super().__init__(config, mel, margin=math.ceil(config.n_fft / 2 / mel.hop_length))
        self.n_fft = config.n_fft
        bins = config.n_fft // 2 + 1
        # log gains of pulses and of noise, turns of phase in radians
        self.filter = ConvNeXt(mel.n_mels + 1, 3 * bins, config.dim, config.hidden, config.blocks, config.kernel)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.free = Linear(config.dim, 2 * bins) if config.free else None  # log gains and phases
        self.envelope = Envelope(mel, config.n_fft) if config.mel_base else None
        if self.free is not None:
            nn.init.trunc_normal_(self.free.weight, std=0.02)
            nn.init.zeros_(self.free.bias)
            self.free.bias.data[bins + 1 :: 2] = math.pi  # a click in the middle of the window
        self.reach = self.pitch_finder.reach + self.filter.reach + self.margin - 1

    def render(self, mel: Tensor, pitch: Tensor, phase: Tensor, start: Tensor) -> Tensor:
        features = self.filter.features(torch.cat([mel, pitch[:, None].to(mel.dtype)], dim=1))
        log_pulse_gain, log_noise_gain, turn = self.filter.head(features).float().chunk(3, dim=2)
        base = 0.0 if self.envelope is None else self.envelope(mel)
        pulses, noise = self._spectra(self.pulses(pitch, phase)), self._spectra(self.noise_of(start, mel.size(2)))
        spectrum = torch.polar(_gain(base + log_pulse_gain), turn) * pulses + _gain(base + log_noise_gain) * noise
        if self.free is not None:
            log_gain, angle = self.free(features).float().chunk(2, dim=2)
            spectrum = spectrum + torch.polar(_gain(base + log_gain + QUIET), angle)
        return inverse_stft(spectrum, self.window.float(), self.hop_length)

    def _spectra(self, source: Tensor) -> Tensor:
        """(B, (F - 1 + 2 * margin) * hop) -> (B, F, n_fft / 2 + 1) complex, frame f centred on (margin + f) * hop"""
        inner = source[:, self.margin * self.hop_length - self.n_fft // 2 :].float()
        n_frames = source.size(1) // self.hop_length + 1 - 2 * self.margin
        inner = inner[:, : (n_frames - 1) * self.hop_length + self.n_fft]
        spectra = torch.stft(
            inner, self.n_fft, self.hop_length, window=self.window.float(), center=False, return_complex=True
        )
        return spectra.transpose(1, 2)


class Envelope(nn.Module):
    """Mel (B, M, F) -> log magnitude of the plain waveform's spectrum over that of a source, (B, F, n_fft / 2 + 1).

    Straight lines between the centres of the mel's filters, in log: linear in the mel, and as near to the true spectra
    as the logarithm of the pseudo-inverse filterbank, which must be kept from below 0. Only for mels in dB.
    """

    def __init__(self, mel: MelConfig, n_fft: int) -> None:
        super().__init__()
        filters = mel_filterbank(mel, dtype=torch.float64)  # (M, bins of the mel's own transform)
        hz = torch.linspace(0, mel.sample_rate / 2, filters.size(1), dtype=torch.float64)
        area = filters.sum(dim=1)
        centres = (filters @ hz) / area
        wanted = torch.linspace(0, mel.sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64).clamp(
            centres[0], centres[-1]
        )
        above = torch.searchsorted(centres, wanted).clamp(1, mel.n_mels - 1)
        part = ((wanted - centres[above - 1]) / (centres[above] - centres[above - 1]))[:, None]
        weights = (1 - part) * F.one_hot(above - 1, mel.n_mels) + part * F.one_hot(above, mel.n_mels)
        turn = torch.linspace(0, torch.pi, n_fft // 2 + 1, dtype=torch.float64)
        response = (1 - mel.preemphasis * torch.polar(torch.ones_like(turn), -turn)).abs().clamp_min(STEEPEST)
        source = LEVEL * hann_window(mel.win_length, "cpu", torch.float64).square().sum().sqrt()
        nepers = math.log(10) / 20  # in a decibel
        slope = nepers * -mel.min_db / (2 * mel.max_abs)
        at_zero = nepers * (mel.min_db / 2 + mel.ref_db) - weights @ area.log() - response.log() - source.log()
        self.register_buffer("slope", (slope * weights).T.float(), persistent=False)
        self.register_buffer("at_zero", at_zero.float(), persistent=False)

    def forward(self, mel: Tensor) -> Tensor:
        with torch.autocast(mel.device.type, enabled=False):  # errors of logarithms are heard
            return mel.float().transpose(1, 2) @ self.slope.float() + self.at_zero.float()


def _gain(log_gain: Tensor) -> Tensor:
    return log_gain.clamp(max=MAX_LOG_MAGNITUDE).exp()
