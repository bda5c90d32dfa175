"""Scripts and long texts to one file each: what was made is kept beside it, so that a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from cloning.cloner import VoiceCloner
from cloning.results import Cloning, file_tags
from narration.parts import INDEX, Part, Parts, join, key_of, level_matched
from narration.script import Line
from synthesizer.text.sentences import Sentence
from utils.audio.io import Waveform
from utils.errors import CloningError
from utils.files import write_text
from utils.version import VERSION
from utils.voice import Voice

SECTION = 20  # sentences of a part: some 80 s
After = Callable[[Line, Path, Cloning | None], bool]


@dataclass(frozen=True)
class Narrated:
    """A script that was spoken: its seconds, its seed, and the seeds of lines that have their own, by number."""

    seconds: float
    seed: int
    own: dict[int, int]


@dataclass
class Narrator:
    """A cloner, and how it is to speak: `how` are keyword arguments of `VoiceCloner.clone` but for the seed.

    `volume`, `bits`, `sample_rate`: of the file (`narration.parts.join`); `tell` is given a line after each part.
    """

    cloner: VoiceCloner
    how: dict[str, Any] = field(default_factory=dict)
    volume: float = 0.0
    bits: str | None = None
    sample_rate: int | None = None
    tell: Callable[[str], None] = print

    def text(self, voice: Voice, text: str, output: Path, seed: int | None = None) -> float:
        """A text of any length to `output`, in bounded memory; the seconds of it come back.

        Its parts lie in `OUTPUT.parts` until it is done. A run that was stopped goes on there, with its seed if none is
        given. Raises CloningError as `VoiceCloner.clone`.
        """
        parts = Parts(_folder(output))
        rest = self.cloner.synthesizer.sentences(text)
        sentences = chain([next(rest)], rest)  # a text with nothing to say ends here
        seed, _ = _seeds(parts.folder, seed)
        made: list[tuple[Path, float]] = []
        notes: dict[str, None] = {}
        spoken = 0
        for number, section in enumerate(_sections(sentences), 1):
            factor = 1.0 if section[-1].asked else self.how.get("pause", 1.0) / self.how.get("rate", 1.0)
            pause = section[-1].pause_s * factor
            spoken += sum(len(sentence.text) for sentence in section)
            how = self.how | {"seed": seed}
            part = self._part(number, voice, section, how, lambda cloning: notes.update(_notes(cloning)))
            path, new = parts.keep(part)
            made.append((path, pause))
            self.tell(f"part {number}, {min(99, 100 * spoken // len(text))}%: {'made' if new else 'kept'}")
        seconds = self._join(made, output, seed)
        parts.remove()
        self._told(notes)
        return seconds

    def script(
        self,
        voices: dict[str, Voice],
        lines: list[Line],
        output: Path,
        seed: int | None = None,
        only: int | None = None,
        after: After | None = None,
    ) -> Narrated:
        """Lines of a script, each in its voice and at the same level, to `output`.

        Each line has a seed of its own, by its number. Lines are kept in `OUTPUT.parts`: those that have not changed
        are not made again. `only`: make that line anew, with `seed` as its own if one is given, and leave all others as
        they are. `after` is given each line with its file, and its Cloning if it was made now; where it returns False,
        what is there so far is joined. Raises CloningError as `VoiceCloner.clone`, and where `only` is no line or
        others are missing.
        """
        parts = Parts(_folder(output))
        if only is not None:
            _require_made(parts, lines, only)
        main, own = _seeds(parts.folder, seed, only)
        made: list[tuple[Path, float]] = []
        notes: dict[str, None] = {}
        stopped = False
        for line in lines:
            path = parts.find(line.number) if only not in (None, line.number) else None
            clonings: list[Cloning] = []
            if path is None:
                how = self.how | {"seed": own.get(line.number, line_seed(main, line.number))}
                how = with_emotion(how, line.emotion)
                part = self._part(line.number, voices[line.voice], line.text, how, clonings.append)
                path, new = parts.keep(part)
                self.tell(f"line {line.number}: {'made' if new else 'kept'}")
            made.append((path, line.pause))
            notes.update(_notes(*clonings))
            if after and not after(line, path, clonings[0] if clonings else None):
                stopped = True
                break
        seconds = self._join(made, output, main)
        if not stopped:
            parts.clear(path for path, _ in made)
        self._told(notes)
        return Narrated(seconds, main, own)

    def _part(
        self,
        number: int,
        voice: Voice,
        text: str | list[Sentence],
        how: dict[str, Any],
        heard: Callable[[Cloning], None],
    ) -> Part:
        """One clone; of a line of a script (a str), at the level of all lines. `heard` is given it once it is made."""
        cloner, line = self.cloner, isinstance(text, str)
        words = text if isinstance(text, str) else [f"{s.said} {s.pause_s}" if s.asked else str(s.said) for s in text]

        def make() -> Waveform:
            try:
                cloning = cloner.clone(voice, text, **how)
            except CloningError as error:
                raise CloningError(f"{'line' if line else 'part'} {number}: {error}") from error
            heard(cloning)
            return level_matched(cloning.audio) if line else cloning.audio

        return Part(number, key_of(voice, words, how, cloner.describe(), cloner.watermark, VERSION), make)

    def _join(self, made: list[tuple[Path, float]], output: Path, seed: int) -> float:
        tags = file_tags(seed, self.cloner.describe(), self.cloner.watermark)
        return join(made, output, tags, volume=self.volume, bits=self.bits, sample_rate=self.sample_rate)

    def _told(self, notes: dict[str, None]) -> None:
        for note in notes:
            self.tell(f"note: {note}")


def _notes(*clonings: Cloning) -> dict[str, None]:
    return dict.fromkeys(note for cloning in clonings for note in cloning.notes)


def _sections(sentences: Iterable[Sentence]) -> Iterator[list[Sentence]]:
    rest = iter(sentences)
    while section := list(islice(rest, SECTION)):
        yield section


def _folder(output: Path) -> Path:
    return output.with_name(f"{output.name}.parts")


def _seeds(folder: Path, seed: int | None, only: int | None = None) -> tuple[int, dict[int, int]]:
    """The seed of a whole run, and those of single lines: as given, else as the run before had them, else random."""
    index = folder / INDEX
    try:
        known = json.loads(index.read_text(encoding="utf-8"))
        main, own = int(known["seed"]), {int(line): int(value) for line, value in known["lines"].items()}
    except FileNotFoundError:
        main, own = None, {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CloningError(f"{index}: damaged ({error}): remove its folder, and all is made anew") from error
    if only is None:
        main, own = (main, own) if seed in (None, main) else (seed, {})
    elif seed is not None:
        own = own | {only: seed}
    if main is None:
        main = secrets.randbelow(2**31)
    write_text(index, json.dumps({"seed": main, "lines": own}) + "\n")
    return main, own


def line_seed(seed: int, number: int) -> int:
    """The seed of a line: the same for the same number."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "big") >> 1


def with_emotion(how: dict[str, Any], emotion: str | None) -> dict[str, Any]:
    """Settings in which an emotion, if there is one, is in place of all others."""
    if emotion is None:
        return how
    return {name: value for name, value in how.items() if name != "emotion_reference"} | {"emotion": emotion}


def _require_made(parts: Parts, lines: list[Line], only: int) -> None:
    """Raises CloningError where `only` is no line, or another has not been made."""
    numbers = [line.number for line in lines]
    if only not in numbers:
        raise CloningError(f"line {only}: nothing is said in it; lines that are said: {_short(numbers)}")
    if missing := [number for number in numbers if number != only and not parts.find(number)]:
        raise CloningError(f"not made yet: line {_short(missing)}; make all lines before one only")


def _short(numbers: list[int]) -> str:
    listed = ", ".join(map(str, numbers[:10]))
    return f"{listed}, ..." if len(numbers) > 10 else listed
