"""What happens to the crops of a batch before they are embedded: rooms, noise, other voices, channels, levels, masks.

Everything is torch on (B, T) crops, where they lie. What happens to whom, and how strongly, is drawn in numpy from a
generator passed in; noise from a torch generator on the device: a batch depends on (seed, step) alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoder.config import AugmentConfig
from utils.audio.codecs import Container, lossy_copy
from utils.errors import CloningError

# What libsndfile calls compression levels; the rates are those of speech at 16 kHz
_CODECS: dict[Container, tuple[float, float]] = {"MP3": (0.4, 0.9), "OGG": (0.88, 1.0)}  # 100 .. 25 and 40 .. 12 kbit/s


@dataclass(frozen=True)
class Sounds:
    """What may be added to crops: functions from (rows, generator) to as many sounds (rows, T), and rooms."""

    other: Callable[[int, np.random.Generator], Tensor]  # speech of other utterances
    noise: Callable[[int, np.random.Generator], Tensor] | None = None  # recorded noise
    rooms: Tensor | None = None  # impulse responses (N, L) of simulated rooms, the direct sound first


def augment(
    wav: Tensor, config: AugmentConfig, draws: np.random.Generator, noises: torch.Generator, rate: int, sounds: Sounds
) -> Tensor:
    """Each effect of `config` on its share of the rows, in the order of nature: room, sounds, channel, level.

    wav (B, T) float32 -> (B, T) float32; rows are drawn apart for each effect.
    """
    samples = wav.size(1)

    def uniform(low: float, high: float) -> Callable[[int], Tensor]:
        return lambda n: to_device(draws.uniform(low, high, n).astype(np.float32), wav.device)

    def on(share: float, effect: Callable[[Tensor, int], Tensor]) -> np.ndarray:
        nonlocal wav
        rows = draw_rows(share, len(wav), draws)
        if len(rows):
            index = to_device(rows, wav.device)
            wav = wav.index_copy(0, index, effect(wav[index], len(rows)))
        return rows

    def room(x: Tensor, n: int) -> Tensor:
        made = synthetic_rooms(
            uniform(*config.reverb_seconds)(n), uniform(0, 12)(n), config.reverb_seconds[1], rate, noises
        )
        if sounds.rooms is not None:
            simulated = sounds.rooms[to_device(draws.integers(len(sounds.rooms), size=n), x.device)]
            length = max(made.size(1), simulated.size(1))
            made, simulated = (torch.nn.functional.pad(r, (0, length - r.size(1))) for r in (made, simulated))
            made = torch.where(uniform(0, 1)(n)[:, None] < config.reverb_rooms, simulated, made)
        return convolve(x, made)

    def noise(x: Tensor, n: int) -> Tensor:
        sound = colored_noise(uniform(0, 2)(n), samples, noises)
        if sounds.noise is not None:
            sound = torch.where(uniform(0, 1)(n)[:, None] < 0.5, sounds.noise(n, draws), sound)
        return add_at_snr(x, sound, uniform(*config.noise_snr_db)(n))

    def babble(x: Tensor, n: int) -> Tensor:
        voices = sounds.other(3 * n, draws).unflatten(0, (3, n))  # one to three of them
        heard = torch.arange(3, device=x.device)[:, None] < uniform(1, 4)(n).floor()
        return add_at_snr(x, (voices * heard[:, :, None]).sum(dim=0), uniform(*config.babble_snr_db)(n))

    on(config.reverb, room)
    on(config.noise, noise)
    on(config.babble, babble)
    on(config.equalizer, lambda x, n: equalize(x, uniform(-1, 1)(6 * n).view(n, 6) * config.equalizer_db, rate))
    on(config.band_limit, lambda x, n: band_pass(x, uniform(20, 300)(n), uniform(0.3, 0.95)(n) * rate / 2, rate))
    on(config.telephone, lambda x, n: mu_law_8_bit(band_pass(x, uniform(300, 300)(n), uniform(3400, 3400)(n), rate)))
    on(config.spectral_dropout, lambda x, n: spectral_dropout(x, uniform(*config.spectral_dropout_db)(n)))
    on(config.codec, lambda x, n: _lossy_rows(x, draws, rate))
    on(config.gain, lambda x, n: x * _ratio(uniform(*config.gain_db)(n)))
    return wav


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """To the device without waiting for what it is at."""
    return torch.from_numpy(array).to(device, non_blocking=True)


def draw_rows(share: float, rows: int, draws: np.random.Generator) -> np.ndarray:
    """About `share` of the numbers 0 .. rows - 1, each as likely as any; their count is the nearest below or above."""
    if not share:
        return np.empty(0, np.int64)
    count = min(rows, int(share * rows + draws.random()))
    return np.sort(draws.permutation(rows)[:count])


def add_at_snr(wav: Tensor, sound: Tensor, snr_db: Tensor) -> Tensor:
    """`sound` (B, T) under `wav` (B, T), `snr_db` (B,) quieter by mean power; silence on a side changes nothing."""
    speech, other = (x.square().mean(dim=1, keepdim=True) for x in (wav, sound))
    factor = (speech / other.clamp(min=1e-20)).sqrt() / _ratio(snr_db)
    return wav + sound * torch.where(other > 1e-20, factor, torch.zeros_like(factor))


def colored_noise(tilt: Tensor, samples: int, noises: torch.Generator) -> Tensor:
    """Gaussian noise (B, T) whose power falls as f^-tilt (B,): 0 white, 2 brown."""
    size = fast_length(samples)
    spectrum = torch.fft.rfft(torch.randn(len(tilt), size, generator=noises, device=tilt.device))
    frequency = torch.arange(1, spectrum.size(1) + 1, device=tilt.device, dtype=tilt.dtype)
    return torch.fft.irfft(spectrum * frequency ** (-tilt[:, None] / 2), size)[:, :samples]


def synthetic_rooms(rt60: Tensor, wet_db: Tensor, longest: float, rate: int, noises: torch.Generator) -> Tensor:
    """Impulse responses (B, L): the direct sound, then noise from 2 ms on that has fallen by 60 dB after `rt60` (B,) s.

    The tail is `wet_db` (B,) quieter than the direct sound; L holds `longest` seconds.
    """
    length = max(int(longest * rate), 2)
    time = torch.arange(length, device=rt60.device) / rate
    tail = torch.randn(len(rt60), length, generator=noises, device=rt60.device)
    tail = tail * torch.exp(-6.9078 * time / rt60[:, None]) * (time >= 0.002)  # ln 1000 = 6.9078
    tail = tail / (tail.norm(dim=1, keepdim=True).clamp(min=1e-9) * _ratio(wet_db))
    return torch.cat([torch.ones_like(tail[:, :1]), tail[:, 1:]], dim=1)


def convolve(wav: Tensor, rooms: Tensor) -> Tensor:
    """`wav` (B, T) as heard in rooms with these impulse responses (B, L): as long and as loud as before."""
    size = fast_length(wav.size(1) + rooms.size(1))
    wet = torch.fft.irfft(torch.fft.rfft(wav, size) * torch.fft.rfft(rooms, size), size)[:, : wav.size(1)]
    before, after = (x.square().mean(dim=1, keepdim=True) for x in (wav, wet))
    return wet * (before / after.clamp(min=1e-20)).sqrt()


def band_pass(wav: Tensor, low_hz: Tensor, high_hz: Tensor, rate: int) -> Tensor:
    """Keep low .. high (B,); outside, the level falls as in a filter of fourth order (no phase shift)."""

    def gain(frequency: Tensor) -> Tensor:
        below, above = low_hz[:, None] / frequency, frequency / high_hz[:, None]
        return 1 / ((1 + below**8) * (1 + above**8)).sqrt()

    return _filter(wav, gain, rate)


def equalize(wav: Tensor, gains_db: Tensor, rate: int) -> Tensor:
    """A microphone's color: gains (B, K) at K frequencies from 60 Hz to half the rate, even in octaves."""
    octaves = np.log2(rate / 2 / 60) / (gains_db.size(1) - 1)

    def gain(frequency: Tensor) -> Tensor:
        place = (torch.log2(frequency / 60) / octaves).clamp(0, gains_db.size(1) - 1.001)
        first, share = place.floor().long(), place - place.floor()
        return _ratio_of(gains_db[:, first] * (1 - share) + gains_db[:, first + 1] * share)

    return _filter(wav, gain, rate)


def mu_law_8_bit(wav: Tensor) -> Tensor:
    """There and back through 8-bit mu-law at full level, as a telephone does: (B, T)"""
    peak = wav.abs().amax(dim=1, keepdim=True).clamp(min=1e-9)
    compressed = wav.sign() * torch.log1p(255 * (wav / peak).abs()) / np.log(256)
    rounded = torch.round(compressed * 127) / 127
    return rounded.sign() * torch.expm1(rounded.abs() * np.log(256)) / 255 * peak


def spectral_dropout(wav: Tensor, depth_db: Tensor) -> Tensor:
    """What a codec of a low rate drops: in each frame of 32 ms, all that lies `depth_db` (B,) under its loudest bin."""
    half = 256
    window = torch.hann_window(2 * half, device=wav.device)  # halves of neighbors sum to 1; istft would wait for a GPU
    frames = torch.nn.functional.pad(wav, (half, half + -wav.size(1) % half)).unfold(1, 2 * half, half)
    spectrum = torch.fft.rfft(frames * window)
    level = spectrum.abs()
    kept = level >= level.amax(dim=2, keepdim=True) / _ratio(depth_db)[:, :, None]
    first, second = torch.fft.irfft(spectrum * kept).split(half, dim=2)
    return (first[:, 1:] + second[:, :-1]).flatten(1)[:, : wav.size(1)]


def _filter(wav: Tensor, gain: Callable[[Tensor], Tensor], rate: int) -> Tensor:
    size = fast_length(wav.size(1))
    frequency = (torch.arange(size // 2 + 1, device=wav.device) * (rate / size)).clamp(min=1e-3)
    return torch.fft.irfft(torch.fft.rfft(wav, size) * gain(frequency), size)[:, : wav.size(1)]


def _ratio(db: Tensor) -> Tensor:
    return _ratio_of(db)[:, None]


def _ratio_of(db: Tensor) -> Tensor:
    return torch.exp(db * (np.log(10) / 20))


def lossy(wav: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Encoded by MP3 or Opus at a random rate and decoded, in memory: (T,) -> (T,)."""
    container, levels = list(_CODECS.items())[int(rng.integers(len(_CODECS)))]
    try:
        decoded = lossy_copy(wav, sample_rate, container, rng.uniform(*levels))
    except CloningError as error:
        raise CloningError(f"augment.codec: {error} or set augment.codec to 0") from error
    return np.pad(decoded, (0, max(0, len(wav) - len(decoded))))[: len(wav)]


def _lossy_rows(wav: Tensor, draws: np.random.Generator, rate: int) -> Tensor:
    return to_device(np.stack([lossy(row, draws, rate) for row in wav.cpu().numpy()]), wav.device)


def draw_masks(config: AugmentConfig, draws: np.random.Generator, rows: int, channels: int, frames: int) -> np.ndarray:
    """Bounds (rows, 4): first channel, stop channel, first frame, stop frame to blank out; four zeros: nothing."""
    chosen = draw_rows(config.mask, rows, draws)
    bounds = np.zeros((rows, 4), np.int64)
    for first, most, of in (
        (0, min(config.mask_channels, channels), channels),
        (2, int(config.mask_share * frames), frames),
    ):
        width = draws.integers(0, most + 1, len(chosen))
        start = draws.integers(0, of - width + 1)
        bounds[chosen, first], bounds[chosen, first + 1] = start, start + width
    return bounds


def fast_length(samples: int) -> int:
    """The next length of the form 2^k, 3 * 2^k or 5 * 2^k, of which an FFT is fast."""
    return min(base << max(0, -(-samples // base) - 1).bit_length() for base in (1, 3, 5))
