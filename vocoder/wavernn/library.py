"""The library that `wavernn.c` is compiled to."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

from utils.native import build

SOURCE = Path(__file__).with_name("wavernn.c")


@lru_cache
def library(tuning: tuple[str, ...] | None = None) -> ctypes.CDLL:
    """Raises utils.native.build.NoCompiler. `tuning`: compiler flags in place of those for this processor."""
    loaded = build.library(SOURCE, tuning)
    loaded.variant.restype = ctypes.c_char_p
    return loaded
