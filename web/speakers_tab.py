"""The tab that tells who speaks when: a recording in, turns and a page that plays them out."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from utils.audio.io import Waveform
from utils.errors import CloningError
from web import weights, work
from web.lines import plain
from web.voice_input import SUFFIXES, UPLOAD

EXAMPLE = "An example"
TURNS = (("austen_0870", 0.0, 3.5), ("goforward", 0.0, 2.8), ("austen_0890", 0.0, 5.3), ("goforward", 0.3, 2.6))
MAX_SECONDS = 1800.0
AUTO = "as many as are found"


@dataclass(frozen=True)
class DiarizationView:
    """What the page shows and hands out of a recording."""

    name: str
    html: str
    rttm: str
    report: str
    csv: str
    srt: str
    picture: bytes


def show() -> None:
    """Draw the tab: a recording, its speakers, their turns."""
    try:
        from diarization.pipeline import Diarizer
        from encoder import camplus
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        st.info(f"This part is not installed here: the package {missing} is missing.", icon=":material/info:")
        return
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("1. A recording", anchor=False)
        name, audio = _recording()
    with right:
        st.subheader("2. Who may speak", anchor=False)
        hint = "Clips of the people you know, one or more each: ann.wav is Ann's. Without any, voices are numbered."
        clips = st.file_uploader(hint, type=SUFFIXES, accept_multiple_files=True, key="people")
        count = st.selectbox("How many speak", [AUTO, *range(1, 11)], disabled=bool(clips), key="speakers")
        hint = "Tell voices apart by CAM++ too: better in rooms and noise, but slower"
        more = camplus.installed() and st.checkbox(hint, key="camplus")
    if st.button("Find out", type="primary", icon=":material/groups:", width="stretch", key="diarize"):
        st.session_state.pop("turns", None)
        if audio is None:
            raise CloningError("There is no recording yet: choose the example or a file above.")
        references = _references(clips)
        bar = st.progress(0.0, "Reading ...")
        try:
            encoder = Path(weights.default("encoder"))
            diarizer = _diarizer(Diarizer, encoder.parent, weights.stamp(str(encoder)), more)
            number = None if references or count == AUTO else count
            show = partial(_progress, bar)
            st.session_state.turns = _found(name, diarizer.diarize(audio, references, number, show))
        finally:
            bar.empty()
    if "turns" in st.session_state:
        _show(st.session_state.turns)


def _recording() -> tuple[str, Waveform | None]:
    source = st.radio("Where from", [EXAMPLE, UPLOAD], horizontal=True, key="conversation")
    if source == EXAMPLE:
        audio = _example()
        st.audio(audio.wav_bytes(), format="audio/wav")
        st.caption("Two men of the samples in turn.")
        return "example", audio
    upload = st.file_uploader("Recording of several people, up to half an hour", type=SUFFIXES, key="meeting")
    if upload is None:
        return "", None
    audio = work.read_upload(upload.getvalue(), upload.name, MAX_SECONDS)
    st.audio(upload.getvalue())
    for note in audio.notes:
        st.warning(plain(note), icon=":material/info:")
    from diarization.exports import display_name

    return display_name(upload.name), audio


def _example() -> Waveform:
    """A conversation cut together from the bundled clips."""
    clips = work.samples()
    read = {name: work.read_upload(clips[name].read_bytes(), name) for name, _, _ in TURNS}
    rate = 16000
    parts = []
    for name, start, stop in TURNS:
        samples = read[name].samples[int(start * rate) : int(stop * rate)]
        parts += [0.1 * samples / np.abs(samples).max(), np.zeros(rate // 3, np.float32)]
    return Waveform(np.concatenate(parts), rate)


def _references(uploads: list[Any]) -> dict[str, list[Waveform]]:
    """Clips by the name of their file: `ann.wav` and `ann.mp3` are both Ann's."""
    from diarization.exports import display_name

    found: dict[str, list[Waveform]] = {}
    for upload in uploads:
        name = display_name(upload.name).strip()[:60]
        found.setdefault(name, []).append(work.read_upload(upload.getvalue(), upload.name))
    return found


def _progress(bar: Any, done: float, what: str) -> None:
    bar.progress(min(done, 0.95), f"{what.capitalize()} ...")


@st.cache_resource(max_entries=1, show_spinner=False)
def _diarizer(_kind: Any, folder: Path, stamp: float, camplus: bool) -> Any:
    return _kind.load(folder, camplus=camplus)


def _found(name: str, result: Any) -> DiarizationView:
    from diarization.exports import to_csv, to_srt
    from diarization.page import to_html
    from diarization.plots import plot_diarization
    from diarization.turns import to_rttm

    report = json.dumps({"recording": name, **result.as_json()}, indent=1)
    picture = io.BytesIO()
    plot_diarization(result, name).savefig(picture, format="png", dpi=100)
    turns = result.turns
    return DiarizationView(
        name, to_html(result, name), to_rttm(turns, name), report, to_csv(turns), to_srt(turns),
        picture.getvalue(),
    )  # fmt: skip


def _show(found: DiarizationView) -> None:
    st.divider()
    st.iframe(found.html, height=1000)
    st.caption(
        "Names that you change above are in the files that you save there; the files below have the first names."
    )
    files = (
        ("Turns (RTTM)", found.rttm, "rttm"),
        ("Turns (CSV)", found.csv, "csv"),
        ("Subtitles (SRT)", found.srt, "srt"),
        ("Report (JSON)", found.report, "json"),
        ("This page (HTML)", found.html, "html"),
        ("Picture (PNG)", found.picture, "png"),
    )
    for first in (0, 3):
        for column, (label, data, suffix) in zip(st.columns(3), files[first : first + 3], strict=True):
            column.download_button(
                label, data, f"{found.name}.{suffix}", on_click="ignore", icon=":material/download:", width="stretch"
            )
