"""`evaluate.py vocoder`: resynthesis of real mels compared with the recordings, vocoders side by side."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from evaluation.cache import AudioCache, Cache
from evaluation.judges.naturalness import RATE
from evaluation.lists.sentences import Item, load_plan, spread
from evaluation.measure import WORDS, Numbers, Panel, add_judge_arguments, comparison_mel, digest, word_cells
from evaluation.metrics import signals
from evaluation.metrics.scores import bootstrap
from evaluation.models import Column, facts_of, vocoder_columns
from evaluation.report import Cell, Players, Report, Table
from utils.audio.io import Waveform, peak_normalize, read, resample
from utils.audio.mel import mel_spectrogram
from utils.errors import CloningError
from utils.files import user_path
from utils.scripts import positive_number
from vocoder.inference import Vocoder

SEED = 0
AT_LEAST = 6  # clips of a vocoder, however slow it is
# heading -> (digits, name)
COLUMNS: dict[str, tuple[int, str]] = {
    "STFT distance": (3, "stft"),
    "mel dB": (2, "mel_db"),
    "STOI": (3, "stoi"),
    "DistillMOS": (2, "distillmos"),
    "DNSMOS": (2, "dnsmos"),
    "similarity to original": (3, "to_original"),
    "by the 2nd judge": (3, "to_original_2"),
    "F0 RMSE cents": (0, "f0_rmse"),
    "voicing error %": (1, "voicing"),
    "RTF": (3, "rtf"),
}
JUDGED = ("DistillMOS", "DNSMOS")


class ResynthesisClip(NamedTuple):
    """A recording and the words in it."""

    path: Path
    spoken: str  # "" without a transcript


class Resynthesizer:
    """A vocoder fed with the mel of a real recording, made as for training (peak 0.9)."""

    def __init__(self, column: Column, device: str = "cpu") -> None:
        self.name = column.name
        self.vocoder = Vocoder.load(column.path, device)

    def make(self, item: Item) -> tuple[Waveform, Numbers]:
        """The item's real recording through the vocoder, and its real-time factor."""
        original = real_waveform(item.recording, self.vocoder.mel.sample_rate)
        return self.resynthesize(original)

    def resynthesize(self, original: Waveform) -> tuple[Waveform, Numbers]:
        """A recording (T,) through mel and vocoder, and its real-time factor."""
        import torch

        mel = mel_spectrogram(torch.from_numpy(original.samples), self.vocoder.mel)
        started = time.perf_counter()
        made = self.vocoder.vocode(mel, seed=SEED)
        return made, {"rtf": (time.perf_counter() - started) / max(made.seconds, 0.1)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `evaluate.py vocoder`."""
    parser.add_argument(
        "--vocoder", type=user_path, action="append", default=[], metavar="PATH", help="one more column"
    )
    add_judge_arguments(parser)
    parser.add_argument("--minutes", type=positive_number, default=5.0, help="a vocoder this slow gets no more clips")


def run(args: argparse.Namespace) -> Report:
    """Resynthesize the set-aside recordings by every vocoder and compare, clip by clip."""
    columns = vocoder_columns(args.models, args.vocoder)
    plan = load_plan(args.corpus, quick=args.quick)
    items = [item for item in plan.items if item.real]
    clips = {item.id: ResynthesisClip(item.recording, item.spoken) for item in spread(items, args.limit or len(items))}
    if not clips:  # bundled clips without transcripts
        clips = {path.stem: ResynthesisClip(path, "") for paths in plan.enrolment.values() for path in paths}
    clips = dict(list(clips.items())[: args.limit])
    report = Report("vocoder", facts_of(args, columns), missing=list(plan.missing))
    cache = Cache(args.report / "cache" / "vocoder.jsonl")
    spoken = [clip.spoken for clip in clips.values()]
    panel = Panel.load(
        cache,
        judge=args.judge,
        recognizer=args.recognizer,
        spoken=spoken,
        whisper=args.whisper,
        dnsmos=args.dnsmos,
    )
    report.missing += panel.missing
    report.facts |= panel.about
    words = {heading: digits for heading, (digits, _, _) in WORDS.items()}
    table = Table(
        "Resynthesis of real mels", {"n": 0} | words | {name: digits for name, (digits, _) in COLUMNS.items()}
    )
    players = Players("Listen", ["real", *(column.name for column in columns)])
    sounds: dict[str, dict[str, Waveform]] = {}
    real_rows = []
    for name, clip in tqdm(clips.items(), desc="real", disable=None):
        original = real_waveform(clip.path, RATE)
        sounds[name] = {"real": original}
        real_rows.append(panel.measure(original, clip.spoken, ""))
    table.add("real", _cells(real_rows, "the recording itself"))
    for column in columns:
        rows = _one_vocoder(column, clips, sounds, panel, report, args)
        report.details[column.name] = rows
        table.add(column.name, _cells(list(rows.values()), "not installed, not voiced or not made: see Missing"))
    players.rows = list(sounds.items())
    report.parts += [table, players]
    return report


def real_waveform(path: Path, sample_rate: int) -> Waveform:
    """A recording as the vocoders' training saw it: mono at `sample_rate`, peak 0.9."""
    waveform = read(path, sample_rate=sample_rate)
    return Waveform(peak_normalize(waveform.samples, 0.9), sample_rate)


def compare(original: Waveform, made: Waveform) -> Numbers:
    """Distances of a resynthesis from its original at the judges' rate; both are cut to the shorter.

    A vocoder of a higher rate may add what the recording does not have above that.
    """
    rate = RATE
    a, b = (resample(wav.samples, wav.sample_rate, rate) for wav in (original, made))
    length = min(len(a), len(b))
    a, b = a[:length], b[:length]
    pitch = signals.pitch_error(signals.pitch(a, rate), signals.pitch(b, rate))
    return {
        "stft": signals.stft_distance(a, b),
        "mel_db": signals.mel_distance(comparison_mel(Waveform(a, rate)), comparison_mel(Waveform(b, rate))),
        "stoi": intelligibility(a, b, rate),
        "f0_rmse": pitch.rmse_cents,
        "voicing": 100 * pitch.voicing_error,
    }


def intelligibility(real: np.ndarray, other: np.ndarray, sample_rate: int) -> float | None:
    """STOI (Taal et al. 2011) by pystoi; None where the package is missing or there is too little speech."""
    try:
        from pystoi import stoi
    except ModuleNotFoundError:
        return None
    if len(real) < sample_rate // 2:
        return None
    return float(stoi(real, other, sample_rate))


def _one_vocoder(
    column: Column,
    clips: dict[str, ResynthesisClip],
    sounds: dict[str, dict[str, Waveform]],
    panel: Panel,
    report: Report,
    args: argparse.Namespace,
) -> dict[str, Numbers]:
    try:
        maker = Resynthesizer(column, args.device)
    except CloningError as error:
        report.missing.append((column.name, str(error)))
        return {}
    # made once, so that an interrupted run continues; griffin-lim has no fingerprint
    known = f"{maker.vocoder.name}-{maker.vocoder.fingerprint or SEED}"
    kept = AudioCache(args.report / "cache" / f"vocoder-{known}")
    rows: dict[str, Numbers] = {}
    spent = 0.0
    for name, clip in tqdm(clips.items(), desc=column.name, disable=None):
        if spent > 60 * args.minutes and len(rows) >= AT_LEAST:
            report.missing.append((column.name, f"{len(rows)} of {len(clips)} clips: too slow for more (--minutes)"))
            break
        started = time.perf_counter()
        original = real_waveform(clip.path, maker.vocoder.mel.sample_rate)
        audio_key = digest(original)
        made, numbers = kept.get(f"{name}-{audio_key}"), panel.cache.get(f"resynthesis/{known}/{audio_key}")
        if made is None or numbers is None:
            made, numbers = maker.resynthesize(original)
            made = kept.put(f"{name}-{audio_key}", made)
            numbers = panel.cache.put(f"resynthesis/{known}/{audio_key}", numbers)
        spent += time.perf_counter() - started
        sounds[name][column.name] = made
        key = f"compare/{audio_key}/{digest(made)}"
        compared = panel.cache.get(key) or panel.cache.put(key, compare(original, made))
        rows[name] = {**numbers, **compared, **panel.measure(made, clip.spoken, "")}
        for likeness in panel.present:
            original_vector, made_vector = (
                panel.embed_by(likeness.judge, sound) for sound in (sounds[name]["real"], made)
            )
            if original_vector is not None and made_vector is not None:
                rows[name]["to_original" + likeness.suffix] = float(original_vector @ made_vector)
    return rows


def _cells(rows: list[Numbers], reason: str) -> dict[str, Cell]:
    """`reason`: why a number is missing that no judge gives."""
    result = {"n": Cell(float(len(rows))), **word_cells(rows)}
    for heading, (_, name) in COLUMNS.items():
        values = [row[name] for row in rows if row.get(name) is not None]
        why = "its judge is missing" if heading in JUDGED else reason
        result[heading] = Cell.of(bootstrap(values) if values else None, why)
    return result
