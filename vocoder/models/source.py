"""What a voice starts from: pulses at the pitch that is found in the mel, and noise.

Source-filter models (arXiv 1904.12088) get the pitch as a waveform, so the phase of a harmonic goes on from frame to
frame by itself, which a network that must invent phases learns slowly; HiFTNet (arXiv 2309.09493) finds the pitch in
the mel. The network over such a source: `source_filter`.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.audio.mel import MelConfig, hann_window, mel_filterbank
from utils.audio.pitch import REFERENCE_HZ
from utils.operations import double
from vocoder.config import SourceFilterConfig
from vocoder.models.vocos import ConvNeXt
from vocoder.models.waveform import WaveformModel, WaveformOutput

LEVEL = 0.05  # root mean square of pulses and of noise: about that of speech, at which an untrained filter begins
NOISE_SAMPLES = 2**17  # of noise, played over and over: 8 s at 16 kHz
BLUR_BINS = 1.0  # standard deviation of the target around the true pitch
STEEPEST = 0.03  # least response of the mel's pre-emphasis that is divided by: that of 0.97 at 0 Hz
FADE = 0.1  # of the pitch, below half the rate: there the highest harmonic comes and goes, so that none does at once
NEAR_BINS = 4  # bins on each side of the likeliest whose mean is the pitch


class PitchFinder(ConvNeXt):
    """Mel (B, M, F) -> how likely each of some pitches is, logits (B, bins, F), after CREPE (arXiv 1802.06182)."""

    pitches: Tensor

    def __init__(self, config: SourceFilterConfig, n_mels: int) -> None:
        bins = round(config.octaves * config.bins_per_octave)
        dim, blocks = config.pitch_dim, config.pitch_blocks
        super().__init__(n_mels, bins, dim, 2 * dim, blocks, config.kernel)
        pitches = math.log2(config.lowest_hz / REFERENCE_HZ) + torch.arange(bins) / config.bins_per_octave
        self.register_buffer("pitches", pitches, persistent=False)  # (bins,) log2(Hz / 150)
        self.bins_per_octave = config.bins_per_octave

    def forward(self, mel: Tensor) -> Tensor:
        """mel (B, M, F) -> logits (B, bins, F)"""
        return self.head(self.features(mel)).transpose(1, 2)

    def decode(self, logits: Tensor) -> Tensor:
        """logits (B, bins, F) -> (B, F) log2(Hz / 150): the mean around the likeliest bin."""
        best = logits.argmax(dim=1, keepdim=True)
        distance = torch.arange(logits.size(1), device=logits.device)[None, :, None] - best
        near = logits.float().masked_fill(distance.abs() > NEAR_BINS, -torch.inf).softmax(dim=1)
        return (near * self.pitches[:, None].float()).sum(dim=1)

    def loss(self, logits: Tensor, pitch: Tensor) -> Tensor:
        """Cross-entropy against the blurred truth, over voiced frames of pitch (B, F) (`utils.audio.pitch`)."""
        distance = (self.pitches.float()[:, None] - pitch[:, None]) * self.bins_per_octave / BLUR_BINS
        target = (-0.5 * distance.square()).softmax(dim=1)
        entropy = F.cross_entropy(logits.float(), target, reduction="none")
        voiced = (pitch != 0).float()
        return (entropy * voiced).sum() / voiced.sum().clamp_min(1)


class Sourced(WaveformModel):
    """A waveform out of pulses and noise. `margin`: frames of source beyond each end."""

    window: Tensor
    noise: Tensor

    def __init__(self, config: SourceFilterConfig, mel: MelConfig) -> None:
        super().__init__()
        self.hop_length, self.sample_rate, self.n_fft = mel.hop_length, mel.sample_rate, config.n_fft
        self.subframes, self.subhop = config.subframes, mel.hop_length // config.subframes
        self.margin = math.ceil(config.n_fft / 2 / mel.hop_length)  # frames whose source a window reaches into
        self.pitch_finder = PitchFinder(config, mel.n_mels)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        noise = torch.randn(NOISE_SAMPLES, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", noise, persistent=False)

    @abstractmethod
    def render(self, mel: Tensor, pitch: Tensor, phase: Tensor, start: Tensor) -> Tensor:
        """The waveform of mel (B, M, F), with its pitch and phases (B, F), and `start` (B,) as `forward` has it."""

    def forward(self, mel: Tensor, start: Tensor | None = None) -> WaveformOutput:
        """mel (B, M, F), `start` (B,): sample of the noise that frame 0 has, 0 unless given -> waveform and pitch"""
        logits = self.pitch_finder(mel)
        found = self.pitch_finder.decode(logits.detach())
        if start is None:
            start = torch.zeros(len(mel), dtype=torch.long, device=mel.device)
        return WaveformOutput(self.render(mel, found, self.phases(found), start), logits)

    def pitch(self, mel: Tensor) -> Tensor:
        """mel (B, M, F) -> (B, F) log2(Hz / 150), everywhere: unvoiced frames have what was likeliest."""
        return self.pitch_finder.decode(self.pitch_finder(mel))

    def phases(self, pitch: Tensor) -> Tensor:
        """pitch (B, F) -> cycles gone by at the center of each frame, (B, F) float64; the first is 0."""
        hz = self._hz(pitch)
        steps = (hz[:, 1:] + hz[:, :-1]) * (self.hop_length / 2 / self.sample_rate)
        return F.pad(steps.cumsum(dim=1), (1, 0))

    def pulses(self, pitch: Tensor, phase: Tensor) -> Tensor:
        """One band-limited pulse a period: (B, F) twice -> (B, (F - 1 + 2 * margin) * hop), frame 0 at margin * hop.

        Continuous in both: the last bit of a pitch, which depends on the processor and the batch, is inaudible.
        """
        hz = F.pad(self._hz(pitch), (self.margin, self.margin), mode="replicate")
        outside = torch.arange(1, self.margin + 1, device=hz.device) * (self.hop_length / self.sample_rate)
        before = phase[:, :1] - hz[:, :1] * outside.flip(0)
        after = phase[:, -1:] + hz[:, -1:] * outside
        cycles = torch.cat([before, phase, after], dim=1)
        part = torch.arange(self.hop_length, device=hz.device, dtype=torch.float64) / self.hop_length
        here, change = hz[:, :-1, None], hz.diff(dim=1)[:, :, None]
        seconds = part * (self.hop_length / self.sample_rate)
        theta = cycles[:, :-1, None] + here * seconds + change * seconds * part / 2
        room = 0.5 * self.sample_rate / (here + change * part)  # how many harmonics fit below half the rate
        harmonics = torch.ceil(room) - 1
        top = ((room - harmonics) / FADE).clamp(max=1).float().flatten(1)  # how loud the highest is
        half = (theta - theta.floor()).float().flatten(1) * math.pi
        count = harmonics.float().flatten(1)
        # sum of 2 cos(2 k half) for k = 1 .. count (Dirichlet's kernel, less one), of power 2 * count
        sine = half.sin()
        whole = torch.where(sine.abs() < 1e-4, 2 * count, ((2 * count + 1) * half).sin() / sine - 1)
        kernel = whole - (1 - top) * 2 * (2 * count * half).cos()
        power = 2 * (count - 1 + top.square())
        return (kernel * (LEVEL / power.sqrt())).to(pitch.device)

    def noise_of(self, start: Tensor, n_frames: int) -> Tensor:
        """As long as `pulses`."""
        samples = torch.arange((n_frames - 1 + 2 * self.margin) * self.hop_length, device=start.device)
        return LEVEL * self.noise[(start[:, None] - self.margin * self.hop_length + samples) % NOISE_SAMPLES]

    def spectra(self, source: Tensor) -> Tensor:
        """(B, (F - 1 + 2 * margin) * hop) -> (B, (F - 1) * subframes + 1, n_fft / 2 + 1) complex

        Spectrum j is centered on sample margin * hop + j * hop / subframes.
        """
        before = self.margin * self.hop_length - self.n_fft // 2
        inner = source[:, before : source.size(1) - before].float()
        spectra = torch.stft(
            inner, self.n_fft, self.subhop, window=self.window.float(), center=False, return_complex=True
        )
        return spectra.transpose(1, 2)

    @staticmethod
    def _hz(pitch: Tensor) -> Tensor:
        """In float64, since phases add up for minutes."""
        return REFERENCE_HZ * torch.exp2(double(pitch))


class Envelope(nn.Module):
    """Mel (B, M, F) -> log magnitude of the plain waveform's spectrum over that of a source, (B, F, n_fft / 2 + 1).

    Straight lines between the centers of the mel's filters, in log: linear in the mel, and as near to the true spectra
    as the logarithm of the pseudo-inverse filterbank, which must be kept from below 0. Only for mels in dB.
    """

    slope: Tensor
    at_zero: Tensor

    def __init__(self, mel: MelConfig, n_fft: int) -> None:
        super().__init__()
        filters = mel_filterbank(mel, dtype=torch.float64)  # (M, bins of the mel's own transform)
        hz = torch.linspace(0, mel.sample_rate / 2, filters.size(1), dtype=torch.float64)
        area = filters.sum(dim=1)
        centers = (filters @ hz) / area
        wanted = torch.linspace(0, mel.sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64).clamp(
            centers[0], centers[-1]
        )
        above = torch.searchsorted(centers, wanted).clamp(1, mel.n_mels - 1)
        part = ((wanted - centers[above - 1]) / (centers[above] - centers[above - 1]))[:, None]
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
        """mel (B, M, F) -> log magnitudes (B, F, n_fft / 2 + 1)"""
        with torch.autocast(mel.device.type, enabled=False):  # errors of logarithms are audible
            return mel.float().transpose(1, 2) @ self.slope.float() + self.at_zero.float()
