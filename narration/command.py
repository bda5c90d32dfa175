"""What `demo_cli.py` does with --script, --batch, and texts that are long."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloning.cloner import VoiceCloner
from cloning.references import MAX_SECONDS
from narration import batch, script
from narration.speak import Narrator, line_seed, with_emotion
from utils.audio import io as audio
from utils.errors import CloningError
from utils.files import read_text, user_path
from utils.library import Library
from utils.voice import Voice, is_voice


def read_script(args: argparse.Namespace) -> list[script.Line]:
    """The lines of --script. Raises CloningError also where the first has no voice, or a voice is not kept."""
    lines = script.parse(read_text(args.script, f"--script {args.script}"), str(args.script))
    library = Library(args.voices)
    for line in lines:
        try:
            if line.voice:
                library.path(line.voice)
            elif not args.reference:
                raise CloningError("no voice is named: begin it with [name], or give a --voice for lines without")
        except CloningError as error:
            raise CloningError(f"{args.script} line {line.number}: {error}") from error
    return lines


def speak_script(cloner: VoiceCloner, args: argparse.Namespace, lines: list[script.Line]) -> None:
    """All lines of a script to --output, or --only one of them anew."""
    library = Library(args.voices)
    voices = {line.voice: library.load(line.voice) for line in lines if line.voice}
    if any(not line.voice for line in lines):
        voices[""] = _voice(cloner, args.reference)
    for line in lines:
        require_emotion(cloner, line.emotion, f"{args.script} line {line.number}")
    for name, voice in voices.items():
        try:
            cloner.embed_reference(voice)
        except CloningError as error:
            raise CloningError(f"voice {name or 'of the narrator'}: {error}") from error
    seconds = _narrator(cloner, args).script(voices, lines, args.output, args.seed, args.only).seconds
    if not args.quiet:
        print(f"{args.output}: {seconds:.2f} s of speech, {len(lines)} lines")


def speak_long(cloner: VoiceCloner, args: argparse.Namespace, text: str) -> None:
    """A long text to --output, part by part."""
    voice = _voice(cloner, args.reference)
    seconds = _narrator(cloner, args).text(voice, text, args.output, args.seed)
    if not args.quiet:
        print(f"{args.output}: {seconds:.2f} s of speech")


def speak_batch(cloner: VoiceCloner, args: argparse.Namespace, table: tuple[list[batch.Row], list[str]]) -> int:
    """Every row of --batch to a file in --output; the exit code comes back: 2 where rows failed, which are listed."""
    rows, bad = table
    library, how = Library(args.voices), speech_arguments(args)
    known: dict[str, Voice] = {}

    def speak(row: batch.Row, path: Path) -> str:
        key = row.voice or row.reference
        if key not in known:
            known[key] = library.load(row.voice) if row.voice else _voice(cloner, _clips(row, args))
        chosen = with_emotion(how, row.how.get("emotion")) | row.how
        if "seed" not in chosen and args.seed is not None:
            chosen["seed"] = line_seed(args.seed, row.number)
        require_emotion(cloner, row.how.get("emotion"), "its emotion")
        audio.require_format(path, args.bits, args.sample_rate)
        cloning = cloner.clone(known[key], row.text, **chosen)
        sound = audio.amplified(cloning.audio, args.volume)
        audio.write(path, sound, metadata=cloning.tags(), bits=args.bits, sample_rate=args.sample_rate)
        return f"{cloning.audio.seconds:.2f} s, seed {cloning.seed}"

    failed = bad + batch.speak_rows(rows, args.output, speak, _tell(args))
    for line in failed:
        print(f"error: {args.batch} {line}", file=sys.stderr)
    return 2 if failed else 0


def require_emotion(cloner: VoiceCloner, emotion: str | None, where: str) -> None:
    """Raises CloningError for an emotion that the synthesizer does not know, before any work."""
    known = cloner.synthesizer.emotions
    if emotion is not None and emotion.lower() not in map(str.lower, known):
        there = f"it knows {', '.join(known)}" if known else "it knows none: --synthesizer parallel does"
        raise CloningError(f"{where}: emotion {emotion!r} of this synthesizer: {there}")


def _clips(row: batch.Row, args: argparse.Namespace) -> list[str]:
    if not row.reference:
        if not args.reference:
            raise CloningError("no voice is named: give it a voice or a reference, or all rows a --voice")
        return args.reference
    beside = args.batch.parent / row.reference
    return [str(beside if beside.is_file() else user_path(row.reference))]


def _voice(cloner: VoiceCloner, reference: list[str]) -> Voice:
    return Voice.load(reference[0]) if len(reference) == 1 and is_voice(reference[0]) else cloner.embed_voice(reference)


def _narrator(cloner: VoiceCloner, args: argparse.Namespace) -> Narrator:
    return Narrator(cloner, speech_arguments(args), args.volume, args.bits, args.sample_rate, _tell(args))


def speech_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags of demo_cli.py say of how to speak, but for the seed: keyword arguments of `VoiceCloner.clone`."""
    how = {name: getattr(args, name) for name in ("rate", "pause", "pitch", "monotonic", "emotion")}
    if args.emotion_reference:
        how["emotion_reference"] = audio.read(args.emotion_reference, sample_rate=None, max_seconds=MAX_SECONDS)
    return how


def _tell(args: argparse.Namespace) -> Callable[[str], None]:
    return (lambda line: None) if args.quiet else (lambda line: print(line, flush=True))
