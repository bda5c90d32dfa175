"""Turn corpora of speech into what vocoder_train.py learns from: waveforms at the synthesizer's rate and level."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from utils.audio.mel import SYNTHESIZER_MELS
from utils.data import preprocess as preprocessing
from utils.data import selection
from utils.data.corpora import Clip
from utils.errors import CloningError
from utils.files import user_path
from utils.scripts import exit_code
from vocoder.preprocess import KIND, Preprocessor

if TYPE_CHECKING:
    from synthesizer.teacher_forcing import TeacherForcing

EPILOG = """
examples:
  python vocoder_preprocess.py corpora/LibriSpeech corpora/LJSpeech-1.1 --out data/vocoder --jobs 4
  python vocoder_preprocess.py data/synthesizer --synthesizer runs/parallel/best.safetensors --out data/forced

Layouts of known corpora and any speaker/**/*.wav folder are recognized; no transcripts are needed. Mels are not stored:
training computes them from the waveforms. A second run does only what is missing.

With --synthesizer a vocoder can learn to mend what that synthesizer does wrong. In place of corpora it takes the set
that the synthesizer was trained on, made by synthesizer_preprocess.py --keep-audio, and keeps its splits; then
  python vocoder_train.py data/forced --out runs/tuned --set data.teacher_forced=true \\
    --from runs/vocoder/best.safetensors
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    selection.add_arguments(parser)
    parser.add_argument(
        "--synthesizer", type=user_path, metavar="CHECKPOINT",
        help="store what this synthesizer predicts, teacher-forced by the recordings of its own set (given as CORPUS)",
    )  # fmt: skip
    parser.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        metavar="SPEAKER",
        help="speakers to leave out altogether; * and ? are wildcards, such as 'ravdess-*'",
    )
    parser.add_argument(
        "--mel", default="16k", choices=sorted(SYNTHESIZER_MELS),
        help="sample rate of the waveforms: 22k is 22.05 kHz, as the presets hifigan_22k and source_filter_22k want",
    )  # fmt: skip
    return parser


def run(args: argparse.Namespace) -> None:
    """What the script does. Raises CloningError."""

    def keep(clip: Clip) -> bool:
        return not any(fnmatchcase(clip.speaker, pattern) for pattern in args.exclude)

    if args.synthesizer:
        teacher = teacher_of(args)
        clips, splits = [clip for clip in teacher.clips if keep(clip)][: args.limit], teacher.split
        preprocessor = Preprocessor(config=teacher.synthesizer.mel, teacher_forced=teacher)
        header = preprocessor.header() | {"synthesizer": teacher.synthesizer.fingerprint}
    else:
        chosen = selection.select(args, keep)
        print(chosen.report())
        preprocessor, clips, splits = Preprocessor(SYNTHESIZER_MELS[args.mel]), chosen.clips, chosen.splits
        header = preprocessor.header()
    work = selection.work_of(args)
    manifest = preprocessing.run(clips, args.out, KIND, preprocessor, assign_split=splits, header=header, work=work)
    print(preprocessing.report(manifest))


def teacher_of(args: argparse.Namespace) -> TeacherForcing:
    """The set and the synthesizer, found to fit."""
    if len(args.corpora) != 1:
        raise CloningError(f"--synthesizer takes one set of synthesizer_preprocess.py, got {len(args.corpora)} folders")
    from synthesizer.teacher_forcing import TeacherForcing  # here, since every worker imports this script

    teacher = TeacherForcing(args.corpora[0].absolute(), args.synthesizer.absolute())
    teacher.check()
    return teacher


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
