"""Numbers about lists of scores: verification errors, word errors, bootstrap intervals. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from encoder.verification import crossing, equal_error_rate, error_rates

RESAMPLES = 1000


class Interval(NamedTuple):
    """A value with its 95% bootstrap interval; low and high are NaN for a single item."""

    value: float
    low: float
    high: float


class WordErrors(NamedTuple):
    """The errors of one transcript: edits and reference lengths, so that sets of transcripts can be pooled."""

    word_edits: int
    words: int
    character_edits: int
    characters: int


def min_dcf(scores: np.ndarray, targets: np.ndarray, prior: float = 0.01) -> float:
    """Least detection cost at a target `prior`, both costs 1, over what always saying "no" costs (NIST SRE plans)."""
    return detection_cost(*error_rates(scores, targets), prior)


def detection_cost(false_alarms: np.ndarray, misses: np.ndarray, prior: float) -> float:
    """Least of prior * misses + (1 - prior) * false alarms, divided by the better of the two blind answers."""
    cost = prior * misses + (1 - prior) * false_alarms
    return float(cost.min() / min(prior, 1 - prior))


def verification_intervals(
    scores: np.ndarray, targets: np.ndarray, speakers: np.ndarray, prior: float = 0.01, resamples: int = 200
) -> tuple[Interval, Interval]:
    """EER and minDCF with intervals from resampling speakers, not trials, because trials of one speaker are correlated.

    scores (P,), targets (P,) bool, speakers (P, 2) indices of the two voices -> EER, minDCF.
    An impostor pair weighs the product of its speakers' counts in the draw, a target pair its speaker's count.
    """
    order = np.argsort(-scores, kind="stable")  # once: a list in order is sorted fast again
    ordered, is_target = scores[order], targets[order].astype(bool)
    first, second = speakers[order, 0], speakers[order, 1]
    generator = np.random.default_rng(0)
    n = int(speakers.max()) + 1
    rates: list[tuple[float, float]] = []
    for _ in range(resamples):
        drawn = np.bincount(generator.integers(n, size=n), minlength=n).astype(float)
        weights = np.where(is_target, drawn[first], drawn[first] * drawn[second])
        if weights[is_target].any() and weights[~is_target].any():
            false_alarms, misses = error_rates(ordered, is_target, weights)
            rates.append((crossing(false_alarms, misses), detection_cost(false_alarms, misses, prior)))
    values = equal_error_rate(scores, targets), min_dcf(scores, targets, prior)
    if len(rates) < 2:
        return Interval(values[0], np.nan, np.nan), Interval(values[1], np.nan, np.nan)
    low, high = np.percentile(np.array(rates), [2.5, 97.5], axis=0)
    return Interval(values[0], *map(float, (low[0], high[0]))), Interval(values[1], *map(float, (low[1], high[1])))


def bootstrap(
    values: Sequence[float] | np.ndarray,
    statistic: Callable[[np.ndarray], float] = np.mean,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """`statistic` of the rows of values (n,) or (n, k), with its 95% percentile interval (Efron 1979).

    Rows that are None or NaN are left out; with none left, all three numbers are NaN.
    """
    rows = np.asarray([np.nan if v is None else v for v in values], dtype=float)
    rows = rows[~np.isnan(rows).reshape(len(rows), -1).any(axis=1)] if len(rows) else rows
    if not len(rows):
        return Interval(np.nan, np.nan, np.nan)
    value = float(statistic(rows))
    if len(rows) == 1:
        return Interval(value, np.nan, np.nan)
    generator = np.random.default_rng(seed)
    again = [float(statistic(rows[generator.integers(len(rows), size=len(rows))])) for _ in range(resamples)]
    low, high = np.nanpercentile(again, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def pooled_rate(rows: np.ndarray) -> float:
    """Sum of edits over sum of reference lengths: rows (n, 2) -> rate. Long sentences weigh as they are long."""
    return float(rows[:, 0].sum() / max(rows[:, 1].sum(), 1))


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Edits between two normalized transcripts, by jiwer; an empty reference counts every word as inserted."""
    if not reference.strip():
        return WordErrors(len(hypothesis.split()), 0, len(hypothesis.replace(" ", "")), 0)
    import jiwer

    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return WordErrors(
        words.substitutions + words.deletions + words.insertions,
        words.hits + words.substitutions + words.deletions,
        characters.substitutions + characters.deletions + characters.insertions,
        characters.hits + characters.substitutions + characters.deletions,
    )
