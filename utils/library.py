"""Voices that are kept: a folder of `NAME.safetensors`, and those that come with the toolkit.

    >>> library = Library("voices")
    >>> library.save("ann", cloner.embed_voice("ann.wav"), consent="Ann agreed on 26 November 2026")
    >>> cloner.clone(library.load("ann"), "Hello there.")

Voices are files of numbers: one from somebody else may be put into the folder, nothing in it runs.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from utils.errors import CloningError, printable
from utils.files import cannot_write, require_checkout, user_path
from utils.voice import Voice, unit

SUFFIX = ".safetensors"
FOLDER = Path("voices")  # in the working directory
SHIPPED = Path(__file__).resolve().parents[1] / "samples" / "voices"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_DEVICES = re.compile(r"con|prn|aux|nul|(?:com|lpt)\d", re.IGNORECASE)  # no names of files on Windows
_LEAST_NORM = 0.1  # of a blend before it is scaled to length 1: opposite voices leave nothing


class TakenError(CloningError):
    """There is a voice of that name."""


class Library:
    """A folder of voices by name, `voices/` where nothing is said, and beside it the shipped ones, which are only read.

    Upper and lower case make no difference. All methods raise CloningError for a name that is none: letters, digits,
    "-" and "_", at most 64, a letter or digit first.
    """

    def __init__(self, folder: str | Path = FOLDER, shipped: Path | None = SHIPPED) -> None:
        self.folder = user_path(folder)
        self._folders = [self.folder, *([shipped] if shipped else [])]

    def names(self) -> list[str]:
        """All names in order; files that are not called as voices are, are left out."""
        found: dict[str, str] = {}
        for folder in self._folders:
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                if _is_name(path.stem):
                    found.setdefault(path.stem.lower(), path.stem)
        return sorted(found.values(), key=str.lower)

    def load(self, name: str) -> Voice:
        """The voice of that name. Raises CloningError: there is none; its file is damaged."""
        return Voice.load(self.path(name))

    def path(self, name: str) -> Path:
        """Its file. Raises CloningError: there is none."""
        if path := self._find(name, self._folders):
            return path
        if SHIPPED in self._folders:
            require_checkout(SHIPPED)
        raise CloningError(f"no voice {name!r} in {self.folder}; there are: {', '.join(self.names()) or 'none'}")

    def save(self, name: str, voice: Voice, *, note: str = "", consent: str = "", force: bool = False) -> Path:
        """Keep a voice under a name, with the day and what is said of it; the file's path comes back.

        Raises CloningError: there is a voice of that name (unless `force`), the folder cannot be written to.
        """
        self.require_free(name, force)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        voice = replace(voice, made=today, note=note or voice.note, consent=consent or voice.consent)
        path = self._find(name, [self.folder]) or self.folder / f"{name}{SUFFIX}"
        voice.save(path)
        return path

    def require_free(self, name: str, force: bool = False) -> None:
        """Raises TakenError where there is a voice of that name (unless `force`), CloningError for what is no name."""
        if (there := self._find(name, self._folders)) and not force:
            raise TakenError(f"there is a voice {name!r} already ({there}): choose another name")

    def remove(self, name: str) -> Path:
        """Delete a voice; the path that is gone comes back. Raises CloningError: there is none; it is a shipped one."""
        path = self.path(name)
        if path.parent != self.folder:
            raise CloningError(
                f"{name!r} comes with the toolkit ({path}) and is not removed: only voices of {self.folder}"
            )
        try:
            path.unlink()
        except OSError as error:
            raise cannot_write(path, error) from error
        return path

    def blend(self, weights: Mapping[str, float]) -> Voice:
        """A voice between others, such as {"ann": 0.7, "ben": 0.3}; weights count relative to their sum.

        Embedding, pitch, spread, pace and level are weighted means (embeddings then scaled to length 1). Raises
        CloningError: fewer than two, weights that are not positive, voices of different encoders or opposite ones.
        """
        if len({name.lower() for name in weights}) < 2:
            raise CloningError(
                f"{len(weights)} voice is no blend: name two or more, each once, such as ann=0.7,ben=0.3"
            )
        for name, weight in weights.items():
            if not (math.isfinite(weight) and weight > 0):
                raise CloningError(f"weight {weight:g} of {name}: a weight is a number above 0")
        voices = {name: self.load(name) for name in weights}
        shares = np.array(list(weights.values())) / sum(weights.values())
        return _blend(voices, shares)

    def _find(self, name: str, folders: Sequence[Path]) -> Path | None:
        if not _is_name(name):
            raise CloningError(
                f"{name!r} cannot be a voice's name: letters, digits, - and _, at most 64, a letter or digit first; "
                "a voice's file is given as a reference"
            )
        for folder in folders:
            for path in folder.glob(f"*{SUFFIX}"):
                if path.stem.lower() == name.lower():
                    return path
        return None


def _is_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not _DEVICES.fullmatch(name)


def _blend(voices: Mapping[str, Voice], shares: np.ndarray) -> Voice:
    made_by = {name: (voice.encoder, len(voice.embedding)) for name, voice in voices.items()}
    if len(set(made_by.values())) > 1:
        makers = ", ".join(f"{name} by {encoder or 'unknown'}" for name, (encoder, _) in made_by.items())
        raise CloningError(f"voices of different encoders have no blend ({makers}): make them anew with one")
    embedding = np.tensordot(shares, np.stack([voice.embedding for voice in voices.values()]), 1)
    if (norm := float(np.linalg.norm(embedding))) < _LEAST_NORM:
        raise CloningError(f"these voices are opposites, their blend is of length {norm:.2f}: choose others")
    pace_by = {voice.synthesizer for voice in voices.values()}
    recipe = ", ".join(f"{name} {share:.0%}" for name, share in zip(voices, shares, strict=True))
    return Voice(
        embedding=unit(embedding.astype(np.float32)),
        encoder=next(iter(voices.values())).encoder,
        pitch=_mean([voice.pitch for voice in voices.values()], shares),
        spread=_mean([voice.spread for voice in voices.values()], shares),
        pace=_mean([voice.pace for voice in voices.values()], shares) if len(pace_by) == 1 else None,
        synthesizer=pace_by.pop() if len(pace_by) == 1 else "",
        level=_mean([voice.level for voice in voices.values()], shares),
        seconds=_sum([voice.seconds for voice in voices.values()]),
        sources=tuple(dict.fromkeys(source for voice in voices.values() for source in voice.sources)),
        consent="; ".join(f"{name}: {voice.consent or 'nothing said'}" for name, voice in voices.items()),
        note=printable(f"a blend of {recipe}"),
    )


def _mean(values: Sequence[float | None], shares: np.ndarray) -> float | None:
    known = [value for value in values if value is not None]
    return float(shares @ np.array(known)) if len(known) == len(values) else None


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
