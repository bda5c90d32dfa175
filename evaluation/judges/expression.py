"""Acoustic features of emotion, and a classifier of emotions on them.

Every feature is relative to the same voice's mean over all emotions of the same sentence, so that voice, words and gain
carry no information.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthesizer.features import frame_levels, sound_bounds
from utils.audio.io import Waveform, resample
from utils.audio.mel import SYNTHESIZER_MEL, mel_spectrogram
from utils.audio.pitch import HIGHEST_ACTED_HZ, pitch

RATE = SYNTHESIZER_MEL.sample_rate
BANDS = 16  # the mel's channels, averaged in groups
LOUD_DB = 30.0  # below the loudest 10 ms: what is softer is no speech
# what the report shows of them: name -> (heading, digits)
SHOWN = {
    "pitch": ("F0, semitones", 1),
    "pitch_range": ("F0 range, semitones", 1),
    "level": ("energy, dB", 1),
    "rate": ("rate, %", 0),
}
Key = tuple[str, str]  # voice, sentence


@dataclass(frozen=True)
class ActedUtterance:
    """One emotion of one sentence in one voice."""

    voice: str
    sentence: str
    emotion: str
    numbers: dict[str, float]


def describe(waveform: Waveform) -> dict[str, float]:
    """Functionals of pitch, energy, timing and timbre; samples of any rate."""
    import torch

    samples = waveform.samples
    if waveform.sample_rate != RATE:
        samples = resample(samples, waveform.sample_rate, RATE)
    first, last = sound_bounds(samples, RATE, LOUD_DB)
    samples = samples[round(first * RATE) : max(round(last * RATE), round(first * RATE) + RATE // 5)]
    found = pitch(samples, RATE, SYNTHESIZER_MEL.hop_length, high=HIGHEST_ACTED_HZ)
    voiced = 12 * found[found != 0]  # semitones from 150 Hz
    voiced = voiced if len(voiced) > 4 else np.zeros(5)
    levels = frame_levels(samples, RATE)
    loud = levels[levels > levels.max() - LOUD_DB]
    low, high = np.percentile(voiced, [10, 90])
    numbers = {
        "pitch": float(np.median(voiced)),
        "pitch_mean": float(voiced.mean()),
        "pitch_high": float(high),
        "pitch_low": float(low),
        "pitch_range": float(high - low),
        "pitch_steps": float(np.abs(np.diff(voiced)).mean()),
        "voiced": float((found != 0).mean()),
        "level": float(10 * np.log10(np.mean(10 ** (loud / 10)))),
        "level_spread": float(loud.std()),
        "level_peak": float(np.percentile(levels, 95)),
        "rate": float(-100 * np.log(len(samples) / RATE)),  # per cent, to first order
    }
    mel = mel_spectrogram(torch.from_numpy(np.ascontiguousarray(samples)), SYNTHESIZER_MEL).numpy()
    bands = mel.reshape(BANDS, -1, mel.shape[1]).mean(axis=1)
    shape = bands - bands.mean(axis=0)
    for name, values in (("band", shape.mean(axis=1)), ("band_spread", bands.std(axis=1))):
        numbers |= {f"{name}{i}": float(value) for i, value in enumerate(values)}
    third = max(1, mel.shape[1] // 3)
    numbers["end_level"] = float(bands[:, -third:].mean() - bands[:, :third].mean())
    return numbers


def relative(takes: Sequence[ActedUtterance], emotions: Sequence[str], to: str | None = None) -> list[ActedUtterance]:
    """Numbers less those of the same voice and sentence: the average of all `emotions`, or the emotion `to`.

    What lacks one of them in that voice and sentence is left out.
    """
    groups: dict[Key, dict[str, list[ActedUtterance]]] = {}
    for take in takes:
        groups.setdefault((take.voice, take.sentence), {}).setdefault(take.emotion, []).append(take)
    found = []
    for group in groups.values():
        if not set(emotions) <= group.keys():
            continue
        means = {emotion: _mean([take.numbers for take in group[emotion]]) for emotion in emotions}
        center = _mean(list(means.values())) if to is None else means[to]
        for emotion in emotions:
            for take in group[emotion]:
                numbers = {name: value - center[name] for name, value in take.numbers.items()}
                found.append(ActedUtterance(take.voice, take.sentence, emotion, numbers))
    return found


class Classifier:
    """Classifies the `relative` features of `describe`; trained on real speech."""

    def __init__(self, emotions: Sequence[str]) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.emotions = tuple(emotions)
        self.model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced"))

    def learn(self, takes: Sequence[ActedUtterance]) -> Classifier:
        """Fit to takes with numbers relative to voice and sentence (`relative`); returns itself."""
        self.model.fit(_matrix(takes), [take.emotion for take in takes])
        return self

    def confusion(self, takes: Sequence[ActedUtterance]) -> np.ndarray:
        """Confusion matrix: emotions (rows), predictions (columns): (V, V) counts."""
        predicted = self.model.predict(_matrix(takes))
        counts = np.zeros((len(self.emotions), len(self.emotions)), dtype=int)
        for take, guess in zip(takes, predicted, strict=True):
            counts[self.emotions.index(take.emotion), self.emotions.index(guess)] += 1
        return counts


def higher_and_louder(takes: Sequence[ActedUtterance], one: str = "angry", other: str = "sad") -> dict[str, bool]:
    """For each sentence, whether `one` is both higher and louder than `other` on the average of the voices."""
    found: dict[str, bool] = {}
    for sentence in dict.fromkeys(take.sentence for take in takes):
        means = [
            _mean([t.numbers for t in takes if t.sentence == sentence and t.emotion == emotion])
            for emotion in (one, other)
        ]
        found[sentence] = all(means[0][name] > means[1][name] for name in ("pitch", "level"))
    return found


def _matrix(takes: Sequence[ActedUtterance]) -> np.ndarray:
    return np.array([list(take.numbers.values()) for take in takes])


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
