"""What the page does, without the page: bounds on what comes in, a clone, its file and its pictures."""

from __future__ import annotations

import io
import logging
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from encoder.plots import plot_embedding
from utils import plots
from utils.audio import io as audio
from utils.audio.io import Waveform
from utils.audio.mel import mel_spectrogram
from utils.errors import CloningError
from voice_cloner import Cloning, MismatchError, VoiceCloner

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
SAMPLES = Path(__file__).resolve().parent.parent / "samples"
MAX_MEGABYTES = 25
MAX_SECONDS = 120.0  # of a reference; 5 to 15 are enough
MAX_CHARACTERS = 1000
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


@dataclass(frozen=True)
class Result:
    """A clone as the page shows it: a wav file's bytes and PNG pictures, so that showing it again costs nothing."""

    title: str
    cloning: Cloning
    wav: bytes = field(repr=False)
    pictures: dict[str, bytes] = field(repr=False)  # speech, reference, embedding, embedding of the reference


def read_upload(data: bytes, name: str, max_seconds: float = MAX_SECONDS) -> Waveform:
    """What was uploaded or recorded, in memory only. Raises CloningError: too big, too long, not readable."""
    if len(data) > MAX_MEGABYTES * 2**20:
        raise CloningError(
            f"{name} is {len(data) / 2**20:.0f} MB; at most {MAX_MEGABYTES} MB is taken: cut out the best 15 seconds"
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
    """The text without blanks at its ends. Raises CloningError when there is none of it, or too much."""
    text = text.strip()
    if not text:
        raise CloningError("There is nothing to say yet: type a sentence, or take a sample text.")
    if len(text) > MAX_CHARACTERS:
        raise CloningError(
            f"The text has {len(text)} characters; at most {MAX_CHARACTERS} are taken here: demo_cli.py takes files."
        )
    return text


def clone(
    cloner: VoiceCloner,
    voice: Waveform,
    text: str,
    settings: Settings,
    title: str,
    progress: Callable[[str], None] | None = None,
) -> Result:
    """Speak `text` in `voice`; the wav is written by the library's own writer, with the marks that it makes."""
    emotion = {"emotion": settings.emotion} if settings.emotion else {}
    cloning = cloner.clone(
        voice, text, seed=settings.seed, rate=settings.rate, pause=settings.pause, progress=progress, **emotion
    )
    if progress:
        progress("pictures")
    return Result(title, cloning, wav_file(cloning), draw(cloner, voice, cloning))


def wav_file(cloning: Cloning) -> bytes:
    """The bytes of the file that demo_cli.py would write."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clone.wav"
        return audio.write(path, cloning.audio, metadata=cloning.tags()).read_bytes()


def draw(cloner: VoiceCloner, voice: Waveform, cloning: Cloning) -> dict[str, bytes]:
    """PNG pictures: mel and alignment of the clone, mel of the reference, both embeddings. One that fails is left out:
    the clone is worth more than its pictures."""
    mel = cloner.synthesizer.mel
    hop = mel.hop_length / mel.sample_rate
    text = " ".join(piece.text for piece in cloning.pieces)

    def reference() -> Figure:
        samples = audio.peak_normalize(audio.resample(voice.samples, voice.sample_rate, mel.sample_rate))
        real = mel_spectrogram(torch.from_numpy(np.ascontiguousarray(samples)), mel).numpy()
        return plots.plot_mel(real, "reference", hop)

    def clones_embedding() -> Figure:
        heard = cloner.encoder.preprocess(cloning.audio)
        return plot_embedding(cloner.encoder.embed(heard if len(heard) else cloning.audio), "clone")

    figures = {
        "speech": lambda: plots.plot_cloning(cloning.mel, [piece.alignment for piece in cloning.pieces], text, hop),
        "reference": reference,
        "embedding": clones_embedding,
        "embedding of the reference": lambda: plot_embedding(cloner.embed_reference(voice), "reference"),
    }
    pictures = {}
    for name, make in figures.items():
        try:
            pictures[name] = png(make())
        except Exception:
            log.exception("the picture of the %s could not be drawn", name)
    return pictures


def png(figure: Figure) -> bytes:
    """A matplotlib figure as the bytes of a picture."""
    buffer = io.BytesIO()
    plots.render(figure, buffer, transparent=True)
    return buffer.getvalue()


def cross_similarity(cloners: list[VoiceCloner], voice: Waveform, results: list[Result]) -> list[list[float]]:
    """Row: a clone; column: an encoder that judges how like the reference it is."""
    speakers = [cloner.embed_reference(voice) for cloner in cloners]
    return [
        [cloner.similarity(speaker, result.cloning.audio) for cloner, speaker in zip(cloners, speakers, strict=True)]
        for result in results
    ]


def explain(error: Exception) -> str:
    """One line for the page: the library's own words for what a visitor can mend, a log reference for the rest."""
    if isinstance(error, MismatchError):
        return f"{error} (here: 'Allow stages that do not fit' in the advanced settings)"
    if isinstance(error, CloningError):
        return str(error)
    reference = secrets.token_hex(3)
    log.error("page error %s", reference, exc_info=error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return f"There is not enough memory for this: try a shorter text or recording. (Log reference {reference}.)"
    return f"Something went wrong that should not have. The log says more under reference {reference}."
