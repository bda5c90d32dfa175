"""The voice on the page: a sample, a voice that was kept, files or the microphone; checked as soon as it is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from cloning.adapt import needs_transcripts
from cloning.cloner import VoiceCloner
from cloning.references import MAX_SECONDS
from utils.audio import quality
from utils.audio.io import Waveform
from utils.errors import CloningError, reported
from utils.faces import face
from utils.library import Library, TakenError
from web import adapting, work
from web.adapting import Adapting
from web.chain import ROOT, Chain
from web.chain import load as load_chain
from web.lines import errors_as_lines, plain

SAMPLE, LIBRARY, UPLOAD, RECORD = "A sample", "The library", "A file", "The microphone"
FACE = 72  # pixels
# what utils.audio.decoding reads
SUFFIXES = ["wav", "flac", "ogg", "oga", "opus", "mp3", "m4a", "mp4", "mov", "aac", "webm", "mkv", "wma", "amr", "aiff",
            "aif", "caf", "au"]  # fmt: skip
HINT = "5 to 15 seconds of one person in a quiet room; several clips of the same person are better than one."
ADAPTS = "The synthesizer learns the voice from the recordings in a minute or two, where that makes it more alike."
AGREES = "The person whose voice this is agrees to its being cloned."


@dataclass(frozen=True)
class VisitorClip:
    """A recording of the visitor's, and what was found out about it."""

    name: str
    key: str  # of its bytes
    wav: Waveform
    facts: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """A voice to clone: `source` is what `VoiceCloner.clone` takes."""

    name: str
    key: str  # changes with the recordings
    source: Any
    heard: Waveform | None  # all of it, to be played and drawn
    reference: tuple[str, ...]  # paths or, of what was uploaded, names
    agreed: bool = True


def choose(load: Callable[[], VoiceCloner]) -> Chosen | None:
    """The part of the page that asks for a voice; None while there is none. `load`: whose notes are shown."""
    source = st.radio(
        "Where from", [SAMPLE, LIBRARY, UPLOAD, RECORD], horizontal=True, key="source", bind="query-params"
    )
    ways = {SAMPLE: _sample, LIBRARY: _library, UPLOAD: lambda: _files(load), RECORD: lambda: _microphone(load)}
    try:
        return ways[source]()
    finally:
        adapting.show(LIBRARY)


def _sample() -> Chosen:
    clips = work.samples()
    name = st.selectbox("Sample", list(clips), key="sample", bind="query-params")
    path = clips[name]
    voice = work.read_upload(path.read_bytes(), path.name)
    st.audio(voice.wav_bytes(), format="audio/wav", alt=f"The sample {name}")
    if (said := path.with_suffix(".txt")).is_file():
        st.caption(plain(said.read_text(encoding="utf-8").strip()))
    return Chosen(name, f"sample {name}", voice, voice, (f"samples/{path.name}",))


def _library() -> Chosen | None:
    """The voices that were kept and those that come with the toolkit, each with its face."""
    library = Library()
    names = library.names()
    if not names:
        st.caption("No voices are kept yet: choose a file or the microphone.")
        return None
    chosen = st.session_state.setdefault("library_voice", names[0])
    chosen = chosen if chosen in names else names[0]
    with st.container(horizontal=True, gap="small"):
        for name in names:
            with st.container(width=FACE + 16, gap="xxsmall", horizontal_alignment="center"):
                st.image(face(name), width=FACE, alt="")
                st.button(
                    name, key=f"voice-{name}", on_click=_pick, args=(name,), width="stretch",
                    type="primary" if name == chosen else "secondary",
                )  # fmt: skip
    path = library.path(chosen)
    voice = library.load(chosen)
    about = [voice.note, f"{voice.seconds:.0f} s of recordings" if voice.seconds else "", *voice.notes]
    st.caption(plain(". ".join(filter(None, about)) or chosen))
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return Chosen(chosen, f"voice {chosen} {path.stat().st_mtime}", voice, None, (shown.as_posix(),))


def _pick(name: str) -> None:
    st.session_state.library_voice = name


def _keeping(mark: str, clips: list[VisitorClip], load: Callable[[], VoiceCloner]) -> None:
    """Into the library, under a name; adapted where that is ticked."""
    name = st.text_input("Name", key=f"name-{mark}", help="Letters, digits, - and _").strip()
    learn = st.checkbox("Adapt to this voice first", key=f"adapt-{mark}", help=ADAPTS)
    chain: Chain = st.session_state.get("chain") or Chain.default()
    texts: list[str | None] = []
    if learn:
        needed = needs_transcripts(load_chain(chain))
        hint = "Required." if needed else "Leave it empty where you do not know: sounds are then found by ear."
        for clip in clips:
            words = st.text_area(f"What is said in {plain(clip.name)}", key=f"words-{clip.key}", height=68, help=hint)
            texts.append(words.strip() or None)
        st.caption(f"It will be for these weights alone: {plain(chain.name or 'the default ones')}.")
    st.caption("Its numbers are kept, not the recordings; they identify the speaker all the same.")
    job: Adapting | None = st.session_state.get("adapting")
    busy = job is not None and not job.done
    if not st.button("Keep", key=f"keep-{mark}", disabled=not name or busy):
        return
    with errors_as_lines():
        waves, library = [clip.wav for clip in clips], Library()
        try:
            library.require_free(name)
        except TakenError as error:
            raise CloningError(f"There is a voice {name} already: choose another name.") from error
        if learn:
            cloner = load_chain(chain)
            st.session_state.adapting = Adapting(lambda: cloner, name, waves, texts, library, AGREES)
        else:
            path = library.save(name, load().embed_voice(waves), consent=AGREES)
            st.success(plain(f"Kept as {path}: choose it under '{LIBRARY}'."), icon=":material/check:")


def _files(load: Callable[[], VoiceCloner]) -> Chosen | None:
    """What is dropped into the box is read at once and leaves it: good clips go to the list below, a refused one
    leaves a line that says why."""
    round_ = st.session_state.setdefault("upload_round", 0)
    st.file_uploader(
        "Recordings of one person", type=SUFFIXES, accept_multiple_files=True, help=HINT, key=f"upload-{round_}",
        on_change=_take_in, args=(f"upload-{round_}",), max_upload_size=work.megabytes(MAX_SECONDS),
    )  # fmt: skip
    for line in st.session_state.get("refused", ()):
        st.error(plain(line), icon=":material/block:")
    clips: list[VisitorClip] = st.session_state.setdefault("clips", [])
    for number, clip in enumerate(clips):
        clip = clips[number] = _checked(clip, load)
        _show(clip, _remove)
    return _chosen(clips, load)


def _take_in(key: str) -> None:
    clips, refused = list(st.session_state.get("clips", [])), []
    for upload in st.session_state[key] or []:
        with reported(lambda error: refused.append(f"Not taken: {work.explain(error)}")):
            clip = _read(upload.getvalue(), upload.name)
            if clip.key not in [one.key for one in clips]:
                clips.append(clip)
    st.session_state.clips, st.session_state.refused = clips, refused
    st.session_state.upload_round += 1


def _read(data: bytes, name: str) -> VisitorClip:
    return VisitorClip(Path(name).name, hashlib.sha256(data).hexdigest()[:16], work.read_upload(data, name))


def _remove(key: str) -> None:
    st.session_state.clips = [clip for clip in st.session_state.clips if clip.key != key]
    st.session_state.refused = []


def _microphone(load: Callable[[], VoiceCloner]) -> Chosen | None:
    upload = st.audio_input("Record 5 to 15 seconds", key="recording")
    if upload is None:
        return None
    with errors_as_lines():
        clip = replace(_read(upload.getvalue(), "recording.wav"), name="my recording")
        known: VisitorClip | None = st.session_state.get("recorded")
        clip = st.session_state.recorded = known if known and known.key == clip.key else _checked(clip, load)
        _show(clip, None)
        return _chosen([clip], load)
    return None


def _checked(clip: VisitorClip, load: Callable[[], VoiceCloner]) -> VisitorClip:
    """With the library's notes; nothing where they were made already."""
    if clip.facts:
        return clip
    measured = quality.measure(clip.wav)
    facts = f"{clip.wav.seconds:.1f} s, {measured.voice_seconds:.1f} s of it voice"
    if np.isfinite(measured.level) and measured.has_voice:
        facts += f" at {measured.level:.0f} dBFS, background {measured.background:.0f} dB below"
    with errors_as_lines():
        found = [note.removeprefix("the reference: ") for note in load().assess(clip.wav)]
        return replace(clip, facts=facts, notes=tuple(found))
    return replace(clip, facts=facts)


def _show(clip: VisitorClip, remove: Callable[[str], None] | None) -> None:
    st.audio(clip.wav.wav_bytes(), format="audio/wav", alt=f"The recording {clip.name}")
    text, button = st.columns([5, 1], vertical_alignment="center")
    text.caption(f"**{plain(clip.name)}** · {plain(clip.facts)}")
    if remove:
        button.button(
            "", icon=":material/close:", help=f"Remove {clip.name}", key=f"remove-{clip.key}", on_click=remove,
            args=(clip.key,), type="tertiary",
        )  # fmt: skip
    for note in clip.notes:
        st.warning(plain(note), icon=":material/info:")
    if not clip.notes:
        st.caption(":material/check: Nothing is wrong with it as a reference.")


def _chosen(clips: list[VisitorClip], load: Callable[[], VoiceCloner]) -> Chosen | None:
    if not clips:
        return None
    key = " ".join(sorted(clip.key for clip in clips))
    mark = hashlib.sha256(key.encode()).hexdigest()[:16]
    # a key of its own for every set of recordings: agreement to one says nothing about the next
    agreed = st.checkbox(AGREES, key=f"agreed-{mark}")
    waves = [clip.wav for clip in clips]
    if agreed:
        with st.expander("Keep this voice", icon=":material/bookmark_add:", key=f"keeping-{mark}"):
            _keeping(mark, clips, load)
    return Chosen(Path(clips[0].name).stem, mark, waves, waves[0], tuple(clip.name for clip in clips), agreed)
