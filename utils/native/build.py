"""Compiles a C file with the system's C compiler for this very processor, once, and loads it.

The library is kept in the user's cache folder under a name that changes with the source, `vectors.h`, the flags, the
compiler and what the processor can do. VOICE_NATIVE_FLAGS in the environment takes the place of the flags for this
processor, such as "-march=x86-64-v3" for any with AVX2, or -DPLAIN for plain C.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from utils.errors import CloningError
from utils.files import atomic_path

log = logging.getLogger(__name__)
HEADER = Path(__file__).with_name("vectors.h")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC")
VARIABLE = "VOICE_NATIVE_FLAGS"
TUNING = (("-march=native",), ("-mcpu=native",), ())  # the first that the compiler takes


_FULL = re.compile("No space left on device|Disk quota exceeded|File too large|file size limit exceeded", re.IGNORECASE)


class NoCompiler(Exception):
    """There is no C compiler, or it failed: the message says which."""


@lru_cache
def library(source: Path, tuning: tuple[str, ...] | None = None) -> ctypes.CDLL:
    """The library of a C file, from the cache where it is there and whole. Raises NoCompiler.

    `tuning`: compiler flags in place of those for this processor.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise NoCompiler(f"no C compiler found (looked for {', '.join(COMPILERS)})")
    if tuning is None and VARIABLE in os.environ:
        tuning = tuple(os.environ[VARIABLE].split())
    flags, facts = _probe(compiler, TUNING if tuning is None else (tuning,))
    key = hashlib.sha256(repr((source.read_bytes(), HEADER.read_bytes(), flags, facts)).encode()).hexdigest()[:24]
    path = cache_folder() / f"{source.stem}-{key}.{'dll' if sys.platform == 'win32' else 'so'}"
    if _whole(path):
        return ctypes.CDLL(str(path))
    log.info("compiling %s (once, a few seconds)", source.name)
    try:
        with atomic_path(path) as partial:
            _compile(compiler, flags, source, partial)
            digest = _digest(partial)
        _seal(path).write_text(digest, encoding="utf-8")
        return ctypes.CDLL(str(path))
    except (OSError, CloningError) as error:  # the folder cannot be written, or is full, or may not hold programs
        log.warning("no cache for what %s compiles to, it is made anew in each process: %s", source.name, error)
        try:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                path = Path(folder) / path.name
                _compile(compiler, flags, source, path)
                return ctypes.CDLL(str(path))
        except OSError as failure:
            raise NoCompiler(f"cannot keep or load what {compiler} made: {failure}") from failure


def cache_folder() -> Path:
    """The folder of this user in which kernels are kept."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "voice-cloning-toolkit"


def _probe(compiler: str, choices: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], str]:
    """The flags that the compiler takes, and what it predefines under them: its version, the processor's features"""
    for tuning in choices:
        command = [compiler, *FLAGS, *tuning, "-dM", "-E", "-x", "c", os.devnull]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        if done.returncode == 0:
            return (*FLAGS, *tuning), done.stdout
    raise NoCompiler(f"{compiler} fails: {_last_line(done.stderr)}")


def _compile(compiler: str, flags: Sequence[str], source: Path, path: Path) -> None:
    command = [compiler, *flags, "-I", str(HEADER.parent), str(source), "-o", str(path)]
    english = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=english)
    if done.returncode:
        if not os.access(path.parent, os.W_OK):
            raise OSError(f"{path.parent} cannot be written")
        if full := _FULL.search(done.stderr):
            raise OSError(errno.ENOSPC, f"{full[0]} ({path.parent})")
        raise NoCompiler(f"{compiler} fails on {source.name}: {_last_line(done.stderr)}")


def _whole(path: Path) -> bool:
    """Whether the file is there and what was written: a damaged library could bring the process down."""
    try:
        return _seal(path).read_text(encoding="utf-8") == _digest(path)
    except (OSError, ValueError):  # not there, or not text
        return False


def _seal(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
