"""One clip of a corpus to what a vocoder learns from: its waveform, and on request a synthesizer's mel of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from utils.audio import io as audio
from utils.audio.mel import SYNTHESIZER_MEL, MelConfig
from utils.audio.pitch import HIGHEST_ACTED_HZ, pitch
from utils.data.corpora import Clip
from utils.data.manifest import Utterance
from utils.data.preprocess import describe
from utils.errors import CloningError

KIND = "vocoder"
PEAK = 0.9

# What a synthesizer makes of a clip when it is teacher-forced: the samples that it learned from (T,) float32
# and the mel that it predicts for them, (F, M) with F = 1 + T // hop. Picklable: it is called in worker processes.
TeacherForced = Callable[[Clip], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass
class Preprocessor:
    """Called with a clip in worker processes: (Utterance, arrays). Raises CloningError for what is to be skipped.

    arrays: wav (T,) int16, scaled to a peak of 0.9, and its pitch (F,) float16 as `utils.audio.pitch` has it; with
    `teacher_forced` wav as the synthesizer had it, and mel (F, M) float16. The manifest's `extra` says how wide the
    band is, in Hz.
    """

    config: MelConfig = SYNTHESIZER_MEL
    min_seconds: float = 0.5
    max_seconds: float = 60.0
    teacher_forced: TeacherForced | None = None

    def header(self) -> dict[str, Any]:
        """What the manifest says of the whole set."""
        return {
            "sample_rate": self.config.sample_rate,
            "mel": dataclasses.asdict(self.config) if self.teacher_forced else None,
            "teacher_forced": self.teacher_forced is not None,
            "pitch": True,
        }

    def __call__(self, clip: Clip) -> tuple[Utterance, dict[str, np.ndarray]]:
        arrays: dict[str, np.ndarray] = {}
        if self.teacher_forced is None:
            samples = audio.read(clip.path, sample_rate=self.config.sample_rate, max_seconds=self.max_seconds).samples
            if not samples.any():
                raise CloningError(f"silence only: {clip.id}")
            samples = audio.peak_normalize(samples, PEAK)
        else:
            samples, mel = self.teacher_forced(clip)
            expected = (self.config.frames(len(samples)), self.config.n_mels)
            if mel.shape != expected:
                raise CloningError(f"mel does not fit the audio: {clip.id}: {mel.shape}, expected {expected}")
            arrays["mel"] = mel.astype(np.float16)
        seconds = len(samples) / self.config.sample_rate
        if seconds < self.min_seconds:
            raise CloningError(f"too short: {clip.id}: {seconds:.2f} s, limit {self.min_seconds:g} s")
        arrays["wav"] = audio.to_pcm16(samples)
        rate, hop = self.config.sample_rate, self.config.hop_length
        arrays["pitch"] = pitch(samples, rate, hop, high=HIGHEST_ACTED_HZ).astype(np.float16)
        extra: dict[str, Any] = {"bandwidth": round(bandwidth(samples, rate))}
        if self.teacher_forced:
            extra["teacher_forced"] = True
        return describe(clip, seconds=seconds, frames=self.config.frames(len(samples)), **extra), arrays


BAND_HZ = 250.0
BELOW_LOUDEST_DB = 57.0


def bandwidth(samples: np.ndarray, rate: int) -> float:
    """Up to which frequency there is speech, in Hz: samples (T,), T at least 32 ms.

    The upper edge of the highest band that is, where it is loud (95th percentile of 32 ms windows), within 57 dB of the
    loudest band: speech that was low-passed falls 15 dB further in the first band above its limit.
    """
    size = round(0.032 * rate)
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 2]
    power = np.abs(np.fft.rfft(windows * np.hanning(size).astype(np.float32))) ** 2
    band = (np.arange(power.shape[1]) * (rate / size) / BAND_HZ).astype(int)
    bands = np.add.reduceat(power, np.flatnonzero(np.diff(band, prepend=-1)), axis=1)
    level = 10 * np.log10(np.percentile(bands, 95, axis=0) + 1e-12)
    return min((1 + int(np.flatnonzero(level > level.max() - BELOW_LOUDEST_DB)[-1])) * BAND_HZ, rate / 2)
