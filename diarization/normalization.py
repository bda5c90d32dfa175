"""How pieces of speech are compared, and when two voices are one: measured once for an encoder (`Calibration`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diarization.counting import SpeakerCounter
from utils.errors import MissingError
from utils.files import write_text
from utils.voice import unit

FORMAT = 3
CALIBRATIONS = ("diarization.json", "diarization_camplus.json")  # beside an encoder; for its pieces heard by CAM++ too
NUMBERS = ("mean", "noise")
MEAN_OF = 3  # pieces of a clip at least, for their mean to be compared with those of other clips
SHRINKAGE = 0.1  # of the covariance within a voice towards a round one: there are few windows for so many directions


@dataclass(frozen=True)
class Calibration:
    """Of one encoder.

    mean (D,); noise (D, K): the directions in which short pieces of one clip differ most, in rooms, noise and
    telephones, each as long as it is to be taken away; counter: tells how many voices there are; threshold: the cosine
    between two clips from which on they are taken for one voice, half way between what one voice and what two usually
    have; `about`: what it was measured on.
    """

    encoder: str
    mean: np.ndarray
    noise: np.ndarray
    counter: SpeakerCounter
    threshold: float
    about: dict[str, Any] = field(default_factory=dict)

    def compare(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings (P, D) of short pieces -> (P, D) of norm 1, by whose cosines they are compared."""
        seen = embeddings - self.mean
        return unit(seen - (seen @ self.noise) @ self.noise.T)

    def save(self, path: str | Path) -> None:
        """Write the JSON file that `load` reads."""
        numbers = {name: _short(getattr(self, name)) for name in NUMBERS}
        counter = {name: _short(array) for name, array in asdict(self.counter).items()}
        content = {
            "format": FORMAT,
            "encoder": self.encoder,
            "about": self.about,
            "threshold": round(self.threshold, 4),
            "counter": counter,
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
            known = content["format"] == FORMAT
            mean, noise = arrays = [np.array(content[name], np.float32) for name in NUMBERS]
            counter = SpeakerCounter(**{name: np.array(rows, np.float32) for name, rows in content["counter"].items()})
            fits = mean.ndim == 1 and noise.ndim == 2 and noise.shape[:1] == mean.shape and counter.fits
            arrays += asdict(counter).values()
            about, threshold = dict(content["about"]), float(content["threshold"])
            calibration = cls(str(content["encoder"]), mean, noise, counter, threshold, about)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise missing(f"{path} is not a calibration for diarization") from error
        if not known or not fits or not all(np.isfinite(array).all() for array in arrays):
            raise missing(f"{path} is damaged or of another version")
        if calibration.encoder != encoder:
            raise missing(f"{path} was measured on encoder {calibration.encoder}, not on {encoder}")
        return calibration


def noise_of(voices: Sequence[Sequence[np.ndarray]], directions: int = 32, *, between: bool = False) -> np.ndarray:
    """(D, K): within-class covariance normalization (Hatch, Kajarekar and Stolcke 2006) in the K directions of most
    spread, from the pieces (N, D) of each clip of each voice: within clips, and with `between` from clip to clip of a
    voice too. `Calibration.compare` leaves in them what is left in the next direction.
    """
    spread = _spread([rows for clips in voices for rows in clips])
    if between:
        spread += _spread([np.array([rows.mean(axis=0) for rows in clips if len(rows) >= MEAN_OF]) for clips in voices])
    size = len(spread)
    values, vectors = np.linalg.eigh((1 - SHRINKAGE) * spread + SHRINKAGE * np.trace(spread) / size * np.eye(size))
    values, vectors = values[::-1], vectors[:, ::-1]
    directions = min(directions, size - 1)
    taken = 1 - np.sqrt(values[directions] / values[:directions])
    return (vectors[:, :directions] * np.sqrt(taken)).astype(np.float32)


def _spread(groups: Sequence[np.ndarray]) -> np.ndarray:
    """The covariance (D, D) within groups of rows (N, D); 0 where no group has two."""
    groups = [rows - rows.mean(axis=0) for rows in groups if len(rows) > 1]
    return np.asarray(sum(rows.T @ rows for rows in groups)) / max(sum(len(rows) - 1 for rows in groups), 1)


def _short(array: np.ndarray) -> Any:
    return json.loads(json.dumps(array.tolist()), parse_float=lambda text: float(f"{float(text):.4g}"))
