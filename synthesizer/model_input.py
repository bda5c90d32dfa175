"""Sentences and a voice as the tensors that a network reads, and what a recording must have to teacher-force it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from synthesizer.config import SynthesizerConfig
from synthesizer.models.base import AcousticModel, ModelInput
from synthesizer.models.compensation import Compensation
from synthesizer.text.encoding import EncodedText
from synthesizer.text.marks import NEUTRAL
from utils.audio.mel import MelConfig
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


def with_voice_statistics(inputs: ModelInput, voice: Voice, config: SynthesizerConfig, mel: MelConfig) -> ModelInput:
    """`inputs` with what is known of a voice beside its embedding, for a network that `uses_voice_statistics`.

    Raises CloningError for a prompt or a compensation that is none of this network.
    """
    count, sizes, device = len(inputs.seeds), config.parallel, inputs.tokens.device
    if voice.compensation is not None:
        inputs = dataclasses.replace(inputs, compensation=Compensation.of(voice.compensation, mel.n_mels, device))
    pace = None if voice.pace is None else voice.pace - math.log(mel.frame_seconds)
    statistics = torch.tensor([math.nan if f is None else f for f in (voice.pitch, voice.spread, pace)])
    inputs = dataclasses.replace(inputs, voice_statistics=statistics.to(device).expand(count, -1))
    if voice.prompt is None:
        return inputs
    if voice.prompt.shape != (wanted := (sizes.prompt_tokens, sizes.prompt_width)):
        raise CloningError(
            f"the voice is damaged: its prompt is of shape {voice.prompt.shape}, not {wanted}: make it anew"
        )
    return dataclasses.replace(inputs, prompt=torch.from_numpy(voice.prompt).to(device).expand(count, -1, -1))


def require_recording(
    network: AcousticModel,
    sizes: tuple[int, int],
    tokens: np.ndarray,
    mel: np.ndarray,
    durations: np.ndarray | None,
    prosody: np.ndarray | None,
) -> None:
    """`sizes`: how many symbols and mel channels the network has; the arrays are those of `Synthesizer.teacher_forced`.

    Raises CloningError for arrays that do not fit the network or one another, and for those that it needs and lacks.
    """
    symbols, channels = sizes
    if np.ndim(mel) != 2 or np.shape(mel)[0] != channels:
        raise CloningError(f"the mel has the shape {np.shape(mel)}, ({channels}, F) is wanted")
    ids = np.asarray(tokens)
    if ids.ndim != 1 or not ids.size or not (0 <= ids.min() and ids.max() < symbols):
        raise CloningError(f"tokens are ids from 0 to {symbols - 1} in one row (N,), at least one")
    lacking = [
        name
        for name, needed, value in (
            ("durations", network.needs_durations, durations),
            ("prosody", network.needs_prosody, prosody),
        )
        if needed and value is None
    ]
    if lacking:
        raise CloningError(f"this synthesizer needs {' and '.join(lacking)}: give what was measured in the recording")
    for name, value, shape in (("durations", durations, ids.shape), ("prosody", prosody, (len(ids), 3))):
        if value is not None and np.shape(value) != shape:
            raise CloningError(f"{name} has the shape {np.shape(value)}, {shape} is wanted: a row for each token")
    if durations is not None and np.min(durations) < 0:
        raise CloningError(f"durations has {np.min(durations)} frames: none may be below 0")
    frames = np.shape(mel)[1]
    if network.needs_durations and durations is not None and (total := int(np.sum(durations))) != frames:
        raise CloningError(f"durations sum to {total} frames, the mel has {frames}: they must be equal")
