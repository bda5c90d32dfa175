"""What a synthesizer gives: sentences, how well each went, and how they are joined."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypedDict

import numpy as np

from synthesizer.models.alignment_quality import AlignmentQuality
from synthesizer.text.sentences import Sentence
from synthesizer.text.symbols import SILENCE
from utils.audio.io import Waveform
from utils.audio.mel import MelConfig
from utils.errors import CloningError
from utils.seeds import require_seed
from utils.speech_bounds import require_count, require_speech_bounds
from utils.times import Times

EmotionInput = str | Waveform | None  # a label, a recording that carries an emotion, or neutral
KEPT_FRAMES = 2  # of the silence before a sentence, however short the pause


@dataclasses.dataclass(frozen=True)
class SpeechOptions:
    """How a text is to be said. Raises CloningError for a value outside its bounds."""

    rate: float = 1.0  # speed: 2 is twice as fast
    pause: float = 1.0  # factor of the silences between sentences
    pitch: float = 0.0  # semitones higher
    seed: int | None = None  # the same seed, the same mel; None: a random one
    emotion: EmotionInput = None
    attempts: int = 2  # with the next seeds, for a sentence that is badly aligned; the best is kept
    monotonic: bool = False  # a Tacotron's attention, where it has one, may neither go back nor skip

    def __post_init__(self) -> None:
        require_speech_bounds(self.rate, self.pause, self.pitch)
        require_count("attempts", self.attempts)
        if not isinstance(self.monotonic, bool):
            raise CloningError(f"monotonic is {self.monotonic!r}; it must be True or False")
        require_seed(self.seed)
        if self.seed is not None:
            object.__setattr__(self, "seed", int(self.seed))  # no generator takes numpy's

    def with_seed(self) -> SpeechOptions:
        """These options with a seed: a random one where none was given."""
        return self if self.seed is not None else dataclasses.replace(self, seed=secrets.randbelow(2**31))


DEFAULT = SpeechOptions()


def require_texts(texts: Any) -> None:
    """Raises TypeError for one text where several are wanted (its letters would be taken for texts), for what is no
    list, and for what is no text: a str, or some of the sentences that `Synthesizer.sentences` cuts one into."""
    if isinstance(texts, str):
        raise TypeError(f"{texts[:40]!r} is one text, a list of texts is wanted: put it into one")
    if isinstance(texts, bytes) or not isinstance(texts, Sequence):
        raise TypeError(f"texts is of type {type(texts).__name__}; a list of texts is wanted")
    for text in texts:
        if isinstance(text, str) or (
            isinstance(text, Sequence) and text and all(isinstance(s, Sentence) for s in text)
        ):
            continue
        require_text(text)


def require_text(text: Any) -> None:
    """Raises TypeError for what is no str."""
    if not isinstance(text, str):
        several = isinstance(text, Sequence) and not isinstance(text, bytes)
        remedy = "; clone_many and speak_many take several texts" if several else ""
        raise TypeError(f"a text is a str, or a list of sentences, not {type(text).__name__}{remedy}")


class SpeechArguments(TypedDict, total=False):
    """The fields of `SpeechOptions` as keyword arguments of functions that make one."""

    rate: float
    pause: float
    pitch: float
    seed: int | None
    emotion: EmotionInput
    attempts: int
    monotonic: bool


@dataclasses.dataclass(frozen=True)
class SynthesizedSentence:
    """One sentence spoken."""

    mel: np.ndarray = dataclasses.field(repr=False)  # (M, F)
    alignment: np.ndarray = dataclasses.field(repr=False)  # (F, N): which token each frame says
    stop_reason: str  # "token", "alignment", "limit", or "durations" (parallel: its length is planned)
    text: str
    tokens: list[str] = dataclasses.field(repr=False)
    quality: AlignmentQuality
    seed: int
    words: tuple[str, ...] = ()  # that the phones are of; none where the tokens are letters

    @property
    def good(self) -> bool:
        """Neither cut off by the limit nor badly aligned."""
        return self.stop_reason != "limit" and self.quality.good


@dataclasses.dataclass(frozen=True)
class SpokenSentence:
    """A sentence of a text, as it was cut and as it was said."""

    sentence: Sentence
    piece: SynthesizedSentence = dataclasses.field(repr=False)
    mel: np.ndarray = dataclasses.field(repr=False)  # (M, f), with the pause before it


@dataclasses.dataclass(frozen=True)
class Speech:
    """A text spoken: the sentences, and their mels with the pauses between."""

    mel: np.ndarray = dataclasses.field(repr=False)  # (M, F)
    pieces: list[SynthesizedSentence]
    notes: list[str]  # what was left out of the text, what went wrong
    times: Times


def after(
    before: SynthesizedSentence | None, seconds: float, piece: SynthesizedSentence, mel_config: MelConfig
) -> np.ndarray:
    """The mel (M, F) of a sentence with the pause before it, so that the total silence is `seconds`.

    Silence that both sentences hold counts. What is missing goes from the last frame to the next, but quiet; what is
    too much is cut from `piece`.
    """
    if before is None:
        return piece.mel
    own = silent_ends(piece)[0]
    count = round(seconds / mel_config.frame_seconds) - silent_ends(before)[1] - own
    mel = piece.mel[:, min(-count, max(0, own - KEPT_FRAMES)) :] if count < 0 else piece.mel
    count = max(0, count)
    slope = (np.arange(count, dtype=np.float32) + 0.5) / max(1, count)
    between = before.mel[:, -1:] * (1 - slope) + mel[:, :1] * slope
    return np.concatenate([np.minimum(between, -mel_config.max_abs + 0.5), mel], axis=1)


def with_pauses(
    pieces: Iterable[tuple[Sentence, SynthesizedSentence]], options: SpeechOptions, mel_config: MelConfig
) -> Iterator[SpokenSentence]:
    """The sentences of a text, each with the pause before it."""
    before, silence = None, 0.0
    for sentence, piece in pieces:
        yield SpokenSentence(sentence, piece, after(before, silence, piece, mel_config))
        before, silence = piece, silence_after(sentence, options)


def silence_after(sentence: Sentence, options: SpeechOptions) -> float:
    """Seconds between a sentence and the next."""
    return sentence.pause_s * (1.0 if sentence.asked else options.pause / options.rate)


def silent_ends(piece: SynthesizedSentence) -> tuple[int, int]:
    """Frames of silence at the start and at the end of a sentence."""
    silent = np.array([token == SILENCE for token in piece.tokens])[piece.alignment.argmax(axis=1)]
    spoken = np.flatnonzero(~silent)
    return (int(spoken[0]), len(silent) - 1 - int(spoken[-1])) if len(spoken) else (0, 0)


def complaint(piece: SynthesizedSentence) -> str:
    """Why a sentence is not good."""
    found = piece.quality
    if piece.stop_reason == "limit":
        return f"did not end by itself and was cut off after {piece.mel.shape[1]} frames: try another seed"
    return (
        f"alignment quality {found.score:.2f} ({found.coverage:.0%} of the symbols said, {found.skips} skips, "
        f"{found.repeats} repeats): try another seed"
    )
