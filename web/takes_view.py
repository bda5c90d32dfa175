"""Takes on the page: the one that is being made, the newest, those before it, and two beside each other."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from utils.errors import CloningError
from web import live, notes, pictures, takes
from web.chain import Chain, load
from web.job import Job
from web.lines import errors_as_lines, plain
from web.script import ScriptJob
from web.takes import Take
from web.voice_input import Chosen
from web.work import FORMATS, converted, explain

EVERY = 0.4  # seconds, at which a running job is looked at
FIRST_SOUND = 1.0  # seconds that the page waits for something to hear before it is shown
SHOWN = 10  # takes, unless all are asked for
NONCOMMERCIAL = "Made with weights for non-commercial use only (RAVDESS, CC BY-NC-SA 4.0)."


@dataclass
class PendingClone:
    """A press of the button: what is being made, of what."""

    job: Job
    voice: Chosen
    chain: Chain
    taken: bool = field(default=False)  # whether its take is among the takes
    take: str = ""  # the id of it


def stage(stale: str) -> None:
    """The result of the button, while it is made and after. `stale`: what has changed since."""
    asked: PendingClone | None = st.session_state.get("asked")
    running = asked is not None and not asked.taken
    if asked and running:
        asked.job.wait_for_sound(FIRST_SOUND)
    st.fragment(_stage, run_every=EVERY if running else None)(stale)


def _stage(stale: str) -> None:
    asked: PendingClone | None = st.session_state.get("asked")
    if asked and not asked.taken and asked.job.done:
        _take_in(asked)
        st.rerun()
    history: list[Take] = st.session_state.setdefault("takes", [])
    running = asked is not None and not asked.taken
    newest = history[0] if history and not running else None
    with st.container(key="live-speech"):
        if asked is None:
            live.speech("", [], "")
        elif running:
            live.speech(str(id(asked)), asked.job.pieces(), str(asked.job.progress))
        else:
            status = plain(asked.job.error) or (f"Done: {newest.seconds:.1f} seconds of speech." if newest else "")
            player = f"player-{newest.id}" if newest and not asked.job.error else ""
            live.speech(str(id(asked)), asked.job.pieces(), status, player, stop=not player)
    if asked and running:
        _running(asked.job)
    elif asked and asked.job.error:
        st.error(plain(asked.job.error), icon=":material/error:")
    if newest:
        card(newest, f"player-{newest.id}", stale if asked else "")
        _line_anew(newest)


def _line_anew(take: Take) -> None:
    """A button for a script that was made here: says one line again, and no other."""
    made: PendingClone | None = st.session_state.get("script_made")
    if made is None or made.take != take.id or not isinstance(made.job, ScriptJob):
        return
    texts = {line.number: f"{line.number}: {line.text}" for line in made.job.cast.lines}
    choice, button = st.columns([3, 1], vertical_alignment="bottom")
    number = choice.selectbox("A line", list(texts), format_func=lambda n: texts[n], key="line")
    if button.button("Make it anew", icon=":material/refresh:", key="anew", width="stretch"):
        st.session_state.asked = PendingClone(made.job.again(number), made.voice, made.chain)
        st.rerun()


def _running(job: Job) -> None:
    bar, button = st.columns([4, 1], vertical_alignment="center")
    progress = job.progress
    bar.progress(min(1.0, progress.begun / (progress.sentences or progress.begun + 1)), text=str(progress))
    button.button("Stop", icon=":material/stop:", on_click=job.stop, key="stop", width="stretch")


def _take_in(asked: PendingClone) -> None:
    """Make a take of what the job made."""
    asked.taken = True
    if (made := asked.job.made) is None:
        return
    script = asked.job if isinstance(asked.job, ScriptJob) else None
    take = takes.of(
        made, asked.job.text, asked.job.settings, asked.voice.heard, voice=asked.voice.name,
        voice_key=asked.voice.key, chain=asked.chain.name, reference=list(asked.voice.reference),
        weights=asked.chain.flags, first_sound=asked.job.first_sound, stopped=asked.job.stopped,
        noncommercial=asked.chain.noncommercial, script=script is not None,
        own={str(number): seed for number, seed in script.own.items()} if script else {},
    )  # fmt: skip
    asked.job.made, asked.take = None, take.id  # its arrays are large
    if script:
        st.session_state.script_made = asked
    if st.session_state.get("keep"):
        take = _on_disk(take)
    st.session_state.takes = takes.add(st.session_state.get("takes", []), take)
    st.session_state.compared = None


def card(take: Take, key: str, stale: str = "") -> None:
    """All of a take: player, words, likeness, notes, files, pictures."""
    made = time.strftime("%H:%M", time.localtime(take.made))
    st.subheader(f"{plain(take.voice)}, {made}", anchor=False)
    if stale:
        st.info(f"This take is older than what stands above: the {stale} changed.", icon=":material/history:")
    _player(take, key)
    facts = [f"{take.seconds:.1f} s, made in {take.work_seconds:.1f} s", f"seed {take.seed}"]
    if take.own:
        facts.append(f"made anew: line {', '.join(take.own)}")
    if emotion := take.settings.get("emotion"):
        facts.append(str(emotion))
    st.caption(plain(" · ".join([*facts, *([take.stopped] if take.stopped else [])])))
    left, right = st.columns([1, 3], vertical_alignment="center")
    left.metric(f"Similarity to the {'voices' if take.script else 'reference'}", f"{take.similarity:.2f}")
    right.caption(notes.of_similarity(take.similarity, take.encoder))
    for note in take.notes:
        st.warning(plain(note), icon=":material/info:")
    if take.noncommercial:
        st.warning(NONCOMMERCIAL, icon=":material/money_off:")
    button, choice = st.columns([3, 1], vertical_alignment="bottom")
    suffix = _format(choice, key)
    button.download_button(
        "Download", lambda: converted(take.bytes, suffix), take.file_as(suffix), FORMATS[suffix], width="stretch",
        icon=":material/download:", on_click="ignore", key=f"download-{key}",
    )  # fmt: skip
    _panels(take, key)


def _format(place: DeltaGenerator, key: str) -> str:
    """The suffix of downloads, one for all takes, chosen beside each button."""

    def chosen() -> None:
        st.query_params["format"] = st.session_state[f"format-{key}"]
        st.session_state.format_chosen = True

    suffix = _suffix()
    st.session_state[f"format-{key}"] = suffix
    place.selectbox("Format", list(FORMATS), key=f"format-{key}", format_func=str.upper, on_change=chosen)
    if st.session_state.pop("format_chosen", False):
        st.rerun()  # the other buttons too
    return suffix


def _suffix() -> str:
    asked = st.query_params.get("format", "wav")
    return asked if asked in FORMATS else "wav"


def _player(take: Take, key: str) -> None:
    with st.container(key=key):
        if isinstance(take.wav, Path) and not take.wav.is_file():
            st.error(plain(f"{take.wav} is gone."), icon=":material/error:")
            return
        st.audio(take.wav, format="audio/wav", alt=f"Take in the voice {take.voice}: {take.text[:80]}")
    if take.words:
        live.words(take, key)
    else:
        st.caption(plain(take.text if len(take.text) < 300 else f"{take.text[:300]} ..."))


def _panels(take: Take, key: str) -> None:
    """What is drawn and told only when it is asked for."""
    panel = st.expander("Pictures", icon=":material/insights:", key=f"pictures-{key}", on_change="rerun")
    if panel.open:
        with panel, errors_as_lines():
            _pictures(take)
    with st.expander("The same by command or in Python", icon=":material/terminal:"):
        if take.script:
            name = take.file_as("txt")
            st.download_button(
                f"The script, {name}", take.text, name, "text/plain", on_click="ignore", key=f"script-{key}",
                icon=":material/download:",
            )  # fmt: skip
        st.code(takes.command(take, _suffix()), language=None, wrap_lines=True)
        st.code(takes.python(take, _suffix()), language=None, wrap_lines=True)
    with st.expander("Details", icon=":material/list:"):
        st.table(_details(take), alt="Details of the take", hide_header=True)


def _pictures(take: Take) -> None:
    cloner = load(st.session_state.chain)
    dark = st.context.theme.type == "dark"
    drawn = st.session_state.setdefault("drawn", {})
    places = [*st.columns(2, gap="medium"), st.container()]
    for place, name in zip(places, pictures.available(take), strict=False):
        if (picture := (take.id, name, dark)) not in drawn:
            if len(drawn) > 12:
                drawn.clear()
            drawn[picture] = pictures.draw(name, take, cloner, dark)
        if drawn[picture] is None:
            place.caption(f"The picture of the {name} could not be drawn.")
        else:
            place.image(drawn[picture], width="stretch", alt=pictures.NAMES[name])
            place.caption(pictures.NAMES[name])


def _details(take: Take) -> list[dict[str, str]]:
    settings = take.settings
    rows = {
        "Text": take.text if len(take.text) < 400 else f"{take.text[:400]} ...",
        "Spoken as": " / ".join(take.sentences[:6]) + (" ..." if len(take.sentences) > 6 else ""),
        "Sentences": str(len(take.sentences)),
        "Voice": ", ".join(take.reference),
        "Seed": str(take.seed),
        "Rate and pauses": f"{settings.get('rate')} and {settings.get('pause')}",
        "Pitch and volume": f"{settings.get('pitch', 0):+g} semitones and {settings.get('volume', 0):+g} dB",
        "Length": f"{take.seconds:.2f} s",
        "First sound after": f"{take.first_sound:.2f} s" if take.first_sound else "the whole was made",
        "Time to make it": f"{take.work_seconds:.2f} s",
        "Weights": take.chain,
        **{f"Fingerprint of the {stage}": name for stage, name in take.models.items()},
    }
    return [{"": name, " ": plain(value)} for name, value in rows.items()]


def history() -> None:
    """Whether takes are kept, all of them, two beside each other, and one file of all."""
    kept: list[Take] = st.session_state.setdefault("takes", [])
    st.header("Takes", anchor=False)
    st.checkbox(
        f"Keep takes on this computer, in {takes.FOLDER.resolve()}", key="keep", bind="query-params",
        on_change=_keep_all, help="Without it they are gone when the page is closed or loaded anew.",
    )  # fmt: skip
    if line := st.session_state.get("keep_error"):
        st.error(plain(line), icon=":material/error:")
    if st.session_state.keep and not st.session_state.get("read"):
        st.session_state.read = True
        there = {take.id for take in kept}
        kept += [take for take in takes.kept() if take.id not in there]
        st.rerun()
    if not kept:
        st.caption("Every clone becomes a take here: to be heard again, compared, and downloaded.")
        return
    many = len(kept) > SHOWN and st.checkbox(f"Show all {len(kept)} takes", key="all_takes")
    for take in kept if many else kept[:SHOWN]:
        _row(take, first=take is kept[0])
    st.download_button(
        "All takes as one zip", lambda: takes.zipped(kept, _suffix()), "takes.zip", "application/zip",
        on_click="ignore", icon=":material/folder_zip:", key="zip",
    )  # fmt: skip


def _keep_all() -> None:
    st.session_state.keep_error = ""
    if st.session_state.keep:
        st.session_state.takes = [_on_disk(take) for take in st.session_state.get("takes", [])]


def _on_disk(take: Take) -> Take:
    """Kept, or as it is, with a line on the page that outlives the next run of it."""
    try:
        return takes.keep(take) if isinstance(take.wav, bytes) else take
    except CloningError as error:
        st.session_state.keep_error = explain(error)
        return take


def _row(take: Take, first: bool) -> None:
    made = time.strftime("%H:%M", time.localtime(take.made))
    text = take.text if len(take.text) < 50 else f"{take.text[:50]} ..."
    name, compare, remove = st.columns([6, 2, 1], vertical_alignment="top")
    with name:
        panel = st.expander(plain(f"{made} · {take.voice} · {text}"), key=f"take-{take.id}", on_change="rerun")
        if panel.open:
            with panel:
                card(take, f"old-{take.id}")
    if not first:
        compare.button(
            "Compare", icon=":material/compare_arrows:", key=f"compare-{take.id}", on_click=_compare, args=(take.id,),
            help="Beside the newest take", width="stretch",
        )  # fmt: skip
    remove.button(
        "", icon=":material/delete:", key=f"delete-{take.id}", on_click=_delete, args=(take,), help="Delete this take",
        type="tertiary",
    )  # fmt: skip
    if st.session_state.get("compared") == take.id:
        _beside(st.session_state.takes[0], take)


def _compare(which: str) -> None:
    st.session_state.compared = None if st.session_state.get("compared") == which else which


def _delete(take: Take) -> None:
    with errors_as_lines():
        takes.remove(take)
    st.session_state.takes = [one for one in st.session_state.takes if one.id != take.id]


def _beside(newest: Take, other: Take) -> None:
    with st.container(border=True, key="compared-takes"):
        for column, name, take in zip(st.columns(2), ("newest", "other"), (newest, other), strict=True):
            with column:
                st.markdown(f"**{'The newest' if name == 'newest' else 'This one'}**")
                _player(take, f"beside-{name}-{take.id}")
        rows = takes.differences(newest, other)
        table = [{"": what, "The newest": plain(one), "This one": plain(two)} for what, one, two in rows]
        if table:
            st.table(table, alt="What is different")
