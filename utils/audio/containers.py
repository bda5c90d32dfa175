"""What kind of audio file lies before us, where the files joined in it begin, and what its header promises.

Only bytes are looked at here; `utils.audio.decoding` decodes. Programs that join files, stream, or are cut off leave
headers that speak of a part of the samples, and decoders believe them.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

MPEG_IN_WAV = (0x50, 0x55)  # format tags: MPEG layers 1 and 2, layer 3
UNKNOWN_SIZE = 0x7FFFF000  # of a wav's samples, from which on programs that write to a pipe mean "not known"
SLACK = 64  # bytes; some writers count their own header into the data chunk
_BLOCK = 1 << 20  # bytes searched at a time
_RIFF = (b"RIFF", b"RIFX", b"RF64")
_MOST_CHUNKS = 10_000  # of a wav that are walked through
_KINDS = (  # offset, pattern, kind; the first that fits
    (0, rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE", "wav"),
    (0, rb"fLaC", "flac"),
    (0, rb"OggS", "ogg"),
    (0, rb"FORM....AIF[FC]", "aiff"),
    (0, rb"\.snd", "au"),
    (0, rb"riff\x2e\x91\xcf\x11", "w64"),
    (0, rb"caff\x00\x01", "caf"),
    (0, rb"NIST_1A\n", "nistsphere"),
    (4, rb"ftyp|moov|wide|mdat", "mov"),
    (0, rb"\x1a\x45\xdf\xa3", "matroska"),
    (0, rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, rb"#!AMR", "amr"),
    (0, rb"\xff[\xf0\xf1\xf8\xf9]", "aac"),
    (0, rb"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd]", "mp3"),  # layers 2 and 3
)
_LONGEST = 64  # bytes of a signature
_SIGNATURES = {  # long enough not to come about by chance
    "flac": rb"fLaC[\x00\x80]\x00\x00\x22",
    "aiff": rb"FORM....AIF[FC]",
    "matroska": rb"\x1a\x45\xdf\xa3.{1,40}\x42\x82.(?:webm|matroska)",
    "asf": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",
}


class ByteRange(io.RawIOBase):
    """Bytes `start` .. `stop` of an open file, as a file of their own without a name."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file, self._start, self._length, self._at = file, start, stop - start, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        data = self._file.read(max(0, min(len(buffer), self._length - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def cut(file: BinaryIO, start: int, stop: int) -> BinaryIO:
    """A `ByteRange` as what it is to those who read it: typing knows no class that is both."""
    return cast(BinaryIO, ByteRange(file, start, stop))


@dataclass(frozen=True)
class ContainerLayout:
    """Bytes of samples that a header promises, those that are there, and bytes a second (0: they vary).

    `untold`: the header does not know how many there are, or more than it says. `tag`: of a wav's format.
    """

    promised: int
    there: int
    bytes_per_second: float
    untold: bool = False
    tag: int = 0


def find_start(file: BinaryIO) -> int:
    """Where the audio begins: after ID3 tags, which may stand before any format."""
    start = 0
    while True:
        file.seek(start)
        head = file.read(10)
        if head[:3] != b"ID3" or len(head) < 10:
            return start
        start += 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def sniff(head: bytes) -> str:
    """The kind of a file that begins with `head` (12 bytes or more): a name of FFmpeg's, or "" for none of these."""
    for offset, pattern, kind in _KINDS:
        if re.match(pattern, head[offset:], re.DOTALL):
            return kind
    return ""


def find_parts(file: BinaryIO, kind: str, start: int) -> list[tuple[int, int]]:
    """(start, stop) in bytes of every file in a file: more than one where several were joined.

    Of kinds whose decoder stops after the first; the others' go on by themselves.
    """
    stop = file.seek(0, io.SEEK_END)
    found: Iterable[int]
    if kind in _SIGNATURES:
        found = _signature_starts(file, start, stop, re.compile(_SIGNATURES[kind], re.DOTALL))
    else:
        find = {"ogg": _ogg_starts, "wav": _wav_starts, "mov": _mov_starts}.get(kind)
        found = find(file, start, stop) if find else ()
    starts = sorted({start, *found})
    return list(zip(starts, [*starts[1:], stop], strict=True))


def layout(file: BinaryIO, kind: str) -> ContainerLayout | None:
    """What the header of a wav, w64, caf or NIST file says of its samples; None when they never begin."""
    file.seek(0)
    return {"wav": _wav_layout, "w64": _w64_layout, "caf": _caf_layout, "nistsphere": _nist_layout}[kind](file)


def _wav_layout(file: BinaryIO) -> ContainerLayout | None:
    order = ">" if file.read(12)[:4] == b"RIFX" else "<"
    length = file.seek(0, io.SEEK_END)
    tag = bytes_per_second = promised = 0
    for chunk, at, size in _chunks(file, 12, length, order):
        file.seek(at)
        if chunk == b"fmt " and size >= 16 and at + 16 <= length:
            tag, _, _, bytes_per_second = struct.unpack(f"{order}HHII", file.read(12))
        if chunk == b"ds64" and size >= 16 and at + 16 <= length:
            promised = struct.unpack("<8xQ", file.read(16))[0]
        if chunk == b"data":
            promised = size if size != 0xFFFFFFFF else promised
            there = length - at
            untold = promised >= UNKNOWN_SIZE and promised > there + SLACK
            if promised + SLACK < there:  # an odd size is padded by a byte, or is not
                rests = {at + promised, at + promised + promised % 2}
                untold = not any(_ends_in_chunks(file, rest, length, order) for rest in rests)
            return ContainerLayout(promised, there, bytes_per_second, untold, tag)
    return None


def _w64_layout(file: BinaryIO) -> ContainerLayout | None:
    """Sony's: names of 16 bytes, sizes of 8 that count both, all at multiples of 8."""
    length, position, bytes_per_second = file.seek(0, io.SEEK_END), 40, 0
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        head = file.read(40)
        if len(head) < 24:
            return None
        size = int.from_bytes(head[16:24], "little")
        if head[:4] == b"fmt " and len(head) == 40:
            bytes_per_second = int.from_bytes(head[32:36], "little")
        if head[:4] == b"data":
            promised, there = size - 24, length - position - 24
            return ContainerLayout(promised, there, bytes_per_second, untold=promised <= 0 or promised >= 1 << 62)
        position += max(24, -(-size // 8) * 8)
    return None


def _caf_layout(file: BinaryIO) -> ContainerLayout | None:
    """Apple's: names of 4 bytes, big-endian sizes of 8; the samples' begins with a counter of edits, 4 bytes."""
    length, position, rate, bytes_per_frame, frames = file.seek(0, io.SEEK_END), 8, 0.0, 0.0, 0
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        head = file.read(12 + 24)
        if len(head) < 12:
            return None
        name, size = struct.unpack(">4sq", head[:12])
        if name == b"desc" and len(head) == 36:
            rate, _, _, packet, per_packet = struct.unpack(">d4sIII", head[12:])
            bytes_per_frame = packet / max(per_packet, 1)
        if name == b"pakt" and len(head) == 36:  # packets of many sizes
            frames = struct.unpack(">8xq8x", head[12:])[0]
        if name == b"data":
            if not bytes_per_frame and frames > 0:
                bytes_per_frame = (size - 4) / frames
            return ContainerLayout(size - 4, max(0, length - position - 16), rate * bytes_per_frame, untold=size <= 4)
        position += 12 + max(0, size)
    return None


def _nist_layout(file: BinaryIO) -> ContainerLayout | None:
    """NIST SPHERE: lines of `name -type value`; the length of the header is its second line."""
    head = file.read(4096)
    fields = dict(re.findall(rb"^(\w+) -(?:i|s\d+) (.+?)\s*$", head, re.MULTILINE))
    start = re.match(rb"NIST_1A\n\s*(\d{1,6})\s", head)
    try:
        count, rate, width, channels = (
            int(fields[name]) for name in (b"sample_count", b"sample_rate", b"sample_n_bytes", b"channel_count")
        )
    except (KeyError, ValueError):
        return None
    frame = width * channels
    there = max(0, file.seek(0, io.SEEK_END) - int(start[1] if start else 1024))
    packed = b"," in fields.get(b"sample_coding", b"")  # shorten and the like
    return None if packed else ContainerLayout(count * frame, there, rate * frame)


def ogg_is_closed(file: BinaryIO) -> bool:
    """Ogg promises no length, but its last page carries an end mark: without it, the file was cut short."""
    length = file.seek(0, io.SEEK_END)
    file.seek(max(0, length - (1 << 17)))
    tail = file.read()
    page = tail.rfind(b"OggS")
    return page >= 0 and page + 6 <= len(tail) and bool(tail[page + 5] & 4)


def mp3_promise(file: BinaryIO) -> tuple[int, int, int]:
    """Samples that an mp3's header promises (0 where it has none and any length is a guess), those of a frame, and Hz.

    The header is a first frame without sound: "Xing" or "Info", flags, and the number of frames if flag 1 is set.
    """
    file.seek(0)
    frame = file.read(2048)
    if len(frame) < 4:
        return 0, 1152, 44100
    version = (frame[1] >> 3) & 3  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    rate = (44100, 48000, 32000, 44100)[(frame[2] >> 2) & 3] >> {3: 0, 2: 1}.get(version, 2)
    size = 1152 if version == 3 else 576
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or at + 12 > len(frame) or not frame[at + 7] & 1:
        return 0, size, rate
    return struct.unpack(">I", frame[at + 8 : at + 12])[0] * size, size, rate


def _chunks(file: BinaryIO, position: int, length: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """(name, place of the content, size) of the chunks of a RIFF file, from `position` on."""
    for _ in range(_MOST_CHUNKS):
        if position + 8 > length:
            return
        file.seek(position)
        name, size = struct.unpack(f"{order}4sI", file.read(8))
        yield name, position + 8, size
        position += 8 + size + size % 2


def _ends_in_chunks(file: BinaryIO, position: int, length: int, order: str) -> bool:
    """Whether the rest of a wav is chunks, or another file, rather than samples that no header knows of."""
    for name, at, size in _chunks(file, position, length, order):
        if name in _RIFF:
            return True
        if not re.fullmatch(rb"[ -~]{4}", name) or at + size > length + SLACK:
            return length - at < SLACK
    return True


def _wav_starts(file: BinaryIO, start: int, stop: int) -> Iterator[int]:
    while start < stop:
        yield start
        part = cut(file, start, stop)
        order = ">" if part.read(4) == b"RIFX" else "<"
        chunks = _chunks(part, 12, stop - start, order)
        start += next((at - 8 for name, at, _ in chunks if name in _RIFF), stop - start)


def _ogg_starts(file: BinaryIO, start: int, stop: int) -> Iterator[int]:
    """A page that begins a stream, after one that does not: a link of a chain."""
    beginning = True
    while start + 27 <= stop:
        file.seek(start)
        page = file.read(27 + 255)
        if page[:4] != b"OggS":
            start = _search(file, re.compile(b"OggS"), start + 1, stop)
            if start < 0:
                return
            continue
        if page[5] & 2 and not beginning:
            yield start
        beginning = bool(page[5] & 2)
        start += 27 + page[26] + sum(page[27 : 27 + page[26]])


def _signature_starts(file: BinaryIO, start: int, stop: int, signature: re.Pattern[bytes]) -> Iterator[int]:
    while (start := _search(file, signature, start, stop)) >= 0:
        yield start
        start += 8


def _mov_starts(file: BinaryIO, start: int, stop: int) -> Iterator[int]:
    """An "ftyp" atom after the movie's own atoms."""
    samples_seen = False
    while start + 8 <= stop:
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        if name == b"ftyp" and samples_seen:
            yield start
            samples_seen = False
        samples_seen |= name == b"mdat"
        if size < 8:
            return
        start += size


def _search(file: BinaryIO, pattern: re.Pattern[bytes], start: int, stop: int) -> int:
    """The first place of a pattern of at most `_LONGEST` bytes in bytes `start` .. `stop`, or -1."""
    while start < stop:
        file.seek(start)
        block = file.read(min(_BLOCK, stop - start))
        if found := pattern.search(block):
            return start + found.start()
        if len(block) < _BLOCK:
            return -1
        start += len(block) - _LONGEST
    return -1
