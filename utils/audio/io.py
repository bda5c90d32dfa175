"""Audio in and out: any recording becomes mono float32 at a known rate, or one clear line.

`utils.audio.decoding` decodes files. soundfile and soxr are imported where they are used, so that whoever only needs
`Waveform` pays for neither.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

import numpy as np

from utils.audio.arrays import is_array, mono_samples, require_finite, require_scale
from utils.audio.decoding import decode, require_rate, too_long
from utils.errors import CloningError
from utils.files import atomic_path, user_path

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

SAMPLE_RATE = 16000
# 16-bit integers of a full-scale sample in what we write, sets and files. What others recorded, files and microphones,
# is read by 32768, as libsndfile has it: their lowest integer is -1.
PCM16 = 32767
_BLOCK = 1 << 18  # frames encoded at a time
_DC = 0.01  # of the level, from which on a mean is an offset; a voice's own is 0.002 (0.0005 to 0.006 in ten corpora)
_DRIFT = 0.3  # of the level, from which on what is slower than 20 Hz is taken out too
_DC_SECONDS = 0.5  # in less, half a period of a voice may look like an offset
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
# By suffix: container, and encoding by its bits ("" where it has none)
_FORMATS: dict[str, tuple[str, dict[str, str]]] = {
    ".wav": ("WAV", {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}),
    ".flac": ("FLAC", {"16": "PCM_16", "24": "PCM_24"}),
    ".ogg": ("OGG", {"": "VORBIS"}),
    ".opus": ("OGG", {"": "OPUS"}),
    ".mp3": ("MP3", {"": "MPEG_LAYER_III"}),
}
_BYTES = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}
_LARGEST_WAV = 2**32 - 2**20  # bytes of samples: more than its header can tell
RATES = (8000, 192_000)  # Hz, of what is written
_RATES_OF = {
    "OPUS": OPUS_RATES,
    "MPEG_LAYER_III": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
}
_TAGS = ("title", "comment", "software", "artist", "copyright", "date", "album", "license", "genre")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Waveform:
    """Mono samples (T,) as float32 in [-1, 1], and their rate in Hz. Shows itself as a player in a notebook.

    `notes`: lines on what was odd about the file that it was read from.
    """

    samples: np.ndarray
    sample_rate: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        samples = np.asarray(self.samples)
        if samples.ndim != 1 or samples.dtype.kind != "f":
            raise ValueError(
                f"a waveform is mono floats (T,), not {samples.dtype} {samples.shape}: Waveform.from_array takes others"
            )
        if self.sample_rate < 1:
            raise ValueError(f"sample_rate is {self.sample_rate}; it must be at least 1 Hz")
        object.__setattr__(self, "samples", samples.astype(np.float32, copy=False))
        object.__setattr__(self, "sample_rate", int(self.sample_rate))

    @classmethod
    def from_array(cls, array: Any, sample_rate: int, name: str = "the array") -> Waveform:
        """Of floats or integers, mono or in channels: `utils.audio.arrays.mono_samples`, whose errors it raises."""
        return cls(mono_samples(array, sample_rate, name), sample_rate)

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
        encode(
            buffer, "x.wav", [self.samples if self.peak <= 1 else peak_normalize(self.samples, 1.0)], self.sample_rate
        )
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
    (16 kHz when not told); files know their own rate. Channels are averaged, but the loudest is taken where they cancel
    each other; an offset (DC) is removed. What was odd about a file is in the `notes`, and logged as warnings.
    Raises CloningError, in one line, for what is missing, a directory, not audio, empty, truncated, not
    finite, or longer than `max_seconds`, and for a rate that no recording has.
    """
    if sample_rate is not None:
        require_rate(sample_rate, "the result, by sample_rate,")
    if isinstance(source, Waveform):
        wav, name = source, "the waveform"
    elif is_array(source):
        wav, name = Waveform.from_array(source, SAMPLE_RATE if source_rate is None else source_rate), "the array"
    else:
        wav, name = _from_file(source, max_seconds)
        for note in wav.notes:
            log.warning("%s", note)
    if len(wav) == 0:
        raise CloningError(f"{name} is empty: it holds no samples; give a recording of speech")
    if wav.seconds > max_seconds:
        raise too_long(name, max_seconds, wav.seconds)
    require_finite(wav.samples, wav.sample_rate, name)
    require_scale(wav.samples, name)
    samples = remove_offset(wav.samples, wav.sample_rate)
    rate = wav.sample_rate if sample_rate is None else sample_rate
    if samples is wav.samples and rate == wav.sample_rate:
        return wav
    return Waveform(resample(samples, wav.sample_rate, rate), rate, wav.notes)


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


def remove_offset(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Samples (T,) without their mean (DC), and without what wanders slower than 20 Hz, where either is so strong that
    levels would go by it; else as they are."""
    level = float(samples.std(dtype=np.float64)) if len(samples) else 0.0
    if len(samples) < _DC_SECONDS * sample_rate:
        return samples
    mean = float(samples.mean(dtype=np.float64))
    if abs(mean) > _DC * level:
        samples = samples - np.float32(mean)
    width = sample_rate // 20
    slow = samples[: len(samples) // width * width].reshape(-1, width).mean(axis=1)
    if float(slow.std()) <= _DRIFT * level:
        return samples
    return samples - _moving_average(_moving_average(samples, width), width)


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Played `factor` times as fast, pitch and all: (T,) -> (T / factor,)"""
    return resample(samples, round(1000 * factor), 1000)[: max(1, int(len(samples) / factor))]


def dbfs(samples: np.ndarray) -> float:
    """Root mean square level in dB of full scale; -inf for silence or no samples."""
    power = float(np.mean(np.square(samples), dtype=np.float64)) if len(samples) else 0.0
    return 10 * math.log10(power) if power > 0 else -math.inf


def normalize_volume(samples: np.ndarray, target_dbfs: float = -30.0, increase_only: bool = True) -> np.ndarray:
    """Scale so that the root mean square is `target_dbfs`; silence stays as it is. Peaks may come to pass 1."""
    level = dbfs(samples)
    change = target_dbfs - level
    if level == -math.inf or (change < 0 and increase_only):
        return samples
    return samples * np.float32(10 ** (change / 20))


def peak_normalize(samples: np.ndarray, peak: float = 0.9) -> np.ndarray:
    """Scale so that the largest absolute sample is `peak`; silence stays as it is."""
    largest = np.abs(samples).max(initial=0.0)
    return samples if largest == 0 else samples * np.float32(peak / largest)


def amplified(wav: Waveform, decibels: float) -> Waveform:
    """The waveform that much louder; peaks may come to pass 1."""
    return wav if decibels == 0 else Waveform(wav.samples * np.float32(10 ** (decibels / 20)), wav.sample_rate)


def to_pcm16(samples: np.ndarray) -> np.ndarray:
    """Floats to 16-bit integers: round(x * 32767), half to even; beyond full scale is cut off."""
    return np.clip(np.rint(np.asarray(samples, dtype=np.float32) * PCM16), -32768, 32767).astype(np.int16)


@overload
def from_pcm16(pcm: np.ndarray) -> np.ndarray: ...
@overload
def from_pcm16(pcm: Tensor) -> Tensor: ...
def from_pcm16(pcm: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """What `to_pcm16` was given, as float32 and but for its rounding: pcm / 32767, of any shape."""
    return pcm.astype(np.float32) / np.float32(PCM16) if isinstance(pcm, np.ndarray) else pcm.float() / PCM16


def require_format(path: str | os.PathLike, bits: str | None = None, sample_rate: int | None = None) -> None:
    """Raises CloningError for what `write` cannot write: another suffix, bits or a rate that its format has not."""
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise CloningError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use {_list(_FORMATS)}")
    encodings = _FORMATS[path.suffix.lower()][1]
    if bits is not None and bits not in encodings:
        there = _list(encodings) if "" not in encodings else "none to choose: leave bits out"
        raise CloningError(f"{path}: {bits} bits are asked for; {path.suffix} has {there}")
    if sample_rate is None:
        return
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise CloningError(f"{path}: a rate of {sample_rate} Hz; it must be {RATES[0]} to {RATES[1]}")
    rates = _RATES_OF.get(encodings.get("", ""), (sample_rate,))
    if sample_rate not in rates:
        raise CloningError(f"{path}: a rate of {sample_rate} Hz; {path.suffix} has {_list(map(str, rates))}")


def write(
    path: str | os.PathLike,
    wav: Waveform,
    *,
    metadata: Mapping[str, str] | None = None,
    bits: str | None = None,
    sample_rate: int | None = None,
) -> Path:
    """Write a file whole or not at all, its format by suffix: .wav, .flac, .ogg, .opus, .mp3.

    `bits`: "16", "24" or "float" of wav, "16" or "24" of flac (16); `sample_rate`: that of `wav` where nothing is said
    (of Opus 48 kHz, if it lacks that one). Samples beyond 1 scale the whole down to a peak of 1. `metadata` are tags:
    title, comment, software, artist, copyright, date, album, license, genre. Missing folders are made.
    Raises CloningError for what `require_format` refuses, an unknown tag, samples that are not finite, or a folder that
    cannot be written to.
    """
    path = user_path(path)
    require_format(path, bits, sample_rate)
    require_finite(wav.samples, wav.sample_rate, f"what is to be written to {path}")
    require_scale(wav.samples, f"what is to be written to {path}")
    rate = sample_rate or writable_rate(path, wav.sample_rate)
    samples = resample(wav.samples, wav.sample_rate, rate)
    peak = float(np.abs(samples).max(initial=0.0))
    buffer = io.BytesIO()  # libsndfile tells nothing of a disk that is full
    encode(buffer, path, [samples if peak <= 1 else peak_normalize(samples, 1.0)], rate, metadata, bits)
    with atomic_path(path) as partial:
        partial.write_bytes(buffer.getbuffer())
    return path


def writable_rate(path: str | os.PathLike, sample_rate: int) -> int:
    """The rate itself, or the highest of the format of `path`, which has not this one."""
    encodings = _FORMATS[Path(path).suffix.lower()][1]
    rates = _RATES_OF.get(encodings.get("", ""), (sample_rate,))
    return sample_rate if sample_rate in rates else rates[-1]


def encode(
    file: BinaryIO,
    path: str | os.PathLike,
    pieces: Iterable[np.ndarray],
    sample_rate: int,
    metadata: Mapping[str, str] | None = None,
    bits: str | None = None,
    frames: int = 0,
) -> None:
    """Pieces (T,) of one waveform into an open file, in the format of `path`'s suffix; samples beyond 1 are cut off.

    `frames`: how many samples there will be at most, where that is known: a .wav beyond 4 GiB is written as RF64.
    Raises CloningError for an unknown tag.
    """
    import soundfile

    tags = dict(metadata or {})
    if unknown := sorted(set(tags) - set(_TAGS)):
        raise CloningError(f"unknown metadata {unknown} for {path}; known are {_list(_TAGS)}")
    container, encodings = _FORMATS[Path(path).suffix.lower()]
    subtype = encodings[bits] if bits is not None else next(iter(encodings.values()))
    if container == "WAV" and frames * _BYTES[subtype] > _LARGEST_WAV:
        container = "RF64"
    with soundfile.SoundFile(file, "w", sample_rate, 1, subtype, format=container) as out:
        for tag, text in tags.items():
            setattr(out, tag, text)
        for samples in pieces:
            samples = to_pcm16(samples) if subtype == "PCM_16" else samples
            for start in range(0, len(samples), _BLOCK):  # libsndfile's Vorbis encoder overflows its stack on more
                out.write(samples[start : start + _BLOCK])


def _from_file(source: Source, max_seconds: float) -> tuple[Waveform, str]:
    if isinstance(source, str | os.PathLike):
        name = str(source)
        file = _open(user_path(source))
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
            pieces, notes = decode(file, name, max_seconds)
        except OSError as error:
            raise CloningError(f"cannot read {name}: {error.strerror or error}") from error
    samples, rate = pieces[0]
    if len(pieces) > 1:
        samples = np.concatenate([resample(piece, own, rate) for piece, own in pieces])
    return Waveform(samples, rate, tuple(notes)), name


def _open(path: Path) -> BinaryIO:
    if path.is_dir():
        raise CloningError(f"{path} is a directory; give an audio file")
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise CloningError(f"no such file: {path}") from error
    except OSError as error:
        raise CloningError(f"cannot read {path}: {error.strerror or error}") from error


def _moving_average(samples: np.ndarray, width: int) -> np.ndarray:
    """Mean of the `width` samples around each of (T,); at the edges, of those that are there."""
    sums = np.concatenate([[0.0], np.cumsum(samples, dtype=np.float64)])
    places = np.arange(len(samples))
    first, last = np.maximum(places - width // 2, 0), np.minimum(places + width // 2 + 1, len(samples))
    return ((sums[last] - sums[first]) / (last - first)).astype(np.float32)


def _list(names: Any) -> str:
    return ", ".join(names)
