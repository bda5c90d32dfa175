"""Takes: what was said, in which voice, with what settings; kept in memory, and on disk where that is asked for."""

from __future__ import annotations

import csv
import io
import json
import re
import secrets
import shlex
import time
import unicodedata
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from utils.audio.io import Waveform
from utils.errors import CloningError
from utils.files import atomic_path, write_text
from web.job import JobResult
from web.work import Settings, converted

FOLDER = Path("takes")  # in the working directory, where a visitor ticks that takes are kept
MOST_BYTES = 400 * 2**20  # of sound kept in memory for a visitor; the oldest takes go first
WORDS_IN_NAME, LONGEST_NAME = 6, 60
_KIND = "take of the voice cloning page"


@dataclass(frozen=True, eq=False)
class Sketch:
    """What the pictures of a take need beside its sound."""

    voice: Waveform | None = field(repr=False)  # the reference, where there is one
    alignments: list[np.ndarray] = field(repr=False)  # (F, N) each, 0 to 255


@dataclass(frozen=True, eq=False)
class Take:
    """A clone as the page keeps it. `wav`: the bytes of its file, or where that lies."""

    id: str
    made: float  # seconds since 1970
    text: str
    voice: str  # what the visitor calls it
    voice_key: str  # names its recordings
    settings: dict[str, Any]
    chain: str  # of the weights, as `weights` names them
    reference: list[str]  # paths
    weights: dict[str, str]  # stage -> path or name, where it is not the default
    seconds: float
    work_seconds: float
    first_sound: float
    similarity: float
    encoder: str  # its fingerprint
    models: dict[str, str]
    notes: list[str]
    sentences: list[str]
    words: list[tuple[str, float, float]]  # with start and stop in seconds
    stopped: str
    noncommercial: bool
    wav: bytes | Path = field(repr=False)
    script: bool = False  # whether the text is one, of several voices
    own: dict[str, int] = field(default_factory=dict)  # of a script: the seeds of lines that were made anew, by number
    sketch: Sketch | None = field(default=None, repr=False)

    @property
    def bytes(self) -> bytes:
        """The bytes of the wav file. Raises CloningError where it was kept on disk and is gone."""
        if isinstance(self.wav, bytes):
            return self.wav
        try:
            return self.wav.read_bytes()
        except OSError as error:
            raise CloningError(f"{self.wav} cannot be read: {error.strerror}") from error

    @property
    def seed(self) -> int:
        """With which it can be made again."""
        return int(self.settings["seed"])

    @property
    def file_name(self) -> str:
        """A file name of voice and words: `austen_0870_the-quick-brown-fox.wav`."""
        return self.file_as("wav")

    def file_as(self, suffix: str) -> str:
        """The name of its file of another format."""
        return f"{self.stem}.{suffix}"

    @property
    def stem(self) -> str:
        """Its file name without suffix: voice and first words."""
        text = re.sub(r"\[[^\]]*\]", " ", self.text) if self.script else self.text
        words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())[:WORDS_IN_NAME]
        voice = re.sub(r"[^\w-]+", "-", self.voice).strip("-") or "voice"
        return f"{voice[:30]}_{'-'.join(words)[:LONGEST_NAME] or 'speech'}"


def of(made: JobResult, text: str, settings: Settings, heard: Waveform | None, **facts: Any) -> Take:
    """The take of what a job made; `heard`: the reference; `facts`: the fields that the page alone knows."""
    now = time.time()
    return Take(
        id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{int(now % 1 * 1000):03d}{secrets.token_hex(2)}",
        made=now,
        text=text,
        settings=asdict(replace(settings, seed=made.seed)),
        seconds=made.seconds,
        work_seconds=made.work_seconds,
        similarity=made.similarity,
        encoder=made.models["encoder"].split()[-1],
        models=made.models,
        notes=made.notes,
        sentences=made.sentences,
        words=made.words,
        wav=made.wav,
        sketch=Sketch(heard, made.alignments),
        **facts,
    )


def add(takes: list[Take], take: Take) -> list[Take]:
    """With the newest first, and as many as memory has room for."""
    kept, room = [], MOST_BYTES
    for one in [take, *takes]:
        room -= len(one.wav) if isinstance(one.wav, bytes) else 0
        if room >= 0 or one is take:
            kept.append(one)
    return kept


# On disk


def keep(take: Take) -> Take:
    """Write `ID_NAME.wav` and `.json` into FOLDER; the take that reads its sound from there comes back.

    Raises CloningError: cannot write.
    """
    stem, folder = f"{take.id}_{take.stem}", FOLDER
    path = folder / f"{stem}.wav"
    description = json.dumps({"kind": _KIND, **facts(take)}, indent=1, ensure_ascii=False)
    try:
        with atomic_path(path) as partial:
            partial.write_bytes(take.bytes)
        write_text(folder / f"{stem}.json", description + "\n")
    except CloningError as error:
        raise CloningError(f"the take cannot be kept: {error}") from error
    return replace(take, wav=path)


def facts(take: Take) -> dict[str, Any]:
    """All of a take but its sound."""
    return {f.name: getattr(take, f.name) for f in fields(Take) if f.name not in ("wav", "sketch")}


def kept() -> list[Take]:
    """What `keep` wrote, the newest first; what is not such a file is passed over."""
    found = []
    for path in sorted(FOLDER.glob("*.json"), reverse=True):
        wav = path.with_suffix(".wav")
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
            if read.pop("kind") != _KIND or not wav.is_file():
                continue
            take = Take(**{**read, "words": [tuple(word) for word in read["words"]]}, wav=wav)
            assert take.stem and _values(take) and isinstance(take.notes, list) and take.made + take.work_seconds >= 0
            found.append(take)
        except (OSError, ValueError, TypeError, LookupError, AttributeError, AssertionError):
            continue
    return found


def remove(take: Take) -> None:
    """Also from the disk, where it was kept."""
    if isinstance(take.wav, Path):
        take.wav.unlink(missing_ok=True)
        take.wav.with_suffix(".json").unlink(missing_ok=True)


def zipped(takes: Iterable[Take], suffix: str = "wav") -> bytes:
    """All takes as the bytes of a zip: their files, and a table of what they are."""
    buffer, table = io.BytesIO(), io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["file", "made", "voice", "text", *_HOW, "seconds", "similarity"])
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for number, take in enumerate(reversed(list(takes)), start=1):
            name = f"{number:03d}_{take.file_as(suffix)}"
            file.writestr(name, converted(take.bytes, suffix))
            made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(take.made))
            how = [take.settings.get(key) for key in _HOW]
            rows.writerow([name, made, take.voice, take.text, *how, f"{take.seconds:.2f}", f"{take.similarity:.3f}"])
        file.writestr("takes.csv", table.getvalue())
    return buffer.getvalue()


# Elsewhere


def command(take: Take, suffix: str = "wav") -> str:
    """The command that makes the same file; of a script one more for each line that was made anew, and the script is in
    the file `take.file_as("txt")`."""
    says = {"script": take.file_as("txt")} if take.script else {"text": take.text}
    flags = {**take.weights, **_changed(take), **says, "output": f"out/{take.file_as(suffix)}"}
    runs = [flags, *(flags | {"only": number, "seed": seed} for number, seed in take.own.items())]
    return "\n".join(_command(take, run) for run in runs)


def _command(take: Take, flags: dict[str, Any]) -> str:
    words = ["python", "demo_cli.py", *(["--reference", *take.reference] if take.reference else [])]
    for name, value in flags.items():
        words += [f"--{name}", str(value)]
    return shlex.join(words)


def python(take: Take, suffix: str = "wav") -> str:
    """The lines of Python that make the same file; a script is in the file `take.file_as("txt")`."""
    if take.script:
        return _python_of_script(take, suffix)
    reference = take.reference[0] if len(take.reference) == 1 else take.reference
    changed = _changed(take)
    volume = changed.pop("volume", None)
    how = ", ".join([repr(reference), repr(take.text), *_named(changed)])
    sound = f"amplified(cloning.audio, {volume!r})" if volume else "cloning.audio"
    return "\n".join(
        [
            f"from utils.audio.io import {'amplified, ' if volume else ''}write",
            "from voice_cloner import VoiceCloner",
            "",
            f"cloner = VoiceCloner.load({', '.join(_named(take.weights))})",
            f"cloning = cloner.clone({how})",
            f"write({f'out/{take.file_as(suffix)}'!r}, {sound}, metadata=cloning.tags())",
        ]
    )


def _python_of_script(take: Take, suffix: str) -> str:
    changed = _changed(take)
    volume, seed = changed.pop("volume", 0), changed.pop("seed", 0)
    text, output = take.file_as("txt"), f"out/{take.file_as(suffix)}"
    given = f"voices, lines, Path({output!r})"
    return "\n".join(
        [
            "from pathlib import Path",
            "",
            "from narration.script import parse",
            "from narration.speak import Narrator",
            "from utils.library import Library",
            "from voice_cloner import VoiceCloner",
            "",
            f"cloner = VoiceCloner.load({', '.join(_named(take.weights))})",
            f"lines = parse(Path({text!r}).read_text(encoding='utf-8'))",
            "voices = {line.voice: Library().load(line.voice) for line in lines if line.voice}",
            *([f"voices[''] = cloner.embed_voice({take.reference!r})"] if take.reference else []),
            f"narrator = Narrator(cloner, {changed!r}{f', volume={volume!r}' if volume else ''})",
            f"narrator.script({given}, seed={seed})",
            *(f"narrator.script({given}, seed={own}, only={number})" for number, own in take.own.items()),
        ]
    )


def _named(values: dict[str, Any]) -> list[str]:
    return [f"{name}={value!r}" for name, value in values.items()]


def _changed(take: Take) -> dict[str, Any]:
    """The settings that are not as they are when nothing is said; the seed always."""
    plain = Settings()
    return {name: value for name, value in take.settings.items() if value != getattr(plain, name, None)}


def differences(first: Take, second: Take) -> list[tuple[str, str, str]]:
    """Rows of what a listener may want to know of two takes: what, of the first, of the second."""
    rows = []
    for name, one, other in zip(_LABELS, _values(first), _values(second), strict=True):
        if one != other:
            rows.append((name, one, other))
    return rows


_HOW = ("seed", "rate", "pause", "emotion", "pitch", "volume")
_LABELS = ("Text", "Voice", "Weights", "Seed", "Rate", "Pauses", "Emotion", "Pitch", "Volume", "Length", "Similarity")


def _values(take: Take) -> list[str]:
    how = [str(take.settings.get(key) or "-") for key in _HOW]
    return [take.text, take.voice, take.chain, *how, f"{take.seconds:.1f} s", f"{take.similarity:.2f}"]
