"""Who speaks when: `Diarizer` turns a recording into turns, with named references or without."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diarization import clustering, matching
from diarization.scores import Calibration
from diarization.settings import DiarizationSettings
from diarization.turns import Turn, absorb_short, from_frames, talk_time
from diarization.windows import Progress, SpeechWindows, embed_speech, find_speech, silent
from encoder.inference import SpeakerEncoder
from utils.audio.io import Source, Waveform
from utils.audio.reference import prepare_reference
from utils.audio.vad import SILENCE_PEAK
from utils.config import to_dict
from utils.errors import CloningError
from utils.voice import unit

UNKNOWN = "unknown"  # speaks, and is none of the references


@dataclass(frozen=True)
class Diarization:
    """Turns in order; speakers S; times (W,) of the windows' centers in seconds and cosines (W, S) of each window with
    each speaker's voice; the audio (mono, as it was heard)."""

    turns: list[Turn]
    speakers: list[str]
    times: np.ndarray
    cosines: np.ndarray
    audio: Waveform
    settings: DiarizationSettings
    encoder: str = ""

    @property
    def names(self) -> list[str]:
        """All that speak, or were expected to."""
        return list(dict.fromkeys([*self.speakers, *(turn.speaker for turn in self.turns)]))

    def renamed(self, names: Mapping[str, str]) -> Diarization:
        """The same with other names of speakers. Raises CloningError for a speaker that is not there, and where two
        would have one name."""
        for old in names:
            if old not in self.names:
                raise CloningError(f"nobody is called {old}: the speakers are {', '.join(self.names)}")
        changed = [names.get(name, name) for name in self.names]
        if twice := next((name for name in changed if changed.count(name) > 1), None):
            raise CloningError(f"two speakers would be called {twice}: give everyone a name of their own")
        turns = [replace(turn, speaker=names.get(turn.speaker, turn.speaker)) for turn in self.turns]
        return replace(self, turns=turns, speakers=[names.get(name, name) for name in self.speakers])

    def talk_time(self) -> dict[str, tuple[float, int]]:
        """Seconds and number of turns of each speaker, who talks most first."""
        return talk_time(self.turns)

    def as_json(self) -> dict[str, Any]:
        """Plain values: what `diarize.py --json` writes."""
        speakers = {name: {"seconds": round(s, 3), "turns": n} for name, (s, n) in self.talk_time().items()}
        return {
            "seconds": round(self.audio.seconds, 3),
            "speakers": speakers,
            "turns": [{"start": round(t.start, 3), "stop": round(t.stop, 3), "speaker": t.speaker} for t in self.turns],
            "similarity": {
                "times": [round(float(t), 3) for t in self.times],
                "cosines": {
                    name: [round(float(c), 3) for c in column]
                    for name, column in zip(self.speakers, self.cosines.T, strict=True)
                },
            },
            "settings": to_dict(self.settings),
            "encoder": self.encoder,
        }


class Diarizer:
    """Finds turns of speakers; one voice at a time, so that speech of two at once is given to one of them.

    >>> diarizer = Diarizer.load("saved_models/default")
    >>> diarizer.diarize("meeting.wav").talk_time()                              # speakers are found
    >>> diarizer.diarize("meeting.wav", {"Ann": ["ann.wav"], "Ben": ["ben.wav"]})  # ... or recognized
    """

    def __init__(
        self, encoder: SpeakerEncoder, calibration: Calibration, settings: DiarizationSettings | None = None
    ) -> None:
        self.encoder, self.calibration = encoder, calibration
        self.settings = settings or DiarizationSettings()

    @classmethod
    def load(cls, folder: str | Path, settings: DiarizationSettings | None = None, device: str = "cpu") -> Diarizer:
        """From a folder with `encoder.safetensors` and `diarization.json`; CloningError when they do not fit."""
        encoder = SpeakerEncoder.load(Path(folder) / "encoder.safetensors", device)
        calibration = Calibration.load(Path(folder) / "diarization.json", encoder.fingerprint)
        return cls(encoder, calibration, settings)

    def diarize(
        self,
        source: Source,
        references: Mapping[str, Sequence[Source]] | None = None,
        speakers: int | None = None,
        progress: Progress = silent,
    ) -> Diarization:
        """`references`: clips of each named voice; who is none of them is `UNKNOWN`. `speakers`: how many there are,
        if that is known and nobody is named. `progress` is told now and then which share is done, of what.

        Raises CloningError for audio that cannot be read, without enough speech, and for references that do not do.
        """
        if references and speakers is not None:
            raise CloningError("speakers is the number of unknown voices: it does not go with references")
        if speakers is not None and speakers < 1:
            raise CloningError(f"speakers is {speakers}; at least 1 is wanted")
        if references and UNKNOWN in references:
            raise CloningError(
                f"a reference is called {UNKNOWN}: that name is for voices that are none of the references"
            )
        enrolled = {name: self.enrol(name, clips) for name, clips in (references or {}).items()}
        progress(0.0, "reading")
        audio = self.prepare(source)
        name = "the recording" if not isinstance(source, str | Path) else str(source)
        windows = self.listen(audio, name, lambda done, what: progress(0.05 + 0.85 * done, what))
        progress(0.9, "comparing voices")
        result = self.match(audio, windows, enrolled) if enrolled else self.cluster(audio, windows, speakers)
        progress(1.0, "done")
        return result

    def listen(self, audio: Waveform, what: str, progress: Progress = silent) -> SpeechWindows:
        """Embeddings over the speech of `audio`; CloningError when there is too little of it."""
        samples, rate = audio.samples, audio.sample_rate
        if audio.peak < SILENCE_PEAK:
            raise CloningError(f"{what} is silence only: nothing was recorded in its {audio.seconds:.1f} s")
        progress(0.0, "finding speech")
        speech = find_speech(samples, rate, self.settings)
        found = float(np.diff(speech, axis=1).sum())
        if found < self.settings.min_speech:
            raise CloningError(
                f"too little voice: found {found:.2f} s of speech in {what} ({audio.seconds:.2f} s long), "
                f"at least {self.settings.min_speech:.2f} s is wanted: give a longer or clearer recording"
            )
        return embed_speech(
            self.encoder, audio, speech, self.settings, lambda done, of: progress(0.15 + 0.85 * done, of)
        )

    def cluster(self, audio: Waveform, windows: SpeechWindows, speakers: int | None = None) -> Diarization:
        """Turns of voices that nobody named: they are called S1, S2, ... in the order in which they first speak."""
        points, between = self.calibration.project(windows.embeddings), self.calibration.between
        posterior, voices = clustering.cluster(points, windows.owned, self._stay_of(windows), between, speakers)
        labels = [str(i) for i in range(posterior.shape[1])]
        turns = self._turns(windows, voices.evidence(points, between), voices.share, labels)
        spoken = list(dict.fromkeys(turn.speaker for turn in turns))
        names = {label: f"S{i + 1}" for i, label in enumerate(spoken)}
        means = _means(posterior[:, [int(label) for label in spoken]], windows)
        turns = [Turn(turn.start, turn.stop, names[turn.speaker]) for turn in turns]
        return self._result(audio, windows, turns, list(names.values()), means)

    def match(self, audio: Waveform, windows: SpeechWindows, enrolled: Mapping[str, SpeechWindows]) -> Diarization:
        """Turns of the voices of `enrolled`, which `enrol` heard in their clips, and of `UNKNOWN`."""
        names = sorted(enrolled)  # the order in which they were named changes nothing
        references = np.concatenate([_means(np.ones((len(e.owned), 1)), e) for e in (enrolled[name] for name in names)])
        points, between = self.calibration.project(windows.embeddings), self.calibration.between
        # who is named has a voice of his own; one that is there in two halves gets the same name twice
        stay = self._stay_of(windows)
        posterior, _ = clustering.cluster(points, windows.owned, stay, between, least=len(names))
        named = matching.name_voices(_means(posterior, windows), references, self.calibration.threshold)
        posterior = matching.gather(posterior, named, len(names))
        labels = names + [UNKNOWN] * (posterior.shape[1] - len(names))
        there = np.flatnonzero(posterior.sum(axis=0) > 0)
        voices = clustering.places(posterior[:, there], windows.owned, points, between)
        turns = self._turns(windows, voices.evidence(points, between), voices.share, [labels[i] for i in there])
        return self._result(audio, windows, turns, names, references)

    def enrol(self, name: str, clips: Sequence[Source]) -> SpeechWindows:
        """What is heard in the clips of one reference; CloningError when that is too little."""
        if not clips:
            raise CloningError(f"no clip for the reference {name}: give {name}=clip.wav")
        heard = [self.listen(self.prepare(clip), f"the reference of {name}") for clip in clips]
        fields = ("speech", "spans", "segment", "owned", "embeddings")
        joined = {field: np.concatenate([getattr(each, field) for each in heard]) for field in fields}
        return SpeechWindows(seconds=sum(each.seconds for each in heard), **joined)

    def prepare(self, source: Source) -> Waveform:
        """Audio as it is listened to: mono, at the encoder's rate, of a usual level."""
        config = self.encoder.config
        return prepare_reference(
            source,
            target_dbfs=config.target_dbfs,
            sample_rate=config.mel.sample_rate,
            max_seconds=self.settings.max_seconds,
            trim=False,
        )

    def _stay_of(self, windows: SpeechWindows) -> np.ndarray:
        return self._stay(windows.centers, windows.segment)

    def _stay(self, times: np.ndarray, stretch: np.ndarray) -> np.ndarray:
        return clustering.stay_probability(times, stretch, self.settings.mean_turn, self.settings.change_at_pause)

    def _turns(self, windows: SpeechWindows, evidence: np.ndarray, share: np.ndarray, labels: list[str]) -> list[Turn]:
        """Changes of speaker at the resolution of frames, from the evidence (W, S) of the windows around each."""
        edges, stretch = frames(windows.speech, self.settings.frame)
        at = edges.mean(axis=1)
        per_frame = np.empty((len(edges), evidence.shape[1]))
        for k in range(len(windows.speech)):
            inside, chosen = slice(*np.searchsorted(stretch, [k, k + 1])), windows.segment == k
            for s in range(evidence.shape[1]):
                per_frame[inside, s] = np.interp(at[inside], windows.centers[chosen], evidence[chosen, s])
        seconds = np.diff(edges, axis=1)
        path = clustering.viterbi(clustering.EVIDENCE * seconds * per_frame, self._stay(at, stretch), share)
        return absorb_short(from_frames(edges, path, stretch, labels), self.settings.min_turn)

    def _result(
        self, audio: Waveform, windows: SpeechWindows, turns: list[Turn], names: list[str], means: np.ndarray
    ) -> Diarization:
        cosines = windows.embeddings @ means.T
        return Diarization(turns, names, windows.centers, cosines, audio, self.settings, self.encoder.fingerprint)


def frames(speech: np.ndarray, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Stretches of speech (K, 2) cut evenly into frames of about `length` seconds: edges (F, 2), stretch (F,)"""
    edges, stretch = [], []
    for k, (start, stop) in enumerate(speech):
        count = max(1, math.ceil((stop - start) / length - 1e-6))
        cuts = np.linspace(start, stop, count + 1)
        edges.append(np.stack([cuts[:-1], cuts[1:]], axis=1))
        stretch.append(np.full(count, k))
    return np.concatenate(edges), np.concatenate(stretch)


def _means(posterior: np.ndarray, windows: SpeechWindows) -> np.ndarray:
    """Mean embedding, of norm 1, of each voice of posterior (W, S): (S, D)"""
    rows = (posterior * windows.owned[:, None]).T @ windows.embeddings
    return unit(rows)
