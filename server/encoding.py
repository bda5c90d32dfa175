"""Speech as bytes of a file, piece by piece while it is made."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from utils.audio.io import Waveform, to_pcm16
from utils.audio.resampling import resample_pieces

MEDIA = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
PCM_RATE = 24_000  # Hz: what OpenAI's clients take a "pcm" to have
_CODECS = {"mp3": ("mp3", "libmp3lame"), "opus": ("ogg", "libopus"), "aac": ("adts", "aac"), "flac": ("flac", "flac")}
_BIT_RATES = {"mp3": 64_000, "opus": 32_000, "aac": 64_000}
_OPUS_RATE = 48_000
_UNKNOWN = 0xFFFFFFFF  # of a wav's size, while nobody knows


def encoded(pieces: Iterable[Waveform], kind: str, tags: Mapping[str, str]) -> Iterator[bytes]:
    """Pieces of speech at one rate as the bytes of a file of a kind of `MEDIA`, as soon as they can be had.

    tags: such as a comment, for the kinds that hold them (not aac and pcm). A piece that is louder than full scale is
    cut there. "pcm" is 16-bit little-endian at PCM_RATE.
    """
    if kind in _CODECS:
        yield from _compressed(pieces, kind, tags)
        return
    pieces = iter(pieces)
    first = next(pieces, None)
    if first is None:
        return
    sounds: Iterator[np.ndarray] = (piece.samples for piece in chain([first], pieces))
    if kind == "wav":
        yield _wav_header(first.sample_rate, tags.get("comment", ""))
    else:
        sounds = resample_pieces(sounds, first.sample_rate, PCM_RATE)
    yield from map(_pcm, sounds)


def _pcm(samples: np.ndarray) -> bytes:
    return to_pcm16(samples).astype("<i2").tobytes()


def _wav_header(rate: int, comment: str) -> bytes:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    note = comment.encode() + b"\0" * (2 - len(comment.encode()) % 2)
    info = struct.pack("<4sI4s4sI", b"LIST", 12 + len(note), b"INFO", b"ICMT", len(note)) + note
    return struct.pack("<4sI4s", b"RIFF", _UNKNOWN, b"WAVE") + form + info + struct.pack("<4sI", b"data", _UNKNOWN)


class _Sink:
    """A file that can only be written to: what FFmpeg has written since the last look."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Keep bytes for `take`."""
        self.parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What has come since the last time."""
        data = b"".join(self.parts)
        self.parts.clear()
        return data


def _compressed(pieces: Iterable[Waveform], kind: str, tags: Mapping[str, str]) -> Iterator[bytes]:
    import av

    sink, (container, codec) = _Sink(), _CODECS[kind]
    options = {"flush_packets": "1", "page_duration": "200000"} if container == "ogg" else {"flush_packets": "1"}
    file: Any = None
    stream: Any = None
    done = 0
    for piece in pieces:
        if file is None:
            file = av.open(sink, "w", format=container, options=options)
            file.metadata.update(tags)
            stream = file.add_stream(codec, rate=_OPUS_RATE if kind == "opus" else piece.sample_rate, layout="mono")
            if kind in _BIT_RATES:
                stream.bit_rate = _BIT_RATES[kind]
        frame = av.AudioFrame.from_ndarray(to_pcm16(piece.samples)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = piece.sample_rate, done
        done += len(piece)
        for packet in stream.encode(frame):
            file.mux(packet)
        yield sink.take()
    if file is not None:
        for packet in stream.encode(None):
            file.mux(packet)
        file.close()
        yield sink.take()
