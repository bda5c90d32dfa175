"""Which clips of which corpora a preprocess script takes, and which speakers are held out."""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from utils.config import CONFIGS
from utils.data.corpora import Clip, Scan, scan
from utils.data.corpora.scanning import LEADS_OUT
from utils.data.manifest import Skipped
from utils.data.preprocess import Work
from utils.errors import CloningError
from utils.files import user_path
from utils.scripts import fraction, non_negative, positive

SET_ASIDE = CONFIGS.parent / "evaluation" / "lists" / "set_aside.txt"


class Splits(dict[str, str]):
    """Speaker -> split; also a callable, and it answers for speakers that it was not made with."""

    def __init__(self, validation: float, seed: int, set_aside: Iterable[str]) -> None:
        super().__init__()
        patterns = set(set_aside)
        self._wildcards = sorted(p for p in patterns if any(c in p for c in "*?["))
        self._names = patterns.difference(self._wildcards)
        self._validation = validation
        self._seed = seed

    def __missing__(self, speaker: str) -> str:
        if speaker in self._names or any(fnmatch.fnmatchcase(speaker, p) for p in self._wildcards):
            return "test"
        return "validation" if self.place(speaker) < self._validation else "train"

    def __call__(self, speaker: str) -> str:
        return self[speaker]

    def place(self, speaker: str) -> float:
        """A number in [0, 1) that depends on the seed and the speaker only, not on who else is there."""
        digest = hashlib.sha256(f"{self._seed}/{speaker}".encode()).digest()
        return int.from_bytes(digest[:7], "big") / 2**56


def splitter(
    speakers: Iterable[str], validation: float, seed: int, set_aside: Iterable[str] = (), held_out: int = 1
) -> Splits:
    """Assign whole speakers: those named by `set_aside` (wildcards allowed) to "test", about `validation` of the rest
    to "validation", the others to "train".

    A speaker stays where it is when others are added. The one exception: where the fraction of few speakers comes to
    fewer than `held_out`, or leaves fewer than that, those next in line move over, so far as there are enough for both.
    A lone speaker is "train".
    """
    if not 0 <= validation < 1:
        raise CloningError(f"validation is {validation}; it is a fraction of the speakers, from 0 to under 1")
    splits = Splits(validation, seed, set_aside)
    splits.update((speaker, splits[speaker]) for speaker in sorted(set(speakers)))
    line = sorted((speaker for speaker, split in splits.items() if split != "test"), key=splits.place)
    count = sum(splits[speaker] == "validation" for speaker in line)
    least = min(held_out, len(line) // 2) if validation > 0 else 0
    wanted = min(max(count, least), len(line) - max(least, 1)) if line else 0
    for place, speaker in enumerate(line):
        splits[speaker] = "validation" if place < wanted else "train"
    return splits


def read_set_aside(path: str | Path) -> list[str]:
    """Names and wildcards of speakers, one a line; "#" starts a comment."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CloningError(f"{path}: cannot read the list of speakers set aside: {error.strerror}") from error
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that all preprocess scripts share; `select` reads them."""
    parser.add_argument(
        "corpora", nargs="+", type=user_path, metavar="CORPUS", help="a corpus, or a folder with several"
    )
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR", help="where the set goes, or goes on")
    parser.add_argument(
        "--jobs", type=positive, default=os.cpu_count() or 1, metavar="N", help="processes (default: cores)"
    )
    parser.add_argument("--scheduler", metavar="URL", help="run on a Dask cluster, such as tcp://host:8786")
    about = "speakers that become the split 'test', one a line (default: evaluation/lists/set_aside.txt)"
    parser.add_argument("--set-aside", type=user_path, default=SET_ASIDE, metavar="FILE", help=about)
    about = "part of the other speakers held out for validation (default: 0.05)"
    parser.add_argument("--validation", type=fraction, default=0.05, metavar="FRACTION", help=about)
    parser.add_argument(
        "--seed", type=non_negative, default=0, help="of the choice of validation speakers (default: 0)"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N clips, for a trial")
    about = "read what links in a corpus lead to elsewhere, too: recordings and texts (without it they are listed)"
    parser.add_argument("--follow-links", action="store_true", help=about)
    parser.add_argument("--retry-skipped", action="store_true", help="try again what an earlier run left out")


def work_of(args: argparse.Namespace) -> Work:
    """How the flags want a set made."""
    return Work(args.jobs, args.scheduler, retry_skipped=args.retry_skipped)


class Selection(NamedTuple):
    """What a preprocessing will read, and what it leaves out."""

    scan: Scan
    clips: list[Clip]
    splits: Splits
    left_out: list[Skipped]

    def report(self) -> str:
        """That of the scan, with the flag by which links are followed."""
        return self.scan.report().replace(LEADS_OUT, f"{LEADS_OUT} (here: --follow-links)")


def select(
    args: argparse.Namespace,
    keep: Callable[[Clip], bool] = lambda clip: True,
    *,
    transcript: Callable[[Clip], str | None] | None = None,
    held_out: int = 1,
) -> Selection:
    """Scan what the flags name: the clips that `keep` accepts, at most `--limit`, and the splits of all speakers.

    `transcript` tells a clip's text, where one is needed: those without are left out, and listed. `held_out`: the
    fewest speakers for validation.
    """
    patterns = read_set_aside(args.set_aside)
    found = scan(*args.corpora, follow_links=args.follow_links)
    chosen = [clip for clip in found.clips if keep(clip)]
    silent = {clip.id for clip in chosen if transcript is not None and not transcript(clip)}
    clips = [clip for clip in chosen if clip.id not in silent][: args.limit]
    if not clips:
        places = ", ".join(str(place) for place in args.corpora)
        if silent:
            raise CloningError(
                f"{places}: none of the {len(chosen)} clips has a transcript: put its text beside each, 001.txt beside "
                "001.wav, or a metadata.csv with lines such as 001|Hello there."
            )
        raise CloningError(f"{places}: none of the {len(found.clips)} clips is to be used: see --exclude and --limit")
    left_out = [clip for clip in chosen if clip.id in silent and (not args.limit or clip.id < clips[-1].id)]
    splits = splitter((clip.speaker for clip in clips), args.validation, args.seed, patterns, held_out)
    return Selection(found, clips, splits, [_no_transcript(clip) for clip in left_out])


def _no_transcript(clip: Clip) -> Skipped:
    return Skipped(clip.id, str(clip.path), "no transcript", f"no transcript: {clip.path}")
