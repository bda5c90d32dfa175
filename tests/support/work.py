"""How much Python a call runs: the same number on any machine, however busy, where seconds would differ."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def work_of(function: Callable[[], Any]) -> int:
    """Lines of Python that are run by `function()` and all that it calls in this thread, each turn of a loop anew."""
    lines = 0

    def count(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines
