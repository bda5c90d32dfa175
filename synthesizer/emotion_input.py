"""What a user asks for, a label or a recording, as the embedding that a synthesizer with emotions takes."""

from __future__ import annotations

import torch
from torch import Tensor

from synthesizer.features import level, trimmed
from synthesizer.models.emotion import EmotionEncoder
from synthesizer.speech import EmotionInput
from utils.audio.io import Waveform, read
from utils.audio.mel import MelConfig, mel_spectrogram
from utils.errors import CloningError, MissingError

MIN_CLIP_SECONDS = 0.5  # of sound in such a recording


def embed_emotion(
    encoder: EmotionEncoder | None, labels: tuple[str, ...], mel: MelConfig, emotion: EmotionInput
) -> Tensor | None:
    """The embedding (1, E) of an emotion; None for a network without emotions of which none is asked.

    Raises CloningError for an unknown label or a recording that is too short, MissingError for an emotion asked of a
    network without.
    """
    if encoder is None:
        if emotion is not None:
            raise MissingError(
                "this synthesizer has no emotion conditioning: take one that has, or leave emotion out",
                "synthesizer with emotions",
            )
        return None
    device = encoder.table.weight.device
    if not isinstance(emotion, Waveform):
        place = neutral(labels) if emotion is None else find_label(emotion, labels)
        return encoder.label(torch.tensor([place], device=device))
    samples = trimmed(read(emotion, sample_rate=mel.sample_rate).samples, mel.sample_rate)
    if len(samples) < MIN_CLIP_SECONDS * mel.sample_rate:
        raise CloningError(
            f"the emotion's recording holds {len(samples) / mel.sample_rate:.1f} s of sound, at least "
            f"{MIN_CLIP_SECONDS:g} s are wanted: give a whole sentence"
        )
    spectrogram = mel_spectrogram(torch.from_numpy(level(samples, mel.sample_rate)), mel)[None].to(device)
    return encoder.clip(spectrogram, torch.tensor([spectrogram.shape[2]], device=device))


def find_label(emotion: str, labels: tuple[str, ...]) -> int:
    """The place of an emotion in `labels`; CloningError, with the list, for one that is not there."""
    if emotion not in labels:
        raise CloningError(f"emotion {emotion!r} is unknown: choose one of {', '.join(labels)}")
    return labels.index(emotion)


def neutral(labels: tuple[str, ...]) -> int:
    """The place of what is meant when no emotion is asked for."""
    return labels.index("neutral") if "neutral" in labels else 0
