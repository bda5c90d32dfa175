"""A recording as a parallel synthesizer learns from it: its mel, and which symbol is said when.

With words, the times are those of a forced alignment. Without, phones and their times are found by the network's own
frame classifier, and frames that it is not sure of do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from synthesizer.data import alignments as align
from synthesizer.features import level, prosody, without_pauses
from synthesizer.inference import Synthesizer
from synthesizer.text.symbols import END, PAD, PAUSE, PAUSES, SILENCE, WORD_BOUNDARY
from utils.audio.mel import mel_spectrogram
from utils.audio.pitch import pitch
from utils.errors import CloningError

SURE = 0.5  # probability of a frame's symbol below which the frame is left out
CHANGE_COST = 2.0  # nats that another symbol must be better by, over its frames


@dataclass(frozen=True)
class AlignedClip:
    """F frames of a recording and the N symbols said in it."""

    mel: np.ndarray  # (F, M)
    tokens: np.ndarray  # (N,) ids
    durations: np.ndarray  # (N,) in frames, with sum F
    prosody: np.ndarray  # (N, 3), see `synthesizer.features.prosody`
    aligned: np.ndarray  # (F,) whether the frame's symbol is known


def clip_with_words(synthesizer: Synthesizer, samples: np.ndarray, row: dict[str, Any]) -> AlignedClip:
    """samples (T,) at the mel's rate, and their alignment (`synthesizer.data.alignments`).

    Raises CloningError for silence and for an alignment without phones.
    """
    config = synthesizer.mel
    samples = level(samples, config.sample_rate)
    samples, aligned = align.cut_to(samples, row, config.sample_rate)
    mel = mel_spectrogram(torch.from_numpy(samples), config).T.numpy()
    tokens = np.array(synthesizer.text.table.encode(aligned.symbols))
    durations = align.frame_durations(aligned, config.sample_rate, config.hop_length, len(mel))
    return _clip_of(synthesizer, samples, mel, tokens, np.append(durations, 0), np.ones(len(mel), dtype=bool))


def clip_without_words(synthesizer: Synthesizer, samples: np.ndarray) -> AlignedClip:
    """samples (T,) at the mel's rate. Raises CloningError: silence; a synthesizer without a frame classifier."""
    config = synthesizer.mel
    samples = without_pauses(level(samples, config.sample_rate), config.sample_rate)
    mel = mel_spectrogram(torch.from_numpy(samples), config).T.numpy()
    with torch.no_grad():
        found = synthesizer.network.frame_symbols(torch.from_numpy(mel.T).to(synthesizer.device)[None])
    if found is None:
        raise CloningError(
            "this synthesizer finds no phones in a recording: give the words of each clip, or take another synthesizer"
        )
    logits = found[0].cpu()
    impossible = [synthesizer.text.table.ids[s] for s in (PAD, END, WORD_BOUNDARY, *PAUSES) if s != PAUSE]
    logits[:, impossible] = -torch.inf
    scores = logits.log_softmax(dim=1).numpy()
    ids = synthesizer.text.table.ids
    symbols = best_path(scores, CHANGE_COST)
    aligned = np.exp(scores[np.arange(len(symbols)), symbols]) >= SURE
    symbols[symbols == ids[SILENCE]] = ids[PAUSE]
    edges = np.flatnonzero(np.diff(symbols, prepend=-1))
    tokens, durations = symbols[edges], np.diff(edges, append=len(symbols))
    for end in (0, -1):
        tokens[end] = ids[SILENCE] if tokens[end] == ids[PAUSE] else tokens[end]
    return _clip_of(synthesizer, samples, mel, np.append(tokens, ids[END]), np.append(durations, 0), aligned)


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


def _clip_of(
    synthesizer: Synthesizer,
    samples: np.ndarray,
    mel: np.ndarray,
    tokens: np.ndarray,
    durations: np.ndarray,
    aligned: np.ndarray,
) -> AlignedClip:
    track = pitch(samples, synthesizer.mel.sample_rate, synthesizer.mel.hop_length)[: len(mel)]
    durations = durations.astype(np.int64)
    return AlignedClip(mel, tokens, durations, prosody(mel, track, durations), aligned)
