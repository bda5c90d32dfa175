"""What a vocoder learns by beside discriminators: distances of spectra and mels, the likelihood of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.audio.mel import MelConfig, hann_window, mel_spectrogram

POWER_FLOOR = 1e-5  # below what 16-bit speech holds at these windows: bins under it do not count as differing

QUIET = 0.05  # root mean square magnitude under which an item's error no longer counts relative to it: about -50 dBFS


def stft_magnitude(wav: Tensor, n_fft: int) -> Tensor:
    """wav (B, T) -> magnitudes (B, n_fft / 2 + 1, 1 + T // (n_fft / 4)), floored so that their log has a gradient"""
    window = hann_window(n_fft, wav.device, torch.float32)
    spectrum = torch.stft(wav.float(), n_fft, n_fft // 4, window=window, pad_mode="constant", return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square()).clamp_min(POWER_FLOOR).sqrt()


def stft_loss(output: Tensor, target: Tensor, resolutions: Sequence[int], preemphasis: float = 0.0) -> Tensor:
    """Spectral convergence plus L1 of log magnitudes, averaged over resolutions (arXiv 1910.11480, 2.2).

    output, target (B, T) -> ()
    """
    output, target = _preemphasized(output, preemphasis), _preemphasized(target, preemphasis)
    terms = []
    for n_fft in resolutions:
        ours, theirs = stft_magnitude(output, n_fft), stft_magnitude(target, n_fft)
        # an item each, so that a batch spread over processes has the same loss; silence has nothing to converge to
        size = torch.linalg.vector_norm(theirs, dim=(1, 2)).clamp_min(QUIET * theirs[0].numel() ** 0.5)
        convergence = (torch.linalg.vector_norm(ours - theirs, dim=(1, 2)) / size).mean()
        terms.append(convergence + F.l1_loss(ours.log(), theirs.log()))
    return torch.stack(terms).mean()


def mel_loss(output: Tensor, target: Tensor, config: MelConfig) -> Tensor:
    """L1 of the mels, in the mel's own units: output, target (B, T) -> ()"""
    return F.l1_loss(mel_spectrogram(output.float(), config), mel_spectrogram(target.float(), config))


def mixture_loss(logits: Tensor, target: Tensor, levels: int = 65536, min_log_scale: float = math.log(1e-14)) -> Tensor:
    """Mean negative log likelihood under a mixture of logistics, each integrated over one level (PixelCNN++, 2.1).

    logits (B, T, 3 * K): K mixture logits, K means, K log scales; target (B, T) in [-1, 1] -> ()
    """
    weights, means, log_scales = logits.chunk(3, dim=2)
    log_scales = log_scales.clamp_min(min_log_scale)
    centered, inverse = target.unsqueeze(2) - means, torch.exp(-log_scales)
    half = 1 / (levels - 1)
    upper, lower = inverse * (centered + half), inverse * (centered - half)
    middle = inverse * centered
    mass = upper.sigmoid() - lower.sigmoid()
    # where the mass underflows: the density at the center times the level's width
    density = middle - log_scales - 2 * F.softplus(middle) - math.log((levels - 1) / 2)
    log_probability = torch.where(mass > 1e-5, mass.clamp_min(1e-12).log(), density)
    edge = target.unsqueeze(2)
    log_probability = torch.where(edge > 0.999, -F.softplus(lower), log_probability)
    log_probability = torch.where(edge < -0.999, upper - F.softplus(upper), log_probability)
    return -torch.logsumexp(log_probability + weights.log_softmax(dim=2), dim=2).mean()


def _preemphasized(wav: Tensor, coefficient: float) -> Tensor:
    """wav (B, T) -> (B, T - 1), without the first sample, which has none before it; 0: as it is"""
    return wav[:, 1:] - coefficient * wav[:, :-1] if coefficient else wav
