"""Scripts on the page: several voices in one text, made line by line; lines that did not change are not made again."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cloning.cloner import VoiceCloner
from cloning.references import Clips, Reference
from cloning.results import Cloning
from narration.parts import load_part, silence
from narration.script import Line, parse
from narration.speak import Narrator
from utils.audio.io import Waveform
from utils.errors import CloningError
from utils.library import Library
from utils.voice import Voice
from web.job import Job, JobProgress, JobResult
from web.voice_input import Chosen
from web.work import Settings

NAME = "the script"
HELP = (
    "A line is [name] and words, or [name|emotion] and words; [pause 0.8] is a silence of so many seconds. "
    "Lines without a name are said by whoever spoke before, the first ones by the voice that is chosen above."
)


@dataclass(frozen=True)
class Cast:
    """The lines of a script, and who says them: name -> its Voice; "" -> recordings or a Voice that was chosen."""

    lines: list[Line]
    voices: dict[str, Clips | Voice]


@dataclass(frozen=True)
class LineRecord:
    """What is known of a line that is kept: `words` with start and stop in seconds from its own beginning."""

    words: list[tuple[str, float, float]]
    similarity: float
    notes: list[str]


class Workshop:
    """Where a visitor's lines are kept; gone with the page."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="script-")
        self.said: dict[str, LineRecord] = {}  # by the name of a line's file

    @property
    def output(self) -> Path:
        """Where the script is spoken to."""
        return Path(self._folder.name) / "script.wav"


def sample() -> str:
    """Some lines in the voices that there are."""
    first, second = (Library().names() * 2)[:2] or ("ann", "ben")
    return (
        f"[{first}] Good morning! Is the kettle on?\n[{second}] It is, and the bread is still warm.\n"
        f"[pause 0.8]\n[{first}] Then let us begin.\n"
    )


def emotions(text: str) -> set[str]:
    """Those that the lines of a script ask for; none of a script that makes no sense."""
    try:
        return {line.emotion for line in parse(text) if line.emotion}
    except CloningError:
        return set()


def cast(text: str, chosen: Chosen | None, known: tuple[str, ...]) -> tuple[Cast, Chosen]:
    """Who says what, and all of them as one choice. `known`: the emotions of the synthesizer.

    Raises CloningError, with the number of the line, for one that makes no sense, or that nobody can say.
    """
    lines, library = parse(text, NAME), Library()
    voices: dict[str, Clips | Voice] = {}
    for line in lines:
        where = f"{NAME} line {line.number}"
        if line.emotion and line.emotion.lower() not in map(str.lower, known):
            there = f"there are: {', '.join(known)}" if known else "these weights know none"
            raise CloningError(f"{where}: no emotion {line.emotion!r}; {there}")
        if line.voice in voices:
            continue
        try:
            voices[line.voice] = library.load(line.voice) if line.voice else _narrator(chosen)
        except CloningError as error:
            raise CloningError(f"{where}: {error}") from error
    narrator = chosen if "" in voices else None
    names = [name or (narrator.name if narrator else "") for name in voices]
    return Cast(lines, voices), Chosen(
        name=", ".join(dict.fromkeys(names)),
        key=_key(lines, chosen.key if chosen else ""),
        source=None,
        heard=None,
        reference=narrator.reference if narrator else (),
    )


def _narrator(chosen: Chosen | None) -> Clips | Voice:
    if chosen is None:
        raise CloningError("no voice is named: begin it with [name], or choose a voice above")
    if not chosen.agreed:
        raise CloningError("Tick first that the person whose voice this is agrees.")
    return chosen.source


def key(text: str, narrator: str) -> str:
    """Changes with the voices of a script; "" of one that makes no sense. `narrator`: the key of who is chosen."""
    try:
        return _key(parse(text), narrator)
    except (CloningError, OSError):
        return ""


def _key(lines: list[Line], narrator: str) -> str:
    library = Library()
    names = sorted({line.voice for line in lines})
    keys = [f"{name} {library.path(name).stat().st_mtime}" if name else narrator for name in names]
    return f"script {hashlib.sha256(repr(keys).encode()).hexdigest()[:16]}"


class ScriptJob(Job):
    """A script, spoken in a thread of its own."""

    def __init__(
        self,
        load: Callable[[], VoiceCloner],
        cast: Cast,
        text: str,
        settings: Settings,
        workshop: Workshop,
        seed: int | None,
        only: int | None = None,
    ) -> None:
        """`seed`, `only`: as of `Narrator.script`."""
        self._load, self.cast, self._workshop, self._seed, self._only = load, cast, workshop, seed, only
        self.own: dict[int, int] = {}
        self._said: list[LineRecord] = []
        super().__init__(load, None, text, settings)

    def again(self, number: int) -> ScriptJob:
        """The same with one line made anew."""
        seed = secrets.randbelow(2**31)
        return ScriptJob(self._load, self.cast, self.text, self.settings, self._workshop, seed, number)

    def _speak(self, cloner: VoiceCloner, voice: Reference | None) -> JobResult:
        started = time.perf_counter()
        voices = {name: _voice(cloner, name, source) for name, source in self.cast.voices.items()}
        self.progress = JobProgress(0, len(self.cast.lines), unit="Line")
        how = self.settings.how()
        del how["seed"]
        narrator = Narrator(cloner, how, self.settings.volume, tell=lambda line: None)
        output = self._workshop.output
        narrated = narrator.script(voices, self.cast.lines, output, self._seed, self._only, self._after)
        self.own = narrated.own
        begun = self.progress.begun
        return JobResult(
            wav=output.read_bytes(),
            seed=narrated.seed,
            seconds=narrated.seconds,
            work_seconds=time.perf_counter() - started,
            similarity=float(np.mean([said.similarity for said in self._said])),
            models=cloner.describe(),
            notes=list(dict.fromkeys(note for said in self._said for note in said.notes)),
            sentences=[line.text for line in self.cast.lines[:begun]],
            words=[word for said in self._said for word in said.words],
        )

    def _after(self, line: Line, path: Path, cloning: Cloning | None) -> bool:
        """A line is there: it is heard, and goes on to the next unless told to stop."""
        if cloning:
            words = [(span.text, span.start, span.stop) for span in cloning.times.words]
            self._workshop.said[path.name] = LineRecord(words, cloning.similarity, cloning.notes)
        said, at, number = self._workshop.said[path.name], self.progress.seconds, self.progress.begun
        words = [(word, round(at + start, 3), round(at + stop, 3)) for word, start, stop in said.words]
        self._said.append(replace(said, words=words))
        wav = load_part(path)
        quiet = np.zeros(silence(len(wav), line.pause, wav.sample_rate), np.float32)
        wav = Waveform(np.concatenate([wav.samples, quiet]), wav.sample_rate)
        self.progress = replace(self.progress, begun=number + 1, seconds=at + wav.seconds)
        if self._only is None:  # a line alone is not heard from the beginning of all
            self._play(number, wav)
        if self._stop.is_set() and self._only is None and line is not self.cast.lines[-1]:
            self.stopped = f"stopped after line {line.number}"
            return False
        return True


def _voice(cloner: VoiceCloner, name: str, source: Clips | Voice) -> Voice:
    try:
        voice = source if isinstance(source, Voice) else cloner.embed_voice(source)
        cloner.embed_reference(voice)
    except CloningError as error:
        raise type(error)(f"voice {name}: {error}" if name else str(error)) from error
    return voice
