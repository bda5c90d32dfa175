"""How far are the times of cloned words from those that a forced aligner finds in the audio?

    python benchmarks/times.py [--synthesizer FILE] [--sentences 43]

The bundled voices say the sentences of the frozen list in turn; pocketsphinx (requirements/align.txt) aligns what they
say. It measures in steps of 10 ms, and errs itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import utils  # isort: skip # noqa: E402, F401 (before torch: how its threads wait)
import numpy as np  # noqa: E402

from evaluation.lists.sentences import sentences  # noqa: E402
from synthesizer.data.forced_aligner import RATE, Aligner  # noqa: E402
from utils.audio.io import resample  # noqa: E402
from utils.scripts import exit_code  # noqa: E402
from voice_cloner import VoiceCloner  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthesizer", help="as of demo_cli.py")
    parser.add_argument("--sentences", type=int, default=43, help="how many, of 43")
    args = parser.parse_args(argv)
    return exit_code(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Print the share of words that begin within 20, 40 and 80 ms of where the aligner has them."""
    found = sentences()
    texts = [item["text"] for part in ("common", "read") for item in found[part]][: args.sentences]
    cloner, aligner = VoiceCloner.load(synthesizer=args.synthesizer), Aligner()
    clips = sorted((ROOT / "samples").glob("austen_*.wav"))
    differences: list[float] = []
    for index, text in enumerate(texts):
        cloning = cloner.clone(clips[index % len(clips)], text, seed=index)
        samples = resample(cloning.audio.samples, cloning.audio.sample_rate, RATE)
        row = aligner(samples, " ".join(piece.text for piece in cloning.pieces))
        aligned = [start / 100 for word, start, _ in row["words"] if word]
        differences += [word.start - start for word, start in zip(cloning.times.words, aligned, strict=True)]
    apart = np.array(differences)
    shares = ", ".join(f"{np.mean(np.abs(apart) <= ms / 1000):.1%} within {ms} ms" for ms in (20, 40, 80))
    print(f"{len(texts)} texts, {len(apart)} words: {shares}; median {np.median(apart) * 1000:+.1f} ms")


if __name__ == "__main__":
    sys.exit(main())
