"""Other voices made of a recorded one: played at another speed, or with the formants alone moved. Torch, in batches."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.audio.mel import MelConfig, mel_of, spectrogram

LOBES = 16  # of the interpolating sinc on either side
ENVELOPE_SECONDS = 0.0022  # cepstrum up to here is the envelope: below the period of a voice of 450 Hz
POWER_FLOOR = 1e-10


def speed_perturb(wav: Tensor, factor: float) -> Tensor:
    """Played `factor` times as fast, pitch and all: (B, T) float -> (B, int(T / factor)).

    Interpolated by a windowed sinc that keeps what both rates can carry; factors are taken to three digits.
    """
    down = round(1000 * factor)
    if down < 1:
        raise ValueError(f"a speed of {factor:g}: factors are 0.001 or more")
    common = math.gcd(down, 1000)
    up, down = 1000 // common, down // common
    if up == down:
        return wav
    kernels, half_kernel = _sinc(up, down, wav.device, wav.dtype)
    samples = int(wav.size(1) / factor)
    blocks = -(-samples // up)
    padded = F.pad(wav, (half_kernel, max(0, blocks * down + half_kernel + down - wav.size(1))))
    played = F.conv1d(padded[:, None], kernels, stride=down)[:, :, :blocks]
    return played.transpose(1, 2).flatten(1)[:, :samples]


@lru_cache(maxsize=32)
def _sinc(up: int, down: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, int]:
    """Kernels (up, 1, 2 * half_kernel + down), one for each place of an output sample between input samples."""
    with torch.inference_mode(False):
        cutoff = min(1.0, up / down) * 0.97
        half_kernel = math.ceil(LOBES / cutoff)
        places = torch.arange(up, dtype=torch.float64)[:, None] * down / up
        distance = torch.arange(-half_kernel, half_kernel + down, dtype=torch.float64)[None] - places
        window = torch.cos(distance * cutoff / LOBES * math.pi / 2).square() * (distance.abs() * cutoff < LOBES)
        return (cutoff * torch.sinc(distance * cutoff) * window)[:, None].to(device, dtype), half_kernel


def perturbed_mel(wav: Tensor, config: MelConfig, moves: Tensor | None = None) -> Tensor:
    """Mel (B, M, F) of waveforms (B, T); with `moves` (B, K, K) of `formant_shift`, each row with formants moved."""
    with torch.autocast(wav.device.type, enabled=False):
        spectrum = spectrogram(wav, config)
        if moves is not None:
            spectrum = spectrum * torch.exp(moves @ spectrum.clamp(min=POWER_FLOOR).log())
        return mel_of(spectrum, config)


@lru_cache(maxsize=32)
def formant_shift(factor: float, config: MelConfig, device: torch.device | str = "cpu") -> Tensor:
    """Matrix (K, K) from the log of a spectrum of K bins to the change of that log that moves formants by `factor`.

    The envelope is the low part of the cepstrum (homomorphic smoothing: Oppenheim and Schafer); it is stretched along
    frequency, and what remains, the harmonics, stays. Cached: do not write into it.
    """
    if factor <= 0:
        raise ValueError(f"formants moved by {factor:g}: factors are above 0")
    with torch.inference_mode(False):
        bins, size = config.n_fft // 2 + 1, config.n_fft
        cepstrum = torch.fft.irfft(torch.eye(bins, dtype=torch.complex128), size)  # rows: of each bin alone
        quefrency = torch.minimum(torch.arange(size), size - torch.arange(size)) / config.sample_rate
        lifter = 0.5 + 0.5 * torch.cos(math.pi * (quefrency / ENVELOPE_SECONDS).clamp(max=1.0).double())
        smooth = torch.fft.rfft(cepstrum * lifter, dim=1).real.T
        source = (torch.arange(bins, dtype=torch.float64) / factor).clamp(max=bins - 1)
        low = source.floor().long().clamp(max=bins - 2)
        share = source - low
        stretch = torch.zeros(bins, bins, dtype=torch.float64)
        stretch[torch.arange(bins), low] = 1 - share
        stretch[torch.arange(bins), low + 1] += share
        return ((stretch - torch.eye(bins, dtype=torch.float64)) @ smooth).float().to(device)
