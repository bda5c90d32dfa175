"""What a user asks for, a label or a recording, as the embedding that a synthesizer with emotions takes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from synthesizer.data.alignments import sound_bounds
from synthesizer.data.preprocess import MARGIN_SECONDS, level
from synthesizer.models.emotion import find_label, neutral
from utils.audio.io import Waveform, read
from utils.audio.mel import MelConfig, mel_spectrogram
from utils.errors import CloningError

Feeling = str | Waveform | None  # a label, a recording that carries an emotion, or whatever is neutral
MIN_CLIP_SECONDS = 0.5  # of sound in such a recording


def embed_emotion(network: nn.Module, labels: tuple[str, ...], mel: MelConfig, emotion: Feeling) -> Tensor | None:
    """What `network.condition` takes, (1, E); None for a model without emotions of which none is asked.

    Raises CloningError for an unknown label, an emotion asked of a model without, a recording that is too short.
    """
    if not labels:
        if emotion is not None:
            raise CloningError("this synthesizer knows no emotions: choose one that does (--synthesizer), or ask none")
        return None
    device = network.emotion.table.weight.device
    if not isinstance(emotion, Waveform):
        place = neutral(labels) if emotion is None else find_label(emotion, labels)
        return network.emotion.label(torch.tensor([place], device=device))
    samples = loud_part(read(emotion, sample_rate=mel.sample_rate).samples, mel.sample_rate)
    if len(samples) < MIN_CLIP_SECONDS * mel.sample_rate:
        raise CloningError(
            f"the emotion's recording holds {len(samples) / mel.sample_rate:.1f} s of sound, at least "
            f"{MIN_CLIP_SECONDS:g} s are wanted: give a whole sentence"
        )
    spectrogram = mel_spectrogram(torch.from_numpy(level(samples, mel.sample_rate)), mel)[None].to(device)
    return network.emotion.clip(spectrogram, torch.tensor([spectrogram.shape[2]], device=device))


def loud_part(samples: np.ndarray, rate: int) -> np.ndarray:
    """samples (T,) without the silence at both ends, as the clips were that the network has learned from."""
    first, last = sound_bounds(samples, rate)
    return samples[max(0, round((first - MARGIN_SECONDS) * rate)) : round((last + MARGIN_SECONDS) * rate)]
