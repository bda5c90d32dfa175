"""Make voices that are kept under a name, list them, blend them: demo_cli.py --voice NAME speaks in one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import CloningError, printable
from utils.files import read_text, user_path, write_text
from utils.scripts import add_device, add_voices, exit_code, positive_number

if TYPE_CHECKING:
    from utils.library import Library
    from utils.voice import Voice
    from voice_cloner import VoiceCloner

EXAMPLE = "example: python make_voice.py --reference a.wav b.wav --name ann --consent 'Ann agreed, 26 November 2026'"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"{EXAMPLE}\nA voice is a file of numbers without any sound, but it identifies a person: keep it as you "
        "keep the\nrecordings. Clone only voices whose owners agree.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--reference", nargs="+", metavar="CLIP", help="make a voice of recordings of one person")
    what.add_argument("--blend", metavar="NAME=SHARE,...", help="make one between others, such as ann=0.7,ben=0.3")
    what.add_argument(
        "--recipes", type=user_path, metavar="FILE", help="make several: JSON lines of name, clips, consent, note"
    )
    what.add_argument("--list", action="store_true", help="a line for each voice")
    what.add_argument("--info", metavar="NAME", help="all that is known of a voice")
    what.add_argument("--remove", metavar="NAME", help="delete a voice")
    parser.add_argument("--name", help="of the voice to make: letters, digits, - and _")
    parser.add_argument("--consent", help="who agreed that this voice is cloned, and how; required with --reference")
    parser.add_argument(
        "--adapt",
        type=positive_number,
        metavar="SECONDS",
        help="with --reference: let the synthesizer learn the voice for at most so long (60 is enough for one clip)",
    )
    parser.add_argument(
        "--text",
        nargs="+",
        type=user_path,
        metavar="FILE",
        help="with --adapt: the words of each clip, in their order; without, phones are found by ear",
    )
    parser.add_argument("--note", help="whatever else is to be kept with the voice")
    parser.add_argument("--force", action="store_true", help="write over a voice of that name")
    parser.add_argument("--face", type=user_path, metavar="SVG", help="with --info: write the voice's drawn face")
    add_voices(parser)
    parser.add_argument(
        "--root", type=user_path, default=Path(), metavar="DIR", help="with --recipes: where its clips lie (default: .)"
    )
    parser.add_argument(
        "--models",
        metavar="DIR",
        help="folder of encoder and synthesizer that are to read the voice, or its name there (default: ours)",
    )
    add_device(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run this script; returns its exit code."""
    args = build_parser().parse_args(argv)
    return exit_code(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Do what the arguments ask. Raises CloningError for what the user can correct."""
    from utils.library import Library, TakenError

    _check(args)
    try:
        _do(Library(args.voices), args)
    except TakenError as error:
        raise CloningError(f"{error}, or write over it (--force)") from error


def _do(library: Library, args: argparse.Namespace) -> None:
    if args.list:
        for name in library.names():
            print(_line(library, name))
    elif args.info is not None:
        _info(library, args.info, args.face)
    elif args.remove is not None:
        print(f"{library.remove(args.remove)}: removed")
    elif args.blend is not None:
        _save(library, args, args.name, library.blend(_shares(args.blend)), args.note, args.consent)
    else:
        made = _recipes(args) if args.recipes else [vars(args) | {"clips": args.reference}]
        for recipe in made:
            library.require_free(recipe["name"], args.force)
        cloner = _load(args)
        for recipe in made:
            voice = _made(cloner, recipe["clips"], args)
            _save(library, args, recipe["name"], voice, recipe["note"], recipe["consent"])


def _check(args: argparse.Namespace) -> None:
    if args.name is None and (args.reference or args.blend is not None):
        raise CloningError(f"no --name given: how is the voice to be called? {EXAMPLE}")
    if args.reference and not (args.consent or "").strip():
        raise CloningError(
            "no --consent given: who agreed that this voice is cloned, and how? Such as --consent 'my own voice'"
        )
    if args.adapt is not None and not args.reference:
        raise CloningError("--adapt: give the recordings to learn from with --reference")
    if args.text and args.adapt is None:
        raise CloningError("--text is for --adapt SECONDS alone: a voice that is not adapted needs no words")
    if args.face and (args.info is None or args.face.suffix.lower() != ".svg"):
        raise CloningError(f"--face {args.face}: give it with --info, and a name that ends in .svg")


def _made(cloner: VoiceCloner, clips: Sequence[str], args: argparse.Namespace) -> Voice:
    if args.adapt is None:
        return cloner.embed_voice(clips)
    from cloning.adapt import adapt

    return adapt(cloner, clips, [_words(path) for path in args.text or ()], seconds=args.adapt, progress=print)


def _words(path: Path) -> str:
    words = read_text(path, f"--text {path}").strip()
    if not words:
        raise CloningError(f"--text {path}: empty: it must hold the words of its clip")
    return words


def _load(args: argparse.Namespace) -> VoiceCloner:
    from utils.weights.find import DEFAULT_MODELS
    from voice_cloner import VoiceCloner

    return VoiceCloner.load(args.models or DEFAULT_MODELS, device=args.device)


def _save(
    library: Library, args: argparse.Namespace, name: str, voice: Voice, note: str | None, consent: str | None
) -> None:
    path = library.save(name, voice, note=note or "", consent=consent or "", force=args.force)
    print(f"{path}: {_facts(voice)}")
    for line in voice.notes:
        print(f"note: {printable(line)}")


def _shares(text: str) -> dict[str, float]:
    """ann=0.7,ben=0.3"""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        try:
            value = float(share)
        except ValueError as error:
            raise CloningError(f"--blend {text}: {part!r} is not NAME=SHARE, such as ann=0.7,ben=0.3") from error
        if name.lower() in map(str.lower, shares):
            raise CloningError(f"--blend {text}: {name} is named twice; name each voice once")
        shares[name] = value
    return shares


def _recipes(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines: name, clips (below --root, or beside the file), consent and note."""
    lines = read_text(args.recipes, f"--recipes {args.recipes}").splitlines()
    places = (args.root, args.recipes.parent)
    return [_recipe(line, f"{args.recipes} line {i}", places) for i, line in enumerate(lines, 1) if line.strip()]


def _recipe(line: str, where: str, places: Sequence[Path]) -> dict[str, Any]:
    try:
        recipe = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CloningError(f"{where}: not JSON: {error}") from error
    clips = recipe.get("clips") if isinstance(recipe, dict) else None
    texts = [recipe.get(name, "") for name in ("name", "consent", "note")] if clips else []
    if not isinstance(clips, list) or not all(isinstance(text, str) for text in (*clips, *texts)):
        raise CloningError(f"{where}: give name, clips (a list of files), consent and note, all in quotes")
    name, consent, note = texts
    if not consent.strip():
        raise CloningError(f"{where}: no consent: who agreed that this voice is cloned, and how?")
    found = [next((p for p in (place / clip for place in places) if p.is_file()), places[0] / clip) for clip in clips]
    return {"name": name, "clips": found, "consent": consent, "note": note}


def _line(library: Library, name: str) -> str:
    try:
        voice = library.load(name)
    except CloningError as error:
        return f"{name:<16} {error}"
    return f"{name:<16} {_facts(voice)}{f'; {printable(voice.note)}' if voice.note else ''}"


def _facts(voice: Voice) -> str:
    found = [
        f"{voice.seconds:.1f} s heard" if voice.seconds is not None else "",
        f"{voice.pitch_hz:.0f} Hz" if voice.pitch is not None else "",
        f"made {printable(voice.made)}" if voice.made else "",
        f"{len(voice.notes)} remarks on the recordings" if voice.notes else "",
    ]
    return ", ".join(fact for fact in found if fact)


def _info(library: Library, name: str, face_to: Path | None) -> None:
    from utils.faces import face
    from utils.weights.checkpoint import read_header
    from utils.weights.find import DEFAULT_MODELS, find_stage

    voice, path = library.load(name), library.path(name)
    encoder = find_stage(DEFAULT_MODELS, "encoder")
    fits = encoder is not None and read_header(encoder).get("fingerprint") == voice.encoder
    rows = {
        "file": str(path),
        "voice": _facts(voice),
        "encoder": f"{voice.encoder}{'' if fits else ', which is not the default one: only its own can speak in it'}",
        "adapted": f"for synthesizer {voice.synthesizer} alone" if voice.adapted else "",
        "consent": voice.consent or "nothing said",
        "note": voice.note,
        "level of the recordings": f"{voice.level:.1f} dB" if voice.level is not None else "",
        "pace": f"{voice.phones_per_second:.1f} phones a second" if voice.pace is not None else "",
        "quality": "; ".join(voice.notes) or "nothing to remark",
        "sha256 of the recordings": ", ".join(voice.sources),
    }
    for what, value in rows.items():
        if value:
            print(f"{what}: {printable(value)}")
    if face_to:
        write_text(face_to, face(name))


if __name__ == "__main__":
    sys.exit(main())
