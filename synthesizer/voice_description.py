"""What a synthesizer knows of a voice beside its embedding: measured on recordings of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from synthesizer.aligned_clip import AlignedClip, Recorded, clip_without_words
from synthesizer.models.base import AcousticModel, ModelInput
from synthesizer.models.compensation import Compensation
from synthesizer.models.parallel import Parallel
from synthesizer.text.symbols import SymbolTable
from utils.audio.mel import MelConfig
from utils.voice import pitch_statistics

PROMPT_SECONDS = 12.0  # of a reference, whose frames are read
COMPENSATED_CLIPS = 4  # and as many seconds of each, are spoken again
NOISE_FLOOR = 5  # percentile of a channel's values in a recording
ABOVE_NOISE = 1.5  # units of the mel (19 dB) up to which what is recorded may be noise
LOUDNESS = 1.0  # nepers by which a frame weighs more for each unit of the mel (12.5 dB) that it is louder
NO_SPEECH = 0.95  # part of the frames with noise at most from which a channel is taken for one that was not recorded


def facts_of(network: AcousticModel, config: MelConfig, recordings: Sequence[Recorded]) -> dict[str, Any]:
    """Pitch, spread, pace and prompt as `Voice` has them, of all recordings of a voice, one after the other."""
    mel = _channels_first(network, np.concatenate([found.mel for found in recordings]))
    first = mel[:, :, : round(PROMPT_SECONDS / config.frame_seconds)]
    pace = network.pace(mel) + math.log(config.frame_seconds)
    tokens, _ = network.read_prompt(first, torch.tensor([first.shape[2]], device=mel.device))
    prompt = None if tokens is None else tokens[0].cpu().numpy()
    pitch, spread = pitch_statistics(np.concatenate([found.pitch for found in recordings])) or (None, None)
    return {"pitch": pitch, "spread": spread, "pace": pace, "prompt": prompt}


def first_clips(
    network: AcousticModel, table: SymbolTable, config: MelConfig, recordings: Sequence[Recorded]
) -> list[AlignedClip]:
    """The first seconds of the first recordings, with the symbols that the network finds in them."""
    frames = round(PROMPT_SECONDS / config.frame_seconds)
    cut = [Recorded(*(array[:frames] for array in found)) for found in recordings[:COMPENSATED_CLIPS]]
    return [clip_without_words(network, table, found) for found in cut]


def compensation_of(network: Parallel, inputs: ModelInput, clips: Sequence[AlignedClip]) -> Compensation | None:
    """What is recorded less what the network says in the voice of `inputs`: a mean for each symbol of the clips, and a
    map of what these leave.

    In frames whose symbol is known, loud ones weighing more: they are what is heard of a voice. Where a channel is near
    its noise floor in the recording, it is made no louder, and a channel that is always there (beyond the band of a
    telephone) stays as it is. None where no symbol is known.
    """
    conditioning = network.condition(inputs.speaker, inputs.emotion, inputs.voice_statistics, inputs.prompt)
    smooth, drawn = [], []
    for clip in clips:
        tokens, recording = clip.tensors(inputs.speaker.device)
        hidden, mean, mask = network.spoken_again(tokens, recording, conditioning)
        smooth.append(network.denormalized(mean)[0].cpu())
        if network.flow is not None:
            mean = network.flow.draw_of_seeds(inputs.seeds, mean, hidden, conditioning.vector, mask)
        drawn.append(network.denormalized(mean)[0].cpu())
    aligned = torch.from_numpy(np.concatenate([clip.aligned for clip in clips]))
    symbols = torch.from_numpy(np.concatenate([np.repeat(clip.tokens, clip.durations) for clip in clips]))[aligned]
    said, places, frames = symbols.unique(return_inverse=True, return_counts=True)
    if not len(said):
        return None
    levels = torch.from_numpy(np.concatenate([clip.mel.mean(axis=1) for clip in clips]))[aligned]
    weights = len(levels) * (LOUDNESS * levels).softmax(dim=0)

    def mean_of_symbols(values: torch.Tensor) -> torch.Tensor:
        zeros = values.new_zeros(len(said), values.shape[1])
        sums = zeros.index_add(0, places, values * weights[:, None])
        return sums / zeros[:, :1].index_add(0, places, weights[:, None])

    made, differences = _compared(smooth, clips, aligned)
    found = Compensation.without_map(mean_of_symbols(made), mean_of_symbols(differences), frames.float())
    mended = [found.applied(mel.T[None])[0].T for mel in drawn]
    made, differences = _compared(mended, clips, aligned)
    return found.mapping(made, made + differences, weights)


def _compared(
    made: Sequence[torch.Tensor], clips: Sequence[AlignedClip], aligned: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mels (F, M) that were made of each clip, and what to add to them: the aligned frames of all (F, M), twice."""
    differences = []
    for generated, clip in zip(made, clips, strict=True):
        difference = clip.mel - generated.numpy()
        noise = clip.mel < np.percentile(clip.mel, NOISE_FLOOR, axis=0) + ABOVE_NOISE
        difference[noise] = np.minimum(difference[noise], 0)
        difference[:, noise.mean(axis=0) > NO_SPEECH] = 0
        differences.append(torch.from_numpy(difference))
    return torch.cat(list(made))[aligned], torch.cat(differences)[aligned]


def _channels_first(network: AcousticModel, frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).to(next(network.parameters()).device)[None].transpose(1, 2)
