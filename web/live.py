"""What the page plays by itself: speech while it is being made, and the words of a take as they are spoken."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import streamlit as st

from web.takes import Take

CODE = Path(__file__).with_name("live.js")
HTML = '<div role="status" aria-live="polite" class="unseen"></div><p class="words"></p>'
CSS = """
.unseen {position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap}
.words {margin: 0; line-height: 1.7; max-height: 12em; overflow-y: auto}
.words:empty {display: none}
.words span {cursor: pointer; border-radius: .25em; padding: 0 .08em}
.words span.said {background: var(--st-primary-color); color: var(--st-background-color)}
"""


@lru_cache(maxsize=1)
def _code() -> str:
    return CODE.read_text(encoding="utf-8")


def _mount(key: str, data: dict) -> None:
    component = st.components.v2.component("voice_cloning_live", html=HTML, css=CSS, js=_code(), isolate_styles=False)
    component(key=key, data=data)


def speech(take: str, pieces: list[list], status: str, player: str = "", stop: bool = False) -> None:
    """Plays the `pieces` (number, rate, base64) of a take as they come; once the `player` (its key) of the whole is
    there, that one goes on from where the speech is. `status` is read out by screen readers."""
    selector = f".st-key-{player} audio" if player else ""
    _mount("live", {"take": take, "pieces": pieces, "status": status, "player": selector, "stop": stop})


def words(take: Take, player: str) -> None:
    """The words of a take: the one that `player` (a key) says is lit, a click on one goes there."""
    _mount(f"words-{player}", {"take": take.id, "words": take.words, "player": f".st-key-{player} audio"})
