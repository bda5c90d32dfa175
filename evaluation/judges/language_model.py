"""A small n-gram language model, written as an ARPA file, so that an offline recognizer has the evaluation's words.

Interpolated Witten-Bell smoothing (Chen & Goodman 1998, section 2.4): what follows a history seen c times with t
different successors is trusted c / (c + t), the rest goes to the shorter history.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

START, END = "<s>", "</s>"
NEVER = -99.0  # log10 of "no probability" in ARPA files

Model = dict[tuple[str, ...], tuple[float, float]]  # n-gram -> (probability, weight of its backing off)


def train(sentences: Iterable[str], order: int = 2) -> Model:
    """Count `sentences` (words between blanks) and smooth; n-grams of 1..order words."""
    counts: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        words = (START, *sentence.split(), END)
        for n in range(1, order + 1):
            counts[n - 1].update(words[i : i + n] for i in range(len(words) - n + 1))
    del counts[0][(START,)]  # begins sentences, never follows anything
    followers: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for table in counts:
        for gram, count in table.items():
            followers[gram[:-1]][gram[-1]] += count

    model: Model = {}
    uniform = 1 / len(counts[0])
    for table in counts:
        for gram in table:
            history = gram[:-1]
            seen, kinds = followers[history].total(), len(followers[history])
            shorter = model[gram[1:]][0] if history else uniform
            model[gram] = ((table[gram] + kinds * shorter) / (seen + kinds), _backoff(followers, gram))
    model[(START,)] = (0.0, _backoff(followers, (START,)))
    return model


def probability(model: Model, history: tuple[str, ...], word: str) -> float:
    """P(word | history), backing off as a reader of the ARPA file does."""
    weight = 1.0
    while history and (*history, word) not in model:
        weight *= model[history][1] if history in model else 1.0
        history = history[1:]
    return weight * model[(*history, word)][0] if (*history, word) in model else 0.0


def write_arpa(model: Model, path: Path) -> None:
    """Write `model` in the ARPA format that pocketsphinx, KenLM and SRILM read."""
    order = max(len(gram) for gram in model)
    levels = [sorted(gram for gram in model if len(gram) == n) for n in range(1, order + 1)]
    lines = ["\\data\\", *(f"ngram {n}={len(level)}" for n, level in enumerate(levels, start=1)), ""]
    for n, level in enumerate(levels, start=1):
        lines.append(f"\\{n}-grams:")
        for gram in level:
            chance, weight = model[gram]
            backoff = f"\t{_log(weight):.4f}" if n < order else ""
            lines.append(f"{_log(chance):.4f}\t{' '.join(gram)}{backoff}")
        lines.append("")
    path.write_text("\n".join([*lines, "\\end\\", ""]), encoding="utf-8")


def _backoff(followers: dict[tuple[str, ...], Counter[str]], history: tuple[str, ...]) -> float:
    if history not in followers:
        return 1.0
    kinds = len(followers[history])
    return kinds / (followers[history].total() + kinds)


def _log(value: float) -> float:
    return math.log10(value) if value > 0 else NEVER
