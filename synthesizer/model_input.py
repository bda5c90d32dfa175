"""Sentences and a voice as the tensors that a network reads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from synthesizer.config import SynthesizerConfig
from synthesizer.models.base import ModelInput
from synthesizer.text.encoding import EncodedText
from synthesizer.text.marks import NEUTRAL
from utils.errors import CloningError
from utils.voice import Voice


def speaker_embeddings(voice: np.ndarray | Voice, count: int, size: int) -> Tensor:
    """A Voice, an embedding (D,) or one for each of `count` sentences (B, D) -> (B, D).

    Raises CloningError for an embedding of another size than `size`, and for one that is zero or not finite.
    """
    speaker = voice.embedding if isinstance(voice, Voice) else voice
    speakers = torch.as_tensor(np.asarray(speaker, dtype=np.float32))
    speakers = speakers.expand(count, -1) if speakers.ndim == 1 else speakers
    if tuple(speakers.shape) != (count, size):
        raise CloningError(
            f"the speaker embedding is of shape {tuple(np.shape(speaker))}; this synthesizer wants "
            f"({size},) or ({count}, {size})"
        )
    if not torch.isfinite(speakers).all() or (speakers.norm(dim=1) < 1e-3).any():
        raise CloningError("the speaker embedding is zero or not finite: embed a clip with voice in it")
    return speakers


def padded_input(
    encoded: Sequence[EncodedText], speakers: Tensor, seed: int, emotion: Tensor | None, device: torch.device
) -> ModelInput:
    """Sentences of one seed, padded; speakers (B, D), emotion (1, E)."""
    tokens, marks = (
        pad_sequence([torch.tensor(ids) for ids in rows], batch_first=True).to(device)
        for rows in ([text.tokens for text in encoded], [text.marks for text in encoded])
    )
    lengths = torch.tensor([len(text.tokens) for text in encoded], device=device)
    inputs = ModelInput(tokens, lengths, marks, speakers.to(device), [seed] * len(encoded), emotion)
    if not any(text.styles for text in encoded):
        return inputs
    styles = [torch.tensor(text.styles or [NEUTRAL] * len(text.tokens)) for text in encoded]
    style = pad_sequence(styles, batch_first=True, padding_value=1.0)
    return dataclasses.replace(inputs, style=style.to(device))


def with_voice_statistics(
    inputs: ModelInput, voice: Voice, config: SynthesizerConfig, frame_seconds: float
) -> ModelInput:
    """`inputs` with what is known of a voice beside its embedding, for a network that `uses_voice_statistics`.

    Raises CloningError for a prompt that is none of this network.
    """
    count, sizes, device = len(inputs.seeds), config.parallel, inputs.tokens.device
    pace = None if voice.pace is None else voice.pace - math.log(frame_seconds)
    statistics = torch.tensor([math.nan if f is None else f for f in (voice.pitch, voice.spread, pace)])
    inputs = dataclasses.replace(inputs, voice_statistics=statistics.to(device).expand(count, -1))
    if voice.prompt is None:
        return inputs
    if voice.prompt.shape != (wanted := (sizes.prompt_tokens, sizes.prompt_width)):
        raise CloningError(
            f"the voice is damaged: its prompt is of shape {voice.prompt.shape}, not {wanted}: make it anew"
        )
    return dataclasses.replace(inputs, prompt=torch.from_numpy(voice.prompt).to(device).expand(count, -1, -1))
