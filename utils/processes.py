"""Processes that leave nothing behind: workers that end with their parent, signals that tidy up, locks on folders."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from utils.errors import CloningError
from utils.files import cannot_write

LOCK = ".lock"  # in a folder that a run writes to


def begin_worker() -> None:
    """First in a worker process: the parent answers Ctrl-C and a closed terminal, and its end is the worker's."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()  # a pipe (on Windows a handle) that the system closes, however it ends
    os._exit(1)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the workers and raise SystemExit, so that files are tidied up; a second ends it at once.

    SIGHUP stays ignored where it was, as under `nohup`.
    """
    previous: dict[int, Any] = {}

    def handle(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise SystemExit(128 + number)

    try:
        for number in stop_signals():
            previous[number] = signal.signal(number, handle)
    except ValueError:  # not in the main thread: signals are somebody else's
        pass
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stop_signals() -> list[int]:
    """The signals, besides Ctrl-C's, by which a process is asked to end, and which it does not ignore."""
    found = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [number for number in found if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process. Raises CloningError where another run holds it, or it cannot be written.

    The system gives a lock back however its process ends, so none is ever stale. Where a file system knows no locks,
    nothing is held.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        try:
            _lock(file)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                file.seek(0)
                owner = file.read(20).strip() or "unknown"
                raise CloningError(
                    f"{folder}: another run (process {owner}) writes here: wait for it, end it, or take another folder"
                ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield  # the file stays: were it removed, two could hold two files of this name


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(1_000_000)  # beyond the number, which others may read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process alone: workers do not inherit it
