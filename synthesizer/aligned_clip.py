"""A recording as a parallel synthesizer learns from it: its mel, and which symbol is said when.

With words, the times are those of a forced alignment. Without, phones and their times are found by the network's own
frame classifier, and frames that it is not sure of do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from synthesizer.data import alignments as align
from synthesizer.features import level, prosody, without_pauses
from synthesizer.models.base import AcousticModel, Recording
from synthesizer.text.symbols import END, PAD, PAUSE, PAUSES, SILENCE, WORD_BOUNDARY, SymbolTable
from utils.audio.io import Waveform, resample
from utils.audio.mel import MelConfig, mel_spectrogram
from utils.audio.pitch import pitch
from utils.errors import CloningError

SURE = 0.5  # probability of a frame's symbol below which the frame is left out
CHANGE_COST = 2.0  # nats that another symbol must be better by, over its frames


class Recorded(NamedTuple):
    """F frames of a recording as a synthesizer learned them."""

    mel: np.ndarray  # (F, M)
    pitch: np.ndarray  # (F,) of `utils.audio.pitch`


@dataclass(frozen=True)
class AlignedClip:
    """F frames of a recording and the N symbols said in it."""

    mel: np.ndarray  # (F, M)
    tokens: np.ndarray  # (N,) ids
    durations: np.ndarray  # (N,) in frames, with sum F
    prosody: np.ndarray  # (N, 3), see `synthesizer.features.prosody`
    aligned: np.ndarray  # (F,) whether the frame's symbol is known

    def tensors(self, device: torch.device) -> tuple[Tensor, Recording]:
        """Its tokens (1, N), and the rest as a network is teacher-forced by it."""
        tokens, mel, durations, spoken = (
            torch.from_numpy(array).to(device)[None] for array in (self.tokens, self.mel, self.durations, self.prosody)
        )
        return tokens, Recording(mel.transpose(1, 2), durations, spoken)


def recorded(clip: Waveform, config: MelConfig) -> Recorded:
    """A clip at the level of the training, its silences cut. Raises CloningError: silence."""
    samples = resample(clip.samples, clip.sample_rate, config.sample_rate)
    samples = without_pauses(level(samples, config.sample_rate), config.sample_rate)
    return _frames(samples, config)


def clip_with_words(table: SymbolTable, config: MelConfig, samples: np.ndarray, row: dict[str, Any]) -> AlignedClip:
    """samples (T,) at the mel's rate, and their alignment (`synthesizer.data.alignments`).

    Raises CloningError for silence and for an alignment without phones.
    """
    samples = level(samples, config.sample_rate)
    samples, aligned = align.cut_to(samples, row, config.sample_rate)
    found = _frames(samples, config)
    durations = align.frame_durations(aligned, config.sample_rate, config.hop_length, len(found.mel))
    tokens = np.array(table.encode(aligned.symbols))
    return _clip_of(found, tokens, np.append(durations, 0), np.ones(len(found.mel), dtype=bool))


def clip_without_words(network: AcousticModel, table: SymbolTable, found: Recorded) -> AlignedClip:
    """Its symbols as the network's own frame classifier finds them. Raises CloningError for a network without one."""
    with torch.no_grad():
        mel = torch.from_numpy(found.mel.T).to(next(network.parameters()).device)
        logits_of_frames = network.frame_symbols(mel[None])
    if logits_of_frames is None:
        raise CloningError(
            "this synthesizer finds no phones in a recording: give the words of each clip, or take another synthesizer"
        )
    logits, ids = logits_of_frames[0].cpu(), table.ids
    logits[:, [ids[s] for s in (PAD, END, WORD_BOUNDARY, *PAUSES) if s != PAUSE]] = -torch.inf  # not said in a frame
    scores = logits.log_softmax(dim=1).numpy()
    symbols = best_path(scores, CHANGE_COST)
    aligned = np.exp(scores[np.arange(len(symbols)), symbols]) >= SURE
    symbols[symbols == ids[SILENCE]] = ids[PAUSE]
    edges = np.flatnonzero(np.diff(symbols, prepend=-1))
    tokens, durations = symbols[edges], np.diff(edges, append=len(symbols))
    for end in (0, -1):
        tokens[end] = ids[SILENCE] if tokens[end] == ids[PAUSE] else tokens[end]
    return _clip_of(found, np.append(tokens, ids[END]), np.append(durations, 0), aligned)


def best_path(scores: np.ndarray, change_cost: float) -> np.ndarray:
    """The symbol of each frame (F,) with the greatest sum of scores (F, V), less `change_cost` for each change."""
    total, came_from = scores[0].copy(), np.zeros(scores.shape, dtype=np.int64)
    places = np.arange(scores.shape[1])
    for frame in range(1, len(scores)):
        best = int(total.argmax())
        changed = total < total[best] - change_cost
        came_from[frame] = np.where(changed, best, places)
        total = np.where(changed, total[best] - change_cost, total) + scores[frame]
    path = np.zeros(len(scores), dtype=np.int64)
    path[-1] = total.argmax()
    for frame in range(len(scores) - 1, 0, -1):
        path[frame - 1] = came_from[frame, path[frame]]
    return path


def _frames(samples: np.ndarray, config: MelConfig) -> Recorded:
    mel = mel_spectrogram(torch.from_numpy(samples), config).T.numpy()
    return Recorded(mel, pitch(samples, config.sample_rate, config.hop_length)[: len(mel)])


def _clip_of(found: Recorded, tokens: np.ndarray, durations: np.ndarray, aligned: np.ndarray) -> AlignedClip:
    durations = durations.astype(np.int64)
    return AlignedClip(found.mel, tokens, durations, prosody(found.mel, found.pitch, durations), aligned)
