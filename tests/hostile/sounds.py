"""Recordings with changed bytes: mostly in what a file says of itself before its sound begins."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.utils.audio.test_decoding import JOINED

NUMBERS = (0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1)
WORDS = (
    b"RIFF",
    b"data",
    b"fmt ",
    b"fLaC",
    b"OggS",
    b"OpusHead",
    b"ID3",
    b"moov",
    b"mdat",
    b"\x1a\x45\xdf\xa3",
    bytes(9),
)


def use(path: str) -> None:
    """What every script does first with a recording."""
    from utils.audio.io import read

    read(path, max_seconds=60)


def whole(folder: Path) -> list[Path]:
    """A recording of each kind that is read."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"whole.{kind}" for kind in JOINED]
    for path in paths:
        path.write_bytes(JOINED[path.suffix[1:]]())
    return paths


def mutations(folder: Path, count: int, seed: int = 0) -> Iterator[Path]:
    """`count` files: bytes changed, left out, doubled or put in, and numbers of 16 and 32 bits of either order."""
    draw = random.Random(seed)
    sources = [(path.suffix, path.read_bytes()) for path in whole(folder / "whole")]
    for number in range(count):
        suffix, content = sources[number % len(sources)]
        changed = bytearray(content)
        end = min(len(changed), draw.choice((64, 300, len(changed))))
        for _ in range(draw.choice((1, 1, 2, 8))):
            if not changed:
                break
            place = draw.randrange(end)
            match draw.randrange(6):
                case 0:
                    changed[place] = draw.randrange(256)
                case 1:
                    del changed[place : place + draw.choice((1, 4, 100))]
                case 2:
                    changed[place:place] = draw.choice(WORDS)
                case 3:
                    code = draw.choice("<>") + draw.choice("HI")
                    value = draw.choice(NUMBERS) % 2 ** (8 * struct.calcsize(code))
                    changed[place : place + struct.calcsize(code)] = struct.pack(code, value)
                case 4:
                    changed[place:place] = changed[place : place + draw.choice((4, 40, 400))]
                case _:
                    changed = changed[: max(1, place)]
            end = max(1, min(end, len(changed)))
        path = folder / f"{number:05d}{suffix}"
        path.write_bytes(changed)
        yield path
