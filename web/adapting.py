"""Voices that are learned and kept, in a thread of their own: the page tells how far it is, and may end it early."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import streamlit as st

from cloning.adapt import adapt
from cloning.cloner import VoiceCloner
from utils.audio.io import Waveform
from utils.errors import reported
from utils.library import Library
from web.lines import plain
from web.work import explain

SECONDS = 120.0  # at most; a quiet processor needs some 20 for one clip
EVERY = 0.5  # seconds, at which it is looked at


class Adapting:
    """One voice. It is kept under its name also if the page is closed meanwhile; `error`: why it is not."""

    def __init__(
        self,
        load: Callable[[], VoiceCloner],
        name: str,
        waves: Sequence[Waveform],
        texts: Sequence[str | None],
        library: Library,
        consent: str,
    ) -> None:
        """`load` gives the cloner, in the thread; `texts`: the words of each clip, as of `adaptation.adapt`."""
        self.name, self.error, self.kept = name, "", ""
        self.step, self.steps = 0, 0
        self.told = False  # whether the page knows that it is done
        self.lines: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(load, waves, texts, library, consent), daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether its thread has ended."""
        return not self._thread.is_alive()

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        if not self.steps:
            return f"Listening to {self.name} ..."
        return f"Learning {self.name}: step {self.step} of {self.steps}"

    def stop(self) -> None:
        """Keep what has been learned so far, if it is more like the voice."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Until it is done, at most so long; whether it is."""
        self._thread.join(seconds)
        return self.done

    def _run(
        self,
        load: Callable[[], VoiceCloner],
        waves: Sequence[Waveform],
        texts: Sequence[str | None],
        library: Library,
        consent: str,
    ) -> None:
        with reported(self._fail):
            voice = adapt(load(), list(waves), texts, seconds=SECONDS, progress=self.lines.append, after=self._after)
            self.kept = str(library.save(self.name, voice, consent=consent))

    def _fail(self, error: Exception) -> None:
        self.error = explain(error)

    def _after(self, step: int, steps: int) -> bool:
        self.step, self.steps = step, steps
        return not self._stop.is_set()


def show(where: str) -> None:
    """The one that was begun last: how far it is, or what came of it. `where`: what the page calls its library."""
    job: Adapting | None = st.session_state.get("adapting")
    if job is not None:
        st.fragment(_show, run_every=None if job.told else EVERY)(job, where)


def _show(job: Adapting, where: str) -> None:
    if job.done and not job.told:
        job.told = True
        st.rerun()  # its voice is among the others now
    if not job.done:
        bar, button = st.columns([3, 1], vertical_alignment="center")
        bar.progress(min(1.0, job.step / (job.steps or 1)), text=job.progress)
        button.button("Stop", icon=":material/stop:", on_click=job.stop, key="stop_adapting", width="stretch")
    elif job.error:
        st.error(plain(job.error), icon=":material/error:")
    else:
        st.success(plain(f"Kept as {job.kept}: choose it under '{where}'."), icon=":material/check:")
        st.caption(plain(". ".join(line[:1].upper() + line[1:] for line in job.lines)))
