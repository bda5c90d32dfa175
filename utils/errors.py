"""The errors that a user can put right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST = 1000  # characters of a message: what a damaged file says of itself may be long


class CloningError(Exception):
    """Something the user can put right. One line: what, the value, the limit, the remedy."""

    def __init__(self, message: str) -> None:
        message = printable(message)
        super().__init__(message if len(message) <= LONGEST else f"{message[:LONGEST]} ...")


class MismatchError(CloningError):
    """Stages, or a voice and a stage, that were not made for each other."""


class MissingError(CloningError):
    """Something is missing that a command makes. `what`: its name in `utils.remedies`, by which scripts tell which."""

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.what = what


@contextmanager
def reported(handler: Callable[[Exception], object]) -> Iterator[None]:
    """Where every error ends, a fault of ours too: `handler` tells it to whoever asked, and the program goes on."""
    try:
        yield
    except Exception as error:
        handler(error)


def printable(text: str) -> str:
    """`text` as one line that any terminal takes: control characters and bytes that are not UTF-8 as escapes."""
    return "".join(c if c.isprintable() or c == " " else ascii(c)[1:-1] for c in text)


def missing_package(name: str, purpose: str, requirements: str) -> CloningError:
    """The error for an optional package that is not installed (raise it `from` the ImportError)."""
    return CloningError(f"{purpose} needs the package {name}: pip install -r {requirements}")
