"""One clip of a corpus to what a synthesizer learns from: tokens, mel, pitch, speaker embedding, durations."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synthesizer.data import alignments as align
from synthesizer.features import (
    LEVEL_DBFS,
    level,
    loud_dbfs,
    trimmed,
    without_pauses,
)
from synthesizer.text import clauses
from synthesizer.text.processor import TextProcessor
from utils.audio import io as audio
from utils.audio import mel
from utils.audio.pitch import HIGHEST_ACTED_HZ, HIGHEST_HZ, pitch
from utils.data import manifest
from utils.data import preprocess as preprocessing
from utils.data.corpora import ACTED, Clip
from utils.data.manifest import Utterance
from utils.errors import CloningError
from utils.files import atomic_path

log = logging.getLogger(__name__)
KIND = "synthesizer"
VOICES = "voices"  # kind of a set without texts
AT_SPEED = "_x"  # in the name of a clip and of a speaker, before the speed
CHARACTERS_PER_SECOND = (5.0, 25.0)  # outside, the transcript hardly fits
SYMBOLS_PER_SECOND = (1.0, 35.0)  # outside, it cannot fit: seven corpora have 1.8 (children, letters) to 23 characters

Embed = Callable[[np.ndarray, int], np.ndarray]  # samples (T,), Hz -> (D,)


@dataclasses.dataclass
class Preprocessor:
    """Called with a clip in worker processes: (Utterance, arrays). Raises CloningError for what is to be skipped.

    arrays: tokens (N,) int16, mel (F, M) float16, pitch (F,) float16 (see `pitch`), embed (D,) float32 and, where
    alignments are given, durations (N,) int16 in mel frames with sum F, and marks (N,) int16 (see `clauses`); with
    `keep_audio` also wav (T,) int16, what the mel was computed from. `embed` must be picklable.
    """

    embed: Embed
    text: dict[str, Any] | str = "phonemes"  # what TextProcessor takes
    alignments: tuple[Path, ...] = ()  # files; read once in each process
    min_score: float = 0.05  # of an alignment: lower, and the transcript hardly fits
    min_seconds: float = 0.8
    max_seconds: float = 20.0
    config: mel.MelConfig = mel.SYNTHESIZER_MEL
    keep_audio: bool = False
    levels: dict[str, float] = dataclasses.field(default_factory=dict)  # of `speaker_levels`
    _processor: TextProcessor | None = dataclasses.field(default=None, repr=False, compare=False)
    _rows: dict[str, dict[str, Any]] | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def processor(self) -> TextProcessor:
        """The text processor of this process."""
        if self._processor is None:
            self._processor = TextProcessor(self.text)
        return self._processor

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Alignments by the clip's id, or by the name of the audio file without its suffix."""
        if self._rows is None:
            self._rows = align.read_alignments(self.alignments)
        return self._rows

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_processor": None, "_rows": None}  # travels with every shard

    def header(self) -> dict[str, Any]:
        """What the manifest says of the whole set."""
        return {
            "mel": dataclasses.asdict(self.config),
            "text": self.processor.describe(),
            "marks": "pauses" if self.alignments else "all",
            "durations": bool(self.alignments),
            "clauses": bool(self.alignments),
            "level_dbfs": LEVEL_DBFS,
        } | ({"audio": True} if self.keep_audio else {})  # sets that were made before it was stored still go on

    def __call__(self, clip: Clip) -> tuple[Utterance, dict[str, np.ndarray]]:
        if not clip.text:
            raise CloningError(f"no transcript: {clip.id}")
        row = (self.rows.get(original(clip)) or self.rows.get(clip.path.stem)) if self.alignments else None
        if self.alignments and row is None:
            raise CloningError(f"no alignment: {clip.id}")
        if row is not None and row.get("score", 1.0) < self.min_score:
            raise CloningError(f"poor alignment: {clip.id}: score {row['score']}, limit {self.min_score}")
        whole = audio.read(clip.path, sample_rate=self.config.sample_rate).samples
        if clip.speed != 1:
            whole, row = audio.change_speed(whole, clip.speed), row and align.at_speed(row, clip.speed)
        samples = level(whole, self.config.sample_rate, self.levels.get(clip.speaker))
        if row is None:
            samples, symbols = trimmed(samples, self.config.sample_rate), None
        else:
            samples, symbols = align.cut_to(samples, row, self.config.sample_rate)
        seconds = len(samples) / self.config.sample_rate
        if seconds < self.min_seconds:
            raise CloningError(f"too short: {clip.id}: {seconds:.1f} s, limit {self.min_seconds:g} s")
        if seconds > self.max_seconds:
            raise CloningError(f"too long: {clip.id}: {seconds:.1f} s, limit {self.max_seconds:g} s")
        marks: list[str] = []
        if row is not None and symbols is not None:
            spoken = [word for word, _, _ in row["words"]]
            marks = clauses.marks_of_recording(symbols.symbols, spoken, clip.text, self.processor)
        return self._features(clip, whole, samples, symbols, marks)

    def _features(
        self, clip: Clip, whole: np.ndarray, samples: np.ndarray, symbols: align.AlignedSymbols | None, marks: list[str]
    ) -> tuple[Utterance, dict[str, np.ndarray]]:
        config, seconds, text = self.config, len(samples) / self.config.sample_rate, clip.text or ""
        tokens = self.processor.encode(text) if symbols is None else self.processor.table.encode(symbols.symbols)
        low, high = SYMBOLS_PER_SECOND
        if not low <= (rate := len(tokens) / seconds) <= high:
            raise CloningError(
                f"transcript does not fit: {clip.id}: {len(tokens)} symbols in {seconds:.1f} s are {rate:.1f} a "
                f"second, limits {low:g} and {high:g}"
            )
        spectrogram = mel.mel_spectrogram(torch.from_numpy(samples), config).T.numpy()
        highest = HIGHEST_ACTED_HZ if clip.corpus in ACTED else HIGHEST_HZ
        arrays: dict[str, np.ndarray] = {
            "mel": spectrogram.astype(np.float16),
            "pitch": pitch(samples, config.sample_rate, config.hop_length, high=highest).astype(np.float16),
            "embed": np.asarray(self.embed(whole, config.sample_rate), dtype=np.float32),
        }
        if self.keep_audio:
            arrays["wav"] = audio.to_pcm16(samples)
        if symbols is not None:
            lengths = align.frame_durations(symbols, config.sample_rate, config.hop_length, len(spectrogram))
            arrays["marks"] = np.array(clauses.mark_ids(marks, self.processor.table), dtype=np.int16)
            arrays["durations"] = np.append(lengths, 0).astype(np.int16)  # the end symbol takes no time
        arrays["tokens"] = np.array(tokens, dtype=np.int16)
        utterance = preprocessing.describe(
            clip,
            seconds=seconds,
            frames=len(spectrogram),
            tokens=len(tokens),
            characters_per_second=round(len(text) / seconds, 1),
            **({} if clip.speed == 1 else {"original": original(clip)}),
        )
        return utterance, arrays


@dataclasses.dataclass
class VoicePreprocessor:
    """As `Preprocessor`, for clips without a text: voices to speak with, not words to learn.

    arrays: mel, pitch, embed.
    """

    embed: Embed
    min_seconds: float = 1.5
    max_seconds: float = 20.0
    config: mel.MelConfig = mel.SYNTHESIZER_MEL

    def header(self) -> dict[str, Any]:
        """What the manifest says of the whole set."""
        return {"mel": dataclasses.asdict(self.config), "level_dbfs": LEVEL_DBFS}

    def __call__(self, clip: Clip) -> tuple[Utterance, dict[str, np.ndarray]]:
        rate = self.config.sample_rate
        whole = audio.read(clip.path, sample_rate=rate).samples
        samples = without_pauses(level(whole, rate), rate)[: round(self.max_seconds * rate)]
        seconds = len(samples) / rate
        if seconds < self.min_seconds:
            raise CloningError(f"too short: {clip.id}: {seconds:.1f} s, limit {self.min_seconds:g} s")
        spectrogram = mel.mel_spectrogram(torch.from_numpy(samples), self.config).T.numpy()
        arrays: dict[str, np.ndarray] = {
            "mel": spectrogram.astype(np.float16),
            "pitch": pitch(samples, rate, self.config.hop_length, high=HIGHEST_HZ).astype(np.float16),
            "embed": np.asarray(self.embed(whole, rate), dtype=np.float32),
        }
        return preprocessing.describe(clip, seconds=seconds, frames=len(spectrogram)), arrays


def original(clip: Clip) -> str:
    """The id of the clip that this one is, or that it is at another speed."""
    return clip.id if clip.speed == 1 else clip.id.rpartition(AT_SPEED)[0]


def at_other_speeds(clips: Sequence[Clip], speeds: Sequence[float]) -> list[Clip]:
    """Every clip once more at one of `speeds`, spoken by somebody else: more voices to learn from."""
    found = []
    for clip in clips:
        speed = speeds[int(hashlib.sha256(clip.id.encode()).hexdigest(), 16) % len(speeds)]
        mark = f"{AT_SPEED}{speed:g}"
        found.append(dataclasses.replace(clip, id=clip.id + mark, speaker=clip.speaker + mark, speed=speed))
    return found


def speaker_levels(clips: Sequence[Clip], rate: int, count: int = 48) -> dict[str, float]:
    """The usual level in dBFS of each actor, over at most `count` clips: in acted speech, loudness is a part of it.

    Speakers of other corpora are left out: their clips are made equally loud.
    """
    of_speaker: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.corpus in ACTED:
            of_speaker.setdefault(clip.speaker, []).append(clip)
    found: dict[str, float] = {}
    for speaker, own in of_speaker.items():
        levels = []
        for clip in own[:: max(1, len(own) // count)]:
            try:
                levels.append(loud_dbfs(audio.read(clip.path, sample_rate=rate).samples, rate))
            except CloningError as error:  # raised again when the clip's turn comes
                log.debug("%s", error)
        if levels:
            found[speaker] = float(np.mean(levels))
    return found


def speaker_means(embeddings: Iterable[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The mean (D,) float32 of each speaker's embeddings (D,), of norm 1."""
    sums: dict[str, np.ndarray] = {}
    for speaker, embedding in embeddings:
        sums[speaker] = sums.get(speaker, 0) + embedding
    return {speaker: (total / np.linalg.norm(total)).astype(np.float32) for speaker, total in sums.items()}


def write_speaker_means(found: manifest.Manifest) -> dict[str, np.ndarray]:
    """The mean embedding of each speaker, of norm 1, into `speakers.safetensors` of the set."""
    from safetensors.numpy import save_file

    arrays = manifest.Arrays(found.root)
    means = speaker_means((u.speaker, arrays.read(u, "embed")) for u in found.utterances)
    with atomic_path(found.root / "speakers.safetensors") as partial:
        save_file(means, partial)
    return means


def outliers(found: manifest.Manifest) -> list[Utterance]:
    """Utterances whose transcript is too long or too short for their sound, and `outliers.jsonl` in the set."""
    low, high = CHARACTERS_PER_SECOND
    odd = [u for u in found.utterances if not low <= u.extra["characters_per_second"] <= high]
    rows = ({"id": u.id, "text": u.text, **u.extra} for u in odd)
    manifest.write_lines(found.root / "outliers.jsonl", rows)
    return odd
