"""Frozen verification trials: which utterances, which pairs, and where they are below a corpus folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.errors import CloningError

DATA = Path(__file__).resolve().parent / "data"
SAMPLES = Path(__file__).resolve().parents[2] / "samples"
AUDIO = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
CUTS = {"1.5 s": 1.5, "3 s": 3.0, "full": None}


@dataclass(frozen=True)
class TrialList:
    """Utterances (stem, speaker, session) and the rule that their pairs follow, so that a list stays small.

    Impostor pairs: all pairs of two speakers. Target pairs: all pairs of one speaker (`pairs` "all"), or only those
    of two sessions (`pairs` "across"): two chapters, two emotions.
    """

    name: str
    about: str
    set_aside: bool
    pairs: str
    utterances: tuple[tuple[str, str, str], ...]

    def keep(self, stems: set[str]) -> TrialList:
        """The same list of those utterances alone."""
        kept = tuple(u for u in self.utterances if u[0] in stems)
        return TrialList(self.name, self.about, self.set_aside, self.pairs, kept)

    @cached_property
    def speakers(self) -> list[str]:
        """The speakers of the utterances, sorted."""
        return sorted({speaker for _, speaker, _ in self.utterances})


class Pairs(NamedTuple):
    """P trials: rows and columns (P,) index the list's utterances, targets (P,) bool, speakers (P, 2) its speakers."""

    rows: np.ndarray
    columns: np.ndarray
    targets: np.ndarray
    speakers: np.ndarray


def trial_lists(*, all_lists: bool = False) -> list[TrialList]:
    """The frozen lists in `data`; without `all_lists` only those whose speakers nothing was trained on."""
    lists = [load_list(path) for path in sorted(DATA.glob("trials-*.json"))]
    return [trials for trials in lists if all_lists or trials.set_aside]


def load_list(path: Path) -> TrialList:
    """A list from its JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return TrialList(**{**content, "utterances": tuple(tuple(u) for u in content["utterances"])})


def bundled_list(folder: Path = SAMPLES) -> TrialList:
    """The clips that come with the project, the speaker is the name up to its first `_` or `-`."""
    stems = sorted(path.stem for path in folder.iterdir() if path.suffix.lower() in AUDIO) if folder.is_dir() else []
    if not stems:
        raise CloningError(f"{folder}: no bundled clips here; give a folder of corpora")
    utterances = tuple((stem, stem.replace("-", "_").split("_")[0], stem) for stem in stems)
    return TrialList("samples", "The bundled clips: a smoke test, not a measurement.", True, "across", utterances)


def find_audio(root: Path, stems: set[str]) -> dict[str, Path]:
    """Paths of the stems found below `root`, in any audio format (of several, the first by path)."""
    if not root.is_dir():
        raise CloningError(f"{root}: no such folder; give the one that holds the corpora LibriSpeech, RAVDESS, ...")
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        if path.stem in stems and path.suffix.lower() in AUDIO:
            found.setdefault(path.stem, path)
    return found


def pairs_of(trials: TrialList) -> Pairs:
    """Every trial of a list, each pair once."""
    index = {name: i for i, name in enumerate(trials.speakers)}
    speaker = np.array([index[s] for _, s, _ in trials.utterances], dtype=np.int32)
    session = np.unique([f"{s}/{c}" for _, s, c in trials.utterances], return_inverse=True)[1]
    rows, columns = np.triu_indices(len(speaker), k=1)
    same = speaker[rows] == speaker[columns]
    wanted = ~same | (session[rows] != session[columns]) if trials.pairs == "across" else np.ones_like(same)
    rows, columns, same = rows[wanted], columns[wanted], same[wanted]
    return Pairs(rows, columns, same, np.stack([speaker[rows], speaker[columns]], axis=1))


def middle(samples: np.ndarray, seconds: float | None, sample_rate: int) -> np.ndarray:
    """The middle `seconds` of samples (T,); all of them when `seconds` is None or there are no more."""
    if seconds is None or len(samples) <= round(seconds * sample_rate):
        return samples
    length = round(seconds * sample_rate)
    start = (len(samples) - length) // 2
    return samples[start : start + length]
