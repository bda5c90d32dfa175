"""How good a recording is as a reference: what of it spoils a voice's embedding, measured and said.

Level, clipping, bandwidth, background, share of voice, each from the samples alone; how many speak in it is
`diarization`'s to tell. `benchmarks/reference_notes.py` measures how often a note is right, and how often it comes of
clean speech.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.audio.io import Waveform, dbfs, normalize_volume, resample
from utils.audio.vad import trim_silence

RATE = 16_000  # Hz, at which all but clipping is measured
QUIET = -55.0  # dB of full scale, of the voice: 16 bits then hold less than 8 of it
CLIPPED = 600e-6  # of the samples at one of the two peaks; clean speech has 50e-6, 200e-6 at most
SQUASHED = 12.0  # dB from level to peak: less, with little behind the voice, is clipping that a codec has smoothed
NARROW = -50.0  # dB of 4.2 to 5.2 kHz beside 0.3 to 3 kHz where speech has most of it: -32 to -12; telephones below -60
BACKGROUND = 24.0  # dB from voice to background; white noise counts as it is, music as 10 to 15 dB less
NO_VOICE = 6.0  # dB: less is a steady sound without speech in it
FEW_SECONDS = 3.0  # of voice
LITTLE_VOICE = 0.25  # of a recording

_WINDOW, _HOP = 512, 160
_EDGES = np.geomspace(100, 7600, 25)  # Hz, of the bands in which a background is looked for
_PEAK = 0.97  # of the largest samples: what a limit cuts off lies above


@dataclass(frozen=True)
class Quality:
    """The measures of one recording. Levels in dB of full scale, ratios in dB."""

    level: float  # of the voice
    clipped: float  # share of the samples at the positive or the negative peak
    crest: float  # from level to peak
    high_band: float  # 4.2 to 5.2 kHz beside 0.3 to 3 kHz, where each is strongest
    background: float  # from the voice down to what is always there
    voice_seconds: float
    seconds: float

    @property
    def has_voice(self) -> bool:
        """Whether anything stands out of what is always there."""
        return self.background >= NO_VOICE

    def notes(self, name: str) -> list[str]:
        """A line for each thing that keeps the recording called `name` from being a good reference."""
        if not self.has_voice:
            return [f"{name}: no voice stands out of it: it sounds like noise or a steady tone; give speech"]
        found = []
        if self.level < QUIET:
            found.append(f"the voice is very quiet ({self.level:.0f} dBFS, below {QUIET:.0f}): record it louder")
        if self.clipped > CLIPPED or (self.crest < SQUASHED and self.background >= BACKGROUND):
            found.append("it is clipped (cut off at its peaks): record it at a lower level")
        if self.high_band < NARROW:
            found.append("nothing is above 4 kHz, as over a telephone: the clone guesses the rest of the voice")
        if self.background < BACKGROUND:
            found.append(
                f"noise or music is {self.background:.0f} dB below the voice ({BACKGROUND:.0f} or more is good): "
                "the clone takes it for a part of the voice"
            )
        if self.voice_seconds < FEW_SECONDS:
            found.append(f"it holds {self.voice_seconds:.1f} s of voice; 5 to 15 s are more like it")
        elif self.voice_seconds < LITTLE_VOICE * self.seconds:
            found.append(f"only {self.voice_seconds:.0f} s of its {self.seconds:.0f} s are voice: is it the right one?")
        return [f"{name}: {line}" for line in found]


def measure(wav: Waveform) -> Quality:
    """Measure a recording at the rate at which it was made: clipped peaks do not outlive resampling.

    Raises nothing; of silence, all numbers say so.
    """
    samples = resample(wav.samples, wav.sample_rate, RATE)
    power = _spectrogram(samples)
    voice = trim_silence(normalize_volume(samples), RATE)
    level = _decibels(_speech_power(power)) - _decibels(_SCALE)
    return Quality(
        level=level,
        clipped=_share_at_peak(wav.samples),
        crest=20 * float(np.log10(max(wav.peak, 1e-9))) - dbfs(wav.samples) if wav.peak else 0.0,
        high_band=_high_band(power),
        background=_background(power),
        voice_seconds=len(voice) / RATE,
        seconds=wav.seconds,
    )


_SCALE = float(np.square(np.hanning(_WINDOW)).sum()) * _WINDOW / 2  # of a spectrum's sum for samples of mean square 1


def _spectrogram(samples: np.ndarray) -> np.ndarray:
    """Power (F, bins) of samples (T,)"""
    padded = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    return np.abs(np.fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32), axis=1)) ** 2


def _between(low: float, high: float) -> slice:
    """Bins of a band in Hz."""
    return slice(*np.searchsorted(np.fft.rfftfreq(_WINDOW, 1 / RATE), [low, high]))


def _speech_power(power: np.ndarray) -> float:
    """Mean power above 100 Hz of the frames within 30 dB of the loud ones."""
    total = power[:, _between(100, RATE)].sum(axis=1)
    return float(total[total >= np.percentile(total, 95) / 1000].mean())


def _background(power: np.ndarray) -> float:
    """From the voice to the sum over bands of what is in each in nine frames of ten: speech leaves every band now and
    then, noise and held notes do not."""
    bands = np.stack([power[:, _between(a, b)].sum(axis=1) for a, b in zip(_EDGES[:-1], _EDGES[1:], strict=True)])
    return _decibels(_speech_power(power)) - _decibels(float(np.percentile(bands, 10, axis=1).sum()))


def _high_band(power: np.ndarray) -> float:
    high, low = (power[:, _between(*band)].sum(axis=1) for band in ((4200, 5200), (300, 3000)))
    return _decibels(float(np.percentile(high, 95))) - _decibels(float(np.percentile(low, 95)))


def _share_at_peak(samples: np.ndarray) -> float:
    """Share of samples (T,) within 3% of the largest, of the sign that has more of them."""
    shares = []
    for side in (samples, -samples):
        peak = float(np.partition(side, -3)[-3:].mean()) if len(side) > 2 else 0.0
        shares.append(float((side > _PEAK * peak).mean()) if peak > 0 else 0.0)
    return max(shares)


def _decibels(power: float) -> float:
    return 10 * float(np.log10(max(power, 1e-12)))
