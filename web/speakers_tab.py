"""The tab that tells who speaks when."""

from __future__ import annotations

from importlib.util import find_spec

import streamlit as st


def show() -> None:
    if find_spec("diarization") is None:
        st.info("This part is not installed here: the package diarization is missing.")
        return
