"""When each sentence, word and phone of synthesized speech is said, from the alignments that it was made with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthesizer.speech import SpokenSentence
from synthesizer.text.symbols import SILENCE
from utils.audio.mel import MelConfig
from utils.times import Span, Times


def times_of(spoken: Sequence[SpokenSentence], mel: MelConfig) -> Times:
    """The times of the sentences of a text in its audio, a hop shorter than their joined mels.

    Frame k of a mel lies around sample k * hop, and belongs to the token there: a token begins half a hop before its
    first frame. Of a parallel synthesizer these are the durations that the speech was made with; of an attention, the
    best path through it that never goes back.
    """
    sentences: list[Span] = []
    words: list[Span] = []
    phones: list[Span] = []
    end = max(0, sum(sentence.mel.shape[1] for sentence in spoken) - 1) * mel.frame_seconds
    frames = 0
    for sentence in spoken:
        piece = sentence.piece
        frames += sentence.mel.shape[1]
        first = frames - piece.mel.shape[1]  # whatever silence was put before it, or cut from its start
        counts = np.bincount(token_path(piece.alignment), minlength=len(piece.tokens))
        edges = ((first - 0.5 + np.concatenate([[0], np.cumsum(counts)])) * mel.frame_seconds).clip(0, end).tolist()
        runs = _words(piece.tokens)
        names = piece.words if len(piece.words) == len(runs) else ["".join(piece.tokens[a:b]) for a, b in runs]
        spans = [Span(name, edges[a], edges[b]) for name, (a, b) in zip(names, runs, strict=True)]
        if not spans:
            continue
        sentences.append(Span(str(piece.text), spans[0].start, spans[-1].stop))
        words += spans
        if piece.words:
            phones += [Span(piece.tokens[i], edges[i], edges[i + 1]) for a, b in runs for i in range(a, b)]
    return Times(tuple(sentences), tuple(words), tuple(phones), end)


def token_path(alignment: np.ndarray) -> np.ndarray:
    """The token (F,) of each frame, never going back, that has the most of alignment (F, N) in all."""
    frames, tokens = alignment.shape
    best = alignment[0].astype(np.float64)
    came_from = np.zeros((frames, tokens), dtype=np.int64)
    for frame in range(1, frames):
        reached = np.maximum.accumulate(best)
        came_from[frame] = np.maximum.accumulate(np.where(best == reached, np.arange(tokens), 0))
        best = reached + alignment[frame]
    path = np.empty(frames, dtype=np.int64)
    path[-1] = int(best.argmax())
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = came_from[frame, path[frame]]
    return path


def _words(tokens: Sequence[str]) -> list[tuple[int, int]]:
    """Where each run of phones or letters begins and ends: words stand between boundaries, pauses and silences."""
    runs: list[tuple[int, int]] = []
    start: int | None = None
    for index, token in enumerate([*tokens, SILENCE]):
        within = token != SILENCE and (token.isalnum() or token == "'")
        if within and start is None:
            start = index
        elif not within and start is not None:
            if any(t.isalnum() for t in tokens[start:index]):
                runs.append((start, index))
            start = None
    return runs
