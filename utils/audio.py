"""Audio in and out: any file that soundfile reads becomes mono float32 at a known rate, or one clear line.

soundfile and soxr are imported where they are used, so that whoever only needs `Waveform` pays for neither.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import logging
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from utils.errors import CloningError
from utils.files import atomic_path

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16000
RATES = (1000, 768000)  # Hz; anything else in a header is damage, not a recording
_BLOCK = 1 << 18  # frames decoded or encoded at a time
_UNKNOWN_FRAMES = 1 << 60  # libsndfile's way to say that a stream does not tell its length
_SLACK = 64  # bytes; some writers count their own header into the data chunk
_MAX_FLOAT_PEAK = 16.0
_CONVERT = "ffmpeg -i INPUT output.wav"
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
_TAGS = ("title", "comment", "software", "artist", "copyright", "date", "album", "license", "genre")
_FOREIGN = (  # (offset, bytes, name) of containers that soundfile cannot read but people do have
    (4, b"ftyp", "m4a/mp4/aac"),
    (0, b"\xff\xf1", "aac"),
    (0, b"\xff\xf9", "aac"),
    (0, b"\x1a\x45\xdf\xa3", "webm/mkv"),
    (0, b"\x30\x26\xb2\x75", "wma"),
    (0, b"#!AMR", "amr"),
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Waveform:
    """Mono samples (T,) as float32 in [-1, 1], and their rate in Hz. Shows itself as a player in a notebook."""

    samples: np.ndarray
    sample_rate: int

    def __post_init__(self) -> None:
        samples = np.asarray(self.samples, dtype=np.float32)
        if samples.ndim != 1:
            raise ValueError(f"a waveform is mono, (T,), not {samples.shape}")
        if self.sample_rate < 1:
            raise ValueError(f"sample_rate is {self.sample_rate}; it must be at least 1 Hz")
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "sample_rate", int(self.sample_rate))

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def peak(self) -> float:
        """Largest absolute sample; 0 when there is none."""
        return float(np.abs(self.samples).max(initial=0.0))

    @property
    def dbfs(self) -> float:
        """Root mean square level in dB of full scale; -inf for silence."""
        return dbfs(self.samples)

    def wav_bytes(self) -> bytes:
        """The waveform as the bytes of a 16-bit wav file."""
        buffer = io.BytesIO()
        _encode(buffer, self, "WAV", "PCM_16", {})
        return buffer.getvalue()

    def __repr__(self) -> str:
        return (
            f"Waveform({self.seconds:.2f} s, {len(self)} samples at {self.sample_rate} Hz, "
            f"peak {self.peak:.2f}, {self.dbfs:.1f} dBFS)"
        )

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.wav_bytes()).decode("ascii")
        caption = repr(self).removeprefix("Waveform(").removesuffix(")")
        return f'<audio controls src="data:audio/wav;base64,{data}"></audio><br><small>{caption}</small>'


Source = str | os.PathLike | BinaryIO | bytes | np.ndarray | Waveform


def read(
    source: Source,
    *,
    sample_rate: int | None = SAMPLE_RATE,
    source_rate: int | None = None,
    max_seconds: float = 3600,
) -> Waveform:
    """Read audio as a mono waveform at `sample_rate` (None keeps the rate of the source).

    `source` is a path, an open binary file, the bytes of a file, an array or a `Waveform`. Arrays are (T,) or
    (T, channels) or (channels, T), floats in [-1, 1] or integers of their full scale, at `source_rate`
    (16 kHz when not told); files know their own rate. Channels are averaged.
    Raises CloningError, in one line, for what is missing, a directory, not audio, empty, truncated, not
    finite, or longer than `max_seconds`.
    """
    if isinstance(source, Waveform):
        wav, name = source, "the waveform"
    elif isinstance(source, np.ndarray) or (hasattr(source, "__array__") and not hasattr(source, "read")):
        wav, name = _from_array(np.asarray(source), source_rate), "the array"
    else:
        wav, name = _from_file(source, max_seconds)
    if len(wav) == 0:
        raise CloningError(f"{name} is empty: it holds no samples; give a recording of speech")
    if wav.seconds > max_seconds:
        raise _too_long(name, wav.seconds, max_seconds)
    _require_finite(wav, name)
    if sample_rate is None or wav.sample_rate == sample_rate:
        return wav
    return Waveform(resample(wav.samples, wav.sample_rate, sample_rate), sample_rate)


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample (T,) or (T, channels) by soxr's HQ filter to ceil(T * to_rate / from_rate) samples, float32."""
    samples = np.asarray(samples, dtype=np.float32)
    if from_rate == to_rate or len(samples) == 0:
        return samples
    import soxr

    output = soxr.resample(samples, from_rate, to_rate, quality="HQ")
    wanted = math.ceil(len(samples) * to_rate / from_rate)
    if len(output) < wanted:
        output = np.pad(output, [(0, wanted - len(output))] + [(0, 0)] * (output.ndim - 1))
    return output[:wanted]


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Played `factor` times as fast, pitch and all: (T,) -> (T / factor,)"""
    return resample(samples, round(1000 * factor), 1000)[: max(1, int(len(samples) / factor))]


def dbfs(samples: np.ndarray) -> float:
    """Root mean square level in dB of full scale; -inf for silence or no samples."""
    power = float(np.mean(np.square(samples), dtype=np.float64)) if len(samples) else 0.0
    return 10 * math.log10(power) if power > 0 else -math.inf


def normalize_volume(
    samples: np.ndarray, target_dbfs: float = -30.0, increase_only: bool = True, decrease_only: bool = False
) -> np.ndarray:
    """Scale so that the root mean square is `target_dbfs`; silence stays as it is. Peaks may come to pass 1."""
    if increase_only and decrease_only:
        raise ValueError("increase_only and decrease_only exclude each other")
    level = dbfs(samples)
    change = target_dbfs - level
    if level == -math.inf or (change < 0 and increase_only) or (change > 0 and decrease_only):
        return samples
    return samples * np.float32(10 ** (change / 20))


def peak_normalize(samples: np.ndarray, peak: float = 0.9) -> np.ndarray:
    """Scale so that the largest absolute sample is `peak`; silence stays as it is."""
    largest = np.abs(samples).max(initial=0.0)
    return samples if largest == 0 else samples * np.float32(peak / largest)


def to_pcm16(samples: np.ndarray) -> np.ndarray:
    """Floats to 16-bit integers: round(x * 32767), half to even; beyond full scale is cut off."""
    return np.clip(np.rint(np.asarray(samples, dtype=np.float32) * 32767), -32768, 32767).astype(np.int16)


def write(path: str | os.PathLike, wav: Waveform, *, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a file whole or not at all, its format by suffix: 16-bit .wav and .flac, .ogg, .opus, .mp3.

    Samples beyond 1 scale the whole down to a peak of 1. `metadata` are tags: title, comment, software, artist,
    copyright, date, album, license, genre. Missing folders are made.
    Raises CloningError for another suffix, an unknown tag, samples that are not finite, or a folder that
    cannot be written to.
    """
    path = Path(path)
    tags = dict(metadata or {})
    if path.suffix.lower() not in _FORMATS:
        raise CloningError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use {_list(_FORMATS)}")
    if unknown := sorted(set(tags) - set(_TAGS)):
        raise CloningError(f"unknown metadata {unknown} for {path}; known are {_list(_TAGS)}")
    _require_finite(wav, f"what is to be written to {path}")
    container, subtype = _FORMATS[path.suffix.lower()]
    if subtype == "OPUS" and wav.sample_rate not in _OPUS_RATES:
        wav = Waveform(resample(wav.samples, wav.sample_rate, 48000), 48000)
    try:
        with atomic_path(path) as partial, partial.open("x+b") as file:
            _encode(file, wav, container, subtype, tags)
    except OSError as error:
        raise CloningError(f"cannot write {path}: {error.strerror or error}; choose another place") from error
    return path


def _encode(file: BinaryIO, wav: Waveform, container: str, subtype: str, tags: Mapping[str, str]) -> None:
    import soundfile

    samples = wav.samples if wav.peak <= 1 else peak_normalize(wav.samples, 1.0)
    if subtype == "PCM_16":
        samples = to_pcm16(samples)
    with soundfile.SoundFile(file, "w", wav.sample_rate, 1, subtype, format=container) as out:
        for tag, text in tags.items():
            setattr(out, tag, text)
        for start in range(0, len(samples), _BLOCK):  # libsndfile's Vorbis encoder overflows its stack on more
            out.write(samples[start : start + _BLOCK])


def _from_array(array: np.ndarray, source_rate: int | None) -> Waveform:
    if array.ndim == 2:
        array = array.T if array.shape[0] < array.shape[1] else array
    elif array.ndim != 1:
        raise CloningError(f"the array has shape {array.shape}; audio is (T,) or (T, channels)")
    if array.dtype == np.uint8:
        array = (array.astype(np.float32) - 128) / 128
    elif array.dtype in (np.int16, np.int32):
        array = array.astype(np.float32) / -float(np.iinfo(array.dtype).min)
    elif array.dtype.kind != "f":
        raise CloningError(f"the array is of type {array.dtype}; give floats in [-1, 1], int16, int32 or uint8")
    rate = SAMPLE_RATE if source_rate is None else source_rate
    _require_rate(rate, "the array")
    samples = array.astype(np.float32)
    return Waveform(samples if samples.ndim == 1 else samples.mean(axis=1), rate)


def _from_file(source: str | os.PathLike | BinaryIO | bytes, max_seconds: float) -> tuple[Waveform, str]:
    if isinstance(source, str | os.PathLike):
        name = str(source)
        file = _open(Path(source))
    elif isinstance(source, bytes | bytearray | memoryview):
        name, file = "the audio given as bytes", io.BytesIO(source)
    elif hasattr(source, "read"):
        name = str(getattr(source, "name", "the open file"))
        data = source.read()
        if not isinstance(data, bytes):
            raise CloningError(f"{name} is open as text; open it with mode 'rb'")
        file = io.BytesIO(data)
    else:
        raise TypeError(f"audio is a path, file, bytes, array or Waveform, not {type(source).__name__}")
    with file:
        try:
            return _decode(file, name, max_seconds), name
        except OSError as error:
            raise CloningError(f"cannot read {name}: {error.strerror or error}") from error


def _open(path: Path) -> BinaryIO:
    if path.is_dir():
        raise CloningError(f"{path} is a directory; give an audio file")
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise CloningError(f"no such file: {path}") from error
    except OSError as error:
        raise CloningError(f"cannot read {path}: {error.strerror or error}") from error


def _decode(file: BinaryIO, name: str, max_seconds: float) -> Waveform:
    import soundfile

    head = file.read(12)
    if not head:
        raise CloningError(f"{name} is empty (0 bytes); record or download it again")
    file.seek(0)
    if head[:4] in (b"RIFF", b"RIFX"):
        _require_whole_wav(file, name)
        file.seek(0)
    try:
        audio = soundfile.SoundFile(file)
    except soundfile.SoundFileError as error:
        raise CloningError(_not_audio(name, head)) from error
    with audio:
        rate, promised = audio.samplerate, audio.frames
        _require_rate(rate, name)
        if max_seconds < promised / rate and promised < _UNKNOWN_FRAMES:
            raise _too_long(name, promised / rate, max_seconds)
        try:
            samples = _read_mono(audio, name, max_seconds)
        except soundfile.SoundFileError as error:
            if promised >= _UNKNOWN_FRAMES:
                raise CloningError(f"{name} does not tell its own length; convert it: {_CONVERT}") from error
            raise CloningError(f"{name} is damaged or truncated and cannot be decoded; copy it again") from error
        if audio.format == "OGG":
            _warn_of_open_end(file, name, len(samples) / rate)
        elif audio.format in ("MP3", "MPEG") and not _counts_frames(file):
            promised = 0  # a guess from the bit rate, not a promise
        slack = rate / 10 if audio.format in ("MP3", "MPEG") else 0
        if len(samples) + slack < promised < _UNKNOWN_FRAMES:
            raise _truncated(name, promised / rate, len(samples) / rate)
    return Waveform(samples, rate)


def _read_mono(audio: Any, name: str, max_seconds: float) -> np.ndarray:
    """Block by block: many channels are averaged, and a lying header is found out, before memory is taken."""
    blocks, total = [], 0
    while len(block := audio.read(_BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
        total += len(block)
        if total > max_seconds * audio.samplerate:
            raise _too_long(name, total / audio.samplerate, max_seconds)
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _counts_frames(file: BinaryIO) -> bool:
    """Whether an mp3 carries the header that counts its frames; without it the length is only guessed."""
    file.seek(0)
    head = file.read(10)
    if head[:3] == b"ID3":  # tag of any size: four bytes of seven bits
        file.seek(10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)))
    start = head + file.read(2048)
    return b"Xing" in start or b"Info" in start


def _warn_of_open_end(file: BinaryIO, name: str, seconds: float) -> None:
    """Ogg promises no length, but its last page carries an end mark: without it, the file was cut short."""
    length = file.seek(0, io.SEEK_END)
    file.seek(max(0, length - (1 << 17)))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or page + 6 > len(tail) or not tail[page + 5] & 4:
        logger.warning("%s ends without its end mark, so it may be truncated; %.1f s of it are used", name, seconds)


def _require_whole_wav(file: BinaryIO, name: str) -> None:
    """Refuse a wav that ends before its data chunk does: soundfile would shorten it without a word.

    Sizes of 0 and from 2 GiB - 4 KiB on mean "not known" to programs that write to a pipe.
    """
    order = ">" if file.read(12)[:4] == b"RIFX" else "<"
    length = file.seek(0, io.SEEK_END)
    position, bytes_per_second = 12, 0
    while position + 8 <= length:
        file.seek(position)
        chunk, size = struct.unpack(f"{order}4sI", file.read(8))
        if chunk == b"fmt " and size >= 12 and position + 20 <= length:
            bytes_per_second = struct.unpack(f"{order}8xI", file.read(12))[0]
        if chunk == b"data":
            there = length - position - 8
            if there + _SLACK < size < 0x7FFFF000:
                rate = bytes_per_second or 1
                raise _truncated(name, size / rate, there / rate)
            return
        position += 8 + size + size % 2
    raise CloningError(f"{name} is truncated: the wav header is there, the samples are not; copy it again")


def _require_rate(rate: int, name: str) -> None:
    low, high = RATES
    if not low <= rate <= high:
        raise CloningError(f"{name} has a sample rate of {rate} Hz; {low} to {high} Hz is understood")


def _require_finite(wav: Waveform, name: str) -> None:
    finite = np.isfinite(wav.samples)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise CloningError(
            f"{name} holds {len(bad)} samples that are NaN or infinite, the first at "
            f"{bad[0] / wav.sample_rate:.2f} s; export it again"
        )
    if wav.peak > _MAX_FLOAT_PEAK:
        raise CloningError(f"{name} has samples up to {wav.peak:.0f}; floats lie in [-1, 1]: scale them down")


def _too_long(name: str, seconds: float, limit: float) -> CloningError:
    return CloningError(f"{name} is {seconds:.0f} s long; at most {limit:.0f} s is read: cut out a part of it")


def _truncated(name: str, promised: float, there: float) -> CloningError:
    return CloningError(
        f"{name} is truncated: its header promises {promised:.1f} s, {there:.1f} s is there; copy it again"
    )


def _not_audio(name: str, head: bytes) -> str:
    for offset, magic, kind in _FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            return f"{name} is {kind}, which is not read here; convert it: {_CONVERT}"
    return f"{name} is not audio that can be read; wav, flac, ogg, opus and mp3 are"


def _list(names: Any) -> str:
    return ", ".join(names)
