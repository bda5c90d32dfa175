"""Scripts, tables and long texts to files: whose voices speak, and what is refused before any work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloning.cloner import VoiceCloner
from narration import batch, script
from narration.speak import Narrator, line_seed, with_emotion
from utils.audio import io as audio
from utils.errors import CloningError, MissingError
from utils.files import read_text, user_path
from utils.library import Library
from utils.voice import Voice, is_voice


@dataclass(frozen=True)
class Delivery:
    """What all lines of a narration share.

    output: the file, or of a table the folder; library: whose voices are named; reference: recordings, or the file of a
    voice, for what names none; how: keyword arguments of `VoiceCloner.clone` but for the seed; volume (dB), bits,
    sample_rate (Hz): of the files; tell: is given a line after each part.
    """

    output: Path
    library: Library
    reference: Sequence[str] = ()
    seed: int | None = None
    how: dict[str, Any] = field(default_factory=dict)
    volume: float = 0.0
    bits: str | None = None
    sample_rate: int | None = None
    tell: Callable[[str], None] = print


def read_script(path: Path, library: Library, reference: Sequence[str]) -> list[script.Line]:
    """The lines of a script. Raises CloningError also where one has no voice, or a voice is not kept."""
    lines = script.parse(read_text(path, str(path)), str(path))
    for line in lines:
        where = f"{path} line {line.number}"
        if not line.voice and not reference:
            raise MissingError(
                f"{where}: no voice is named: begin it with [name], or choose one for such lines",
                "voice of the narrator",
            )
        try:
            if line.voice:
                library.path(line.voice)
        except CloningError as error:
            raise CloningError(f"{where}: {error}") from error
    return lines


def speak_script(
    cloner: VoiceCloner, delivery: Delivery, lines: list[script.Line], name: str, only: int | None = None
) -> None:
    """All lines of the script `name` to one file, or `only` one of them anew. Raises CloningError."""
    voices = {line.voice: delivery.library.load(line.voice) for line in lines if line.voice}
    if any(not line.voice for line in lines):
        voices[""] = _voice(cloner, delivery.reference)
    for line in lines:
        require_emotion(cloner, line.emotion, f"{name} line {line.number}")
    for voice_name, voice in voices.items():
        try:
            cloner.embed_reference(voice)
        except CloningError as error:
            raise CloningError(f"voice {voice_name or 'of the narrator'}: {error}") from error
    seconds = _narrator(cloner, delivery).script(voices, lines, delivery.output, delivery.seed, only).seconds
    delivery.tell(f"{delivery.output}: {seconds:.2f} s of speech, {len(lines)} lines")


def speak_long(cloner: VoiceCloner, delivery: Delivery, text: str) -> None:
    """A long text to one file, part by part. Raises CloningError."""
    voice = _voice(cloner, delivery.reference)
    seconds = _narrator(cloner, delivery).text(voice, text, delivery.output, delivery.seed)
    delivery.tell(f"{delivery.output}: {seconds:.2f} s of speech")


def speak_table(cloner: VoiceCloner, delivery: Delivery, rows: list[batch.Row], folder: Path) -> list[str]:
    """Every row to a file in the folder of `delivery.output`; a line comes back for each that failed.

    folder: of the table, where the clips that it names may lie.
    """
    known: dict[str, Voice] = {}

    def speak(row: batch.Row, path: Path) -> str:
        key = row.voice or row.reference
        if key not in known:
            clips = _clips(row, folder, delivery.reference)
            known[key] = delivery.library.load(row.voice) if row.voice else _voice(cloner, clips)
        chosen = with_emotion(delivery.how, row.how.get("emotion")) | row.how
        if "seed" not in chosen and delivery.seed is not None:
            chosen["seed"] = line_seed(delivery.seed, row.number)
        require_emotion(cloner, row.how.get("emotion"), "its emotion")
        audio.require_format(path, delivery.bits, delivery.sample_rate)
        cloning = cloner.clone(known[key], row.text, **chosen)
        sound = audio.amplified(cloning.audio, delivery.volume)
        audio.write(path, sound, metadata=cloning.tags(), bits=delivery.bits, sample_rate=delivery.sample_rate)
        return f"{cloning.audio.seconds:.2f} s, seed {cloning.seed}"

    return batch.speak_rows(rows, delivery.output, speak, delivery.tell)


def require_emotion(cloner: VoiceCloner, emotion: str | None, where: str) -> None:
    """Raises CloningError for an emotion that the synthesizer does not know, before any work."""
    known = cloner.synthesizer.emotions
    if emotion is None or emotion.lower() in map(str.lower, known):
        return
    if not known:
        raise MissingError(
            f"{where}: emotion {emotion!r}: this synthesizer knows none: take one that does",
            "synthesizer with emotions",
        )
    raise CloningError(f"{where}: emotion {emotion!r}: this synthesizer knows {', '.join(known)}")


def _clips(row: batch.Row, folder: Path, reference: Sequence[str]) -> Sequence[str]:
    if row.reference:
        beside = folder / row.reference
        return [str(beside if beside.is_file() else user_path(row.reference))]
    if not row.voice and not reference:
        raise MissingError(
            "no voice is named: give it a voice or a reference, or choose one for such rows", "voice of the narrator"
        )
    return reference


def _voice(cloner: VoiceCloner, reference: Sequence[str]) -> Voice:
    if len(reference) == 1 and is_voice(reference[0]):
        return Voice.load(reference[0])
    return cloner.embed_voice(list(reference))


def _narrator(cloner: VoiceCloner, delivery: Delivery) -> Narrator:
    return Narrator(cloner, delivery.how, delivery.volume, delivery.bits, delivery.sample_rate, delivery.tell)
