"""Clone a voice from the command line: a recording and a text in, that text in that voice out."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from narration.script import LONG
from utils.errors import CloningError, MismatchError
from utils.files import read_text, user_path
from utils.scripts import add_device, add_threads, add_voices, exit_code, log_warnings, positive, use_threads

if TYPE_CHECKING:
    from cloning.results import Cloning
    from narration.deliver import Delivery
    from voice_cloner import VoiceCloner

EXAMPLE = 'example: python demo_cli.py --reference samples/austen_0870.wav --text "Hello there." --output out/hello.wav'
LOUDEST = 60.0  # dB


def build_parser() -> argparse.ArgumentParser:
    """The arguments of this script."""
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nWithout --text or --text-file, text is read from standard input; a terminal asks.",
        epilog=f"{EXAMPLE}\nClone only voices whose owners agree: the README says what this must not be used for.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_voice(parser.add_argument_group("whose voice"))
    _add_text(parser.add_argument_group("what it says"))
    _add_speech(parser.add_argument_group("how it is said"))
    _add_results(parser.add_argument_group("what is written"))
    _add_models(parser.add_argument_group("weights and machine"))
    return parser


def _add_voice(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--reference",
        nargs="+",
        metavar="CLIP",
        help="one or more recordings of the voice, 1 s of speech at least (wav, flac, ogg, opus, mp3, m4a, webm, wma)",
    )
    group.add_argument("--voice", metavar="NAME", help="in place of --reference: a voice that make_voice.py has made")
    add_voices(group)


def _add_text(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--text", help='what to say; marks such as <break time="1s"/> are followed (docs/cloning.md)')
    group.add_argument(
        "--text-file",
        type=user_path,
        metavar="FILE",
        help="a UTF-8 file with what to say; a long one is made in parts, and goes on where it was stopped",
    )
    group.add_argument(
        "--script",
        type=user_path,
        metavar="FILE",
        help="lines such as '[ann] Hello.', '[ben|happy] Hello, Ann!', '[pause 0.8]'; kept lines are not made again",
    )
    group.add_argument(
        "--only", type=positive, metavar="N", help="with --script: make line N of the file anew, with --seed as its own"
    )
    group.add_argument(
        "--batch",
        type=user_path,
        metavar="FILE",
        help="CSV with a header, or JSON lines: text, and name, voice, reference, emotion, seed, rate, pause; "
        "finished files are kept",
    )
    group.add_argument("--lexicon", type=user_path, metavar="FILE", help="pronunciations: lines of 'word  PH PH PH'")
    group.add_argument("--show-text", action="store_true", help="print what will be spoken, a line a sentence")


def _add_speech(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--seed", type=int, help="same seed, same audio (default: a random one, which is printed)")
    group.add_argument("--rate", type=float, default=1.0, help="speed of speech (default 1; 1.2 is 20%% faster)")
    group.add_argument("--pitch", type=float, default=0.0, help="semitones higher, -12 to 12 (default 0)")
    group.add_argument(
        "--volume", type=float, default=0.0, metavar="DB", help="dB louder; what would clip is scaled down (default 0)"
    )
    group.add_argument("--pause", type=float, default=1.0, help="factor of the silences between sentences (default 1)")
    group.add_argument("--monotonic", action="store_true", help="hold a Tacotron's attention to the order of the text")
    group.add_argument("--emotion", help="such as happy; an unknown one is refused with the list")
    group.add_argument(
        "--emotion-reference", type=user_path, metavar="CLIP", help="a recording, of anybody, whose emotion is taken"
    )


def _add_results(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output",
        type=user_path,
        metavar="FILE",
        help=".wav, .flac, .ogg, .opus or .mp3 (default: out/clone.wav); of --batch a folder (default: out/batch)",
    )
    group.add_argument("--bits", choices=["16", "24", "float"], help="of a .wav, or of a .flac but float (default 16)")
    group.add_argument("--sample-rate", type=int, metavar="HZ", help="of the output (default: that of the vocoder)")
    group.add_argument("--plot", type=user_path, metavar="PNG", help="also draw the mel and the alignment")
    group.add_argument(
        "--json", type=user_path, metavar="FILE", help="also a report: seconds, similarity, seed, models"
    )
    group.add_argument(
        "--times",
        type=user_path,
        metavar="FILE",
        help="also write when each sentence, word and phone is said: .srt, .vtt (sentences; .vtt with a time for each "
        "word), .TextGrid, .json (all three), .rttm (sentences)",
    )
    group.add_argument(
        "--no-watermark",
        action="store_true",
        help="leave out the inaudible mark of cloned speech that 'evaluate.py watermark FILE' finds again",
    )
    group.add_argument("--quiet", action="store_true", help="print errors only")


def _add_models(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--models",
        default="default",
        metavar="DIR",
        help="folder of checkpoints, or its name in saved_models: 'default', ours; 'emotional_22k', with emotions, at "
        "22.05 kHz, for non-commercial use; 'published': the SV2TTS weights, fetched at first use",
    )
    for stage in ("encoder", "synthesizer", "vocoder"):
        also = {
            "synthesizer": ", or tacotron, or transformer or parallel, which know emotions,",
            "vocoder": ", or griffin-lim or wavernn, which are rougher, or hifigan, which is slower,",
        }
        what = f"checkpoint{also.get(stage, '')} in place of the folder's {stage} (ours or published)"
        group.add_argument(f"--{stage}", metavar="FILE", help=what)
    group.add_argument(
        "--allow-mismatch", action="store_true", help="go on with stages that were not trained for each other"
    )
    add_device(group)
    add_threads(group)


def main(argv: Sequence[str] | None = None) -> int:
    """Run this script; returns its exit code."""
    args = build_parser().parse_args(argv)
    log_warnings(args.quiet)
    logging.getLogger("utils.audio.io").setLevel(logging.ERROR)  # oddities of a reference are a clone's notes
    return exit_code(lambda: run(args))


def run(args: argparse.Namespace) -> int | None:
    """Do what the arguments ask. Raises CloningError for what the user can correct."""
    args.output = args.output or Path("out/batch" if args.batch else "out/clone.wav")
    _require_one_way(args)
    if args.voice is not None:
        from utils.library import Library

        args.reference = [str(Library(args.voices).path(args.voice))]
    if args.script or args.batch:
        return _narrate(args)
    text = _text(args)
    if text is not None and not text.strip():
        raise CloningError("the text is empty: give it a word to say")
    if not args.reference and text is not None and not args.show_text:
        raise CloningError(f"no --reference given: name a recording of the voice, or a --voice; {EXAMPLE}")
    if not args.show_text:
        _check(args)
    cloner = _load(args)
    if not args.show_text:
        from synthesizer.speech import SpeechOptions

        how = SpeechOptions(pitch=args.pitch, emotion=args.emotion, monotonic=args.monotonic)
        cloner.synthesizer.require_options(how)  # before a reference is read
    if args.show_text:
        sentences = list(cloner.synthesizer.sentences(text or ""))
        notes = dict.fromkeys(note for sentence in sentences for note in sentence.notes)
        print(*(sentence.text for sentence in sentences), *(f"note: {note}" for note in notes), sep="\n")
    elif text is None:
        _loop(cloner, args)
    elif len(text) > LONG and not _reports(args):
        from narration.deliver import speak_long

        speak_long(cloner, _delivery(args), text)
    else:
        _clone(cloner, args, args.reference, text)
    return None


def _require_one_way(args: argparse.Namespace) -> None:
    if args.reference and args.voice is not None:
        raise CloningError("--reference and --voice exclude each other: give one of them")
    given = {name: getattr(args, name) for name in ("text", "text_file", "script", "batch")}
    if len(both := [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]) > 1:
        raise CloningError(f"{' and '.join(both)} exclude each other: give one of them")
    if args.only is not None and not args.script:
        raise CloningError(f"--only {args.only}: a line of a --script, which is not given")
    if (args.script or args.batch) and (args.show_text or _reports(args)):
        raise CloningError("--plot, --json, --times and --show-text go with one text, not with --script or --batch")


def _reports(args: argparse.Namespace) -> list[Path]:
    return [path for path in (args.json, args.plot, args.times) if path]


def _narrate(args: argparse.Namespace) -> int:
    from narration import batch, deliver
    from utils.library import Library

    if args.script:
        lines = deliver.read_script(args.script, Library(args.voices), args.reference or [])
        _check(args)
        deliver.speak_script(_load(args), _delivery(args), lines, str(args.script), args.only)
        return 0
    if args.output.is_file():
        raise CloningError(f"--output {args.output} is a file: --batch wants a folder")
    rows, bad = batch.read_rows(args.batch)
    _check(args)
    failed = bad + deliver.speak_table(_load(args), _delivery(args), rows, args.batch.parent)
    for line in failed:
        print(f"error: {args.batch} {line}", file=sys.stderr)
    return 2 if failed else 0


def _delivery(args: argparse.Namespace) -> Delivery:
    from narration.deliver import Delivery
    from utils.library import Library

    tell = (lambda line: None) if args.quiet else (lambda line: print(line, flush=True))
    return Delivery(
        args.output, Library(args.voices), args.reference or [], args.seed, _speech_arguments(args),
        args.volume, args.bits, args.sample_rate, tell,
    )  # fmt: skip


def _speech_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of `VoiceCloner.clone` but for the seed."""
    from cloning.references import MAX_SECONDS
    from utils.audio import io as audio

    how = {name: getattr(args, name) for name in ("rate", "pause", "pitch", "monotonic", "emotion")}
    if args.emotion_reference:
        how["emotion_reference"] = audio.read(args.emotion_reference, sample_rate=None, max_seconds=MAX_SECONDS)
    return how


def _text(args: argparse.Namespace) -> str | None:
    """The text to say; None means: ask for it."""
    if args.text_file is not None:
        return read_text(args.text_file, f"--text-file {args.text_file}")
    if args.text is None and (args.reference or args.show_text) and not sys.stdin.isatty():
        return sys.stdin.read()
    return args.text


def _check(args: argparse.Namespace) -> None:
    """What can be known before any work: whether the results can be written, and over nothing that is read."""
    from utils import plots, times
    from utils.audio import io as audio
    from utils.files import require_apart, require_file, require_folder
    from utils.seeds import require_seed
    from utils.speech_bounds import require_one_emotion, require_speech_bounds

    require_seed(args.seed)
    require_speech_bounds(args.rate, args.pause, args.pitch)
    require_one_emotion(args.emotion, args.emotion_reference)
    if not abs(args.volume) <= LOUDEST:
        raise CloningError(f"--volume {args.volume:g}: give -{LOUDEST:g} to {LOUDEST:g} dB")
    if not args.batch:
        audio.require_format(args.output, args.bits, args.sample_rate)
    if args.plot:
        plots.require_suffix(args.plot)
    if args.times:
        times.require_suffix(args.times)
    for name in ("output", "json", "plot", "times"):
        if path := getattr(args, name):
            require_folder(path if args.batch else path.parent, f"--{name}")
    for clip in [*(args.reference or []), *([args.emotion_reference] if args.emotion_reference else [])]:
        require_file(clip)
    read = [*(args.reference or []), args.text_file, args.emotion_reference, args.lexicon]
    read += [args.encoder, args.synthesizer, args.vocoder, args.script, args.batch]
    require_apart(filter(None, read), [*_reports(args), *([] if args.batch else [args.output])])


def _load(args: argparse.Namespace) -> VoiceCloner:
    from utils.weights.find import DEFAULT_MODELS, models_folder
    from voice_cloner import VoiceCloner

    use_threads(args.threads)
    folder = DEFAULT_MODELS.parent / "published" if args.models == "published" else models_folder(args.models)
    if args.models == "published" and not (args.encoder and args.synthesizer and args.vocoder):
        from utils.weights.published import ensure_published

        ensure_published(folder)
    try:
        return VoiceCloner.load(
            folder,
            encoder=args.encoder,
            synthesizer=args.synthesizer,
            vocoder=args.vocoder,
            lexicon=args.lexicon,
            device=args.device,
            allow_mismatch=args.allow_mismatch,
            watermark=not args.no_watermark,
        )
    except MismatchError as error:
        raise CloningError(f"{error} (here: --allow-mismatch)") from error


def _clone(
    cloner: VoiceCloner, args: argparse.Namespace, reference: list[str], text: str, number: int | None = None
) -> None:
    """`number`: of this clone among several, in the names of its files."""
    from utils.audio import io as audio
    from utils.files import write_text

    output = _numbered(args.output, number)
    report_to, plot_to, times_to = (path and _numbered(path, number) for path in (args.json, args.plot, args.times))
    tell = None if args.quiet else (lambda stage: print(f"{stage} ...", end=" ", flush=True))
    try:
        cloning = cloner.clone(reference, text, seed=args.seed, progress=tell, **_speech_arguments(args))
    finally:
        if tell:
            print(flush=True)
    sound = audio.amplified(cloning.audio, args.volume)
    audio.write(output, sound, metadata=cloning.tags(), bits=args.bits, sample_rate=args.sample_rate)
    if not args.quiet:
        _tell(cloning, output)
    if report_to:
        report = {**cloning.report(), "reference": reference, "output": str(output)}
        write_text(report_to, json.dumps(report, indent=2) + "\n")
    if times_to:
        cloning.times.save(times_to)
    if plot_to:
        _draw(cloner, cloning, plot_to, output)


def _tell(cloning: Cloning, output: Path) -> None:
    stages = ", ".join(f"{name} {value:.2f} s" for name, value in cloning.seconds.items())
    print(f"{output}: {cloning.audio.seconds:.2f} s of speech in {sum(cloning.seconds.values()):.2f} s ({stages})")
    factor, similarity = f"{cloning.real_time_factor:.3f}", f"{cloning.similarity:.3f}"
    print(f"real-time factor {factor}, similarity to the reference {similarity}, seed {cloning.seed}")
    for note in cloning.notes:
        print(f"note: {note}")


def _draw(cloner: VoiceCloner, cloning: Cloning, path: Path, output: Path) -> None:
    from utils import plots

    text = " ".join(piece.text for piece in cloning.pieces)
    hop = cloner.synthesizer.mel.hop_length / cloner.synthesizer.mel.sample_rate
    try:
        plots.save(plots.plot_cloning(cloning.mel, [piece.alignment for piece in cloning.pieces], text, hop), path)
    except (ValueError, RuntimeError) as error:  # what matplotlib has against sizes, formats and letters
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise CloningError(f"{path} could not be drawn ({why}); the speech is in {output}") from error


def _numbered(path: Path, number: int | None) -> Path:
    return path if number is None else path.with_name(f"{path.stem}_{number:03d}{path.suffix}")


def _loop(cloner: VoiceCloner, args: argparse.Namespace) -> None:
    """Ask for clips and sentences until the input ends; an error is told and asked again.

    Results are numbered, after those that are there already.
    """
    print(f"A clip, then a sentence; an empty line ends. Results go to {args.output.parent}.")
    reference, count = args.reference, 0
    while True:
        try:
            if reference is None:
                path = input("recording of the voice: ").strip().strip('"')
                if not path:
                    return
                cloner.embed_reference(path)
                reference = [path]
            text = input("text to say: ").strip()
        except EOFError:
            print()
            return
        except CloningError as error:
            print(f"error: {error}")
            continue
        if not text:
            return
        try:
            while any(_numbered(path, count).exists() for path in [args.output, *_reports(args)]):
                count += 1
            _clone(cloner, args, reference, text, count)
        except CloningError as error:
            print(f"error: {error}")


if __name__ == "__main__":
    sys.exit(main())
