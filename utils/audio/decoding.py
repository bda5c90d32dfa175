"""From a file's bytes to mono samples: all of them that can be decoded, or one line with the seconds that are missing.

soundfile (libsndfile) reads wav, flac and ogg exactly and fast, but believes headers, and stops where a joined file's
first part ends. So parts are found first (`utils.audio.containers`), and what libsndfile does not read to its end, or
not at all, is decoded by PyAV (FFmpeg): mp3, m4a, webm, wma, amr, and headers that were never finished. FFmpeg is told
the format and never asked to guess it: some of its formats are lists of other files to open.
soundfile and av are imported where they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from utils.audio import containers
from utils.errors import CloningError, missing_package

RATES = (1000, 768000)  # Hz; anything else in a header is damage, not a recording
READ = "wav, flac, ogg, opus, mp3, m4a, mp4, webm and wma"
HEADERLESS = (".raw", ".pcm", ".sln", ".s16", ".vox")
_BLOCK = 1 << 18  # frames decoded at a time
_UNKNOWN_FRAMES = 1 << 60  # libsndfile's way to say that a stream does not tell its length
_CANCELLED = 0.5  # of the power that unrelated channels leave in their average; less is left where they cancel
_WORTH_A_NOTE = 0.1  # seconds of damage
_SLACK = 0.5  # seconds by which a film's container may be off

Blocks = Iterator[tuple[np.ndarray, int]]  # (N, channels) float32 at so many Hz
Piece = tuple[np.ndarray, int]  # (T,) float32 at so many Hz


@dataclass
class _Stream:
    """How a part is read. `promised`: seconds, None where no header says; `slack`: by which the promise may be off."""

    blocks: Callable[[], Blocks]  # from the beginning, each time
    promised: float | None = None
    slack: float = 0.0
    notes: list[str] = field(default_factory=list)


def decode(file: BinaryIO, name: str, max_seconds: float) -> tuple[list[Piece], list[str]]:
    """Decode an open file whole: pieces, one for each part and rate, and lines on what was odd.

    Channels are averaged; where they cancel each other, the loudest is taken. Errors and notes call the file `name`.
    Raises CloningError for what is empty, not audio, truncated, damaged, or longer than `max_seconds`; OSError when
    reading fails.
    """
    if not file.read(1):
        raise CloningError(f"{name} is empty (0 bytes); record or download it again")
    start, kind = _kind(file, name)
    parts = containers.find_parts(file, kind, start)
    pieces: list[Piece] = []
    notes: list[str] = []
    for number, (begin, stop) in enumerate(parts, start=1):
        which = name if len(parts) == 1 else f"{name}, part {number} of {len(parts)},"
        # A file as it is is read faster; but soundfile takes what is called .raw for headerless, whatever it holds
        whole = len(parts) == 1 and begin == 0 and Path(name).suffix.lower() != ".raw"
        part = file if whole else containers.cut(file, begin, stop)
        stream = _open(part, kind, which)
        pieces += _mix(stream, which, max_seconds, _seconds(pieces))
        notes += stream.notes
    if len(parts) > 1:
        notes.append(f"{name} is {len(parts)} recordings in one file; all {_seconds(pieces):.1f} s are read")
    if kind == "ogg" and not containers.ogg_is_closed(file):
        lasting = f"{_seconds(pieces):.1f} s of it are used"
        notes.append(f"{name} ends without its end mark, so it may be truncated; {lasting}")
    return pieces, notes


def comment(file: BinaryIO, name: str) -> str:
    """What an open file says of itself in its tags, or nothing."""
    import av

    _, kind = _kind(file, name)
    if not kind:
        return ""
    try:
        file.seek(0)
        with av.open(file, format=kind, metadata_errors="replace") as container:
            places = [container.metadata, *(stream.metadata for stream in container.streams)]
    except av.FFmpegError:
        return ""
    return next((text for tags in places for tag, text in tags.items() if tag.lower() == "comment"), "")


def _kind(file: BinaryIO, name: str) -> tuple[int, str]:
    """Where the audio begins, and what it is: a name of FFmpeg's, or "" for what libsndfile may know."""
    start = containers.find_start(file)
    file.seek(start)
    return start, containers.sniff(file.read(16)) or ("mp3" if Path(name).suffix.lower() == ".mp3" else "")


def require_rate(rate: int, name: str) -> None:
    """Raises CloningError for a sample rate (Hz) out of bounds, or no number, of what is called `name`."""
    low, high = RATES
    if not (isinstance(rate, Real) and low <= rate <= high):
        raise CloningError(f"{name} has a sample rate of {rate!r} Hz; {low} to {high} Hz is understood")


def too_long(name: str, limit: float, seconds: float | None = None) -> CloningError:
    """`seconds`: how long it is, if that is known."""
    lasts = f"longer than {limit:g} s" if seconds is None else f"{seconds:.0f} s long"
    return CloningError(f"{name} is {lasts}; at most {limit:g} s is read: cut out a part of it")


# What a part is opened with


def _open(part: BinaryIO, kind: str, name: str) -> _Stream:
    if kind in ("wav", "w64", "caf", "nistsphere"):
        return _told(part, kind, name)
    if kind == "mp3":
        return _mp3(part, name)
    if kind in ("aac", "amr"):
        return _ffmpeg(part, kind, name, promises=False)
    if kind in ("mov", "matroska", "asf"):
        return _ffmpeg(part, kind, name, slack=_SLACK)
    if kind in ("aiff", "au"):
        return _ffmpeg(part, kind, name, slack=0.01)
    return _libsndfile(part, kind, name)


def _told(part: BinaryIO, kind: str, name: str) -> _Stream:
    """The stream of kinds whose header says how many bytes of samples follow."""
    layout = containers.layout(part, kind)
    if layout is None:
        if kind == "nistsphere":  # the count may be left out
            return _libsndfile(part, kind, name)
        raise CloningError(f"{name} is truncated: the {kind} header is there, the samples are not; copy it again")
    rate = layout.bytes_per_second
    if layout.untold:
        # FFmpeg reads no w64 whose size is not told, libsndfile no caf
        if kind == "w64":
            stream = _libsndfile(part, kind, name)
        elif kind == "wav":
            stream = _ffmpeg(part, kind, name, False, ignore_length="1")
        else:
            stream = _ffmpeg(part, kind, name, False)
        lasts = f"all {layout.there / rate:.1f} s are read" if rate else "it is read to its end"
        stream.notes.append(f"{name} has a header that was never finished; {lasts}")
        return stream
    if layout.promised > layout.there + containers.SLACK:
        if not rate:
            raise _damaged(name)
        raise _truncated(name, layout.promised / rate, layout.there / rate)
    if layout.tag in containers.MPEG_IN_WAV:
        return _ffmpeg(part, "wav", name, promises=False)
    return _libsndfile(part, kind, name)


def _mp3(part: BinaryIO, name: str) -> _Stream:
    stream = _ffmpeg(part, "mp3", name, promises=False)
    promised, frame, rate = containers.mp3_promise(part)
    if promised:
        stream.promised, stream.slack = promised / rate, 4 * frame / rate  # delay and padding are cut off
    return stream


def _libsndfile(part: BinaryIO, kind: str, name: str) -> _Stream:
    import soundfile

    part.seek(0)
    try:
        audio = soundfile.SoundFile(part)
    except soundfile.SoundFileError as error:
        if kind in ("ogg", "flac"):  # Speex, or a damaged header
            return _ffmpeg(part, kind, name, promises=False)
        raise CloningError(_not_audio(name)) from error
    rate, frames = audio.samplerate, audio.frames
    require_rate(rate, name)
    if kind == "flac" and not 0 < frames < _UNKNOWN_FRAMES:
        stream = _ffmpeg(part, kind, name, promises=False)
        stream.notes.append(f"{name} has a header that was never finished; it is read to its end")
        return stream

    def blocks() -> Blocks:
        try:
            if audio.tell():  # once more
                audio.seek(0)
            while len(block := audio.read(_BLOCK, dtype="float32", always_2d=True)):
                yield block, rate
        except soundfile.SoundFileError as error:
            if kind == "flac":  # libsndfile gives nothing of what it could read of a block
                there = sum(len(block) for block, _ in _ffmpeg(part, kind, name, promises=False).blocks())
                raise _truncated(name, frames / rate, there / rate) from error
            raise _damaged(name) from error

    return _Stream(blocks, frames / rate if frames < _UNKNOWN_FRAMES else None)


def _ffmpeg(part: BinaryIO, kind: str, name: str, promises: bool = True, slack: float = 0.0, **options: str) -> _Stream:
    """The first sound in a file of a format by FFmpeg's name; `promises`: whether it knows the length, or guesses."""
    try:
        import av
    except ImportError as error:
        raise missing_package("av", f"reading {name}", "requirements.txt") from error
    notes: list[str] = []

    def start() -> Any:
        part.seek(0)
        return av.open(part, format=kind, options=options, metadata_errors="replace")

    def blocks() -> Blocks:
        lost, heard = 0.0, False
        try:
            with start() as container:
                for packet in container.demux(container.streams.audio[0]):
                    try:
                        frames = packet.decode()
                    except av.InvalidDataError:  # a header between joined files, or damage
                        lost += float((packet.duration or 0) * packet.time_base)
                        continue
                    for frame in frames:
                        heard = True
                        require_rate(frame.sample_rate, name)
                        yield _floats(frame), frame.sample_rate
        except av.FFmpegError as error:
            raise _damaged(name) from error
        if not heard:
            raise _damaged(name)
        if lost > _WORTH_A_NOTE:
            notes[:] = [*notes, f"{name} is damaged: {lost:.1f} s of it cannot be decoded, the rest is used"]

    try:
        with start() as container:
            if not container.streams.audio:
                raise CloningError(f"{name} holds no sound; give a recording of speech")
            stream = container.streams.audio[0]
            seconds = float(stream.duration * stream.time_base) if stream.duration else None
            if seconds is None and container.duration and len(container.streams) == 1:
                seconds = container.duration / av.time_base
    except av.FFmpegError as error:
        raise _damaged(name) from error
    return _Stream(blocks, seconds if promises else None, slack, notes)


def _floats(frame: Any) -> np.ndarray:
    """An av.AudioFrame -> (N, channels) float32"""
    samples = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, len(frame.layout.channels))
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return samples.astype(np.float32)


# From many channels to one


def _mix(stream: _Stream, name: str, max_seconds: float, before: float) -> list[Piece]:
    """Mono, a piece for each rate, checked against what was promised; `before`: seconds that were read already."""
    if stream.promised is not None and before + stream.promised > max_seconds:
        raise too_long(name, max_seconds, before + stream.promised)
    pieces, powers = _average(stream.blocks(), name, max_seconds, before)
    if powers is not None and powers.cancelled:
        pieces, _ = _average(stream.blocks(), name, max_seconds, before, powers.loudest)
        stream.notes.append(f"the channels of {name} are out of phase; the loudest alone is used")
    if stream.promised is not None and _seconds(pieces) + stream.slack < stream.promised:
        raise _truncated(name, stream.promised, _seconds(pieces))
    return pieces


class _Powers:
    """Power of each channel and of their average, about their means."""

    def __init__(self, channels: int) -> None:
        self.count, self.sums, self.squares = 0, np.zeros(channels + 1), np.zeros(channels + 1)

    def add(self, block: np.ndarray, mono: np.ndarray) -> None:
        columns = np.column_stack([block, mono]).astype(np.float64)
        self.count += len(columns)
        self.sums += columns.sum(axis=0)
        self.squares += np.square(columns).sum(axis=0)

    @property
    def variances(self) -> np.ndarray:
        return self.squares / self.count - np.square(self.sums / self.count)

    @property
    def cancelled(self) -> bool:
        """Channels that have nothing to do with each other leave the sum of their powers / channels^2."""
        *channels, mono = self.variances
        return bool(mono < _CANCELLED * sum(channels) / len(channels) ** 2)

    @property
    def loudest(self) -> int:
        return int(np.argmax(self.variances[:-1]))


def _average(
    blocks: Blocks, name: str, max_seconds: float, before: float, channel: int | None = None
) -> tuple[list[Piece], _Powers | None]:
    """Block by block: many channels become one, and a lying header is found out, before memory is taken."""
    found: list[tuple[list[np.ndarray], int]] = []
    powers, seconds = None, before
    for block, rate in blocks:
        channels = block.shape[1]
        if channels == 1:
            mono = block[:, 0]
        else:
            mono = block.mean(axis=1) if channel is None else block[:, min(channel, channels - 1)]
            powers = powers or _Powers(channels)
            if len(powers.sums) == channels + 1:
                powers.add(block, mono)
        if not found or found[-1][1] != rate:
            found.append(([], rate))
        found[-1][0].append(mono)
        seconds += len(mono) / rate
        if seconds > max_seconds:
            raise too_long(name, max_seconds)
    if not found:
        raise CloningError(f"{name} is empty: it holds no samples; give a recording of speech")
    return [(np.concatenate(monos), rate) for monos, rate in found], powers


def average_channels(block: np.ndarray) -> np.ndarray:
    """Many channels (N, channels) to one (N,): their average, or where they cancel each other the loudest."""
    mono = block.mean(axis=1)
    powers = _Powers(block.shape[1])
    powers.add(block, mono)
    return block[:, powers.loudest] if powers.cancelled else mono


def _seconds(pieces: list[Piece]) -> float:
    return sum(len(samples) / rate for samples, rate in pieces)


def _truncated(name: str, promised: float, there: float) -> CloningError:
    digits = 1 if promised - there >= 0.1 else 3
    return CloningError(
        f"{name} is truncated: its header promises {promised:.{digits}f} s, "
        f"{there:.{digits}f} s is there; copy it again"
    )


def _damaged(name: str) -> CloningError:
    return CloningError(f"{name} is damaged, truncated or no audio: it cannot be decoded; copy it again")


def _not_audio(name: str) -> str:
    if Path(name).suffix.lower() in HEADERLESS:
        return (
            f"{name} has no header that tells its rate and format; if you know them, convert it: "
            "ffmpeg -f s16le -ar 16000 -ac 1 -i INPUT output.wav"
        )
    return f"{name} is not audio that can be read; {READ} are"
