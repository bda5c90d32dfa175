"""Measures an encoder's `Calibration` on single-speaker clips: the spread of its windows in voices and between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from diarization.scores import Calibration, fit
from diarization.settings import DiarizationSettings
from diarization.windows import embed_speech
from encoder.inference import SpeakerEncoder
from utils.audio.io import Waveform
from utils.voice import unit

CLIPS_OF_A_VOICE = 4
WINDOWS_OF_A_CLIP = 8
LEAST_WINDOWS = 3  # of a clip, for its mean to be compared: the worth of a short reference


def calibrate(
    encoder: SpeakerEncoder, voices: Mapping[str, Sequence[Path]], settings: DiarizationSettings | None = None
) -> Calibration:
    """From clips of each voice; of a voice with many, an even choice of the sorted ones, so that sessions differ.

    Windows do not overlap. Raises CloningError when too few voices say enough.
    """
    settings = settings or DiarizationSettings()
    apart = replace(settings, hop=settings.window)
    found, first, last = [], [], []
    for _, paths in tqdm(sorted(voices.items()), desc="calibrating", unit="voice", disable=None):
        paths = sorted(paths)
        chosen = np.unique(np.linspace(0, len(paths) - 1, CLIPS_OF_A_VOICE).astype(int))
        clips = [windows_of(encoder, paths[i], apart)[:WINDOWS_OF_A_CLIP] for i in chosen]
        found.append(np.concatenate(clips))
        means = [unit(rows.mean(axis=0)) for rows in clips if len(rows) >= LEAST_WINDOWS]
        if len(means) > 1:
            first.append(means[0])
            last.append(means[-1])
    mean, projection, between = fit(found)
    cosines = np.array(first) @ np.array(last).T
    others = ~np.eye(len(cosines), dtype=bool)
    same, different = np.diag(cosines), cosines[others]
    # Not where both errors are equal: that hangs on a few odd pairs
    threshold = float(np.quantile(same, 0.1) + np.quantile(different, 0.9)) / 2
    about = {
        "voices": sum(len(rows) > 1 for rows in found),
        "windows": sum(map(len, found)),
        "seconds a window": settings.window,
        "voices with two clips": len(cosines),
        "misses at the threshold": round(float((same < threshold).mean()), 4),
        "false alarms at the threshold": round(float((different >= threshold).mean()), 4),
    }
    return Calibration(encoder.fingerprint, mean, projection, between, threshold, about)


def windows_of(encoder: SpeakerEncoder, path: Path, settings: DiarizationSettings) -> np.ndarray:
    """(N, D): windows of one clip, freed of silence, that last at least half of their length."""
    wav = encoder.preprocess(path)
    wav = Waveform(wav.samples[: round(WINDOWS_OF_A_CLIP * settings.window * wav.sample_rate)], wav.sample_rate)
    if wav.seconds < settings.window / 2:
        return np.zeros((0, encoder.embedding_size), np.float32)
    return embed_speech(encoder, wav, np.array([[0.0, wav.seconds]]), settings)[1]
