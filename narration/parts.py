"""Parts of a long recording: each made once and kept in a folder, then joined to one file in bounded memory."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from utils.audio import io as audio
from utils.audio.io import Waveform
from utils.audio.resampling import resample_pieces
from utils.audio.watermark import PERIOD, RATE
from utils.errors import CloningError
from utils.files import atomic_path, cannot_write

INDEX = "parts.json"  # the seeds
LEVEL = -23.0  # dB of full scale, of the speech in a part whose level is matched
_PEAK = 0.95
_ACTIVE = 35.0  # dB below the loudest 20 ms of a part, above which it is speech
_NAME = re.compile(r"(\d+)-[0-9a-f]{16}\.wav")


@dataclasses.dataclass(frozen=True)
class Part:
    """`key`: of all that decides its samples; `make` gives them."""

    number: int
    key: str
    make: Callable[[], Waveform] = dataclasses.field(repr=False)


class Parts:
    """A folder of `NUMBER-KEY.wav` in floats: a part is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, number: int) -> Path | None:
        """The kept part of a number, whatever its key."""
        return next((path for path in self._all() if int(path.name.partition("-")[0]) == number), None)

    def keep(self, part: Part) -> tuple[Path, bool]:
        """The file of a part, which is made where it is not there yet; and whether it was made."""
        path = self.folder / f"{part.number:04d}-{part.key}.wav"
        if path.is_file():
            return path, False
        wav = part.make()
        _write(path, [wav.samples], wav.sample_rate, {}, "float")  # peaks beyond 1 stay: the whole is scaled down
        for other in self._all():
            if int(other.name.partition("-")[0]) == part.number and other != path:
                other.unlink()
        return path, True

    def clear(self, kept: Iterable[Path] = ()) -> None:
        """Remove all parts but those."""
        kept = set(kept)
        for path in self._all():
            if path not in kept:
                path.unlink()

    def remove(self) -> None:
        """Remove all parts and the index; then the folder, if nothing of others is left in it."""
        self.clear()
        (self.folder / INDEX).unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _all(self) -> list[Path]:
        return [path for path in sorted(self.folder.glob("*.wav")) if _NAME.fullmatch(path.name)]


def key_of(*facts: Any) -> str:
    """16 hex digits that name a set of settings, voices and texts."""
    digest = hashlib.sha256()
    _feed(digest, facts)
    return digest.hexdigest()[:16]


def _feed(digest: Any, value: Any) -> None:
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        value = sorted(value.items())
    if isinstance(value, list | tuple):
        for item in (len(value), *value):
            _feed(digest, item)
    elif hasattr(value, "__array__"):
        array = np.asarray(value)
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    else:
        digest.update(f"{type(value).__name__}:{value!r};".encode())


def level_matched(wav: Waveform) -> Waveform:
    """The waveform with its speech at LEVEL, or as near as its peaks allow; silence as it is."""
    width = max(1, wav.sample_rate // 50)
    count = len(wav) // width
    power = np.square(wav.samples[: count * width].reshape(-1, width), dtype=np.float64).mean(axis=1)
    loudest = float(power.max(initial=0.0))
    if loudest == 0:
        return wav
    level = 10 * math.log10(float(power[power > loudest * 10 ** (-_ACTIVE / 10)].mean()))
    return audio.amplified(wav, min(LEVEL - level, 20 * math.log10(_PEAK / wav.peak)))


def join(
    paths: list[tuple[Path, float]],
    output: Path,
    metadata: dict[str, str],
    *,
    volume: float = 0.0,
    bits: str | None = None,
    sample_rate: int | None = None,
) -> float:
    """Write parts, each with the seconds of silence after it, to one file; its seconds come back.

    Each part begins at a whole number of the watermark's periods (0.256 s), so that their marks count together and no
    part depends on those before it. Raises CloningError for what cannot be read or written.
    """
    first = load_part(paths[0][0])
    rate = sample_rate or audio.writable_rate(output, first.sample_rate)
    peak, length, seconds = 0.0, 0.0, 0.0
    for path, pause in paths:
        wav = load_part(path)
        peak = max(peak, audio.amplified(wav, volume).peak)
        length += wav.seconds + pause + PERIOD / RATE
    gain = volume - max(0.0, 20 * math.log10(max(peak, 1e-9)))

    def pieces() -> Iterator[np.ndarray]:
        nonlocal seconds
        for samples in resample_pieces(_laid_out(paths, first.sample_rate, gain), first.sample_rate, rate):
            seconds += len(samples) / rate
            yield samples

    _write(output, pieces(), rate, metadata, bits, math.ceil(length * rate))
    return seconds


def _write(
    path: Path, pieces: Iterable[np.ndarray], rate: int, metadata: dict[str, str], bits: str | None, frames: int = 0
) -> None:
    with atomic_path(path) as partial, partial.open("wb+") as file:
        watched = _Watched(file)
        audio.encode(watched, path, pieces, rate, metadata, bits, frames)  # type: ignore[arg-type]  # as much as it needs
        if watched.error:
            raise cannot_write(path, watched.error)


def load_part(path: Path) -> Waveform:
    """A kept part as it was written, to the bit. Raises CloningError for a damaged one."""
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise CloningError(f"{path}: damaged ({error}): remove it, and it is made again") from error
    return Waveform(samples, rate)


def _laid_out(paths: list[tuple[Path, float]], rate: int, gain: float) -> Iterator[np.ndarray]:
    """Samples (T,) of each part with the silence after it."""
    for index, (path, pause) in enumerate(paths):
        wav = audio.amplified(load_part(path), gain)
        if wav.sample_rate != rate:
            raise CloningError(
                f"{path}: made at {wav.sample_rate} Hz, others at {rate} Hz: remove its folder, start anew"
            )
        yield wav.samples
        if index + 1 < len(paths):
            yield np.zeros(silence(len(wav), pause, rate), np.float32)


def silence(samples: int, pause: float, rate: int) -> int:
    """Samples of silence after a part, so that the next one begins with a period of the mark."""
    periods = round((samples / rate + pause) * RATE / PERIOD)
    periods = max(periods, math.ceil(samples / rate * RATE / PERIOD))
    return max(0, round(periods * PERIOD * rate / RATE) - samples)


class _Watched:
    """A file whose first error is remembered: libsndfile tells nothing of a disk that is full."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return len(data) if self.error else self._file.write(data)
        except OSError as error:
            self.error = error
            return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
