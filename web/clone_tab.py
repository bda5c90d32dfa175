"""The tab to clone in: a voice, a text, a button; then the take that comes of it, and those before it."""

from __future__ import annotations

import secrets

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from utils.errors import CloningError
from utils.library import Library
from utils.speech_bounds import PITCHES
from utils.weights.find import emotions_of
from web import notes, script, takes_view, weights, work
from web.chain import Chain, load
from web.job import Job
from web.lines import errors_as_lines, plain
from web.takes_view import PendingClone
from web.voice_input import Chosen, choose
from web.work import Settings

STAGES = ("encoder", "synthesizer", "vocoder")
HINT = "Type a sentence, or paste a whole story."
SCRIPT_HINT = "[lucy] Good morning!\n[henry] Good morning, Lucy."
NO_EMOTION = "as it comes"
LONGEST_IN_ADDRESS = 1000  # characters of a text that the page's address holds


def show() -> None:
    """Draw the tab: a voice, a text, takes."""
    voice_column, text_column = st.columns(2, gap="large")
    with voice_column:
        st.header("1. A voice", anchor=False)
        voice = None
        with errors_as_lines():
            voice = choose(lambda: load(Chain.default()))
    with text_column:
        st.header("2. A text", anchor=False)
        _text()
        place = st.container()
    with st.expander("Advanced settings", icon=":material/tune:"):
        chain, settings = _settings(place)
    st.session_state.chain = chain
    with errors_as_lines():
        _button(chain, voice, settings)
    takes_view.stage(_stale(chain, voice.key if voice else "", settings))
    takes_view.history()


def _button(chain: Chain, voice: Chosen | None, settings: Settings) -> None:
    asked: PendingClone | None = st.session_state.get("asked")
    busy = asked is not None and not asked.taken and not asked.job.done
    if st.button("Clone", type="primary", icon=":material/graphic_eq:", width="stretch", key="clone", disabled=busy):
        st.session_state.pop("asked", None)
        if st.session_state.script:
            st.session_state.asked = _script_asked(chain, voice, settings)
            return
        if voice is None:
            raise CloningError("There is no voice yet: choose a sample, a file or the microphone above.")
        if not voice.agreed:
            raise CloningError("Tick first that the person whose voice this is agrees.")
        text = work.require_text(st.session_state.text)
        cloner = load(chain)
        st.session_state.asked = PendingClone(Job(lambda: cloner, voice.source, text, settings), voice, chain)


def _script_asked(chain: Chain, voice: Chosen | None, settings: Settings) -> PendingClone:
    text = work.require_text(st.session_state.text)
    cast, voices = script.cast(text, voice, emotions_of(chain.synthesizer))
    cloner = load(chain)
    workshop = st.session_state.setdefault("workshop", script.Workshop())
    history = st.session_state.get("takes")
    whole = history and history[0].script and not history[0].stopped
    again = whole and settings.seed is None and not _stale(chain, voice.key if voice else "", settings)
    seed = secrets.randbelow(2**31) if again else settings.seed  # pressed again: all anew; after a stop it goes on
    return PendingClone(script.ScriptJob(lambda: cloner, cast, text, settings, workshop, seed), voices, chain)


def _stale(chain: Chain, voice: str, settings: Settings) -> str:
    """What of the newest take is no longer what stands above it: "text", "voice and settings"; "" for nothing.

    `voice`: the key of the one that is chosen.
    """
    history = st.session_state.get("takes")
    if not history:
        return ""
    take = history[0]
    if st.session_state.script:
        voice = script.key(st.session_state.text, voice)
    made = Settings(**{**take.settings, "seed": settings.seed if settings.seed is None else take.settings["seed"]})
    changed = {
        "text": (st.session_state.text.strip(), st.session_state.script) != (take.text, take.script),
        "voice": bool(voice) and voice != take.voice_key,
        "settings": settings != made or chain.name != take.chain,
    }
    return " and ".join(name for name, different in changed.items() if different)


def _text() -> None:
    """The text box; its content is `st.session_state.text`."""
    if "text" not in st.session_state:
        st.session_state.text = st.query_params.get("text", "")[:LONGEST_IN_ADDRESS]
    box = st.container()
    several = st.toggle("A script of several voices", key="script", bind="query-params", help=script.HELP)
    box.text_area("What to say", key="text", height=150, placeholder=SCRIPT_HINT if several else HINT)
    text = st.session_state.text
    st.caption(notes.length(text, st.session_state.get("rate", 1.0)) or "Any length; English only.")
    if note := notes.of_text(text):
        st.warning(note, icon=":material/translate:")
    if several:
        st.caption(plain(f"Voices: {', '.join(Library().names()) or 'none are kept yet'}."))
    st.button("Fill in a sample text", icon=":material/edit_note:", on_click=_next_text, key="fill")
    if text and len(text) <= LONGEST_IN_ADDRESS:
        st.query_params["text"] = text
    else:
        st.query_params.pop("text", None)


def _next_text() -> None:
    if st.session_state.get("script"):
        st.session_state.text = script.sample()
        return
    now = st.session_state.get("text", "")
    following = work.TEXTS.index(now) + 1 if now in work.TEXTS else 0
    st.session_state.text = work.TEXTS[following % len(work.TEXTS)]


def _settings(place: DeltaGenerator) -> tuple[Chain, Settings]:
    """The weights, and how to speak; `place`: where the emotion is asked for."""
    found = {stage: weights.find(stage) for stage in STAGES}
    left, middle, right = st.columns(3)
    encoder, synthesizer, vocoder = (
        column.selectbox(label, list(found[stage]), key=stage, bind="query-params")
        for column, label, stage in zip(
            (left, middle, right), ("Speaker encoder", "Synthesizer", "Vocoder"), STAGES, strict=True
        )
    )
    asked = st.session_state.script and bool(script.emotions(st.session_state.text))
    emotion, synthesizer = _emotion(place, found["synthesizer"], synthesizer, asked)
    mismatch = "Go on with stages that were not trained for each other; they may sound wrong."
    allow = left.checkbox("Allow stages that do not fit", help=mismatch, key="mismatch")
    if (
        not allow
        and (other := weights.fitting(found["vocoder"], vocoder, found["synthesizer"][synthesizer])) != vocoder
    ):
        place.caption(f"{vocoder} does not fit {synthesizer}: spoken through {other}.")
        vocoder = other
    paths = (found["encoder"][encoder], found["synthesizer"][synthesizer], found["vocoder"][vocoder])
    chain = Chain(*paths, allow, f"{encoder}, {synthesizer}, {vocoder}")
    if chain.noncommercial:
        place.warning(f"{synthesizer}: for non-commercial use only.", icon=":material/money_off:")
    left, middle, right = st.columns(3)
    rate = left.slider("Rate", 0.5, 2.0, 1.0, 0.05, help="2 is twice as fast", key="rate", bind="query-params")
    pause = left.slider(
        "Pauses", 0.0, 3.0, 1.0, 0.1, help="factor of the silences between sentences", key="pause", bind="query-params"
    )
    pitch = middle.slider(
        "Pitch", *PITCHES, 0.0, 0.5, help="semitones higher or lower", key="pitch", bind="query-params", format="%+g"
    )
    volume = middle.slider(
        "Volume", -20.0, 20.0, 0.0, 1.0, help="dB louder or softer; what would clip is scaled down", key="volume",
        bind="query-params", format="%+g",
    )  # fmt: skip
    seed = right.number_input(
        "Seed", 0, 2**31 - 1, None, help="the same seed gives the same speech", placeholder="another each time",
        key="seed", bind="query-params",
    )  # fmt: skip
    return chain, Settings(None if seed is None else int(seed), rate, pause, emotion, pitch, volume)


def _emotion(place: DeltaGenerator, synthesizers: dict[str, str], chosen: str, asked: bool) -> tuple[str | None, str]:
    """An emotion, and the synthesizer that speaks it: another than the chosen one where that knows none.

    `asked`: whether a line of a script asks for one.
    """
    able = chosen if emotions_of(synthesizers[chosen]) else weights.with_emotions(synthesizers)
    if able is None:
        return None, chosen
    emotion = place.selectbox(
        "Emotion", [NO_EMOTION, *emotions_of(synthesizers[able])], key="emotion", bind="query-params",
        help=f"Spoken by {able}, whose weights are for non-commercial use only."
        if weights.noncommercial(synthesizers[able]) else None,
    )  # fmt: skip
    return (None if emotion == NO_EMOTION else emotion), (chosen if emotion == NO_EMOTION and not asked else able)
