"""The page as a whole: its frame and its tabs."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from web import clone_tab, speakers_tab
from web.lines import errors_as_lines

ICON = Path(__file__).with_name("icon.svg")
STYLE = """<style>
.block-container {max-width: 68rem; padding-top: 2.5rem; padding-bottom: 3rem}
h1 {letter-spacing: -0.02em}
audio {width: 100%}
</style>"""
PROMISE = (
    "Clone only voices whose owners agree, and say that cloned speech is synthetic when you publish it. "
    "Recordings stay in this computer's memory and are gone when the page is closed."
)


def show() -> None:
    """Draw the page; called again at every touch of it."""
    st.set_page_config(page_title="Voice cloning", page_icon=str(ICON), layout="wide")
    st.html(STYLE)
    st.title("Voice cloning", anchor=False)
    st.caption("A few seconds of a voice and a sentence in; that sentence in that voice out.")
    clone, speakers = st.tabs(["Clone a voice", "Who speaks when"])
    with clone, errors_as_lines():
        clone_tab.show()
    with speakers, errors_as_lines():
        speakers_tab.show()
    st.divider()
    st.caption(PROMISE)
