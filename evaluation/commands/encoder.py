"""`evaluate.py encoder`: speaker verification by EER and minDCF on frozen trials, encoders side by side."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from encoder.inference import SpeakerEncoder
from encoder.plots import project
from encoder.verification import error_rates
from evaluation.cache import Cache
from evaluation.lists.trials import CUTS, TrialList, bundled_list, find_audio, middle, pairs_of, trial_lists
from evaluation.lists.trials import SAMPLES as BUNDLED
from evaluation.metrics.scores import Interval, verification_intervals
from evaluation.models import encoder_columns, facts_of
from evaluation.report import Cell, Players, Report, Table
from utils.audio.io import Waveform, read
from utils.errors import CloningError
from utils.files import user_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
QUICK_UTTERANCES = 120  # of a list, spread over its speakers
PLOT_SPEAKERS = 30
LEAST_SPEAKERS = 3  # for an interval over speakers
HARDEST, HEARD_SECONDS = 3, 6.0  # pairs of each kind that can be listened to, and their longest
COLUMNS = {"EER %": 2, "minDCF (p 0.01)": 3, "cosine, same": 3, "cosine, other": 3, "target pairs": 0, "impostors": 0}


@dataclass(frozen=True)
class Scored:
    """One encoder on one list and cut: scores (P,), targets (P,) bool, speakers (P, 2), embeddings (U, D)."""

    scores: np.ndarray
    targets: np.ndarray
    speakers: np.ndarray
    embeddings: np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `evaluate.py encoder`."""
    parser.add_argument(
        "--encoder", type=user_path, action="append", default=[], metavar="PATH", help="one more column"
    )
    parser.add_argument(
        "--all-lists", action="store_true", help="also lists of speakers that may have been trained on (anchors)"
    )


def run(args: argparse.Namespace) -> Report:
    """Embed every utterance of every list once an encoder, score all pairs, gather tables and plots."""
    columns = encoder_columns(args.models, args.encoder)
    lists = trial_lists(all_lists=args.all_lists) if args.corpus else [bundled_list()]
    root = args.corpus or BUNDLED
    places = find_audio(root, {stem for trials in lists for stem, _, _ in trials.utterances})
    report = Report("encoder", facts_of(args, columns))
    encoders = {column.name: SpeakerEncoder.load(column.path, args.device) for column in columns}
    cache = Cache(args.report / "cache" / "encoder.jsonl")
    for trials in lists:
        kept = trials.keep(set(places))
        if len(kept.speakers) < 2:
            report.missing.append((f"trials {trials.name}", f"none of its utterances below {root}"))
            continue
        if len(kept.utterances) < len(trials.utterances):
            lost = len(trials.utterances) - len(kept.utterances)
            report.missing.append((f"trials {trials.name}", f"{lost} of {len(trials.utterances)} utterances not found"))
        limit = args.limit or (QUICK_UTTERANCES if args.quick else None)
        _one_list(report, thin(kept, limit), places, encoders, cache)
    if not report.tables:
        raise CloningError(f"{root}: none of the frozen utterances is here; it should hold LibriSpeech, RAVDESS, ...")
    return report


def thin(trials: TrialList, limit: int | None) -> TrialList:
    """At most about `limit` utterances, as many of each speaker, so that target pairs remain."""
    if limit is None or len(trials.utterances) <= limit:
        return trials
    each = max(4, limit // len(trials.speakers))
    chosen: set[str] = set()
    for speaker in trials.speakers[: max(2, limit // each)]:
        stems = [stem for stem, name, _ in trials.utterances if name == speaker]
        chosen.update(stems[:: max(1, len(stems) // each)][:each])
    return trials.keep(chosen)


def embed_list(
    trials: TrialList, places: dict[str, Path], encoder: SpeakerEncoder, cache: Cache, label: str
) -> tuple[dict[str, np.ndarray], set[str]]:
    """Embeddings (U, D) by cut, in the list's order, and the stems in which no voice was found (zeros)."""
    found = {cut: np.zeros((len(trials.utterances), encoder.embedding_size), np.float32) for cut in CUTS}
    silent: set[str] = set()
    for row, (stem, _, _) in enumerate(tqdm(trials.utterances, desc=f"{trials.name}, {label}", disable=None)):
        key = f"{encoder.fingerprint}/{stem}"
        rows = cache.get_array(key)
        if rows is None:
            rows = cache.put_array(key, _embed_cuts(places[stem], encoder))
        if not rows.any():
            silent.add(stem)
            continue
        for cut, vector in zip(CUTS, rows, strict=True):
            found[cut][row] = vector / np.linalg.norm(vector)
    return found, silent


def score(trials: TrialList, embeddings: np.ndarray) -> Scored:
    """Cosines of all pairs of a list. embeddings (U, D) of norm 1"""
    pairs = pairs_of(trials)
    scores = np.einsum("pd,pd->p", embeddings[pairs.rows], embeddings[pairs.columns])
    return Scored(scores, pairs.targets, pairs.speakers, embeddings)


def _embed_cuts(path: Path, encoder: SpeakerEncoder) -> np.ndarray:
    prepared = encoder.preprocess(path)
    if not len(prepared):
        return np.zeros((len(CUTS), encoder.embedding_size), np.float32)
    pieces = [middle(prepared.samples, seconds, prepared.sample_rate) for seconds in CUTS.values()]
    return encoder.embed_batch([Waveform(piece, prepared.sample_rate) for piece in pieces])


def _one_list(
    report: Report, trials: TrialList, places: dict[str, Path], encoders: dict[str, SpeakerEncoder], cache: Cache
) -> None:
    embedded: dict[str, dict[str, np.ndarray]] = {}
    silent: set[str] = set()
    for name, encoder in encoders.items():
        embedded[name], without = embed_list(trials, places, encoder, cache, name)
        silent |= without
    if silent:  # the same trials for every column
        report.missing.append((f"trials {trials.name}", f"no voice in {len(silent)}: {', '.join(sorted(silent)[:5])}"))
    rows = [row for row, (stem, _, _) in enumerate(trials.utterances) if stem not in silent]
    trials = trials.keep({stem for stem, _, _ in trials.utterances} - silent)
    warning = "" if trials.set_aside else " Not set aside: no measure of models trained on them."
    table = Table(f"{trials.name}: {len(trials.speakers)} speakers", COLUMNS, note=trials.about + warning)
    scored: dict[str, dict[str, Scored]] = {cut: {} for cut in CUTS}
    for cut in CUTS:
        for name in encoders:
            result = scored[cut][name] = score(trials, embedded[name][cut][rows])
            table.add(f"{name}, {cut}", _cells(result))
    report.parts.append(table)
    if scored["full"] and _complete(next(iter(scored["full"].values()))):
        report.parts += _figures(trials, scored)
        report.parts.append(hardest(trials, scored["full"], places))


def hardest(trials: TrialList, scored: dict[str, Scored], places: dict[str, Path]) -> Players:
    """The pairs that each encoder finds hardest, to be listened to: of one person the least alike, of two the most."""
    players = Players(f"{trials.name}: the hardest pairs", ["one", "other"])
    pairs = pairs_of(trials)
    for name, result in scored.items():
        for wanted, sign, about in ((result.targets, 1, "one person"), (~result.targets, -1, "two people")):
            chosen = np.flatnonzero(wanted)
            for pair in chosen[np.argsort(sign * result.scores[chosen], kind="stable")[:HARDEST]]:
                stems = [trials.utterances[row][0] for row in (pairs.rows[pair], pairs.columns[pair])]
                label = f"{name}: {about}, cosine {result.scores[pair]:.2f} ({' and '.join(stems)})"
                heard = [read(places[stem]) for stem in stems]
                cut = [Waveform(middle(w.samples, HEARD_SECONDS, w.sample_rate), w.sample_rate) for w in heard]
                players.rows.append((label, dict(zip(players.columns, cut, strict=True))))
    return players


def _complete(result: Scored) -> bool:
    return bool(result.targets.any() and not result.targets.all())


def _cells(result: Scored) -> dict[str, Cell]:
    targets = result.targets
    counts = {"target pairs": Cell(float(targets.sum())), "impostors": Cell(float((~targets).sum()))}
    if not _complete(result):
        return {**counts, "EER %": Cell(None, reason="needs target and impostor pairs")}
    error, cost = verification_intervals(result.scores, targets, result.speakers)
    if len(np.unique(result.speakers)) < LEAST_SPEAKERS:
        error, cost = Interval(error.value, np.nan, np.nan), Interval(cost.value, np.nan, np.nan)
    return {
        "EER %": Cell.of(Interval(*(100 * x for x in error))),
        "minDCF (p 0.01)": Cell.of(cost),
        "cosine, same": Cell.of(float(result.scores[targets].mean())),
        "cosine, other": Cell.of(float(result.scores[~targets].mean())),
        **counts,
    }


def _figures(trials: TrialList, scored: dict[str, dict[str, Scored]]) -> list[tuple[str, Figure]]:
    from matplotlib.figure import Figure

    names = list(scored["full"])
    figure = Figure(figsize=(4 * (1 + len(names)), 3.6), layout="constrained")
    axes = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    draw_det(axes[0], {f"{n}, {cut}": scored[cut][n] for n in names for cut in ("1.5 s", "full")})
    for axis, name in zip(axes[1:], names, strict=True):
        result = scored["full"][name]
        bins = np.linspace(min(0.0, result.scores.min()), 1, 60)
        for label, chosen in (("same speaker", result.targets), ("others", ~result.targets)):
            axis.hist(result.scores[chosen], bins, density=True, alpha=0.6, label=label)
        axis.set(title=f"{name}, full", xlabel="cosine", yticks=[])
        axis.legend(frameon=False)
    figures: list[tuple[str, Figure]] = [(f"{trials.name}: DET and scores", figure)]
    for name in names:
        drawn = _draw_speakers(trials, scored["full"][name].embeddings, name)
        if drawn is not None:
            figures.append((f"{trials.name}: speakers, {name}", drawn))
    return figures


def draw_det(axis: Axes, results: dict[str, Scored]) -> None:
    """Misses against false alarms on normal-deviate axes (Martin et al. 1997)."""
    from scipy.stats import norm

    ticks = np.array([0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4])
    for name, result in results.items():
        alarms, misses = error_rates(result.scores, result.targets)
        inside = (alarms > 2e-4) & (alarms < 0.6) & (misses > 2e-4) & (misses < 0.6)
        x, y = norm.ppf(alarms[inside]), norm.ppf(misses[inside])
        step = max(1, len(x) // 500)
        axis.plot(x[::step], y[::step], label=name, linewidth=1.2)
    if not any(np.size(curve.get_xdata()) for curve in axis.lines):
        axis.text(0.5, 0.4, "no errors, or too few trials", ha="center", transform=axis.transAxes, color="#777")
    axis.plot(norm.ppf(ticks), norm.ppf(ticks), color="#ccc", linewidth=0.8)
    labels = [f"{100 * t:g}" for t in ticks]
    axis.set_xticks(norm.ppf(ticks), labels)
    axis.set_yticks(norm.ppf(ticks), labels)
    axis.set(title="DET", xlabel="false alarms %", ylabel="misses %")
    axis.legend(frameon=False, fontsize=8)


def _draw_speakers(trials: TrialList, embeddings: np.ndarray, name: str) -> Figure | None:
    if len(embeddings) < 15:
        return None  # UMAP needs more points than neighbors
    from matplotlib.figure import Figure

    shown = trials.speakers[:: max(1, len(trials.speakers) // PLOT_SPEAKERS)][:PLOT_SPEAKERS]
    rows = [i for i, (_, speaker, _) in enumerate(trials.utterances) if speaker in shown]
    try:
        flat = project(embeddings[rows])
    except CloningError as error:
        log.warning("%s", error)
        return None
    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axis = figure.subplots()
    colors = [shown.index(trials.utterances[i][1]) for i in rows]
    axis.scatter(flat[:, 0], flat[:, 1], c=colors, cmap="gist_ncar", s=10)
    axis.set(title=f"{len(shown)} speakers by {name} (UMAP)", xticks=[], yticks=[])
    return figure
