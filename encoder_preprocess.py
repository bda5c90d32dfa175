"""Turn corpora of speech into features for encoder_train.py: silence cut out, volume evened, a teacher's embeddings."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase

from encoder.names import KIND, perturbations_of
from encoder.preprocess import Preprocessor, write_noise, write_rooms
from utils.data import preprocess as preprocessing
from utils.data import selection
from utils.data.manifest import Manifest
from utils.errors import CloningError
from utils.files import user_path
from utils.scripts import add_device, exit_code, non_negative, positive_number, speed_factor

EPILOG = """
examples:
  python encoder_preprocess.py corpora/LibriSpeech corpora/VCTK --out data/encoder --jobs 4
  python encoder_preprocess.py corpora --out data/encoder --teacher encoder.pt --noise corpora/esc10

Layouts of known corpora and any speaker/**/*.wav folder are recognized. A second run does only what is missing.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    selection.add_arguments(parser)
    parser.add_argument(
        "--teacher",
        type=user_path,
        metavar="CHECKPOINT",
        help="an encoder (ours or the published encoder.pt) whose embeddings training may imitate",
    )
    parser.add_argument(
        "--speeds",
        type=speed_factor,
        nargs="+",
        default=[],
        metavar="FACTOR",
        help="let the teacher hear every clip at these speeds too, such as 0.85 1.15: more voices to imitate",
    )
    parser.add_argument(
        "--formants",
        type=speed_factor,
        nargs="+",
        default=[],
        metavar="FACTOR",
        help="the same with the formants moved, pitch and pace kept, such as 0.88 1.14",
    )
    add_device(parser)
    parser.add_argument(
        "--noise",
        type=user_path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders of recorded noise for augmentation",
    )
    parser.add_argument(
        "--rooms",
        type=non_negative,
        default=0,
        metavar="N",
        help="simulate so many rooms for augmentation (100 are plenty; needs pyroomacoustics)",
    )
    parser.add_argument(
        "--min-seconds",
        type=positive_number,
        default=0.8,
        help="leave out clips with less voice than this (default 0.8)",
    )
    parser.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        metavar="SPEAKER",
        help="speakers to leave out altogether; * and ? are wildcards, such as 'ravdess-*'",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """What the script does. Raises CloningError."""
    for name, factors in (("--speeds", args.speeds), ("--formants", args.formants)):
        if factors and args.teacher is None:
            raise CloningError(f"{name} is for the teacher's embeddings: give --teacher CHECKPOINT too")
    if args.teacher is not None:
        from utils.device import pick_device  # torch is loaded for a teacher only: it takes a second
        from utils.weights.checkpoint import load_weights

        args.device = pick_device(args.device)
        load_weights(args.teacher, KIND)  # what is wrong with it is said before the long work
    preprocessor = Preprocessor(args.min_seconds)
    chosen = selection.select(
        args, lambda clip: not any(fnmatchcase(clip.speaker, p) for p in args.exclude), held_out=2
    )
    print(chosen.report())
    header = preprocessor.header()
    if args.noise:
        header["noise"] = write_noise(args.noise, args.out)
    if args.rooms:
        header["rooms"] = write_rooms(args.rooms, args.out)
    manifest = preprocessing.run(
        chosen.clips,
        args.out,
        KIND,
        preprocessor,
        assign_split=chosen.splits,
        header=header,
        work=selection.work_of(args),
    )
    if args.teacher is not None:
        _embed_with_teacher(args, manifest)
    print(preprocessing.report(manifest))


def _embed_with_teacher(args: argparse.Namespace, manifest: Manifest) -> None:
    from encoder.teach import embed_with_teacher

    embed_with_teacher(manifest, args.teacher, perturbations_of(tuple(args.speeds), tuple(args.formants)), args.device)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
