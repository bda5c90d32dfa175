"""PLDA: how far apart two pieces of one voice lie, and how far two voices; measured once for an encoder.

Probabilistic linear discriminant analysis with two covariances (Ioffe 2006; in the form of Landini et al. 2020,
arXiv 2012.14952, sec. II): in the space of `Calibration.project` the pieces of one voice are spread by 1 in every
direction around the voice's mean, and the means of voices by `between` around 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import CloningError, MissingError
from utils.files import write_text
from utils.voice import unit

FORMAT = 2
NUMBERS = ("mean", "projection", "between", "noise")
SHRINKAGE = 0.1  # of the covariance within a voice towards a round one: there are few windows for so many directions


@dataclass(frozen=True)
class Calibration:
    """Of one encoder.

    mean (D,), projection (D, L), between (L,), largest first; noise (D, K): the directions in which short pieces of one
    clip differ most, in rooms, noise and telephones, each as long as it is to be taken away; threshold: the cosine
    between two clips from which on they are taken for one voice, half way between what one voice and what two usually
    have; `about`: what it was measured on.
    """

    encoder: str
    mean: np.ndarray
    projection: np.ndarray
    between: np.ndarray
    noise: np.ndarray
    threshold: float
    about: dict[str, Any] = field(default_factory=dict)

    def project(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings (W, D) of norm 1 -> (W, L)"""
        return (embeddings - self.mean) @ self.projection

    def compare(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings (P, D) of short pieces -> (P, D) of norm 1, by whose cosines they are compared."""
        seen = embeddings - self.mean
        return unit(seen - (seen @ self.noise) @ self.noise.T)

    def save(self, path: str | Path) -> None:
        """Write the JSON file that `load` reads."""
        numbers = {name: _short(getattr(self, name)) for name in NUMBERS}
        content = {
            "format": FORMAT,
            "encoder": self.encoder,
            "about": self.about,
            "threshold": round(self.threshold, 4),
            **numbers,
        }
        write_text(path, json.dumps(content, indent=None, separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: str | Path, encoder: str) -> Calibration:
        """CloningError when there is none, it is damaged, or it was made for another encoder than `encoder`."""
        path = Path(path)

        def missing(why: str) -> MissingError:
            return MissingError(f"{why}; measure one for this encoder", "calibration")

        if not path.is_file():
            raise missing(f"{path}: no calibration of this encoder for diarization")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            arrays = [np.array(content[name], np.float32) for name in NUMBERS]
            mean, projection, between, noise = arrays
            known = content["format"] == FORMAT
            fits = projection.shape == (*mean.shape, *between.shape) and mean.ndim == between.ndim == 1
            fits &= noise.ndim == 2 and noise.shape[:1] == mean.shape
            about = dict(content["about"])
            calibration = cls(
                str(content["encoder"]), mean, projection, between, noise, float(content["threshold"]), about
            )
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise missing(f"{path} is not a calibration for diarization") from error
        if not known or not fits or not all(np.isfinite(array).all() for array in arrays):
            raise missing(f"{path} is damaged or of another version")
        if calibration.encoder != encoder:
            raise missing(f"{path} was measured on encoder {calibration.encoder}, not on {encoder}")
        return calibration


def fit(windows: Sequence[np.ndarray], dimensions: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mean (D,), projection (D, L), between (L,) from each voice's windows (N, D), which must not overlap.

    Raises CloningError for too few voices to tell directions apart.
    """
    from scipy.linalg import eigh

    windows = [rows for rows in windows if len(rows) > 1]
    if len(windows) < 20:
        raise CloningError(f"{len(windows)} voices with two windows or more; at least 20 are wanted to calibrate")
    means = np.stack([rows.mean(axis=0) for rows in windows])
    mean = means.mean(axis=0)
    freedom = sum(len(rows) - 1 for rows in windows)
    within = sum((rows - rows.mean(axis=0)).T @ (rows - rows.mean(axis=0)) for rows in windows) / freedom
    size = len(within)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / size * np.eye(size)
    between = (means - mean).T @ (means - mean) / (len(means) - 1)
    values, vectors = eigh(between, within)  # vectors.T @ within @ vectors = 1
    noise = np.mean([1 / len(rows) for rows in windows])  # a mean of few windows is itself spread
    values, vectors = values[::-1] - noise, vectors[:, ::-1]
    kept = min(dimensions, int((values > 0.01).sum()), len(windows) - 1)
    return mean.astype(np.float32), vectors[:, :kept].astype(np.float32), values[:kept].astype(np.float32)


def noise_of(clips: Sequence[np.ndarray], directions: int = 32) -> np.ndarray:
    """(D, K): within-class covariance normalization (Hatch, Kajarekar and Stolcke 2006) in the K directions of most
    spread, from the pieces (N, D) of clips. `Calibration.compare` leaves in them what is left in the next direction.
    """
    clips = [rows for rows in clips if len(rows) > 1]
    spread = sum((rows - rows.mean(axis=0)).T @ (rows - rows.mean(axis=0)) for rows in clips)
    spread = spread / sum(len(rows) - 1 for rows in clips)
    size = len(spread)
    values, vectors = np.linalg.eigh((1 - SHRINKAGE) * spread + SHRINKAGE * np.trace(spread) / size * np.eye(size))
    values, vectors = values[::-1], vectors[:, ::-1]
    directions = min(directions, size - 1)
    taken = 1 - np.sqrt(values[directions] / values[:directions])
    return (vectors[:, :directions] * np.sqrt(taken)).astype(np.float32)


def _short(array: np.ndarray) -> Any:
    return json.loads(json.dumps(array.tolist()), parse_float=lambda text: float(f"{float(text):.4g}"))
