"""Clone a voice from the command line: a recording and a text in, that text in that voice out."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.errors import CloningError, exit_code

EXAMPLE = 'example: python demo_cli.py --reference samples/austen_0870.wav --text "Hello there." --output out/hello.wav'


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nWithout --text or --text-file, text is read from standard input; a terminal asks.",
        epilog=f"{EXAMPLE}\nClone only voices whose owners agree: the README says what this must not be used for.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--reference",
        nargs="+",
        metavar="CLIP",
        help="one or more recordings of the voice, 1 s of speech at least (wav, flac, ogg, opus, mp3, m4a, webm, wma)",
    )
    parser.add_argument("--text", help="what to say")
    parser.add_argument("--text-file", type=Path, metavar="FILE", help="a UTF-8 file with what to say")
    parser.add_argument(
        "--output", type=Path, default=Path("out/clone.wav"), metavar="WAV", help="default: %(default)s"
    )
    parser.add_argument(
        "--models",
        default="default",
        metavar="DIR",
        help="folder of checkpoints; 'default': ours; 'published': the SV2TTS weights, fetched at first use",
    )
    for stage in ("encoder", "synthesizer", "vocoder"):
        also = {
            "synthesizer": ", or tacotron, or transformer or parallel, which know emotions,",
            "vocoder": ", or griffin-lim, or wavernn or hifigan, which are undertrained,",
        }
        what = f"checkpoint{also.get(stage, '')} in place of the folder's {stage} (ours or published)"
        parser.add_argument(f"--{stage}", metavar="FILE", help=what)
    parser.add_argument(
        "--allow-mismatch", action="store_true", help="go on with stages that were not trained for each other"
    )
    parser.add_argument("--seed", type=int, help="same seed, same audio (default: a random one, which is printed)")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of speech (default 1; 1.2 is 20%% faster)")
    parser.add_argument("--pause", type=float, default=1.0, help="factor of the silences between sentences (default 1)")
    parser.add_argument(
        "--monotonic", action="store_true", help="Tacotron: hold the attention to the text's order, should it skip"
    )
    parser.add_argument("--emotion", help="such as happy; an unknown one is refused with the list")
    parser.add_argument(
        "--emotion-reference", type=Path, metavar="CLIP", help="a recording, of anybody, whose emotion is taken"
    )
    parser.add_argument(
        "--lexicon", type=Path, metavar="FILE", help="pronunciations of your own: lines of 'word  PH PH PH'"
    )
    parser.add_argument(
        "--no-watermark",
        action="store_true",
        help="leave out the inaudible mark of cloned speech that 'evaluate.py watermark FILE' finds again",
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="also draw the mel and the alignment")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write a report: timings, similarity, seed, models"
    )
    parser.add_argument(
        "--show-text", action="store_true", help="print what will be spoken, a line a sentence, and stop"
    )
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.ERROR if args.quiet else logging.WARNING, format="%(levelname)s: %(message)s")
    return exit_code(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    text = _text(args)
    if args.reference is None and text is not None and not args.show_text:
        raise CloningError(f"no --reference given: name a recording of the voice; {EXAMPLE}")
    cloner = _load(args)
    if args.show_text:
        sentences = list(cloner.synthesizer.sentences(text or ""))
        notes = dict.fromkeys(note for sentence in sentences for note in sentence.notes)
        print(*(sentence.text for sentence in sentences), *(f"note: {note}" for note in notes), sep="\n")
    elif text is not None:
        _clone(cloner, args, args.reference, text, args.output)
    else:
        _loop(cloner, args)


def _text(args: argparse.Namespace) -> str | None:
    """The text to say; None means: ask for it."""
    if args.text is not None and args.text_file is not None:
        raise CloningError("--text and --text-file exclude each other: give one of them")
    if args.text_file is not None:
        try:
            return args.text_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CloningError(f"{args.text_file}: cannot be read as UTF-8 text: {error}") from error
    if args.text is None and (args.reference or args.show_text) and not sys.stdin.isatty():
        return sys.stdin.read()
    return args.text


def _load(args: argparse.Namespace):
    import torch

    from voice_cloner import DEFAULT_MODELS, VoiceCloner

    if args.threads:
        torch.set_num_threads(args.threads)
    folder = {"default": DEFAULT_MODELS, "published": DEFAULT_MODELS.parent / "published"}.get(
        args.models, Path(args.models)
    )
    if args.models == "published" and not (args.encoder and args.synthesizer and args.vocoder):
        from utils.published import ensure_published

        ensure_published(folder)
    cloner = VoiceCloner.load(
        folder,
        encoder=args.encoder,
        synthesizer=args.synthesizer,
        vocoder=args.vocoder,
        lexicon=args.lexicon,
        device=args.device,
        allow_mismatch=args.allow_mismatch,
        watermark=not args.no_watermark,
    )
    cloner.synthesizer.monotonic = args.monotonic
    return cloner


def _clone(cloner, args: argparse.Namespace, reference: list[str], text: str, output: Path) -> None:
    from utils import audio
    from utils.files import write_text

    tell = None if args.quiet else (lambda stage: print(f"{stage} ...", end=" ", flush=True))
    try:
        cloning = cloner.clone(
            reference, text, seed=args.seed, rate=args.rate, pause=args.pause,
            emotion=args.emotion, emotion_reference=args.emotion_reference, progress=tell,
        )  # fmt: skip
    finally:
        if tell:
            print(flush=True)
    report = cloning.report()
    audio.write(output, cloning.audio, metadata=cloning.tags())
    if args.json:
        write_text(args.json, json.dumps({**report, "reference": reference, "output": str(output)}, indent=2) + "\n")
    if args.plot:
        from utils import plots

        text_read = " ".join(piece.text for piece in cloning.pieces)
        hop = cloner.synthesizer.mel.hop_length / cloner.synthesizer.mel.sample_rate
        plots.save(plots.plot_cloning(cloning.mel, [p.alignment for p in cloning.pieces], text_read, hop), args.plot)
    if args.quiet:
        return
    stages = ", ".join(f"{name} {value:.2f} s" for name, value in cloning.seconds.items())
    print(f"{output}: {cloning.audio.seconds:.2f} s of speech in {sum(cloning.seconds.values()):.2f} s ({stages})")
    factor, similarity = f"{cloning.real_time_factor:.3f}", f"{cloning.similarity:.3f}"
    print(f"real-time factor {factor}, similarity to the reference {similarity}, seed {cloning.seed}")
    for note in cloning.notes:
        print(f"note: {note}")


def _loop(cloner, args: argparse.Namespace) -> None:
    """Ask for clips and sentences until the input ends; an error is told and asked again."""
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
            output = args.output.with_name(f"{args.output.stem}_{count:03d}{args.output.suffix}")
            _clone(cloner, args, reference, text, output)
            count += 1
        except CloningError as error:
            print(f"error: {error}")


if __name__ == "__main__":
    sys.exit(main())
