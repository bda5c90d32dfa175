"""`evaluate.py watermark FILE ...`: is it cloned speech of this toolkit? Without a file: detection and false alarms.

With files, the exit code is 0 when all of them have the watermark, 1 when one has not, 2 for an error. Without, clones
are made, watermarked, and attacked as in ATTACKS; real recordings must not be taken for watermarked ones.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cloning.cloner import VoiceCloner
from evaluation.cache import AudioCache
from evaluation.judges.naturalness import DistillMos, Missing, attempt
from evaluation.lists.sentences import load_plan
from evaluation.lists.trials import AUDIO, SAMPLES
from evaluation.metrics.scores import bootstrap
from evaluation.models import chain_columns, chain_digest, facts_of
from evaluation.report import Cell, Players, Report, Table
from utils.audio.codecs import lossy_copy
from utils.audio.decoding import comment
from utils.audio.io import Waveform, encode, read, resample, to_pcm16
from utils.audio.watermark import FALSE_ALARM, GAIN, STRIDE_SECONDS, Detection, detect, mark
from utils.errors import CloningError
from utils.files import user_path
from utils.plots import new_figure

CLONES, REAL = 200, 1000
QUICK_CLONES, QUICK_REAL = 20, 60
JUDGED = 50  # clones by DistillMOS, the slowest part
LEAST_SECONDS = 3.0  # of a clip
SEED = 0
Attack = Callable[[np.ndarray, int, np.random.Generator], tuple[np.ndarray, int]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `evaluate.py watermark`."""
    parser.add_argument("files", type=user_path, nargs="*", metavar="FILE", help="recordings to look into")


def run(args: argparse.Namespace) -> Report:
    """A table of the files that were given; or else of the watermark itself."""
    return check(args) if args.files else measure(args)


def check(args: argparse.Namespace) -> Report:
    """Look for the watermark in every file. Unreadable and too short ones are listed; the exit code is then 2."""
    report = Report("watermark", {"false alarms": f"at most {FALSE_ALARM:g} a recording", "files": len(args.files)})
    columns = {
        "watermark": 0,
        "score": 1,
        "threshold": 1,
        "chance without a watermark": 0,
        "seconds": 1,
        "note in the file": 0,
    }
    table = Table(
        "Cloned speech?", columns, note="A score is a correlation, in units of its spread without a watermark."
    )
    found: dict[str, Detection] = {}
    for path in args.files:
        try:
            wav = read(path, sample_rate=None)
            found[str(path)] = result = detect(wav.samples, wav.sample_rate)
        except CloningError as error:
            report.missing.append((str(path), str(error) if str(path) in str(error) else f"{path}: {error}"))
            continue
        numbers = (result.score, result.threshold, f"{result.chance:.0e}", wav.seconds)
        with path.open("rb") as file:
            note = comment(file, path.name)
        cells = [Cell("yes" if result.found else "no"), *(Cell(number) for number in numbers), Cell(note or "none")]
        table.add(str(path), dict(zip(columns, cells, strict=True)))
        report.details[str(path)] = {**vars(result), "comment": note}
    if len(args.files) == 1 and report.missing:
        raise CloningError(report.missing[0][1])
    report.parts += [table, ("Score of each stretch", _curves(found))] if found else []
    report.exit_code = 2 if report.missing else 0 if all(result.found for result in found.values()) else 1
    return report


def measure(args: argparse.Namespace) -> Report:
    """Detection after each attack, false alarms on real recordings, loss of naturalness."""
    columns = chain_columns(args.models)[:1]
    report = Report(
        "watermark", facts_of(args, columns) | {"watermark": f"{20 * np.log10(GAIN):.1f} dB beside the speech"}
    )
    wanted, real = (QUICK_CLONES, QUICK_REAL) if args.quick else (CLONES, REAL)
    clips = clones(args, columns[0].path, args.limit or wanted, report)
    marked = [Waveform(mark(clip.samples, clip.sample_rate), clip.sample_rate) for clip in clips]
    attacked = _detections(marked, report)
    null = _false_alarms(args, args.limit or real, report)
    report.parts.append(("Scores", _histogram(null, attacked)))
    _naturalness(clips, marked, report)
    players = Players("Listen", ["without", "with"])
    players.rows = [(f"clone {k}", {"without": clips[k], "with": marked[k]}) for k in range(min(8, len(clips)))]
    report.parts.append(players)
    return report


def clones(args: argparse.Namespace, models: Path, count: int, report: Report) -> list[Waveform]:
    """Unmarked clones of LEAST_SECONDS or more, as a 16-bit file holds them: the frozen sentences, seed after seed."""
    cloner = VoiceCloner.load(models, device=args.device, watermark=False)
    known = f"watermark-{chain_digest(cloner)}"  # so that an interrupted run continues
    kept = AudioCache(args.report / "cache" / known)
    items = load_plan(args.corpus).items
    made: list[Waveform] = []
    with tqdm(total=count, desc="clones", disable=None) as bar:
        for turn in range(count):
            before = len(made)
            for item in list(items):
                name = f"{item.id}-{SEED + turn}"
                audio = kept.get(name) or kept.put(
                    name, cloner.clone(item.reference, item.text, seed=SEED + turn).audio
                )
                if audio.seconds < LEAST_SECONDS:
                    items.remove(item)
                    continue
                made.append(audio)
                bar.update()
                if len(made) == count:
                    return made
            if len(made) == before:
                break
    if not made:
        raise CloningError(f"{models}: no clone of {LEAST_SECONDS:g} s or more came of {args.corpus or SAMPLES}")
    report.missing.append(("clones", f"{len(made)} of {count}: no sentence is long enough"))
    return made


def stored(samples: np.ndarray) -> np.ndarray:
    """As read again from a 16-bit file."""
    return to_pcm16(samples).astype(np.float32) / 32768


def mp3(samples: np.ndarray, rate: int, level: float = 0.6) -> np.ndarray:
    """There and back through MP3, by default at a constant 64 kbit/s (libsndfile's level 0.6 at 16 and 22.05 kHz)."""
    return lossy_copy(samples, rate, "MP3", level)


def _written(suffix: str) -> Attack:
    """In the format that `demo_cli.py --output` gives a file of that suffix."""

    def copy(x: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        file = io.BytesIO()
        encode(file, suffix, [x], rate)
        wav = read(file.getvalue(), sample_rate=None)
        return wav.samples, wav.sample_rate

    return copy


def _resampled(to: int) -> Attack:
    return lambda x, rate, rng: (stored(resample(x, rate, to)), to)


def _half(start: Callable[[int, np.random.Generator], int]) -> Attack:
    def cut(x: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        first = start(len(x) - len(x) // 2, rng)
        return x[first : first + len(x) // 2], rate

    return cut


def _quieter(x: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    return stored(x * np.float32(10 ** (-rng.uniform(6, 30) / 20))), rate


def _louder(x: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    return stored(x * np.float32(10 ** (rng.uniform(1, 9) / 20))), rate  # beyond full scale it is cut off


ATTACKS: dict[str, list[Attack]] = {
    "as it is": [],
    "resampled to 8 kHz": [_resampled(8000)],
    "resampled to 22.05 kHz": [_resampled(22050)],
    "as .mp3": [_written("x.mp3")],
    "as .ogg": [_written("x.ogg")],
    "as .opus": [_written("x.opus")],
    "MP3, 64 kbit/s": [lambda x, rate, rng: (mp3(x, rate), rate)],
    "6 to 30 dB quieter": [_quieter],
    "1 to 9 dB louder": [_louder],
    "first half": [_half(lambda last, rng: 0)],
    "second half": [_half(lambda last, rng: last)],
    "a half from anywhere": [_half(lambda last, rng: int(rng.integers(last + 1)))],
    "8 kHz, then MP3, then a half": [
        _resampled(8000),
        lambda x, rate, rng: (mp3(x, rate, 0.0), rate),  # 64 kbit/s is the most that MP3 has at 8 kHz
        _half(lambda last, rng: int(rng.integers(last + 1))),
    ],
}


def attack(name: str, clip: Waveform, seed: int) -> Waveform:
    """`clip` after the attack of that name in ATTACKS."""
    samples, rate, rng = clip.samples, clip.sample_rate, np.random.default_rng(seed)
    for step in ATTACKS[name]:
        samples, rate = step(samples, rate, rng)
    return Waveform(samples, rate)


def _detections(marked: list[Waveform], report: Report) -> dict[str, list[float]]:
    columns = {"clips": 0, "found %": 1, "missed": 0, "score, mean": 1, "score, lowest": 1, "threshold, highest": 1}
    table = Table("Marked clones", columns, note=f"Clones of {LEAST_SECONDS:g} s or longer.")
    marked = [Waveform(stored(clip.samples), clip.sample_rate) for clip in marked]
    scores: dict[str, list[float]] = {}
    for name in tqdm(ATTACKS, desc="attacks", disable=None):
        results = []
        for seed, clip in enumerate(marked):
            damaged = attack(name, clip, seed)
            results.append(detect(damaged.samples, damaged.sample_rate))
        table.add(name, _row(columns, results))
        scores[name] = [result.score for result in results]
    report.parts.append(table)
    report.details["scores"] = scores
    return scores


def _false_alarms(args: argparse.Namespace, count: int, report: Report) -> list[float]:
    columns = {"clips": 0, "found %": 1, "found": 0, "score, mean": 1, "score, highest": 1, "threshold, lowest": 1}
    bound = f"At most {FALSE_ALARM:g} a recording by Hoeffding's inequality, whatever the recording."
    table = Table("Real recordings: false alarms", columns, note=bound)
    results: dict[str, list[Detection]] = {"whole": [], "1.5 s of each": []}
    for wav in tqdm(real_clips(args.corpus or SAMPLES, count), total=count, desc="real recordings", disable=None):
        results["whole"].append(detect(wav.samples, wav.sample_rate))
        results["1.5 s of each"].append(detect(wav.samples[: round(1.5 * wav.sample_rate)], wav.sample_rate))
    for name, found in results.items():
        if found:
            table.add(name, _row(columns, found))
    if len(results["whole"]) < count:
        report.missing.append(("real recordings", f"{len(results['whole'])} of {count} of {LEAST_SECONDS:g} s or more"))
    report.parts.append(table)
    scores = [result.score for result in results["whole"]]
    report.details["scores of real recordings"] = scores
    return scores


def real_clips(root: Path, count: int) -> Iterator[Waveform]:
    """`count` recordings of LEAST_SECONDS or more below `root`, drawn uniformly from all of them."""
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in AUDIO)
    taken = 0
    for k in np.random.default_rng(SEED).permutation(len(paths)):
        if taken == count:
            return
        wav = read(paths[k], sample_rate=None)
        if wav.seconds >= LEAST_SECONDS:
            taken += 1
            yield wav


def _row(columns: dict[str, int], results: list[Detection]) -> dict[str, Cell]:
    found = [result.found for result in results]
    scores, thresholds = (np.array([getattr(r, name) for r in results]) for name in ("score", "threshold"))
    numbers: dict[str, Any] = {
        "clips": len(found),
        "found": sum(found),
        "missed": len(found) - sum(found),
        "found %": 100 * float(np.mean(found)),
        "score, mean": scores.mean(),
        "score, lowest": scores.min(),
        "score, highest": scores.max(),
        "threshold, lowest": thresholds.min(),
        "threshold, highest": thresholds.max(),
    }
    return {name: Cell(float(numbers[name])) for name in columns}


def _naturalness(clips: list[Waveform], marked: list[Waveform], report: Report) -> None:
    judge = attempt(DistillMos.name, DistillMos)
    if isinstance(judge, Missing):
        report.missing.append((judge.name, judge.reason))
        return
    pairs = list(zip(clips, marked, strict=True))[:JUDGED]
    both = [[judge.measure(x)["distillmos"] for x in pair] for pair in tqdm(pairs, desc=judge.name, disable=None)]
    scores = np.array(both).reshape(-1, 2)
    columns = {"clips": 0, "without": 3, "with": 3, "loss": 3}
    table = Table("DistillMOS", columns, note=f"{judge.about}. Loss: without less with; below 0: it gained.")
    numbers = [Cell(float(len(scores))), *(Cell.of(bootstrap(scores[:, k])) for k in (0, 1))]
    cells = [*numbers, Cell.of(bootstrap(scores[:, 0] - scores[:, 1]))]
    table.add("clones", dict(zip(columns, cells, strict=True)))
    report.parts.append(table)
    report.details["distillmos"] = scores


def _curves(found: dict[str, Detection]) -> Any:
    figure, axes = new_figure(10, 3)
    for name, result in found.items():
        seconds = STRIDE_SECONDS * np.arange(len(result.scores) + 1)
        axes[0, 0].stairs(result.scores, seconds, label=Path(name).name, linewidth=1.5)
    axes[0, 0].axhline(max(r.threshold for r in found.values()), color="black", linestyle=":", label="threshold")
    axes[0, 0].set(xlabel="start of a stretch of 4.1 s, in seconds", ylabel="score", ylim=(0, None))
    axes[0, 0].legend(fontsize="small")
    return figure


def _histogram(null: list[float], attacked: dict[str, list[float]]) -> Any:
    figure, axes = new_figure(10, 4)
    for name, scores in {"real recordings": null, **attacked}.items():
        if scores:
            axes[0, 0].hist(scores, bins=np.arange(0, 60, 0.5), density=True, histtype="step", label=name)
    axes[0, 0].set(xlabel="score", ylabel="density")
    axes[0, 0].legend(fontsize="small")
    return figure
