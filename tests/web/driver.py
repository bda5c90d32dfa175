"""What a visitor does, by Streamlit's own test driver."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import soundfile

from tests.conftest import ROOT

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

CLIP = ROOT / "samples" / "austen_0890.wav"
PATIENCE = 600  # s; a busy machine is no failure


def wav(samples, rate=16000, container="WAV", subtype=None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def lines(page: AppTest) -> str:
    """The page's errors, as read (backslashes keep Markdown from seeing marks in them)."""
    return "\n".join(error.value for error in page.error).replace("\\", "")


def upload(page: AppTest, data: bytes, name: str = "me.wav") -> AppTest:
    page.radio(key="source").set_value("A file").run()
    return page.file_uploader[0].set_value([(name, data, "application/octet-stream")]).run()


def agree(page: AppTest) -> AppTest:
    next(box for box in page.checkbox if box.label.startswith("The person whose voice this is agrees")).check().run()
    return page


def press(page: AppTest, text: str | None = "Hello there.") -> AppTest:
    if text is not None:
        page.text_area(key="text").set_value(text)
    page.button(key="clone").click().run()
    if "asked" in page.session_state:
        assert page.session_state["asked"].job.wait(PATIENCE)
        page.run()
    assert not page.exception
    return page


def results(page: AppTest) -> list:
    return page.session_state["takes"] if "takes" in page.session_state else []
