"""Who speaks when: `Diarizer` turns a recording into turns, with named references or without."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diarization import counting, matching, spectral, voices
from diarization.normalization import CALIBRATIONS, Calibration
from diarization.segmentation import LocalVoices, Progress, Segmenter, frame_count, frame_edges, silent
from diarization.settings import DiarizationSettings
from diarization.turns import Turn, from_activity, talk_time
from diarization.windows import Pieces, SpeechWindows, embed_pieces, embed_speech, heard_by
from encoder.camplus import CamPlus
from encoder.inference import SpeakerEncoder
from utils.audio.io import Source, Waveform
from utils.audio.reference import prepare_reference
from utils.audio.vad import SILENCE_PEAK
from utils.config import to_dict
from utils.errors import CloningError
from utils.voice import unit
from utils.weights.find import find_stage

log = logging.getLogger(__name__)
UNKNOWN = "unknown"  # speaks, and is none of the references
MIN_ALONE_TO_CLUSTER = 0.5  # seconds alone, for a piece to be clustered; the others are assigned
MIN_WEIGHT = 0.05  # seconds that the shortest piece counts for


@dataclass(frozen=True)
class Diarization:
    """Turns in order; speakers S; times (N,) of the centers of sliding windows in seconds and cosines (N, S) of each
    window with each speaker's voice; the audio (mono, as it was heard)."""

    turns: list[Turn]
    speakers: list[str]
    times: np.ndarray
    cosines: np.ndarray
    audio: Waveform
    settings: DiarizationSettings
    encoder: str = ""
    hop: float | None = None  # from one window to the next, where it is longer than the settings say

    @property
    def longest_step(self) -> float:
        """Seconds between two windows; if they are farther apart, nobody speaks between them."""
        return 2 * (self.hop or self.settings.hop) + self.settings.max_pause

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
    """Finds turns of speakers, also of two at once. Raises CloningError where the network for that is not installed.

    >>> diarizer = Diarizer.load("saved_models/default")
    >>> diarizer.diarize("meeting.wav").talk_time()                              # speakers are found
    >>> diarizer.diarize("meeting.wav", {"Ann": ["ann.wav"], "Ben": ["ben.wav"]})  # ... or recognized
    """

    def __init__(
        self,
        encoder: SpeakerEncoder,
        calibration: Calibration,
        settings: DiarizationSettings | None = None,
        camplus: CamPlus | None = None,
    ) -> None:
        self.encoder, self.calibration, self.camplus = encoder, calibration, camplus
        self.settings = settings or DiarizationSettings()
        self.segmenter = Segmenter(torch.get_num_threads())

    @classmethod
    def load(
        cls,
        folder: str | Path,
        settings: DiarizationSettings | None = None,
        device: str = "cpu",
        camplus: bool = False,
    ) -> Diarizer:
        """From a folder's encoder and the calibration beside it; CloningError when they do not fit. `camplus`: voices
        are told apart by CAM++ too, whose package must be installed."""
        path = find_stage(Path(folder), "encoder") or Path(folder) / "encoder.safetensors"
        encoder = SpeakerEncoder.load(path, device)
        second = CamPlus.load(device) if camplus else None
        calibration = Calibration.load(path.with_name(CALIBRATIONS[camplus]), heard_by(encoder, second))
        return cls(encoder, calibration, settings, second)

    def diarize(
        self,
        source: Source,
        references: Mapping[str, Source | Sequence[Source]] | None = None,
        speakers: int | None = None,
        progress: Progress = silent,
    ) -> Diarization:
        """`references`: a clip, or a list of them, of each named voice; who is none of them is `UNKNOWN`. `speakers`:
        how many there are, if that is known and nobody is named. `progress` is told now and then which share is done,
        of what.

        Raises CloningError for audio that cannot be read, without enough speech, and for references that do not do.
        """
        if references and speakers is not None:
            raise CloningError("speakers is the number of unknown voices: it does not go with references")
        if speakers is not None and not (isinstance(speakers, Integral) and speakers >= 1):
            raise CloningError(f"speakers is {speakers}; a whole number of at least 1 is wanted")
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

    def listen(
        self, audio: Waveform, what: str, progress: Progress = silent, least: float | None = None
    ) -> SpeechWindows:
        """Local voices of `audio` and embeddings over its speech; CloningError when it has less than `least`
        seconds of it (None: as the settings say of a recording)."""
        least = self.settings.min_speech if least is None else least
        if audio.peak < SILENCE_PEAK:
            raise CloningError(f"{what} is silence only: nothing was recorded in its {audio.seconds:.1f} s")
        local = self.segmenter(audio.samples, lambda done, of: progress(0.6 * done, of))
        frames = frame_count(len(audio))
        edges = frame_edges(frames, audio.seconds)
        anybody = (local.counts(frames) > 0)[:, None]
        turns = from_activity(anybody, edges, ["anybody"], self.settings.max_pause, self.settings.min_turn)
        speech = np.array([(turn.start, turn.stop) for turn in turns]).reshape(-1, 2)
        found = float(np.diff(speech, axis=1).sum())
        pieces = self._pieces(audio, local, lambda done, of: progress(0.6 + 0.2 * done, of))
        if found < least or not len(pieces):
            raise CloningError(
                f"too little voice: found {found:.2f} s of speech in {what} ({audio.seconds:.2f} s long), "
                f"at least {least:.2f} s is wanted: give a longer or clearer recording"
            )
        spans, curves, hop = embed_speech(
            self.encoder, audio, speech, self.settings, lambda done, of: progress(0.8 + 0.2 * done, of)
        )
        return SpeechWindows(audio.seconds, local, pieces, spans, curves, hop)

    def cluster(self, audio: Waveform, windows: SpeechWindows, speakers: int | None = None) -> Diarization:
        """Turns of voices that nobody named: they are called S1, S2, ... in the order in which they first speak."""
        assigned, means = self._speakers(windows, speakers)
        turns = self._turns(audio, windows, assigned, [str(i) for i in range(len(means))])
        spoken = list(dict.fromkeys(turn.speaker for turn in turns))
        names = {label: f"S{i + 1}" for i, label in enumerate(spoken)}
        turns = sorted(replace(turn, speaker=names[turn.speaker]) for turn in turns)
        return self._result(audio, windows, turns, list(names.values()), means[[int(label) for label in spoken]])

    def match(self, audio: Waveform, windows: SpeechWindows, enrolled: Mapping[str, np.ndarray]) -> Diarization:
        """Turns of the voices of `enrolled`, the embeddings (D,) that `enrol` made of clips, and of `UNKNOWN`."""
        names = sorted(enrolled)  # the order in which they were named changes nothing
        references = np.stack([enrolled[name] for name in names])
        # who is named has a voice of his own; one that is there in two halves gets the same name twice
        assigned, means = self._speakers(windows, least=len(names))
        named = matching.name_voices(means, references, self.calibration.threshold)
        labels = [UNKNOWN if index == matching.NONE else names[index] for index in named]
        turns = self._turns(audio, windows, assigned, labels)
        return self._result(audio, windows, turns, names, references)

    def enrol(self, name: str, clips: Source | Sequence[Source]) -> np.ndarray:
        """The embedding (D,) of the clip or the clips (a list or a tuple) of one reference; CloningError when too
        little is said in them."""
        given: Sequence[Any] = clips if isinstance(clips, list | tuple) else [clips]
        if not given:
            raise CloningError(f"no clip for the reference {name}: give {name}=clip.wav")
        least = self.settings.min_reference
        heard = [self.listen(self.prepare(clip), f"the reference of {name}", least=least) for clip in given]
        return unit(np.concatenate([each.curves for each in heard]).mean(axis=0))

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

    def figures(self, audio: Waveform) -> np.ndarray:
        """What the number of speakers of prepared audio is told by: `diarization.counting.steps`."""
        pieces = self._pieces(audio, self.segmenter(audio.samples))
        sure = _sure(pieces, 2)
        return counting.steps(self.calibration.compare(pieces.embeddings[sure]), pieces.only(sure))

    def _pieces(self, audio: Waveform, local: LocalVoices, progress: Progress = silent) -> Pieces:
        return embed_pieces(self.encoder, audio.samples, local, progress, self.camplus)

    def _speakers(
        self, windows: SpeechWindows, speakers: int | None = None, least: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """The speaker of each piece (P,), and the encoder's mean embedding of each, norm 1: (S, D). `speakers`: how
        many, if that is known; else they are counted, at least `least`."""
        pieces = windows.pieces
        sure = _sure(pieces, max(speakers or least, 2))
        if speakers is not None and speakers > sure.sum():
            log.warning("only %d of %d voices can be told apart: too little is said", sure.sum(), speakers)
            speakers = int(sure.sum())
        seconds = np.maximum(pieces.alone, MIN_WEIGHT)
        units = self.calibration.compare(pieces.embeddings)
        if speakers is None:
            figures = counting.steps(units[sure], pieces.only(sure))
            speakers = min(self.calibration.counter.count(figures, least), int(sure.sum()))
        found = spectral.means(units[sure], seconds[sure], speakers)
        assigned = voices.assign(voices.shared(units @ found.T, seconds, pieces), pieces)
        weights = np.eye(len(found), dtype=np.float32)[assigned] * seconds[:, None]
        return assigned, unit(weights.T @ pieces.embeddings[:, : self.encoder.embedding_size])

    def _turns(
        self, audio: Waveform, windows: SpeechWindows, assigned: np.ndarray, labels: Sequence[str]
    ) -> list[Turn]:
        """Turns of speakers who have these labels, from the speaker of each piece (P,)."""
        frames = frame_count(len(audio))
        active = voices.speaking(windows.local, windows.pieces, assigned, len(labels), frames)
        edges = frame_edges(frames, audio.seconds)
        return from_activity(active, edges, labels, self.settings.max_pause, self.settings.min_turn)

    def _result(
        self, audio: Waveform, windows: SpeechWindows, turns: list[Turn], names: list[str], means: np.ndarray
    ) -> Diarization:
        cosines = windows.curves @ means.T
        settings, fingerprint = self.settings, heard_by(self.encoder, self.camplus)
        return Diarization(turns, names, windows.centers, cosines, audio, settings, fingerprint, windows.hop)


def _sure(pieces: Pieces, least: int) -> np.ndarray:
    """Which pieces say enough to be clustered (P,) bool: all of them where those are fewer than `least`."""
    sure = pieces.alone >= MIN_ALONE_TO_CLUSTER
    return sure if sure.sum() >= least else np.ones(len(pieces), bool)
