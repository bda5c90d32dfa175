"""Pitch rise at the end of a sentence, and pauses at commas. Pure functions of pitch, words and quiet frames."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

import numpy as np

from evaluation.metrics.signals import FAR_SEMITONES, PAUSE_FRAME_S, PITCH_HOP_S, Pitch, longest_pause

END_S = 0.5  # of voice at the end, in which a rise is looked for
TIP_S = 0.1  # of it, where the voice arrives
RISE_SEMITONES = 2.0  # from here on, the pitch rises
PAUSE_S = 0.1  # from here on, a pause: the closure of a stop is shorter

RecognizedWord = tuple[str, float, float]  # the word, its start and end in seconds


def final_rise(track: Pitch) -> float | None:
    """Semitones from the lowest place in the last half second of voice up to its end, 0 for a fall; None if unvoiced.

    Only voiced frames count, three at a time by their median; the end is the highest place of the last 100 ms.
    """
    voiced = np.flatnonzero(track.voiced)
    if not len(voiced):
        return None
    semitones = 12 * np.log2(track.f0_hz[voiced])
    near = np.abs(semitones - np.median(semitones)) < FAR_SEMITONES
    voiced, semitones = voiced[near], semitones[near]
    before_end = (voiced[-1] - voiced) * PITCH_HOP_S
    last = before_end < END_S
    if last.sum() < 8:
        return None
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(semitones[last], 3), axis=1)
    tip = int((before_end[last][1:-1] < TIP_S).argmax())
    return float((smooth - np.minimum.accumulate(smooth))[tip:].max())


def comma_pauses(text: str, recognized: list[RecognizedWord], quiet: np.ndarray) -> list[float]:
    """Seconds of the longest quiet run at each comma, semicolon and colon inside `text`.

    `recognized`: words with their times, of a recognizer; quiet (F,) bool every 10 ms. A comma is left out where
    one of the two words around it was not recognized as written, because its time is then unknown.
    """
    written = [(_letters(word), word[-1] in ",;:") for word in text.split() if _letters(word)]
    spoken = [(_letters(word), start, end) for word, start, end in recognized if _letters(word)]
    matcher = SequenceMatcher(a=[w for w, _ in written], b=[w for w, _, _ in spoken], autojunk=False)
    place = {a + k: b + k for a, b, size in matcher.get_matching_blocks() for k in range(size)}
    pauses = []
    for i, (_, comma) in enumerate(written[:-1]):
        left, right = place.get(i), place.get(i + 1)
        if comma and left is not None and right == left + 1:
            times = [(spoken[j][1] + spoken[j][2]) / 2 for j in (left, right)]
            first, last = (round(t / PAUSE_FRAME_S) for t in times)
            pauses.append(longest_pause(np.concatenate([[False], quiet[first:last], [False]]).astype(bool)))
    return pauses


def has_inner_comma(text: str) -> bool:
    """Whether a comma, semicolon or colon is inside the text."""
    return re.search(r"[,;:]\s+\S", text) is not None


def _letters(word: str) -> str:
    return re.sub(r"[^a-z']", "", word.lower())
