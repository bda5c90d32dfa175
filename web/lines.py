"""What becomes of errors: one line on the page, whatever happened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from utils.errors import reported
from web.work import explain


@contextmanager
def errors_as_lines() -> Iterator[None]:
    """Whatever goes wrong inside becomes one line on the page; the details go to the log."""
    with reported(lambda error: st.error(plain(explain(error)), icon=":material/error:")):
        yield


def plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([\\`*_\[\]$~<>:#|])", r"\\\1", text)
