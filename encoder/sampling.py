"""Which speakers and utterances a step holds, without state and without a loop over rows."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath

import numpy as np

from utils.data.manifest import Utterance
from utils.training.sampling import Cycler, rng


class SpeakerCycler:
    """Speakers come in rounds, each `turns[s]` times a round, in random order; a batch holds each at most once.

    A speaker's utterances come in rounds of their own, in an order that goes from session to session (`take_turns`):
    what a batch holds of a speaker is from different chapters where there are several. So every speaker is met within
    two rounds. Utterances are numbers, those of speaker 0 first.
    """

    def __init__(self, utterances: list[list[Utterance]], turns: list[int], seed: int) -> None:
        self.turns = np.array(turns)
        self.slots = [(s, copy) for s, count in enumerate(turns) for copy in range(count)]
        self.order = Cycler(len(self.slots), seed, 1)
        self.counts = np.array([len(rows) for rows in utterances])
        self.first = np.cumsum(self.counts) - self.counts
        orders = [
            first + take_turns(rows, rng(seed, 2, s))
            for s, (rows, first) in enumerate(zip(utterances, self.first, strict=True))
        ]
        self.places = np.concatenate(orders)

    def draw(self, step: int, speakers: int, per_speaker: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the speakers (I,) of a step, and of their utterances (I, U)."""
        chosen: dict[int, int] = {}  # speaker -> how often it has been drawn before
        position = step * speakers
        while len(chosen) < speakers:
            speaker, copy = self.slots[self.order.at(position)]
            chosen.setdefault(speaker, position // len(self.slots) * int(self.turns[speaker]) + copy)
            position += 1
        who = np.fromiter(chosen, np.int64)
        turn = np.fromiter(chosen.values(), np.int64)
        count = self.counts[who, None]
        number = turn[:, None] * per_speaker + np.arange(per_speaker)
        if per_speaker > 1:
            number = number + number // count  # so that another round makes other pairs
        return who, self.places[self.first[who, None] + number % count]


def take_turns(utterances: list[Utterance], random: np.random.Generator) -> np.ndarray:
    """An order (U,) of a speaker's utterances: one of each session in turn, at random within."""
    sessions: dict[str, list[int]] = defaultdict(list)
    for index in random.permutation(len(utterances)):
        sessions[session_of(utterances[index])].append(int(index))
    ranked = [(rank / len(rows), index) for rows in sessions.values() for rank, index in enumerate(rows)]
    return np.array([index for _, index in sorted(ranked)])


def session_of(utterance: Utterance) -> str:
    """The folder of a recording: a chapter where the corpus has chapters, else all that its speaker said."""
    return str(PurePosixPath(utterance.path).parent)
