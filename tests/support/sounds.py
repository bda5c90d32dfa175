"""Audio files of every kind, and what was said in them."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import soundfile

from tests.conftest import SAMPLES
from utils.audio.io import read

SPEECH = read(SAMPLES / "goforward.wav")
FOREIGN = {  # what soundfile does not write: container and codec by FFmpeg's names
    "m4a": ("ipod", "aac"),
    "mp4": ("mp4", "aac"),
    "alac": ("ipod", "alac"),
    "aac": ("adts", "aac"),
    "webm": ("webm", "libopus"),
    "wma": ("asf", "wmav2"),
    "aiff": ("aiff", "pcm_s16be"),
    "au": ("au", "pcm_s16be"),
}


def encoded(samples: np.ndarray, rate: int = 16000, **options) -> bytes:
    """The bytes of an audio file, wav of floats unless said."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **{"format": "WAV", "subtype": "FLOAT", **options})
    return buffer.getvalue()


def tone(seconds: float, rate: int = 16000, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    length = min(len(a), len(b))
    return float(np.corrcoef(a[:length], b[:length])[0, 1])


def made(kind: str, samples: np.ndarray = SPEECH.samples, rate: int = 16000) -> bytes:
    """The bytes of a file of a kind of `FOREIGN`, at 48 kHz."""
    container, codec = FOREIGN[kind]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=48000, layout="mono", bit_rate=96000)
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        fitting = av.AudioResampler(
            format=stream.format, layout="mono", rate=48000, frame_size=stream.codec_context.frame_size or None
        )
        for piece in [*fitting.resample(frame), *fitting.resample(None), None]:
            out.mux(stream.encode(piece))
    return buffer.getvalue()


def flac_of_unknown_length(samples: np.ndarray) -> bytes:
    """As written to a pipe: the 36 bits of the number of samples in STREAMINFO are 0."""
    data = bytearray(encoded(samples, format="FLAC", subtype="PCM_16"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


def wav_of(samples: np.ndarray) -> bytes:
    return encoded(samples, subtype="FLOAT")


def with_size(wav: bytes, size: int) -> bytes:
    """A wav whose header tells that its samples are so many bytes."""
    at = wav.find(b"data") + 4
    return wav[:at] + struct.pack("<I", size) + wav[at + 4 :]


def mp3_of(samples: np.ndarray, **options) -> bytes:
    return encoded(samples, format="MP3", subtype="MPEG_LAYER_III", **options)


def without_frame_count(mp3: bytes) -> bytes:
    """Without the first frame, which holds the header with the number of frames."""
    return mp3[mp3.find(mp3[:2], 4) :]


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def with_hole(data: bytes) -> bytes:
    third = len(data) // 3
    return data[:third] + bytes(2000) + data[third + 2000 :]


def silent_film() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        for frame in [av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8)), None]:
            out.mux(stream.encode(frame))
    return buffer.getvalue()


def quiet_then_loud() -> np.ndarray:
    """6 s of which the beginning needs few bits: who guesses the length from it is far off."""
    return np.concatenate([np.zeros(64000), np.random.default_rng(0).normal(0, 0.1, 32000)])


def stored(container: str, subtype: str = "PCM_16") -> bytes:
    """2 s in one of the formats that only libsndfile writes."""
    return encoded(tone(2), format=container, subtype=subtype)
