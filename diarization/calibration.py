"""Measures an encoder's `Calibration` on single-speaker clips: the spread of short pieces, heard in rooms, noise and
telephones, in voices and between them; and the cosine from which on two clips are one voice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from diarization.plda import Calibration, fit, noise_of
from diarization.settings import DiarizationSettings
from diarization.windows import PIECE, embed_speech
from encoder.augment import Sounds, augment
from encoder.config import AugmentConfig
from encoder.inference import SpeakerEncoder
from utils.audio.io import Waveform
from utils.voice import unit

CLIPS_OF_A_VOICE = 4
WINDOWS_OF_A_CLIP = 8
LEAST_WINDOWS = 3  # of a clip, for its mean to be compared: the worth of a short reference
ROUGH = AugmentConfig(
    noise=0.8, noise_snr_db=(5.0, 20.0), babble=0, reverb=0.5, reverb_seconds=(0.2, 0.7), equalizer=0.3, band_limit=0.2,
    telephone=0.3, gain=0, mask=0,
)  # fmt: skip


def calibrate(
    encoder: SpeakerEncoder, voices: Mapping[str, Sequence[Path]], settings: DiarizationSettings | None = None
) -> Calibration:
    """From clips of each voice; of a voice with many, an even choice of the sorted ones, so that sessions differ.

    Windows do not overlap. Raises CloningError when too few voices say enough.
    """
    settings = settings or DiarizationSettings()
    apart = replace(settings, hop=settings.window)
    draws, noises = np.random.default_rng(0), torch.Generator().manual_seed(0)
    rough, first, last = [], [], []
    for _, paths in tqdm(sorted(voices.items()), desc="calibrating", unit="voice", disable=None):
        paths = sorted(paths)
        chosen = np.unique(np.linspace(0, len(paths) - 1, CLIPS_OF_A_VOICE).astype(int))
        wavs = [shortened(encoder.preprocess(paths[i]), settings) for i in chosen]
        clips = [windows_of(encoder, wav, apart)[:WINDOWS_OF_A_CLIP] for wav in wavs]
        rough.append([rough_pieces(encoder, wav, draws, noises) for wav in wavs])
        means = [unit(rows.mean(axis=0)) for rows in clips if len(rows) >= LEAST_WINDOWS]
        if len(means) > 1:
            first.append(means[0])
            last.append(means[-1])
    voiced = [np.concatenate(pieces) for pieces in rough]
    mean, projection, between = fit(voiced)
    cosines = np.array(first) @ np.array(last).T
    others = ~np.eye(len(cosines), dtype=bool)
    same, different = np.diag(cosines), cosines[others]
    # Not where both errors are equal: that hangs on a few odd pairs
    threshold = float(np.quantile(same, 0.1) + np.quantile(different, 0.9)) / 2
    about = {
        "voices": sum(len(rows) > 1 for rows in voiced),
        "pieces": sum(map(len, voiced)),
        "seconds a piece": PIECE,
        "voices with two clips": len(cosines),
        "misses at the threshold": round(float((same < threshold).mean()), 4),
        "false alarms at the threshold": round(float((different >= threshold).mean()), 4),
    }
    noise = noise_of([rows for clips in rough for rows in clips])
    return Calibration(encoder.fingerprint, mean, projection, between, noise, threshold, about)


def shortened(wav: Waveform, settings: DiarizationSettings) -> Waveform:
    """What is used of a clip."""
    return Waveform(wav.samples[: round(WINDOWS_OF_A_CLIP * settings.window * wav.sample_rate)], wav.sample_rate)


def windows_of(encoder: SpeakerEncoder, wav: Waveform, settings: DiarizationSettings) -> np.ndarray:
    """(N, D): windows of one clip, freed of silence, that last at least half of their length."""
    if wav.seconds < settings.window / 2:
        return np.zeros((0, encoder.embedding_size), np.float32)
    return embed_speech(encoder, wav, np.array([[0.0, wav.seconds]]), settings)[1]


def rough_pieces(
    encoder: SpeakerEncoder, wav: Waveform, draws: np.random.Generator, noises: torch.Generator
) -> np.ndarray:
    """(N, D): pieces of `diarization.windows.PIECE` seconds of one clip, in one made-up room or telephone."""
    samples = torch.from_numpy(np.ascontiguousarray(wav.samples, np.float32))[None]
    heard = augment(samples, ROUGH, draws, noises, wav.sample_rate, Sounds(other=_nobody))[0]
    mel = encoder.mel(heard.numpy())
    size = round(PIECE * wav.sample_rate / encoder.config.mel.hop_length)
    pieces = [mel[:, start : start + size] for start in range(0, mel.size(1) - size + 1, size)]
    return encoder.embed_mels(pieces) if pieces else np.zeros((0, encoder.embedding_size), np.float32)


def _nobody(rows: int, draws: np.random.Generator) -> torch.Tensor:
    raise ValueError("nobody else speaks in the clips that are calibrated on")
