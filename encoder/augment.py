"""What happens to a training crop before it is embedded: noise, other voices, rooms, narrow bands, levels, masks.

Everything is numpy with a generator passed in, so that a batch depends on (seed, step) alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from encoder.settings import AugmentConfig

Crop = Callable[[int], np.ndarray]  # number of samples -> that much of some other recording


def augment(
    wav: np.ndarray, config: AugmentConfig, rng: np.random.Generator, sample_rate: int, other: Crop, noise: Crop | None
) -> np.ndarray:
    """Each effect of `config` with its probability, in the order of nature: room, other sounds, channel, level.

    wav (T,) float32 -> (T,) float32. `other` gives speech of other utterances, `noise` recorded noise, if there is any.
    """
    if rng.random() < config.reverb:
        wav = reverberate(wav, rng, rng.uniform(*config.reverb_seconds), sample_rate)
    if rng.random() < config.noise:
        recorded = noise is not None and rng.random() < 0.5
        sound = noise(len(wav)) if recorded else coloured_noise(len(wav), rng)
        wav = add_at_snr(wav, sound, rng.uniform(*config.noise_snr_db))
    if rng.random() < config.babble:
        babble = np.sum([other(len(wav)) for _ in range(rng.integers(1, 4))], axis=0)
        wav = add_at_snr(wav, babble, rng.uniform(*config.babble_snr_db))
    if rng.random() < config.telephone:
        wav = mu_law_8_bit(band_pass(wav, 300.0, 3400.0, sample_rate))
    elif rng.random() < config.band_limit:
        low, high = rng.uniform(20.0, 300.0), rng.uniform(0.3, 0.95) * sample_rate / 2
        wav = band_pass(wav, low, high, sample_rate)
    if rng.random() < config.gain:
        wav = wav * 10 ** (rng.uniform(*config.gain_db) / 20)
    return wav.astype(np.float32, copy=False)


def add_at_snr(wav: np.ndarray, sound: np.ndarray, snr_db: float) -> np.ndarray:
    """`sound` under `wav`, so many dB quieter by mean power; silence on either side leaves `wav` as it is."""
    speech_power, sound_power = np.mean(wav**2), np.mean(sound**2)
    if speech_power <= 0 or sound_power <= 0:
        return wav
    return wav + sound * np.float32(np.sqrt(speech_power / sound_power / 10 ** (snr_db / 10)))


def coloured_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise whose power falls as f^-a, with a drawn between 0 (white) and 2 (brown)."""
    size = _fast_length(samples)
    spectrum = np.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    spectrum *= np.arange(1, len(spectrum) + 1, dtype=np.float32) ** (-rng.uniform(0, 2) / 2)
    return np.fft.irfft(spectrum, size)[:samples].astype(np.float32)


def reverberate(wav: np.ndarray, rng: np.random.Generator, rt60: float, sample_rate: int) -> np.ndarray:
    """Convolve with a made-up room: the direct sound, then noise that has fallen by 60 dB after `rt60` seconds.

    The direct sound stays in place and the level as it was.
    """
    length = max(int(rt60 * sample_rate), 2)
    time = np.arange(length, dtype=np.float32) / sample_rate
    tail = rng.standard_normal(length, dtype=np.float32) * np.exp(-6.9078 * time / rt60)  # ln 1000 = 6.9078
    tail[: int(0.002 * sample_rate)] = 0
    room = tail * np.float32(10 ** (-rng.uniform(0, 12) / 20) / max(float(np.linalg.norm(tail)), 1e-9))
    room[0] = 1.0
    size = _fast_length(len(wav) + length)
    wet = np.fft.irfft(np.fft.rfft(wav, size) * np.fft.rfft(room, size), size)[: len(wav)]
    power = np.mean(wet**2)
    return (wet * np.sqrt(np.mean(wav**2) / power) if power > 0 else wet).astype(np.float32)


def band_pass(wav: np.ndarray, low_hz: float, high_hz: float, sample_rate: int) -> np.ndarray:
    """Keep low .. high; outside, the level falls as in a filter of fourth order (no phase shift)."""
    size = _fast_length(len(wav))
    spectrum = np.fft.rfft(wav, size)
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 1e-3)
    gain = 1 / np.sqrt((1 + (low_hz / frequency) ** 8) * (1 + (frequency / high_hz) ** 8))
    return np.fft.irfft(spectrum * gain, size)[: len(wav)].astype(np.float32)


def mu_law_8_bit(wav: np.ndarray) -> np.ndarray:
    """There and back through 8-bit mu-law at full level, as a telephone does."""
    peak = max(float(np.abs(wav).max(initial=0)), 1e-9)
    compressed = np.sign(wav) * np.log1p(255 * np.abs(wav / peak)) / np.log(256)
    rounded = np.round(compressed * 127) / 127
    return (np.sign(rounded) * np.expm1(np.abs(rounded) * np.log(256)) / 255 * peak).astype(np.float32)


def draw_mask(config: AugmentConfig, rng: np.random.Generator, channels: int, frames: int) -> np.ndarray:
    """Bounds (first channel, stop channel, first frame, stop frame) to blank out; four zeros: nothing."""
    if rng.random() >= config.mask:
        return np.zeros(4, np.int64)
    width = int(rng.integers(0, min(config.mask_channels, channels) + 1))
    length = int(rng.integers(0, int(config.mask_share * frames) + 1))
    channel, frame = int(rng.integers(0, channels - width + 1)), int(rng.integers(0, frames - length + 1))
    return np.array([channel, channel + width, frame, frame + length], np.int64)


def _fast_length(samples: int) -> int:
    """The next length of the form 2^k, 3 * 2^k or 5 * 2^k, which FFTs like."""
    return min(base << max(0, -(-samples // base) - 1).bit_length() for base in (1, 3, 5))
