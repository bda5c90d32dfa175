"""Turn corpora of speech into features for encoder_train.py: silence cut out, volume evened, a teacher's embeddings."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from encoder.names import KIND
from encoder.preprocess import EncoderItem, write_noise, write_rooms
from utils import preprocessing
from utils.errors import CloningError, exit_code

EPILOG = """
examples:
  python encoder_preprocess.py corpora/LibriSpeech corpora/VCTK --out data/encoder --jobs 4
  python encoder_preprocess.py corpora --out data/encoder --teacher encoder.pt --noise corpora/esc10

Layouts of known corpora and any speaker/**/*.wav folder are recognised. A second run does only what is missing.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    preprocessing.add_arguments(parser)
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="CHECKPOINT",
        help="an encoder (ours or the published encoder.pt) whose embeddings training may imitate",
    )
    parser.add_argument(
        "--speeds",
        type=float,
        nargs="+",
        default=[],
        metavar="FACTOR",
        help="let the teacher hear every clip at these speeds too, such as 0.85 1.15: more voices to imitate",
    )
    parser.add_argument(
        "--noise", type=Path, nargs="+", default=[], metavar="DIR", help="folders of recorded noise for augmentation"
    )
    parser.add_argument(
        "--rooms",
        type=int,
        default=0,
        metavar="N",
        help="simulate so many rooms for augmentation (100 are plenty; needs pyroomacoustics)",
    )
    parser.add_argument(
        "--min-seconds", type=float, default=0.8, help="leave out clips with less voice than this (default 0.8)"
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
    if args.speeds and args.teacher is None:
        raise CloningError("--speeds is for the teacher's embeddings: give --teacher CHECKPOINT too")
    if any(not 0.5 <= speed <= 2 or speed == 1 for speed in args.speeds):
        raise CloningError(f"--speeds {' '.join(f'{s:g}' for s in args.speeds)}: factors lie in 0.5 .. 2 and are not 1")
    item = EncoderItem(args.min_seconds, args.teacher, tuple(args.speeds))
    selection = preprocessing.select(args, lambda clip: not any(fnmatchcase(clip.speaker, p) for p in args.exclude))
    print(selection.scan.report())
    header = item.header()
    if args.noise:
        header["noise"] = write_noise(args.noise, args.out)
    if args.rooms:
        header["rooms"] = write_rooms(args.rooms, args.out)
    manifest = preprocessing.run(
        selection.clips,
        args.out,
        KIND,
        item,
        jobs=args.jobs,
        scheduler=args.scheduler,
        assign_split=selection.splits,
        header=header,
        retry_skipped=args.retry_skipped,
    )
    print(preprocessing.report(manifest))


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
