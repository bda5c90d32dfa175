"""What scripts share: flags, what they log, and how they end (exit codes, one line for what the user can put right)."""

from __future__ import annotations

import argparse
import errno
import logging
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from utils.errors import CloningError
from utils.files import FULL, cannot_write, user_path
from utils.processes import ended_by_signals
from utils.remedies import with_remedy

MOST_THREADS = 1024
Number = TypeVar("Number", int, float)
_CLOSED = (errno.EPIPE, errno.EINVAL)  # what a pipe answers that nobody reads any more; the second on Windows


def add_device(parser: argparse._ActionsContainer, default: str = "auto") -> None:
    """`--device`, as `utils.device.pick_device` reads it."""
    about = "auto: CUDA where there is one, else the CPU (default: %(default)s)"
    parser.add_argument("--device", default=default, choices=["auto", "cpu", "cuda", "mps"], help=about)


def add_voices(parser: argparse._ActionsContainer) -> None:
    """`--voices`, the folder of a `utils.library.Library`."""
    parser.add_argument(
        "--voices",
        type=user_path,
        default=Path("voices"),
        metavar="DIR",
        help="folder of voices (default: %(default)s)",
    )


def add_threads(parser: argparse._ActionsContainer, about: str = "CPU threads (default: all cores)") -> None:
    """`--threads`, None where it is not given; `use_threads` obeys it."""
    parser.add_argument("--threads", type=thread_count, metavar="N", help=about)


def use_threads(threads: int | None) -> None:
    """Let torch use so many threads of the CPU; None: as many as it finds."""
    if threads is not None:
        import torch  # seconds, which --help does without

        torch.set_num_threads(threads)


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    if (number := _read(int, text, "a whole number")) < 1:
        raise argparse.ArgumentTypeError(f"{number}: it must be at least 1")
    return number


def positive_number(text: str) -> float:
    """An argparse type: a finite number above 0."""
    if not 0 < (number := _read(float, text, "a number")) < math.inf:
        raise argparse.ArgumentTypeError(f"{number:g}: it must be a number above 0")
    return number


def non_negative(text: str) -> int:
    """An argparse type: a whole number of at least 0."""
    if (number := _read(int, text, "a whole number")) < 0:
        raise argparse.ArgumentTypeError(f"{number}: it must be at least 0")
    return number


def fraction(text: str) -> float:
    """An argparse type: a part of a whole, from 0 to under 1."""
    if not 0 <= (number := _read(float, text, "a number")) < 1:
        raise argparse.ArgumentTypeError(f"{number:g}: it must be from 0 to under 1")
    return number


def speed_factor(text: str) -> float:
    """An argparse type: a factor by which clips are changed to make other voices of them, 0.5 to 2 and not 1."""
    if not 0.5 <= (factor := _read(float, text, "a number")) <= 2 or factor == 1:
        raise argparse.ArgumentTypeError(f"{factor:g}: factors lie in 0.5 .. 2 and are not 1")
    return factor


def thread_count(text: str) -> int:
    """An argparse type: a number of threads, 1 to `MOST_THREADS`."""
    if (number := positive(text)) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{number}: it must be 1 to {MOST_THREADS}")
    return number


def _read(kind: Callable[[str], Number], text: str, wanted: str) -> Number:
    try:
        return kind(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {wanted} is wanted") from error


def log_warnings(quiet: bool) -> None:
    """Log to stderr, a line each: warnings, or only errors."""
    logging.basicConfig(level=logging.ERROR if quiet else logging.WARNING, format="%(levelname)s: %(message)s")


def exit_code(run: Callable[[], int | None]) -> int:
    """Run a script's body: 0 when it returns None, its own code otherwise.

    A CloningError becomes one line on stderr, with the command that helps (`utils.remedies`), and exit code 2; Ctrl-C
    becomes 130, SIGTERM 143, a closed terminal 129, and output that is read no further (`| head`) 141, as shells have
    it.
    """
    try:
        with ended_by_signals():
            code = run() or 0
            print(end="", flush=True)  # here, where it may fail
            return code
    except CloningError as error:
        print(f"error: {with_remedy(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno in _CLOSED and _output_is_closed():
            return 141
        if error.errno not in FULL:
            raise
        print(f"error: {cannot_write(error.filename or Path.cwd(), error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _output_is_closed() -> bool:
    """Whether standard output is a pipe that nobody reads; it then leads nowhere, so that nothing fails at the end."""
    try:
        print(flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
