"""`evaluate.py diarization`: diarization error rates with references and without, on conversations built from set-aside
LibriSpeech speakers, on simulated talks and on meetings; `--calibrate` measures the encoder first."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from diarization.calibration import calibrate
from diarization.normalization import CALIBRATIONS, Calibration
from diarization.pipeline import Diarization, Diarizer
from diarization.plots import plot_diarization
from diarization.turns import Turn
from diarization.windows import heard_by
from encoder.camplus import CamPlus
from encoder.inference import SpeakerEncoder
from evaluation.commands.diarization_items import (
    MEETINGS,
    DiarizationItem,
    built,
    meetings,
    simulated,
    talks_to_count,
)
from evaluation.lists.simulated import PARTS, part_of
from evaluation.models import encoder_columns, facts_of
from evaluation.report import Cell, Report, Table
from utils.data.corpora import Clip, scan
from utils.data.selection import SET_ASIDE, Splits, read_set_aside
from utils.errors import CloningError, missing_package
from utils.files import user_path

CALIBRATION_CORPORA = ("librispeech", "ljspeech", "speechocean762", "an4")  # read speech, licenses as the encoder's
MODES = ("with references", "number given", "without")
COLLARS = {"DER %": (0.0, False), "DER %, collar 0.25": (0.25, False), "DER %, collar 0.25, no overlap": (0.25, True)}
KINDS = ("built", "simulated", "meetings")
COLUMNS = {**dict.fromkeys(COLLARS, 2), "missed %": 2, "false alarm %": 2, "confusion %": 2, "speakers off by": 2}
COLUMNS |= {"number right %": 0}
PARTS_OF_RATE = "missed, false alarm, confusion: parts of the first column"


class Errors(NamedTuple):
    """Seconds, and the number of speakers found."""

    missed: float
    false_alarm: float
    confusion: float
    total: float

    @property
    def rate(self) -> float:
        """The diarization error rate; NaN without reference speech."""
        return (self.missed + self.false_alarm + self.confusion) / self.total if self.total else float("nan")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `evaluate.py diarization`."""
    parser.add_argument(
        "--encoder", type=user_path, action="append", default=[], metavar="PATH", help="one more column"
    )
    parser.add_argument(
        "--kind",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        help="built: readers in turn, set aside; simulated: rooms, telephones, noise and overlap; meetings: AMI "
        "(default: all)",
    )
    parser.add_argument(
        "--list",
        choices=PARTS,
        default="test",
        help="of the simulated talks: to train and calibrate on, to choose by, to report (default: %(default)s)",
    )
    parser.add_argument(
        "--camplus", action="store_true", help="tell voices apart by CAM++ too, as diarize.py --camplus"
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="first measure how pieces of the encoder spread, on speakers of --corpus that are not set aside, learn to "
        "count speakers on simulated talks of theirs, and write the calibration beside it: once for every new encoder",
    )


def run(args: argparse.Namespace) -> Report:
    """Every recording is embedded once; turns are found with references, with the number of speakers, without."""
    if args.corpus is None:
        raise CloningError("evaluate.py diarization builds conversations: give --corpus, the folder with LibriSpeech")
    columns = encoder_columns(args.models, args.encoder, chosen=True)  # its calibration lies beside it
    set_aside = set(read_set_aside(SET_ASIDE))
    clips = scan(args.corpus, follow_links=True).clips
    report = Report("diarization", facts_of(args, columns))
    camplus = CamPlus.load(args.device) if args.camplus else None
    for column in columns:
        encoder = SpeakerEncoder.load(column.path, args.device)
        place = column.path.with_name(CALIBRATIONS[args.camplus])
        if args.calibrate:
            make_calibration(encoder, clips, set_aside, args.corpus, camplus).save(place)
        diarizer = Diarizer(encoder, Calibration.load(place, heard_by(encoder, camplus)), camplus=camplus)
        _measure(report, column.name, diarizer, _items(args, clips, set_aside, report))
    report.facts |= {"settings": str(diarizer.settings), "calibration": str(diarizer.calibration.about)}
    return report


def _items(
    args: argparse.Namespace, clips: list[Clip], set_aside: set[str], report: Report
) -> Iterator[DiarizationItem]:
    if "meetings" in args.kind:
        yield from meetings(args.corpus / MEETINGS, report)
    if "built" in args.kind:
        yield from built(args.corpus, clips, set_aside, args.quick, args.limit)
    if "simulated" in args.kind:
        yield from simulated(args.corpus, clips, set_aside, args.list, args.quick, args.limit)


def make_calibration(
    encoder: SpeakerEncoder, clips: list[Clip], set_aside: set[str], corpus: Path, camplus: CamPlus | None = None
) -> Calibration:
    """On every speaker of the corpora of CALIBRATION_CORPORA neither set aside nor of another simulated list; the
    number of speakers on talks of the list `calibrate`."""
    voices: dict[str, list[Path]] = defaultdict(list)
    splits = Splits(0.0, 0, set_aside)
    for clip in clips:
        kept = splits[clip.speaker] != "test" and part_of(clip) == "calibrate"
        if kept and clip.speaker.partition("-")[0] in CALIBRATION_CORPORA:
            voices[clip.speaker].append(clip.path)
    calibration = calibrate(encoder, voices, talks_to_count(corpus, clips, set_aside), camplus=camplus)
    corpora = sorted({name.partition("-")[0] for name in voices})
    return dataclasses.replace(calibration, about={**calibration.about, "corpora": corpora})


def errors(
    reference: Sequence[Turn], found: Sequence[Turn], seconds: float, collar: float = 0.0, skip_overlap: bool = False
) -> Errors:
    """The errors in one recording, scored from 0 to `seconds`, with the best pairing of speakers (pyannote.metrics).

    `collar`: seconds that are not scored on either side of every boundary of the reference.
    """
    try:
        from pyannote.core import Annotation, Segment, Timeline
        from pyannote.metrics.diarization import DiarizationErrorRate
    except ImportError as error:
        raise missing_package("pyannote.metrics", "scoring diarization", "requirements/eval.txt") from error

    def annotation(turns: Sequence[Turn]) -> Annotation:
        result = Annotation()
        for i, turn in enumerate(turns):
            result[Segment(turn.start, turn.stop), i] = turn.speaker
        return result

    # Its collar is the width of both sides together
    metric = DiarizationErrorRate(collar=2 * collar, skip_overlap=skip_overlap)
    scored = Timeline([Segment(0, seconds)])
    parts = metric(annotation(reference), annotation(found), uem=scored, detailed=True)
    return Errors(parts["missed detection"], parts["false alarm"], parts["confusion"], parts["total"])


def _measure(report: Report, name: str, diarizer: Diarizer, items: Iterable[DiarizationItem]) -> None:
    gathered: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    pictures: dict[str, Diarization] = {}
    heard_seconds = spent = 0.0
    for item in tqdm(items, desc=name, disable=None):
        started = time.perf_counter()
        audio = diarizer.prepare(item.audio)
        windows = diarizer.listen(audio, item.name)
        results = {"without": diarizer.cluster(audio, windows)}
        spent += time.perf_counter() - started
        heard_seconds += audio.seconds
        present = len({turn.speaker for turn in item.turns})
        results["number given"] = diarizer.cluster(audio, windows, present)
        if item.references:
            enrolled = {who: diarizer.enrol(who, clips) for who, clips in item.references.items()}
            results["with references"] = diarizer.match(audio, windows, enrolled)
        for mode, result in results.items():
            scores = {
                heading: errors(item.turns, result.turns, audio.seconds, collar, skip)
                for heading, (collar, skip) in COLLARS.items()
            }
            off = abs(len({turn.speaker for turn in result.turns}) - present)
            gathered[item.group, mode].append({"scores": scores, "off": off, "name": item.name})
        pictures.setdefault(item.group, results["without"])
    for mode in MODES:
        groups = [group for group, measured in gathered if measured == mode]
        if groups:
            table = Table(f"{name}, {mode}", COLUMNS, note=PARTS_OF_RATE)
            for group in groups:
                table.add(f"{group} ({len(gathered[group, mode])})", _cells(gathered[group, mode]))
            report.parts.append(table)
    report.parts += [(f"{name}, {group}", plot_diarization(result)) for group, result in pictures.items()]
    report.facts[f"{name}: times real time, without references"] = round(heard_seconds / spent, 1)
    report.details[name] = {
        f"{group}, {mode}": [
            {"name": row["name"], "speakers off by": row["off"]}
            | {heading: 100 * score.rate for heading, score in row["scores"].items()}
            for row in rows
        ]
        for (group, mode), rows in gathered.items()
    }


def _cells(rows: Sequence[dict[str, Any]]) -> dict[str, Cell]:
    """Rates over all seconds of a group."""
    pooled = {heading: Errors(*np.sum([row["scores"][heading] for row in rows], axis=0)) for heading in COLLARS}
    cells = {heading: Cell.of(100 * score.rate) for heading, score in pooled.items()}
    plain = pooled["DER %"]
    for heading, seconds in (
        ("missed %", plain.missed),
        ("false alarm %", plain.false_alarm),
        ("confusion %", plain.confusion),
    ):
        cells[heading] = Cell.of(float(100 * seconds / plain.total))
    off = np.array([row["off"] for row in rows])
    return cells | {
        "speakers off by": Cell.of(float(off.mean())),
        "number right %": Cell.of(float(100 * (off == 0).mean())),
    }
