"""Adapt the chain's synthesizer to one voice, within a minute of a CPU.

    >>> voice = adapt(cloner, ["one.wav", "two.wav"])
    >>> voice.save("ann.safetensors")
    >>> cloner.clone(voice, "Hello there.")

While the adapters learn (`synthesizer.adaptation`), sentences that are in no recording are spoken with them.
What is kept is the last state in which these are more like the voice than unadapted, and about as intelligible. If
there is none, the voice is not adapted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

import utils  # isort: skip  # noqa: F401  settles how threads wait, before torch is loaded
import torch

from cloning.cloner import VoiceCloner
from cloning.references import Clips, ReferenceClip, read_clips
from synthesizer.adaptation import Adaptation
from synthesizer.aligned_clip import AlignedClip, clip_with_words, clip_without_words, recorded
from synthesizer.inference import Synthesizer
from synthesizer.speech import SpeechOptions, SynthesizedSentence
from utils.audio.io import read
from utils.errors import CloningError
from utils.seeds import require_seed
from utils.speech_bounds import require_count, require_number
from utils.voice import Voice

SECONDS = (5.0, 3600.0)
STEPS = (40, 160)  # for up to SHORT and from LONG seconds of voice on
SHORT, LONG = 20.0, 180.0
ROUNDS = 2  # states that are rated
RATING_SHARE = 0.8  # part of the time after which no step is made
PHONE_ERROR_SLACK = 0.15  # part of the frames; in a noisy voice it grew by 0.10, and words were understood as before
SENTENCES = (
    "The old sailor watched a thick fog move over the harbor.",
    "Please choose eight yellow plums and put them in a jar.",
    "She thought the voyage was a great joke, but nobody laughed.",
    "Young children enjoy measuring how high their kites have flown.",
)


@dataclass(frozen=True)
class Rating:
    """The test sentences' cosine with the voice, and the share of frames taken for another phone (NaN: unknown)."""

    similarity: float
    phone_error: float

    def acceptable(self, unadapted: Rating) -> bool:
        """Whether it is more like the voice than `unadapted`, and about as intelligible."""
        return (
            self.similarity > unadapted.similarity and not self.phone_error > unadapted.phone_error + PHONE_ERROR_SLACK
        )


def adapt(
    cloner: VoiceCloner,
    reference: Clips,
    texts: Sequence[str | None] = (),
    *,
    seconds: float = 60.0,
    steps: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    after: Callable[[int, int], bool] | None = None,
) -> Voice:
    """The voice of one clip or of several, as `VoiceCloner.embed_voice`, with changes of the synthesizer's weights.

    reference: a path, an array, a Waveform, or a list of them.
    texts: what is said in each clip, in order, None where that is not known; for words, pocketsphinx must be installed.
    `seconds` of wall time bound it, 5 to 3600; `steps` are planned by the length of the recordings. The same seed gives
    the same changes where time suffices. `progress` is called with a line now and then, `after` each step with its
    number and how many are planned: where it returns False, no more are made. Raises CloningError as `embed_voice`
    does; for bounds, words that do not fit, a synthesizer that cannot be adapted.
    """
    require_number("seconds", seconds, *SECONDS)
    require_count("steps", 0 if steps is None else steps, least=0)
    require_seed(seed)
    say = progress or (lambda line: None)
    started = time.perf_counter()
    clips = read_clips(reference)
    voice = replace(cloner.embed_voice(clips), synthesizer=cloner.synthesizer.voice_fingerprint)
    aligned = _aligned_clips(cloner, clips, texts)
    steps = planned_steps(sum(clip.wav.seconds for clip in clips)) if steps is None else steps
    learner = Adaptation(cloner.synthesizer, voice, aligned, steps, seed)
    first = rate_voice(cloner, voice)
    chosen, at = voice, 0
    say(f"unadapted: {_described(first)}")
    go_on = True
    for stop in sorted({round(steps * part / ROUNDS) for part in range(1, ROUNDS + 1)} - {0}):
        while go_on and learner.step < stop:
            learner.learn()
            in_time = time.perf_counter() - started < RATING_SHARE * seconds
            go_on = (after is None or after(learner.step, steps)) and in_time
        candidate = replace(voice, adapted=learner.numbers(), compensation=None)  # learned instead
        rating = rate_voice(cloner, candidate)
        say(f"step {learner.step} of {steps}: {_described(rating)}")
        if rating.acceptable(first):
            chosen, at = candidate, learner.step
        if not go_on:
            break
    say(f"kept: step {at}" if at else "kept: the unadapted voice, no step was more like it")
    return chosen


def planned_steps(seconds: float) -> int:
    """More for longer recordings: a short one is soon known by heart."""
    share = (min(max(seconds, SHORT), LONG) - SHORT) / (LONG - SHORT)
    return round(STEPS[0] + share * (STEPS[1] - STEPS[0]))


def needs_transcripts(cloner: VoiceCloner) -> bool:
    """Whether the synthesizer cannot find the phones of a recording itself."""
    return not cloner.synthesizer.network.finds_symbols


def rate_voice(cloner: VoiceCloner, voice: Voice) -> Rating:
    """How alike and how intelligible the test sentences are in `voice`."""
    pieces = cloner.synthesizer.synthesize(SENTENCES, voice, SpeechOptions(seed=0))
    audio = [cloner.vocoder.vocode(piece.mel, seed=0) for piece in pieces]
    similarity = float(np.mean([cloner.similarity(voice.embedding, clone) for clone in audio]))
    return Rating(similarity, float(np.mean([_phone_error(cloner, piece) for piece in pieces])))


def _phone_error(cloner: VoiceCloner, piece: SynthesizedSentence) -> float:
    with torch.inference_mode():
        mel = torch.from_numpy(piece.mel).to(cloner.synthesizer.device)[None]
        logits = cloner.synthesizer.network.frame_symbols(mel)
    if logits is None:
        return float("nan")
    ids = torch.tensor([cloner.synthesizer.text.table.ids[symbol] for symbol in piece.tokens])
    wanted = ids[torch.from_numpy(piece.alignment.argmax(axis=1))]
    return float((logits[0].argmax(dim=1).cpu() != wanted).float().mean())


def _aligned_clips(
    cloner: VoiceCloner, clips: Sequence[ReferenceClip], texts: Sequence[str | None]
) -> list[AlignedClip]:
    if isinstance(texts, str):
        raise TypeError(f"{texts[:40]!r} is one text, a list with one for each clip is wanted: put it into one")
    if texts and len(texts) != len(clips):
        raise CloningError(f"{len(texts)} texts for {len(clips)} clips: give one for each, in their order")
    found, synthesizer = [], cloner.synthesizer
    for clip, text in zip(clips, texts or [None] * len(clips), strict=True):
        try:
            found.append(_with_words(synthesizer, clip, text) if text else _without_words(synthesizer, clip))
        except CloningError as error:
            raise CloningError(f"{clip.name}: {error}") from error
    return found


def _without_words(synthesizer: Synthesizer, clip: ReferenceClip) -> AlignedClip:
    return clip_without_words(synthesizer.network, synthesizer.text.table, recorded(clip.wav, synthesizer.network_mel))


def _with_words(synthesizer: Synthesizer, clip: ReferenceClip, text: str) -> AlignedClip:
    from synthesizer.data.forced_aligner import RATE, Aligner

    row = {"id": clip.name, **Aligner()(read(clip.wav, sample_rate=RATE).samples, text)}
    samples = read(clip.wav, sample_rate=synthesizer.network_mel.sample_rate).samples
    return clip_with_words(synthesizer.text.table, synthesizer.network_mel, samples, row)


def _described(rating: Rating) -> str:
    words = "" if np.isnan(rating.phone_error) else f", {rating.phone_error:.1%} of the frames heard as another phone"
    return f"similarity {rating.similarity:.3f}{words}"
