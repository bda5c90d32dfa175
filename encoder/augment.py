"""What happens to a training crop before it is embedded: noise, other voices, rooms, narrow bands, levels, masks.

Everything is numpy with a generator passed in, so that a batch depends on (seed, step) alone.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from utils.errors import CloningError

if TYPE_CHECKING:
    from encoder.settings import AugmentConfig

log = logging.getLogger(__name__)
Crop = Callable[[int], np.ndarray]  # number of samples -> that much of some other recording

# What libsndfile calls compression levels; the rates are those of speech at 16 kHz
_CODECS = {("MP3", "MPEG_LAYER_III"): (0.4, 0.9), ("OGG", "OPUS"): (0.88, 1.0)}  # 100 .. 25 and 40 .. 12 kbit/s


def augment(
    wav: np.ndarray,
    config: AugmentConfig,
    rng: np.random.Generator,
    sample_rate: int,
    other: Crop,
    noise: Crop | None,
    room: Callable[[], np.ndarray] | None = None,
) -> np.ndarray:
    """Each effect of `config` with its probability, in the order of nature: room, other sounds, channel, level.

    wav (T,) float32 -> (T,) float32. `other` gives speech of other utterances; `noise` recorded noise and `room` the
    impulse response of a simulated room, if there are any. An effect that is newer than runs that may go on draws
    nothing from `rng` unless it is asked for.
    """
    if rng.random() < config.reverb:
        if room is not None and rng.random() < config.reverb_rooms:
            wav = convolve(wav, room())
        else:
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
    if config.codec and rng.random() < config.codec:
        wav = lossy(wav, rng, sample_rate)
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
    return convolve(wav, room)


def convolve(wav: np.ndarray, room: np.ndarray) -> np.ndarray:
    """`wav` (T,) as heard in a room with this impulse response (R,): as long and as loud as before."""
    size = _fast_length(len(wav) + len(room))
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


def lossy(wav: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """There and back through MP3 or Opus at a random rate, in memory: as long as before."""
    import soundfile

    (container, codec), levels = list(_CODECS.items())[int(rng.integers(len(_CODECS)))]
    settings = {"compression_level": rng.uniform(*levels)}
    if container == "MP3":
        settings["bitrate_mode"] = "CONSTANT"
    buffer = io.BytesIO()
    loud = max(1.0, float(np.abs(wav).max(initial=0)))  # what exceeds full scale would be cut off
    try:
        soundfile.write(buffer, wav / loud, sample_rate, format=container, subtype=codec, **settings)
    except (TypeError, soundfile.LibsndfileError) as error:
        raise CloningError(
            f"augment.codec: soundfile {soundfile.__version__} writes no {container} of a chosen rate ({error}): "
            f"pip install 'soundfile>=0.13' or --set augment.codec=0"
        ) from error
    buffer.seek(0)
    heard = soundfile.read(buffer, dtype="float32")[0] * np.float32(loud)
    return np.pad(heard, (0, max(0, len(wav) - len(heard))))[: len(wav)]


def draw_mask(config: AugmentConfig, rng: np.random.Generator, channels: int, frames: int) -> np.ndarray:
    """Bounds (first channel, stop channel, first frame, stop frame) to blank out; four zeros: nothing."""
    if rng.random() >= config.mask:
        return np.zeros(4, np.int64)
    if config.mask_by == "torchaudio" and (drawn := _torchaudio_mask(config, rng, channels, frames)) is not None:
        return drawn
    width = int(rng.integers(0, min(config.mask_channels, channels) + 1))
    length = int(rng.integers(0, int(config.mask_share * frames) + 1))
    channel, frame = int(rng.integers(0, channels - width + 1)), int(rng.integers(0, frames - length + 1))
    return np.array([channel, channel + width, frame, frame + length], np.int64)


def _torchaudio_mask(config: AugmentConfig, rng: np.random.Generator, channels: int, frames: int) -> np.ndarray | None:
    """The same bounds as drawn by torchaudio's SpecAugment; None where torchaudio does not load."""
    import torch

    mask = _mask_along_axis()
    if mask is None:
        return None
    bounds: list[int] = []
    with torch.random.fork_rng(devices=[]):  # it draws from torch's own generator
        torch.manual_seed(int(rng.integers(2**31)))
        for axis, most in ((1, config.mask_channels), (2, int(config.mask_share * frames))):
            kept = mask(torch.ones(1, channels, frames), most + 1, 0.0, axis).amin(dim=3 - axis)[0]
            blank = torch.nonzero(kept == 0).flatten()
            bounds += [int(blank[0]), int(blank[-1]) + 1] if len(blank) else [0, 0]
    return np.array(bounds, np.int64)


@lru_cache(maxsize=1)
def _mask_along_axis() -> Callable | None:
    from utils.torchaudio_compat import import_torchaudio

    try:
        return import_torchaudio().functional.mask_along_axis
    except (CloningError, ImportError, OSError) as error:
        log.warning("masks are drawn without torchaudio: %s", error)
        return None


def _fast_length(samples: int) -> int:
    """The next length of the form 2^k, 3 * 2^k or 5 * 2^k, which FFTs like."""
    return min(base << max(0, -(-samples // base) - 1).bit_length() for base in (1, 3, 5))
