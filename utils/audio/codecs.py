"""Lossy codecs in memory, by libsndfile: Ogg Opus for pages with players, and the damage that MP3 and Opus do."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np

from utils.audio.io import OPUS_RATES, Waveform, resample
from utils.errors import CloningError

OTHERS_TO = 24000  # Hz: what a rate that Opus lacks is resampled to
BLOCK_S = 30  # encoded at a time: libsndfile's encoder overflows on long audio
Container = Literal["MP3", "OGG"]
CODECS: dict[Container, str] = {"MP3": "MPEG_LAYER_III", "OGG": "OPUS"}


def opus_bytes(audio: Waveform) -> bytes:
    """Ogg Opus, about 3 kB a second of speech; peaks over 1 are scaled down. Every present browser plays it."""
    import soundfile

    if audio.sample_rate not in OPUS_RATES:
        audio = Waveform(resample(audio.samples, audio.sample_rate, OTHERS_TO), OTHERS_TO)
    buffer = io.BytesIO()
    gain = np.float32(1 / max(1.0, audio.peak))
    with soundfile.SoundFile(buffer, "w", audio.sample_rate, 1, format="OGG", subtype="OPUS") as file:
        for start in range(0, len(audio), BLOCK_S * audio.sample_rate):
            file.write(gain * audio.samples[start : start + BLOCK_S * audio.sample_rate])
    return buffer.getvalue()


def lossy_copy(samples: np.ndarray, sample_rate: int, container: Container, level: float) -> np.ndarray:
    """Encoded and decoded again: (T,) -> (T',) float32; MP3 pads, so T' may exceed T.

    level: libsndfile's compression level, 0 (best) to 1; MP3 has a constant bit rate. Peaks over 1 survive. Raises
    CloningError where soundfile is too old to choose a level.
    """
    import soundfile

    options: dict[str, object] = {"format": container, "subtype": CODECS[container], "compression_level": level}
    if container == "MP3":
        options["bitrate_mode"] = "CONSTANT"
    buffer, peak = io.BytesIO(), max(1.0, float(np.abs(samples).max(initial=0)))
    try:
        soundfile.write(buffer, samples / peak, sample_rate, **options)
    except (TypeError, soundfile.LibsndfileError) as error:
        raise CloningError(
            f"soundfile {soundfile.__version__} writes no {container} of a chosen rate ({error}): "
            "pip install 'soundfile>=0.13'"
        ) from error
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0] * np.float32(peak)
