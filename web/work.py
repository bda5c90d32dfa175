"""What the page does, without the page: bounds on what comes in, a clone's file, errors in words."""

from __future__ import annotations

import io
import logging
import math
import secrets
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cloning.references import MAX_SECONDS
from cloning.results import Cloning
from utils.audio import decoding
from utils.audio import io as audio
from utils.audio.io import Waveform
from utils.errors import CloningError, MismatchError
from utils.remedies import with_remedy

log = logging.getLogger(__name__)
FORMATS = {  # suffixes of what is downloaded
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
}
SAMPLES = Path(__file__).resolve().parent.parent / "samples"
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Good morning! The kettle is on, and the bread is still warm.",
    "On the 3rd of May, 1998, it cost $3.50; today you would pay twice that.",
    "Far out at sea, a lighthouse turned its slow white beam across the waves.",
    "Please call me back before six. I will wait by the telephone.",
)


@dataclass(frozen=True)
class Settings:
    """What the visitor set beside voice and text."""

    seed: int | None = None
    rate: float = 1.0
    pause: float = 1.0
    emotion: str | None = None
    pitch: float = 0.0  # semitones higher
    volume: float = 0.0  # dB louder, of the file

    def how(self) -> dict[str, Any]:
        """Keyword arguments of `VoiceCloner.clone`."""
        return {name: value for name, value in asdict(self).items() if name != "volume"}


def megabytes(seconds: float) -> int:
    """The megabytes of a file that long: stereo, 24 bits, 48 kHz, uncompressed."""
    return math.ceil(seconds * 48000 * 2 * 3 / 2**20)


def read_upload(data: bytes, name: str, max_seconds: float = MAX_SECONDS) -> Waveform:
    """What was uploaded or recorded, in memory only. Raises CloningError: too big, too long, not readable."""
    if len(data) > (most := megabytes(max_seconds)) * 2**20:
        raise CloningError(
            f"{name} is {len(data) / 2**20:.0f} MB; at most {most} MB is taken ({max_seconds / 60:g} minutes, "
            "uncompressed): cut out a part of it"
        )
    stream = io.BytesIO(data)
    stream.name = name  # errors name it
    return audio.read(stream, max_seconds=max_seconds)


def samples() -> dict[str, Path]:
    """The bundled clips by name. Raises CloningError when the folder is gone."""
    found = {path.stem: path for path in sorted(SAMPLES.glob("*.wav"))}
    if not found:
        raise CloningError(f"{SAMPLES}: no bundled clips there: upload a recording, or restore the folder")
    return found


def require_text(text: str) -> str:
    """The text without blanks at its ends. Raises CloningError when there is none of it."""
    if text := text.strip():
        return text
    raise CloningError("There is nothing to say yet: type a sentence, or take a sample text.")


def wav_file(cloning: Cloning, volume: float = 0.0) -> bytes:
    """The bytes of the file that demo_cli.py would write; `volume` in dB."""
    return _file("wav", audio.amplified(cloning.audio, volume), cloning.tags())


def converted(data: bytes, suffix: str) -> bytes:
    """The bytes of a wav file in another of FORMATS, with what the file says of itself."""
    if suffix == "wav":
        return data
    comment = decoding.comment(io.BytesIO(data), "clone.wav")
    return _file(suffix, audio.read(data, sample_rate=None), {"comment": comment} if comment else {})


def _file(suffix: str, wav: Waveform, tags: dict[str, str]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return audio.write(Path(folder) / f"clone.{suffix}", wav, metadata=tags).read_bytes()


def explain(error: Exception) -> str:
    """One line for the page: the library's own words for what a visitor can mend, a log reference for the rest."""
    if isinstance(error, MismatchError):
        return f"{error} (here: 'Allow stages that do not fit' in the advanced settings)"
    if isinstance(error, CloningError):
        return with_remedy(error)
    reference = secrets.token_hex(3)
    log.error("page error %s", reference, exc_info=error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return f"There is not enough memory for this: try a shorter text or recording. (Log reference {reference}.)"
    return f"Something went wrong that should not have. The log says more under reference {reference}."
