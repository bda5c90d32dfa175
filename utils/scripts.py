"""How scripts end: exit codes, and one line for what the user can put right."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

from utils.errors import CloningError
from utils.files import FULL, cannot_write
from utils.processes import ended_by_signals

_CLOSED = (errno.EPIPE, errno.EINVAL)  # what a pipe answers that nobody reads any more; the second on Windows


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
