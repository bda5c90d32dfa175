"""The tab to clone in: a voice, a text, a button; then the clone beside its reference."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import streamlit as st

from utils.audio.io import Waveform
from utils.errors import CloningError
from voice_cloner import VoiceCloner
from web import weights, work
from web.lines import errors_as_lines, plain
from web.work import Result, Settings

SAMPLE, UPLOAD, RECORD = "A sample", "A file", "The microphone"
SUFFIXES = ["wav", "mp3", "ogg", "opus", "flac", "m4a", "mp4", "aac", "webm", "wma", "amr", "aiff"]
STAGES = {
    "encoder": "Listening to the voice ...",
    "synthesizer": "Speaking the text ...",
    "vocoder": "Making it sound ...",
    "pictures": "Drawing the pictures ...",
}
NO_EMOTION = "as it comes"
Chain = tuple[str, str, str, bool]  # paths of encoder, synthesizer and vocoder; whether they may not fit


@dataclass(frozen=True)
class Outcome:
    """What a press of the button gave: for each chain a result, or the line that says why there is none."""

    voice: Waveform
    results: list[Result | str]
    table: dict[str, list] | None  # clones judged by each encoder, where two were compared


def show() -> None:
    voice_column, text_column = st.columns(2, gap="large")
    with voice_column:
        st.subheader("1. A voice", anchor=False)
        voice, agreed = _voice()
    with text_column:
        st.subheader("2. A text", anchor=False)
        _text()
    with st.expander("Advanced settings", icon=":material/tune:"):
        chains, settings = _settings()
    if st.button("Clone", type="primary", icon=":material/graphic_eq:", width="stretch", key="clone"):
        st.session_state.pop("outcome", None)
        if voice is None:
            raise CloningError("There is no voice yet: choose a sample, a file or the microphone above.")
        if not agreed:
            raise CloningError("Tick first that the person whose voice this is agrees.")
        st.session_state.outcome = _clone(chains, voice, work.require_text(st.session_state.text), settings)
    if "outcome" in st.session_state:
        _show(st.session_state.outcome)


def _voice() -> tuple[Waveform | None, bool]:
    """The reference, and whether its owner agrees."""
    source = st.radio("Where from", [SAMPLE, UPLOAD, RECORD], horizontal=True, key="source")
    if source == SAMPLE:
        clips = work.samples()
        name = st.selectbox("Sample", list(clips), key="sample")
        voice = work.read_upload(clips[name].read_bytes(), clips[name].name)
        st.audio(voice.wav_bytes(), format="audio/wav")
        if (said := clips[name].with_suffix(".txt")).is_file():
            st.caption(plain(said.read_text(encoding="utf-8").strip()))
        return voice, True
    if source == UPLOAD:
        hint = "5 to 15 seconds of one person in a quiet room: wav, mp3, m4a, ogg or flac."
        upload = st.file_uploader("Recording", type=SUFFIXES, help=hint, key="upload")
    else:
        upload = st.audio_input("Record 5 to 15 seconds", key="recording")
    if upload is None:
        return None, False
    data = upload.getvalue()
    with errors_as_lines():
        voice = work.read_upload(data, upload.name)
        st.audio(voice.wav_bytes(), format="audio/wav")
        # a key of its own for every recording: agreement to one says nothing about the next
        mark = hashlib.sha256(data).hexdigest()[:16]
        return voice, st.checkbox("The person whose voice this is agrees to its being cloned.", key=f"agreed-{mark}")
    return None, False


def _text() -> None:
    """The text box; its content is `st.session_state.text`."""
    st.session_state.setdefault("text", "")
    st.text_area(
        "What to say", key="text", height=150, max_chars=work.MAX_CHARACTERS, placeholder="Type a sentence or two."
    )
    st.button("Fill in a sample text", icon=":material/edit_note:", on_click=_next_text, key="fill")


def _next_text() -> None:
    now = st.session_state.get("text", "")
    following = work.TEXTS.index(now) + 1 if now in work.TEXTS else 0
    st.session_state.text = work.TEXTS[following % len(work.TEXTS)]


def _settings() -> tuple[dict[str, Chain], Settings]:
    """Paths to clone with (one chain, or one for each of two encoders), and the rest."""
    encoders, synthesizers, vocoders = (weights.find(stage) for stage in ("encoder", "synthesizer", "vocoder"))
    left, middle, right = st.columns(3)
    encoder = left.selectbox("Speaker encoder", list(encoders), key="encoder")
    others = [name for name in encoders if name != encoder]
    compared = left.selectbox("Compare with", ["nothing", *others], key="compare") if others else "nothing"
    synthesizer = synthesizers[middle.selectbox("Synthesizer", list(synthesizers), key="synthesizer")]
    vocoder = vocoders[middle.selectbox("Vocoder", list(vocoders), key="vocoder")]
    mismatch = "Go on with stages that were not trained for each other; they may sound wrong."
    allow = left.checkbox("Allow stages that do not fit", help=mismatch, key="mismatch")
    rate = right.slider("Rate", 0.5, 2.0, 1.0, 0.05, help="2 is twice as fast", key="rate")
    pause = right.slider("Pauses", 0.0, 3.0, 1.0, 0.1, help="factor of the silences between sentences", key="pause")
    seed = right.number_input(
        "Seed", 0, 2**31 - 1, None, help="the same seed gives the same speech", placeholder="another each time",
        key="seed",
    )  # fmt: skip
    names = [encoder] if compared == "nothing" else [encoder, compared]
    chains = {name: (encoders[name], synthesizer, vocoder, allow) for name in names}
    emotion = _emotion(middle, chains[encoder])
    return chains, Settings(seed=None if seed is None else int(seed), rate=rate, pause=pause, emotion=emotion)


def _emotion(place, chain: Chain) -> str | None:
    """Asked for only where the synthesizer has emotions."""
    with errors_as_lines():
        if emotions := getattr(_load(chain).synthesizer, "emotions", ()):
            chosen = place.selectbox("Emotion", [NO_EMOTION, *emotions], key="emotion")
            return None if chosen == NO_EMOTION else chosen
    return None


def _load(chain: Chain) -> VoiceCloner:
    return _cached(*chain, tuple(weights.stamp(path) for path in chain[:3]))


@st.cache_resource(max_entries=4, show_spinner="Loading the models ...")
def _cached(encoder: str, synthesizer: str, vocoder: str, allow: bool, stamps: tuple[float, ...]) -> VoiceCloner:
    return VoiceCloner.load(encoder=encoder, synthesizer=synthesizer, vocoder=vocoder, allow_mismatch=allow)


def _clone(chains: dict[str, Chain], voice: Waveform, text: str, settings: Settings) -> Outcome:
    """Clone with every chain. One alone raises what goes wrong; beside another, it becomes its line."""
    if settings.seed is None:
        settings = replace(settings, seed=secrets.randbelow(2**31))  # the same for all, or they could not be compared
    bar = st.progress(0.0, text="Loading the models ...")
    done = 0

    def tell(stage: str) -> None:
        nonlocal done
        done += 1
        bar.progress(min(1.0, done / (len(STAGES) * len(chains) + 1)), text=STAGES.get(stage, stage))

    try:
        if len(chains) == 1:
            ((name, chain),) = chains.items()
            return Outcome(voice, [work.clone(_load(chain), voice, text, settings, name, tell)], None)
        results = [_attempt(name, chain, voice, text, settings, tell) for name, chain in chains.items()]
        return Outcome(voice, results, _judged(chains, voice, results))
    finally:
        bar.empty()


def _attempt(
    name: str, chain: Chain, voice: Waveform, text: str, settings: Settings, tell: Callable[[str], None]
) -> Result | str:
    try:
        return work.clone(_load(chain), voice, text, settings, name, tell)
    except Exception as error:
        return f"{name}: {work.explain(error)}"


def _judged(chains: dict[str, Chain], voice: Waveform, results: list[Result | str]) -> dict[str, list] | None:
    """Columns of the table that holds every clone against every encoder; None unless all clones are there."""
    whole = [result for result in results if isinstance(result, Result)]
    if len(whole) < len(chains):
        return None
    names = list(chains)
    rows = work.cross_similarity([_load(chain) for chain in chains.values()], voice, whole)
    columns = {f"judged by {name}": [row[i] for row in rows] for i, name in enumerate(names)}
    return {"cloned with": names, **columns}


def _show(outcome: Outcome) -> None:
    st.divider()
    columns = st.columns(1 + len(outcome.results), gap="large")
    with columns[0]:
        st.subheader("Reference", anchor=False)
        st.audio(outcome.voice.wav_bytes(), format="audio/wav")
        st.caption(f"{outcome.voice.seconds:.1f} s")
    results = [result for result in outcome.results if isinstance(result, Result)]
    for i, (column, result) in enumerate(zip(columns[1:], outcome.results, strict=True)):
        with column:
            if isinstance(result, str):
                st.error(plain(result), icon=":material/error:")
            else:
                _result(result, "Clone" if len(outcome.results) == 1 else result.title, i)
    if outcome.table:
        st.markdown("**Similarity to the reference** (1: the same voice), by each encoder")
        st.dataframe(outcome.table, hide_index=True, width="stretch")
    for result in results:
        _pictures(result, many=len(results) > 1)


def _result(result: Result, title: str, number: int) -> None:
    cloning = result.cloning
    st.subheader(title, anchor=False)
    st.audio(result.wav, format="audio/wav")
    work_seconds = sum(cloning.seconds.values())
    st.caption(f"{cloning.audio.seconds:.1f} s, made in {work_seconds:.1f} s · seed {cloning.seed}")
    st.metric("Similarity to the reference", f"{cloning.similarity:.2f}", help="cosine of the embeddings; at most 1")
    for note in cloning.notes:
        st.warning(plain(note), icon=":material/info:")
    st.download_button(
        "Download", result.wav, f"clone_{cloning.seed}.wav", "audio/wav", icon=":material/download:", width="stretch",
        on_click="ignore", key=f"download-{number}",
    )  # fmt: skip


def _pictures(result: Result, many: bool) -> None:
    with st.expander(
        f"Pictures: {result.title}" if many else "Pictures", icon=":material/insights:", expanded=not many
    ):
        speech, embeddings, models = st.tabs(["Mel and alignment", "Embeddings", "Details"])
        left, right, _ = embeddings.columns([1, 1, 1])
        places = {"speech": speech, "reference": speech, "embedding of the reference": left, "embedding": right}
        for name, place in places.items():
            if name in result.pictures:
                place.image(result.pictures[name], width="stretch")
            else:
                place.caption(f"The picture of the {name} could not be drawn.")
        models.json(result.cloning.report())
