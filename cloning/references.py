"""Recordings of a voice to clone: read once, and looked over for what keeps them from being good references."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from diarization.normalization import CALIBRATIONS, Calibration
from diarization.pipeline import Diarization, Diarizer
from diarization.settings import DiarizationSettings
from encoder.inference import SpeakerEncoder
from utils.audio import quality
from utils.audio.io import Source, Waveform, read
from utils.errors import CloningError
from utils.files import user_path
from utils.voice import Voice

MAX_SECONDS = 600.0
ASSESSED_SECONDS = 120.0  # of a recording: what is wrong with it shows by then
MIN_OTHER_SECONDS = 1.0  # that a second person speaks, to be told


@dataclass(frozen=True)
class ReferenceClip:
    """A recording at the rate at which it was made, what errors and notes call it, and what it was read from."""

    name: str
    wav: Waveform
    source: Source | None = field(default=None, repr=False)

    def sha256(self) -> str:
        """The hash of its file's bytes; of its samples, where it was no file, or one that can be read only once."""
        source = self.source
        if isinstance(source, str | Path) and user_path(source).is_file():
            with user_path(source).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        data = source if isinstance(source, bytes | bytearray) else np.ascontiguousarray(self.wav.samples).tobytes()
        return hashlib.sha256(data).hexdigest()


# One recording of a voice, or several
Clips = Source | ReferenceClip | Sequence[Source | ReferenceClip]
# ... or a Voice, or the file of one, in their place
Reference = Clips | Voice | Sequence[Source | ReferenceClip | Voice]


def read_clips(reference: Clips) -> list[ReferenceClip]:
    """One clip, or a list of them (paths, bytes, files, arrays, Waveforms, or Clips, which stay as they are).

    Raises CloningError for none, and for one that cannot be read or is too long.
    """
    clips = list(reference) if isinstance(reference, list | tuple) else [cast(Source | ReferenceClip, reference)]
    if not clips:
        raise CloningError("no reference clip given: name at least one recording of the voice")
    return [clip if isinstance(clip, ReferenceClip) else _read(clip) for clip in clips]


def _read(source: Source) -> ReferenceClip:
    if isinstance(source, Voice):
        raise CloningError("a voice stands where recordings are wanted: it goes alone, and is cloned, not embedded")
    name = str(source) if isinstance(source, str | Path) else "the reference"
    return ReferenceClip(name, read(source, sample_rate=None, max_seconds=MAX_SECONDS), source)


class Assessor:
    """Says what is wrong with references. How many speak is told where a folder has the encoder's calibration
    (`diarization.normalization`)."""

    def __init__(self, encoder: SpeakerEncoder, folders: Sequence[Path]) -> None:
        self._diarizer = None
        for folder in folders:
            try:
                calibration = Calibration.load(folder / CALIBRATIONS[0], encoder.fingerprint)
                self._diarizer = Diarizer(encoder, calibration, DiarizationSettings(hop=0.8))
            except CloningError:  # none, or a package is missing
                continue
            break

    def notes(self, clips: Sequence[ReferenceClip]) -> list[str]:
        """A line for each thing; none is a good sign."""
        found: list[str] = []
        for clip in clips:
            wav = clip.wav
            beginning = Waveform(wav.samples[: round(ASSESSED_SECONDS * wav.sample_rate)], wav.sample_rate)
            measured = quality.measure(beginning)
            found += [*wav.notes, *measured.notes(clip.name)]
            if measured.has_voice:
                found += self._others(clip.name, beginning)
        return found

    def _others(self, name: str, wav: Waveform) -> list[str]:
        if (diarizer := self._diarizer) is None:
            return []
        try:
            found = diarizer.diarize(wav)
        except CloningError:  # too little speech to compare
            return []
        talk = {who: seconds for who, (seconds, _) in found.talk_time().items() if seconds >= MIN_OTHER_SECONDS}
        voices = np.stack([_voice(diarizer, found, who) for who in talk]) if talk else np.zeros((0, 1))
        # one person in two moods makes two clusters; two clips of one person are hardly ever so unlike
        if len(talk) < 2 or (voices[1:] @ voices[0]).min() >= diarizer.calibration.threshold:
            return []
        seconds = [f"{seconds:.1f} s" for seconds in talk.values()]
        return [f"{name}: {len(seconds)} people speak in it ({', '.join(seconds)}): cut out one of them"]


def _voice(diarizer: Diarizer, found: Diarization, who: str) -> np.ndarray:
    """The embedding (D,) of all that one of the voices says."""
    rate = found.audio.sample_rate
    turns = [turn for turn in found.turns if turn.speaker == who]
    speech = [found.audio.samples[round(turn.start * rate) : round(turn.stop * rate)] for turn in turns]
    return diarizer.encoder.embed_utterance(Waveform(np.concatenate(speech), rate))
