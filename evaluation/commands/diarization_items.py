"""What `evaluate.py diarization` measures on: recordings with their turns, and clips of those who speak in them."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from diarization.turns import Turn, read_rttm, talk_time
from evaluation.lists.conversations import (
    OVERLAP,
    Conversation,
    Recipe,
    Shelf,
    build,
    excerpt,
    read_word_times,
    recipes,
)
from evaluation.lists.simulated import TALKS, Part, SimulatedCast, build_talk, cast_of, talk_recipes
from evaluation.report import Report
from utils.audio.io import Waveform, read
from utils.data.corpora import Clip
from utils.errors import CloningError

MINUTES, QUICK_MINUTES = (1.0, 4.0, 10.0), (1.0,)
QUICK_TALKS = 6
# To learn to count from, of the list `calibrate`: talks, without those that are longer; readers in turn
COUNTED_TALKS, COUNTED_SECONDS, COUNTED_READERS = 575, 150.0, 150
READERS_SECONDS = (10.0, 40.0)
EXCERPT_SECONDS = ((3.0, 8.0), (6.0, 20.0))  # the second four times as often
SOMEBODY, NOBODY = 0.5, 0.15  # seconds in an excerpt, from which and to which a speaker is one of it or is not
MEETINGS, NOISES = "diarization_ami", "noise_esc10"


@dataclasses.dataclass(frozen=True)
class DiarizationItem:
    """A recording, its turns, and clips of its speakers (none: it is not measured with references)."""

    name: str
    group: str
    audio: Waveform
    turns: list[Turn]
    references: dict[str, list[Waveform]]


def built(
    corpus: Path, clips: Iterable[Clip], set_aside: set[str], quick: bool = False, limit: int | None = None
) -> Iterator[DiarizationItem]:
    """Conversations of set-aside readers. Raises CloningError where there are too few of them."""
    voices: dict[str, list[Path]] = defaultdict(list)
    for clip in clips:
        if clip.speaker.startswith("librispeech-") and clip.speaker in set_aside:
            voices[clip.speaker].append(clip.path)
    shelf = Shelf({name: paths for name, paths in voices.items() if len(paths) > 3}, read_word_times(corpus))
    if len(shelf.clips) < 4:
        raise CloningError(f"{corpus}: {len(shelf.clips)} set-aside LibriSpeech speakers found, 4 are wanted")
    wanted = recipes(QUICK_MINUTES if quick else MINUTES)
    for recipe in wanted[:limit]:
        group = f"built, {recipe.speakers} speakers{OVERLAP[recipe.overlap]}"
        yield _made(recipe.name, group, build(recipe, shelf))


def _made(name: str, group: str, conversation: Conversation) -> DiarizationItem:
    """A conversation as an item, with the references that it came with."""
    references = {who: [clip] for who, clip in conversation.references.items()}
    return DiarizationItem(name, group, conversation.audio, conversation.turns, references)


def meetings(folder: Path, report: Report) -> Iterator[DiarizationItem]:
    """AMI excerpts. References are what a speaker says alone in other excerpts, where all speakers have enough."""
    if not folder.is_dir():
        report.missing.append(("meetings", f"no folder {folder}"))
        return
    turns = {name: rows for path in sorted(folder.glob("*.rttm")) for name, rows in read_rttm(path).items()}
    audio = {name: read(path) for name in turns for path in folder.glob(f"{name}.*") if path.suffix == ".opus"}
    scored = dict(line.split()[0::3] for path in folder.glob("*.uem") for line in path.read_text().splitlines() if line)
    for name, wav in sorted(audio.items()):
        speakers = sorted({turn.speaker for turn in turns[name]})
        references = {who: _alone(who, {n: turns[n] for n in audio if n != name}, audio) for who in speakers}
        if not all(references.values()):
            references = {}
        samples = wav.samples[: round(float(scored[name]) * wav.sample_rate)]
        group = "AMI, all" if not references else "AMI, references elsewhere"
        yield DiarizationItem(name, group, Waveform(samples, wav.sample_rate), turns[name], references)


def _alone(speaker: str, turns: dict[str, list[Turn]], audio: dict[str, Waveform]) -> list[Waveform]:
    """A speaker's speech without overlap in other recordings; nothing when it is under two seconds."""
    pieces = []
    for name, rows in turns.items():
        for turn in (row for row in rows if row.speaker == speaker):
            others = [row for row in rows if row.speaker != speaker and row.start < turn.stop and row.stop > turn.start]
            if not others and turn.seconds >= 1:
                rate = audio[name].sample_rate
                pieces.append(audio[name].samples[round(turn.start * rate) : round(turn.stop * rate)])
    if sum(map(len, pieces)) < 2 * 16000:
        return []
    return [Waveform(np.concatenate(pieces), 16000)]


def talks_to_count(corpus: Path, clips: Iterable[Clip], set_aside: set[str]) -> Iterator[tuple[Waveform, int]]:
    """What counting is learned from, all of the list `calibrate`, and how many speak in each: talks that are not long,
    an excerpt of each, and excerpts of readers in turn."""
    cast = _cast(corpus, clips, set_aside, "calibrate")
    for i, recipe in enumerate(talk_recipes("calibrate", COUNTED_TALKS)):
        if recipe.seconds <= COUNTED_SECONDS:
            talk = build_talk(recipe, cast)
            yield talk.audio, len({turn.speaker for turn in talk.turns})
            yield from countable(talk, np.random.default_rng([i, 9, 1]))
    yield from _readers(cast)


def _readers(cast: SimulatedCast) -> Iterator[tuple[Waveform, int]]:
    """Two excerpts of each of some conversations of two or three readers."""
    shelf = Shelf({name: paths for name, paths in cast.clips.items() if len(paths) > 3}, cast.word_times)
    for i in range(COUNTED_READERS):
        rng = np.random.default_rng([i, 8, 1])
        seconds, overlap = float(rng.uniform(*READERS_SECONDS)), bool(rng.integers(2))
        readers = build(Recipe("", int(rng.integers(2, 4)), seconds, overlap, 950_000 + i), shelf)
        yield from countable(readers, rng)
        yield from countable(readers, rng)


def countable(talk: Conversation, rng: np.random.Generator) -> Iterator[tuple[Waveform, int]]:
    """An excerpt with the number of its speakers, unless somebody says so little in it that the number is unclear."""
    low, high = EXCERPT_SECONDS[int(rng.random() < 0.8)]
    part = excerpt(talk, rng.uniform(low, high), rng)
    seconds = [spoken for spoken, _ in talk_time(part.turns).values()]
    if any(spoken >= SOMEBODY for spoken in seconds) and not any(NOBODY < spoken < SOMEBODY for spoken in seconds):
        yield part.audio, sum(spoken >= SOMEBODY for spoken in seconds)


def simulated(
    corpus: Path,
    clips: Iterable[Clip],
    set_aside: set[str],
    part: Part,
    quick: bool = False,
    limit: int | None = None,
) -> Iterator[DiarizationItem]:
    """Talks of one of the simulated lists. Raises CloningError where the corpus has too few of its speakers."""
    cast = _cast(corpus, clips, set_aside, part)
    for recipe in talk_recipes(part, QUICK_TALKS if quick else TALKS if limit is None else limit):
        yield _made(recipe.name, f"simulated, {recipe.channel}", build_talk(recipe, cast))


def _cast(corpus: Path, clips: Iterable[Clip], set_aside: set[str], part: Part) -> SimulatedCast:
    cast = cast_of(part, clips, read_word_times(corpus), set_aside, corpus / NOISES)
    if len(cast.clips) < 5:
        raise CloningError(
            f"{corpus}: {len(cast.clips)} speakers with word times for the simulated list {part}; 5 are wanted"
        )
    return cast
