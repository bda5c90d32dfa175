"""What a voice starts from: pulses at the pitch that is found in the mel, and noise.

Source-filter models (arXiv 1904.12088) hear the pitch as a waveform, so the phase of a harmonic goes on from frame to
frame by itself, which a network that must invent phases learns slowly; HiFTNet (arXiv 2309.09493) finds the pitch in
the mel. Networks over such a source are `vocoder.source_filter` and, with `hifigan.source`, `vocoder.hifigan`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.mel import MelConfig
from utils.pitch import REFERENCE_HZ
from vocoder.config import SourceFilterConfig
from vocoder.vocos import ConvNeXt

LEVEL = 0.05  # root mean square of pulses and of noise: about that of speech, so that an untrained filter is no shock
NOISE_SAMPLES = 2**17  # of noise, played over and over: 8 s at 16 kHz
BLUR_BINS = 1.0  # standard deviation of the target around the true pitch
NEAR_BINS = 4  # bins on each side of the likeliest whose mean is the pitch


class PitchFinder(ConvNeXt):
    """Mel (B, M, F) -> how likely each of some pitches is, logits (B, bins, F), after CREPE (arXiv 1802.06182)."""

    def __init__(self, config: SourceFilterConfig, n_mels: int) -> None:
        bins = round(config.octaves * config.bins_per_octave)
        dim, blocks = config.pitch_dim, config.pitch_blocks
        super().__init__(n_mels, bins, dim, 2 * dim, blocks, config.kernel)
        pitches = math.log2(config.lowest_hz / REFERENCE_HZ) + torch.arange(bins) / config.bins_per_octave
        self.register_buffer("pitches", pitches, persistent=False)  # (bins,) log2(Hz / 150)
        self.bins_per_octave = config.bins_per_octave

    def decode(self, logits: Tensor) -> Tensor:
        """logits (B, bins, F) -> (B, F) log2(Hz / 150): the mean around the likeliest bin."""
        best = logits.argmax(dim=1, keepdim=True)
        distance = torch.arange(logits.size(1), device=logits.device)[None, :, None] - best
        near = logits.float().masked_fill(distance.abs() > NEAR_BINS, -torch.inf).softmax(dim=1)
        return (near * self.pitches[:, None].float()).sum(dim=1)

    def loss(self, logits: Tensor, pitch: Tensor) -> Tensor:
        """Cross-entropy against the blurred truth, over voiced frames; `pitch` (B, F) as `utils.pitch`: 0 unvoiced."""
        distance = (self.pitches.float()[:, None] - pitch[:, None]) * self.bins_per_octave / BLUR_BINS
        target = (-0.5 * distance.square()).softmax(dim=1)
        entropy = F.cross_entropy(logits.float(), target, reduction="none")
        voiced = (pitch != 0).float()
        return (entropy * voiced).sum() / voiced.sum().clamp_min(1)


class Sourced(nn.Module, ABC):
    """Mel (B, M, F) -> plain (not pre-emphasised) waveform (B, (F - 1) * hop), F >= 2, out of pulses and noise.

    `margin`: frames of source beyond each end; `reach`: frames beyond its two neighbours that a hop of audio hears.
    """

    reach: int

    def __init__(self, config: SourceFilterConfig, mel: MelConfig, margin: int) -> None:
        super().__init__()
        self.hop_length, self.sample_rate, self.margin = mel.hop_length, mel.sample_rate, margin
        self.pitch_finder = PitchFinder(config, mel.n_mels)
        noise = torch.randn(NOISE_SAMPLES, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", noise, persistent=False)

    @abstractmethod
    def render(self, mel: Tensor, pitch: Tensor, phase: Tensor, start: Tensor) -> Tensor:
        """The waveform of mel (B, M, F), with its pitch and phases (B, F), and `start` (B,) as `forward` has it."""

    def forward(
        self, mel: Tensor, pitch: Tensor | None = None, start: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The waveform; given the true `pitch` (B, F), also the loss of the pitch that was found, ().

        `start` (B,): sample of the noise that frame 0 has, 0 unless given.
        """
        logits = self.pitch_finder(mel)
        found = self.pitch_finder.decode(logits.detach())
        if start is None:
            start = torch.zeros(len(mel), dtype=torch.long, device=mel.device)
        wav = self.render(mel, found, self.phases(found), start)
        return wav if pitch is None else (wav, self.pitch_finder.loss(logits, pitch))

    def pitch(self, mel: Tensor) -> Tensor:
        """mel (B, M, F) -> (B, F) log2(Hz / 150), everywhere: unvoiced frames have what was likeliest."""
        return self.pitch_finder.decode(self.pitch_finder(mel))

    def phases(self, pitch: Tensor) -> Tensor:
        """pitch (B, F) -> cycles gone by at the centre of each frame, (B, F) float64; the first is 0."""
        hz = self._hz(pitch)
        steps = (hz[:, 1:] + hz[:, :-1]) * (self.hop_length / 2 / self.sample_rate)
        return F.pad(steps.cumsum(dim=1), (1, 0))

    def pulses(self, pitch: Tensor, phase: Tensor) -> Tensor:
        """One band-limited pulse a period: (B, F) twice -> (B, (F - 1 + 2 * margin) * hop), frame 0 at margin * hop."""
        hz = F.pad(self._hz(pitch), (self.margin, self.margin), mode="replicate")
        outside = torch.arange(1, self.margin + 1, device=hz.device) * (self.hop_length / self.sample_rate)
        before = phase[:, :1] - hz[:, :1] * outside.flip(0)
        after = phase[:, -1:] + hz[:, -1:] * outside
        cycles = torch.cat([before, phase, after], dim=1)
        part = torch.arange(self.hop_length, device=hz.device, dtype=torch.float64) / self.hop_length
        here, change = hz[:, :-1, None], hz.diff(dim=1)[:, :, None]
        seconds = part * (self.hop_length / self.sample_rate)
        theta = cycles[:, :-1, None] + here * seconds + change * seconds * part / 2
        harmonics = torch.ceil(0.5 * self.sample_rate / (here + change * part)) - 1  # below half the rate
        half = (theta - theta.floor()).float().flatten(1) * math.pi
        count = harmonics.float().flatten(1)
        # sum of cos(2 k half) for k = 1 .. count (Dirichlet's kernel), of power count / 2
        sine = half.sin()
        kernel = torch.where(sine.abs() < 1e-4, 2 * count + 1, ((2 * count + 1) * half).sin() / sine)
        return ((kernel - 1) * (LEVEL / (2 * count).sqrt())).to(pitch.device)

    def noise_of(self, start: Tensor, n_frames: int) -> Tensor:
        """As long as `pulses`."""
        samples = torch.arange((n_frames - 1 + 2 * self.margin) * self.hop_length, device=start.device)
        return LEVEL * self.noise[(start[:, None] - self.margin * self.hop_length + samples) % NOISE_SAMPLES]

    @staticmethod
    def _hz(pitch: Tensor) -> Tensor:
        """In float64, since phases add up for minutes; MPS has none."""
        pitch = pitch.cpu() if pitch.device.type == "mps" else pitch
        return REFERENCE_HZ * torch.exp2(pitch.double())
