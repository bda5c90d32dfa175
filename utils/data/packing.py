"""Corpora in a few archives of Opus and text, small enough to carry to a machine without a network, and back again.

A part is a gzipped tar that any tar unpacks; its last member, `pack_N.json`, says what it is: which part, whether the
last one, how many files. Speakers that are set aside, and sound of no known use, are left out.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

from utils.audio import io as audio
from utils.data.corpora import AUDIO, scan
from utils.errors import CloningError
from utils.files import atomic_path

FORMAT = 1
TEXTS = frozenset(".txt .lab .tsv .csv .json .jsonl .gz .psv".split())
PACKED = frozenset(".opus .ogg .oga .mp3".split())  # compressed already: taken as they are
RATE = 16_000  # Hz, of what is compressed here
COMPRESSION = 0.9  # of libsndfile: some 30 kbit/s
SLACK = 1 << 16  # bytes that gzip may hold back, and the end of the archive
NAME = "part_{:02d}.tar.gz"
_Member = tuple[str, bytes]  # name in the archive, contents


def pack(
    corpora: Sequence[Path], out: Path, part_bytes: int, *, set_aside: Iterable[str] = (), exclude: Iterable[str] = ()
) -> list[Path]:
    """Write `corpora` into parts of at most `part_bytes` in `out`; returns them in order.

    Speakers whose names fit `set_aside` or `exclude` (wildcards allowed) are left out. Raises CloningError: nothing to
    pack, parts there already, a file larger than a part.
    """
    if other := sorted(out.glob("part_*.tar.gz")):
        raise CloningError(f"{other[0]}: there are parts already: choose another folder, or delete them")
    waiting = iter(_members(corpora, (*set_aside, *exclude)))
    member = next(waiting, None)
    parts: list[Path] = []
    if member is None:
        raise CloningError(f"{', '.join(map(str, corpora))}: nothing to pack: everybody is set aside or excluded")
    with ExitStack() as undo:  # some parts alone are of no use
        while member is not None:
            path = out / NAME.format(len(parts))
            with atomic_path(path) as partial, partial.open("wb") as raw:
                member = _fill(raw, member, waiting, len(parts), part_bytes)
            parts.append(path)
            undo.callback(path.unlink)
        undo.pop_all()
    return parts


def unpack(parts: Sequence[Path], into: Path) -> list[Path]:
    """Unpack all parts of a pack into `into`; returns the corpora there. Nothing is written outside of it.

    Raises CloningError: a part is missing, damaged, or of another format.
    """
    found: dict[int, dict[str, Any]] = {}
    for part in parts:
        try:
            with tarfile.open(part, "r:gz") as archive:
                archive.extractall(into, filter="data")
                name = archive.getnames()[-1]
        except (OSError, EOFError, tarfile.TarError) as error:
            raise CloningError(f"{part}: cannot be unpacked: {error}") from error
        try:
            about = json.loads((into / name).read_text(encoding="utf-8"))
            found[about["part"]] = about
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CloningError(f"{part}: not a part of packed corpora") from error
        if about["format"] > FORMAT:
            raise CloningError(f"{part}: format {about['format']}, this version reads up to {FORMAT}: update it")
    missing = sorted(set(range(max(found) + 1)) - found.keys())
    if missing or not found[max(found)]["last"]:
        first = missing[0] if missing else max(found) + 1
        raise CloningError(f"{NAME.format(first)} is missing among the {len(parts)} parts given: give all of them")
    return sorted(path for path in into.iterdir() if path.is_dir())


def _fill(raw: BinaryIO, member: _Member | None, waiting: Iterator[_Member], number: int, limit: int) -> _Member | None:
    """Write one part that begins with `member`; returns the first one that it has no place for, None at the end."""
    count, following = 0, None
    with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6, filename="", mtime=0) as zipped:
        with tarfile.open(fileobj=zipped, mode="w") as archive:
            while member is not None:
                name, data = member
                if raw.tell() + len(data) + SLACK > limit:
                    if count == 0:
                        raise CloningError(f"{name} has {len(data) / 1e6:.1f} MB: give a larger size of parts")
                    following = member
                    break
                _add(archive, name, data)
                count += 1
                member = next(waiting, None)
            about = {"format": FORMAT, "part": number, "last": following is None, "files": count}
            _add(archive, f"pack_{number}.json", (json.dumps(about) + "\n").encode())
    return following


def _members(corpora: Sequence[Path], left_out: Sequence[str]) -> Iterator[_Member]:
    """What is kept of the recordings, noises and texts; what a speaker has said stands together."""
    found = scan(*corpora)
    kept = {clip.path for clip in found.clips if not any(fnmatchcase(clip.speaker, name) for name in left_out)}
    if not kept:
        return
    noises = {path for path, reason in found.not_understood if "no speech" in reason}
    for corpus in (path.expanduser().resolve() for path in corpora):
        folders = [(files, [path for path in files if path.suffix.lower() in AUDIO]) for files in _folders(corpus)]
        folders.sort(key=lambda folder: not noises.issuperset(folder[1]))  # tables, alignments and noises come first
        for files, sounds in folders:
            mine = [path for path in sounds if path in kept or path in noises]
            if sounds and not mine:
                continue  # nor the texts of who is left out
            theirs = {path.stem for path in sounds} - {path.stem for path in mine}
            for path in files:
                name = (Path(corpus.name) / path.relative_to(corpus)).as_posix()
                if path in mine:
                    yield _sound(path, name)
                elif path.suffix.lower() in TEXTS and not path.name.startswith("README") and path.stem not in theirs:
                    yield name, path.read_bytes()


def _folders(root: Path) -> Iterator[list[Path]]:
    """The files of each folder below `root`, in sorted order."""
    entries = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    yield [path for path in entries if path.is_file()]
    for entry in entries:
        if entry.is_dir():
            yield from _folders(entry)


def _sound(path: Path, name: str) -> _Member:
    if path.suffix.lower() in PACKED:
        return name, path.read_bytes()
    import soundfile

    samples = audio.read(path, sample_rate=RATE).samples
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", RATE, 1, "OPUS", format="OGG", compression_level=COMPRESSION) as file:
        file.write(samples)
    return Path(name).with_suffix(".opus").as_posix(), buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size, about.mode = len(data), 0o644
    archive.addfile(about, io.BytesIO(data))
