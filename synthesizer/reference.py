"""Clips of a voice as the frames that a synthesizer learned from: the same level, silences cut, the same mel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from synthesizer.features import level, without_pauses
from utils.audio.io import Waveform, resample
from utils.audio.mel import MelConfig, mel_spectrogram
from utils.audio.pitch import pitch


def prompt_of(clips: Sequence[Waveform], config: MelConfig) -> tuple[np.ndarray, np.ndarray]:
    """Mel (F, M) and pitch (F,) of `utils.audio.pitch` of all clips, one after the other."""
    mels, tracks = [], []
    for clip in clips:
        samples = resample(clip.samples, clip.sample_rate, config.sample_rate)
        samples = without_pauses(level(samples, config.sample_rate), config.sample_rate)
        mels.append(mel_spectrogram(torch.from_numpy(samples), config).T.numpy())
        tracks.append(pitch(samples, config.sample_rate, config.hop_length))
    return np.concatenate(mels), np.concatenate(tracks)
