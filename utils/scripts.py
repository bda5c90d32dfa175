"""What scripts share: flags, what they log, and how they end (exit codes, one line for what the user can put right)."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from utils.errors import CloningError
from utils.files import FULL, cannot_write, user_path
from utils.processes import ended_by_signals

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


def log_warnings(quiet: bool) -> None:
    """Log to stderr, a line each: warnings, or only errors."""
    logging.basicConfig(level=logging.ERROR if quiet else logging.WARNING, format="%(levelname)s: %(message)s")


def exit_code(run: Callable[[], int | None]) -> int:
    """Run a script's body: 0 when it returns None, its own code otherwise.

    A CloningError becomes one line on stderr and exit code 2; Ctrl-C becomes 130, SIGTERM 143, a closed terminal 129,
    and output that is read no further (`| head`) 141, as shells have it.
    """
    try:
        with ended_by_signals():
            code = run() or 0
            print(end="", flush=True)  # here, where it may fail
            return code
    except CloningError as error:
        print(f"error: {error}", file=sys.stderr)
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
