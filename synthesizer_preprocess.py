"""Make a set for synthesizer_train.py from transcribed corpora: tokens, mels, pitch, speaker embeddings, durations."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from encoder.inference import SpeakerEncoder
from synthesizer.data.preprocess import (
    KIND,
    VOICES,
    Preprocessor,
    VoicePreprocessor,
    at_other_speeds,
    outliers,
    speaker_levels,
    write_speaker_means,
)
from utils.audio.io import Waveform
from utils.audio.mel import SYNTHESIZER_MELS
from utils.data import preprocess as preprocessing
from utils.data import selection
from utils.data.corpora import Clip, read_texts, text_of, with_texts
from utils.files import user_path
from utils.scripts import exit_code, positive_number, speed_factor


@dataclasses.dataclass
class Embedder:
    """Samples to an embedding; the encoder is loaded once in each process."""

    path: Path
    _encoder: SpeakerEncoder | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def encoder(self) -> SpeakerEncoder:
        """The encoder of this process."""
        self._encoder = self._encoder or SpeakerEncoder.load(self.path)
        return self._encoder

    def __call__(self, samples: np.ndarray, rate: int) -> np.ndarray:
        return self.encoder.embed_utterance(self.encoder.preprocess(Waveform(samples, rate)))

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_encoder": None}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="A second run does only what is missing. Clips without a transcript, too short or long, or that cannot "
        "be read are left out, counted and listed; outliers.jsonl lists transcripts that hardly fit their sound.",
    )
    selection.add_arguments(parser)
    parser.add_argument(
        "--encoder", type=user_path, required=True, help="weights of a speaker encoder, ours or published"
    )
    parser.add_argument(
        "--alignments",
        type=user_path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="phone times (.jsonl or .jsonl.gz): gives durations, which the parallel model needs, and cuts long pauses",
    )
    parser.add_argument(
        "--align",
        action="store_true",
        help="make the phone times here, into OUT/alignments.jsonl.gz (English; needs requirements/align.txt)",
    )
    parser.add_argument(
        "--texts",
        type=user_path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="texts to take in place of the corpus's, such as with their punctuation: lines of an id, a tab, the text",
    )
    parser.add_argument(
        "--symbols", default="phonemes", choices=["phonemes", "characters"],
        help="what the model reads (default: phonemes; characters are those of the published checkpoints)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-audio",
        action="store_true",
        help="store the waveforms too, so that vocoder_preprocess.py --synthesizer can use the set",
    )
    parser.add_argument(
        "--mel",
        default="16k",
        choices=sorted(SYNTHESIZER_MELS),
        help="sample rate and mel: 22k has a hop of 512 samples",
    )
    parser.add_argument(
        "--speeds", type=speed_factor, nargs="+", default=(), metavar="FACTOR",
        help="learn every clip of the training speakers once more at one of these speeds, such as 0.92 1.1 1.2, as "
        "somebody else's: more voices, where speakers are few",
    )  # fmt: skip
    parser.add_argument(
        "--voices",
        action="store_true",
        help="make a set of voices without words; a sharpened training speaks with them (data.untranscribed_set)",
    )
    parser.add_argument("--max-seconds", type=positive_number, default=20.0, help="of the longest kept (default: 20)")
    return parser


def alignments(args: argparse.Namespace, clips: Sequence[Clip]) -> tuple[Path, ...]:
    """The files of phone times; with --align, made here."""
    if not args.align:
        return tuple(args.alignments)
    from synthesizer.data.forced_aligner import align_clips

    path = args.out / "alignments.jsonl.gz"
    failed = align_clips(clips, path, jobs=args.jobs)
    print(f"{len(clips) - failed} clips are aligned, {failed} cannot be: {path}")
    return (*args.alignments, path)


def make_voices(args: argparse.Namespace, embedder: Embedder) -> int:
    """A set of voices (`synthesizer.data.store.Voices`) from all clips, whether they have a transcript or not."""
    chosen = selection.select(args)
    process = VoicePreprocessor(embedder, max_seconds=args.max_seconds, config=SYNTHESIZER_MELS[args.mel])
    found = preprocessing.run(
        chosen.clips, args.out, VOICES, process, assign_split=chosen.splits, left_out=chosen.left_out,
        header=process.header() | {"encoder": embedder.encoder.fingerprint}, work=selection.work_of(args),
    )  # fmt: skip
    print(chosen.report())
    print(preprocessing.report(found))
    return 0


def run(args: argparse.Namespace) -> int:
    """Make a set, or what is missing of it."""
    embedder = Embedder(args.encoder)
    fingerprint = embedder.encoder.fingerprint  # a wrong file ends it here, before anything is read or aligned
    if args.voices:
        return make_voices(args, embedder)
    texts = {id: text for path in args.texts for id, text in read_texts(path).items()}
    chosen = selection.select(args, transcript=lambda clip: text_of(clip, texts))
    if texts:
        chosen = chosen._replace(clips=with_texts(chosen.clips, texts))
    files = alignments(args, chosen.clips)
    symbols = "phonemes" if files else args.symbols
    process = Preprocessor(
        embedder, symbols, files, max_seconds=args.max_seconds, keep_audio=args.keep_audio,
        config=SYNTHESIZER_MELS[args.mel],
    )  # fmt: skip
    header = process.header() | {"encoder": fingerprint}
    if texts:  # sets that were made without still go on
        header["texts"] = hashlib.sha256("".join(sorted(map(str, texts.items()))).encode()).hexdigest()[:16]
    process.levels = speaker_levels(chosen.clips, process.config.sample_rate)
    clips, splits = chosen.clips, chosen.splits
    if args.speeds:
        others = at_other_speeds([clip for clip in clips if splits[clip.speaker] == "train"], args.speeds)
        splits.update((clip.speaker, "train") for clip in others)
        clips = [*clips, *others]
    found = preprocessing.run(
        clips, args.out, KIND, process, assign_split=splits, header=header, left_out=chosen.left_out,
        work=selection.work_of(args),
    )  # fmt: skip
    write_speaker_means(found)
    odd = outliers(found)
    print(chosen.report())
    print(preprocessing.report(found))
    if odd:
        print(f"{len(odd)} transcripts hardly fit their sound: see {found.root / 'outliers.jsonl'}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run this script; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
