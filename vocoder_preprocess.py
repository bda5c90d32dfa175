"""Turn corpora of speech into what vocoder_train.py learns from: waveforms at the synthesizer's rate and level."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase

from utils import preprocessing
from utils.errors import exit_code
from vocoder.preprocess import KIND, Processor

EPILOG = """
examples:
  python vocoder_preprocess.py corpora/LibriSpeech corpora/LJSpeech-1.1 --out data/vocoder --jobs 4

Layouts of known corpora and any speaker/**/*.wav folder are recognised; no transcripts are needed. Mels are not stored:
training computes them from the waveforms. A second run does only what is missing.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    preprocessing.add_arguments(parser)
    parser.add_argument(
        "--exclude", nargs="+", default=[], metavar="SPEAKER",
        help="speakers to leave out altogether; * and ? are wildcards, such as 'ravdess-*'",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    processor = Processor()
    selection = preprocessing.select(args, lambda clip: not any(fnmatchcase(clip.speaker, p) for p in args.exclude))
    print(selection.scan.report())
    manifest = preprocessing.run(
        selection.clips,
        args.out,
        KIND,
        processor,
        jobs=args.jobs,
        scheduler=args.scheduler,
        assign_split=selection.splits,
        header=processor.header(),
        retry_skipped=args.retry_skipped,
    )
    print(preprocessing.report(manifest))


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
