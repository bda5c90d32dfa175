"""The page as a whole: its frame and its tabs."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from web import clone_tab, speakers_tab
from web.lines import errors_as_lines

ICON = Path(__file__).with_name("icon.svg")
STYLE = """<style>
[data-testid="stMainBlockContainer"] {max-width: 72rem; padding-top: 2.5rem; padding-bottom: 3rem}
[data-testid="stHeading"] h1 {letter-spacing: -0.02em; font-size: 2.2rem}
[data-testid="stHeading"] h2 {font-size: 1.5rem; padding-bottom: .5rem}
[data-testid="stHeading"] h3 {font-size: 1.2rem}
audio {width: 100%}
/* 4.5 to 1 for all text */
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] * {color: inherit; opacity: 1 !important}
textarea::placeholder, input::placeholder {color: inherit !important; opacity: .8}
button[kind="primary"], button[kind="primary"] * {color: INK}
@media (max-width: 640px) {[data-testid="stMainBlockContainer"] {padding-left: 1rem; padding-right: 1rem}}
</style>"""
DESCRIPTION = "A few seconds of a voice and a text in; that text in that voice out."
PROMISE = (
    "Clone only voices whose owners agree, and say that cloned speech is synthetic when you publish it. "
    "Recordings stay in this computer's memory and are gone when the page is closed; takes are kept where you tick it."
)


def show() -> None:
    """Draw the page; called again at every touch of it."""
    st.set_page_config(page_title="Voice cloning", page_icon=str(ICON), layout="wide")
    ink = "#14191a" if st.context.theme.type == "dark" else "#fbfaf7"  # on the primary color
    st.html(STYLE.replace("INK", ink))
    st.html(f'<meta name="description" content="{DESCRIPTION}">')
    st.title("Voice cloning", anchor=False)
    st.caption(DESCRIPTION)
    clone, speakers = st.tabs(["Clone a voice", "Who speaks when"])
    with clone, errors_as_lines():
        clone_tab.show()
    with speakers, errors_as_lines():
        speakers_tab.show()
    st.divider()
    st.caption(PROMISE)
