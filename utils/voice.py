"""A voice as it goes from an encoder to a synthesizer: who speaks, at what pitch and pace, and how it sounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch

from utils.errors import CloningError
from utils.weights.checkpoint import Checkpoint, Header, load_weights, save_weights

KIND = "voice"  # of a file
ADAPTED = "adapted/"  # begins the names of changes of weights in it
COMPENSATION = "compensation/"  # and of what is added to mels
_TEXTS = ("encoder", "synthesizer", "made", "consent", "note")
_NUMBERS = {
    "pitch": (-5, 5),
    "spread": (0, 5),
    "pace": (-10, 10),
    "level": (-200, 50),
    "seconds": (0, 1e7),
}  # and limits
_LISTS = ("notes", "sources")
USUAL_SPREAD = 0.25  # octaves
LEAST_SPREAD = 0.08
USUAL_PACE = 1.9  # log of the frames that a phone takes
PACE = "pace_log_seconds"  # in a file
FORMER_PACE = "pace"  # in older files: the log of frames
FORMER_FRAME_SECONDS = 0.0125


@dataclass(frozen=True, eq=False)
class Voice:
    """What is known of a voice: all but the embedding may be missing.

    embedding (D,) of length 1; prompt (Q, J): tokens that the synthesizer that made it reads off the recordings.
    """

    embedding: np.ndarray
    encoder: str = ""  # fingerprint of the encoder that made the embedding
    pitch: float | None = None  # median, in log2(Hz / 150)
    spread: float | None = None  # of the pitch, in octaves (standard deviation)
    pace: float | None = None  # log of the mean seconds that a phone takes in speech
    prompt: np.ndarray | None = None
    synthesizer: str = ""  # fingerprint of the synthesizer that measured `pace`, made `prompt` and was adapted
    level: float | None = None  # of the recordings as they were, silences included, in dB of full scale
    seconds: float | None = None  # of voice that the embedding stands for
    notes: tuple[str, ...] = ()  # what keeps the recordings from being a good reference
    sources: tuple[str, ...] = ()  # sha256 of each recording that it was made from
    made: str = ""  # day, as 2026-11-26
    consent: str = ""  # who agreed to the voice being cloned, and how, in the words of whoever made it
    note: str = ""  # whatever else its maker wants to be known
    compensation: Mapping[str, np.ndarray] | None = None  # of what it gets wrong (`synthesizer.models.compensation`)
    adapted: Mapping[str, np.ndarray] | None = None  # changes of the synthesizer's weights (`synthesizer.adapters`)

    @property
    def pitch_hz(self) -> float | None:
        """Median fundamental frequency in Hz."""
        return None if self.pitch is None else 150 * 2**self.pitch

    @property
    def phones_per_second(self) -> float | None:
        """Pace of speech, pauses left out."""
        return None if self.pace is None else math.exp(-self.pace)

    def save(self, path: str | Path) -> str:
        """Write a `.safetensors` file atomically; returns the fingerprint of the arrays. CloningError: cannot write."""
        facts: dict[str, Any] = {name: getattr(self, name) for name in (*_TEXTS, *_NUMBERS)}
        facts |= {name: list(getattr(self, name)) for name in _LISTS}
        facts[PACE] = facts.pop("pace")
        arrays = {"embedding": self.embedding} | ({} if self.prompt is None else {"prompt": self.prompt})
        state = {name: torch.from_numpy(np.ascontiguousarray(array, np.float32)) for name, array in arrays.items()}
        state |= {COMPENSATION + name: torch.from_numpy(array) for name, array in (self.compensation or {}).items()}
        state |= {ADAPTED + name: torch.from_numpy(array).half() for name, array in (self.adapted or {}).items()}
        return save_weights(path, Header(KIND, facts), state)

    @staticmethod
    def load(path: str | Path) -> Voice:
        """What `save` wrote. Raises CloningError: missing, damaged, or a file of another kind."""
        checkpoint = load_weights(path, KIND)
        facts = _facts(checkpoint)
        return Voice(
            _embedding(checkpoint),
            prompt=_prompt(checkpoint),
            compensation=_arrays(checkpoint, COMPENSATION),
            adapted=_arrays(checkpoint, ADAPTED),
            **facts,
        )


def is_voice(source: Any) -> TypeGuard[Voice | str | Path]:
    """Whether `source` is a Voice or, by its name, the file of one."""
    return isinstance(source, Voice) or (isinstance(source, str | Path) and Path(source).suffix == ".safetensors")


def pitch_statistics(pitch: np.ndarray) -> tuple[float, float] | None:
    """Median and spread in octaves of a pitch track in log2(Hz / 150), 0 where unvoiced (`utils.audio.pitch`).

    The spread is that of a normal distribution with the same quartiles, so that octave errors do not count. None for a
    track with under 20 voiced frames.
    """
    voiced = pitch[pitch != 0].astype(np.float64)
    if len(voiced) < 20:
        return None
    low, middle, high = np.percentile(voiced, [25, 50, 75])
    return float(middle), float(np.clip((high - low) / 1.349, LEAST_SPREAD, 0.6))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., D) scaled to length 1; zeros stay zeros."""
    if vectors.ndim == 1:  # summed up in another order than along an axis: kept, so that the last bits stay
        return vectors / max(float(np.linalg.norm(vectors)), 1e-9)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.config
    texts = {name: config.get(name, "") for name in _TEXTS}
    numbers = {name: config.get(name) for name in _NUMBERS} | {"pace": config.get(PACE, config.get(FORMER_PACE))}
    lists = {name: config.get(name, []) for name in _LISTS}
    wrong = [name for name, text in texts.items() if not isinstance(text, str)]
    wrong += [name for name, number in numbers.items() if number is not None and not _within(number, *_NUMBERS[name])]
    wrong += [name for name, lines in lists.items() if not _texts(lines)]
    if wrong:
        raise CloningError(f"{checkpoint.path}: damaged: its {', '.join(wrong)} cannot be of a voice")
    if PACE not in config and numbers["pace"] is not None:
        numbers["pace"] += math.log(FORMER_FRAME_SECONDS)
    return {**texts, **numbers, **{name: tuple(lines) for name, lines in lists.items()}}


def _texts(lines: Any) -> bool:
    return isinstance(lines, list) and all(isinstance(line, str) for line in lines)


def _within(number: Any, low: float, high: float) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and low <= number <= high


def _embedding(checkpoint: Checkpoint) -> np.ndarray:
    found = checkpoint.state.get("embedding")
    if found is None or found.ndim != 1 or not 0.99 < float(found.norm()) < 1.01:
        raise CloningError(f"{checkpoint.path}: damaged: it holds no embedding (D,) of length 1")
    return found.numpy()


def _arrays(checkpoint: Checkpoint, prefix: str) -> dict[str, np.ndarray] | None:
    named = {name.removeprefix(prefix): x for name, x in checkpoint.state.items() if name.startswith(prefix)}
    return {name: x.numpy() for name, x in named.items()} or None


def _prompt(checkpoint: Checkpoint) -> np.ndarray | None:
    found = checkpoint.state.get("prompt")
    if found is not None and (found.ndim != 2 or not len(found)):
        raise CloningError(f"{checkpoint.path}: damaged: its prompt is of shape {tuple(found.shape)}, not (Q, J)")
    return None if found is None else found.numpy()
