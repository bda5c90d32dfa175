"""A plan for voices that are not frozen: to choose between checkpoints without a look at the voices set aside."""

from __future__ import annotations

import fnmatch
import hashlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import soundfile

from evaluation.judges.recognizer import normalize
from evaluation.lists.sentences import Item, SentencePlan, in_turn
from utils.data.corpora import ACTED, Clip, scan
from utils.data.selection import SET_ASIDE, read_set_aside, splitter
from utils.errors import CloningError

REFERENCE_S = (4.0, 12.0)  # seconds of a reference clip
SENTENCE_S = (1.5, 10.0)
ENROLMENT, SENTENCES = 8, 10  # of a voice, at most
AT_LEAST = 7  # clips of a voice
NO_SENTENCES = {*ACTED, "an4", "speech_commands", "speechocean762"}  # acted, spelled, single words, children


def plan_of(corpus: Path, names: list[str] | None, validation: float = 0.05, seed: int = 0) -> SentencePlan:
    """The voices `names` (wildcards allowed), or those that the preprocess scripts hold out for validation by default.

    Of each voice, always the same: a reference, eight clips as the voice itself, ten sentences. CloningError for a name
    that is set aside or has too few clips.
    """
    clips: dict[str, list[Clip]] = defaultdict(list)
    for clip in scan(corpus).clips:
        if clip.text:
            clips[clip.speaker].append(clip)
    splits = splitter(clips, validation, seed, read_set_aside(SET_ASIDE))
    enough = sorted(speaker for speaker, own in clips.items() if len(own) >= AT_LEAST)
    if names:
        chosen = [speaker for speaker in enough if any(fnmatch.fnmatchcase(speaker, name) for name in names)]
        for name in names:
            if not fnmatch.filter(chosen, name):
                raise CloningError(f"{name}: no such speaker with {AT_LEAST} clips and texts in {corpus}")
        if aside := [speaker for speaker in chosen if splits[speaker] == "test"]:
            raise CloningError(f"{', '.join(aside)}: set aside, nothing may be chosen by them")
    else:
        chosen = [speaker for speaker in enough if splits[speaker] == "validation"]
        chosen = [speaker for speaker in chosen if clips[speaker][0].corpus not in NO_SENTENCES]
        if not chosen:
            raise CloningError(f"{corpus}: no validation speaker with {AT_LEAST} clips and texts; name voices")
    items, enrolment, missing = [], {}, []
    for speaker in chosen:
        try:
            own, rest = _one_voice(speaker, clips[speaker])
        except CloningError as error:
            missing.append((speaker, str(error)))
            continue
        items += own
        enrolment[speaker] = rest
    if not items:
        raise CloningError(f"{corpus}: {missing[0][1]}")
    real = {speaker: [item for item in items if item.speaker == speaker] for speaker in enrolment}
    return SentencePlan(in_turn(items), enrolment, missing, real)


def _one_voice(speaker: str, clips: list[Clip]) -> tuple[list[Item], list[Path]]:
    """Its sentences, and the clips that are the voice itself."""
    shuffled = sorted(clips, key=lambda clip: hashlib.sha256(clip.id.encode()).hexdigest())
    seconds = {clip.id: soundfile.info(clip.path).duration for clip in shuffled}

    def within(limits: tuple[float, float]) -> Callable[[Clip], bool]:
        return lambda clip: limits[0] <= seconds[clip.id] <= limits[1]

    reference = next(filter(within(REFERENCE_S), shuffled), None)
    if reference is None:
        raise CloningError(f"{speaker}: no clip of {REFERENCE_S[0]:g} to {REFERENCE_S[1]:g} s")
    rest = [clip for clip in filter(within(SENTENCE_S), shuffled) if clip is not reference]
    rest = [clip for clip in rest if not any(c.isdigit() for c in clip.text or "")]  # several readings
    size = min(SENTENCES, len(rest) // 2)
    read, enrolment = rest[:size], rest[size : size + ENROLMENT]
    items = []
    for clip in read:
        name, text = clip.id.replace("/", "-"), _text(clip.text or "")
        items.append(Item(name, speaker, "read", text, normalize(text), reference.path, clip.path))
    return items, [clip.path for clip in enrolment]


def _text(text: str) -> str:
    """A transcript without case and punctuation, as LibriSpeech has it, gets a capital and a full stop."""
    return text if text != text.upper() else f"{text.capitalize()}."
