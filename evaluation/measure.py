"""One waveform measured by all judges: numbers by name, kept in the cache by the audio's own digest."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.cache import Cache, plain
from evaluation.judges.likeness import LEVEL_DB, Likeness, SpeakerJudge, at_speech_level, speaker_judges
from evaluation.judges.naturalness import Judge, Missing, naturalness_judges
from evaluation.judges.recognizer import Recognizer, Whisper, load_recognizer
from evaluation.lists.sentences import SentencePlan
from evaluation.metrics import signals
from evaluation.metrics.prosody import comma_pauses, final_rise, has_inner_comma
from evaluation.metrics.scores import Interval, bootstrap, pooled_rate, word_errors
from evaluation.report import Cell
from utils.audio.io import Waveform, read, resample
from utils.audio.mel import SYNTHESIZER_MEL, mel_spectrogram
from utils.files import user_path

Numbers = dict[str, Any]
# heading of `word_cells` -> (digits, names of the two numbers in a row)
WORDS = {"WER %": (1, "word_edits", "words"), "CER %": (1, "character_edits", "characters")}
FLOOR_DB = -30.0  # of the comparison mel: some 60 dB under loud vowels
LEVEL = 0.1  # root mean square of speech to which two speakers are brought


@dataclass
class Panel:
    """All judges of one run."""

    cache: Cache
    judges: list[Judge | Missing]
    likeness: list[Likeness | Missing]
    recognizer: Recognizer | Missing
    version: str  # of the recognizer's sentences

    @classmethod
    def load(
        cls,
        cache: Cache,
        *,
        judge: Path | None,
        recognizer: str,
        spoken: list[str],
        whisper: Path | None = None,
        dnsmos: bool = False,
    ) -> Panel:
        """The judges that are installed, and the reasons for those that are not; `spoken`: sentences to recognize."""
        version = hashlib.sha256("\n".join(sorted(set(spoken))).encode()).hexdigest()[:8]
        panel = cls(cache, naturalness_judges(dnsmos), [], load_recognizer(recognizer, spoken, whisper), version)
        for number, found in enumerate(speaker_judges(judge)):
            suffix = f"_{number + 1}" if number else ""
            panel.likeness.append(found if isinstance(found, Missing) else Likeness(found, panel.embed_by, suffix))
        return panel

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Names of missing judges with the reasons."""
        everyone = [*self.judges, *self.likeness, self.recognizer]
        return [(judge.name, judge.reason) for judge in everyone if isinstance(judge, Missing)]

    @property
    def about(self) -> dict[str, str]:
        """What each judge is, for the report."""
        everyone = [*self.judges, *(likeness.judge for likeness in self.present), self.recognizer]
        return {f"judge: {judge.name}": judge.about for judge in everyone if not isinstance(judge, Missing)}

    @property
    def present(self) -> list[Likeness]:
        """The judges of similarity that are installed."""
        return [likeness for likeness in self.likeness if not isinstance(likeness, Missing)]

    def enrol(self, plan: SentencePlan) -> None:
        """Learn each speaker's voice for the judges of similarity, and the cosines of its real speech."""
        for likeness in self.present:
            likeness.enrol({s: [read(clip) for clip in clips] for s, clips in plan.enrolment.items()}, plan.groups)
            likeness.set_levels({s: [read(item.recording) for item in items] for s, items in plan.real.items()})

    def embed_by(self, judge: SpeakerJudge, waveform: Waveform) -> np.ndarray | None:
        """(D,) of norm 1 of the clip, brought to one level over its speech; None where no voice is found."""
        key = f"embed/{judge.fingerprint}/{LEVEL_DB:g}/{digest(waveform)}"
        vector = self.cache.get_array(key)
        if vector is None:
            found = judge.embed(at_speech_level(waveform))
            vector = self.cache.put_array(key, np.zeros(1) if found is None else found)
        return vector / np.linalg.norm(vector) if vector.any() else None

    def measure(self, waveform: Waveform, spoken: str, speaker: str) -> Numbers:
        """Everything that needs no other recording of the same sentence."""
        key = digest(waveform)
        numbers: Numbers = {"seconds": waveform.seconds}
        for judge in self.judges:
            if not isinstance(judge, Missing):
                numbers |= self._cached(f"{judge.name}/{key}", lambda judge=judge: judge.measure(waveform))
        numbers |= self._words(waveform, spoken, key)
        numbers |= self.voice(waveform, spoken)
        for likeness in self.present:
            numbers |= likeness.compare(waveform, speaker)
        return numbers

    def voice(self, waveform: Waveform, spoken: str) -> Numbers:
        """Pitch, pauses and pace."""
        numbers = plain(voice_numbers(waveform))
        numbers["letters_per_s"] = len(spoken.replace(" ", "")) / max(numbers["speech_seconds"], 0.1)
        return numbers

    def rise(self, waveform: Waveform) -> Numbers:
        """Semitones by which the pitch rises at the end."""
        return {"rise": final_rise(signals.quick_pitch(waveform.samples, waveform.sample_rate))}

    def commas(self, waveform: Waveform, text: str) -> Numbers:
        """Seconds of quiet at each comma of `text`; nothing without one, or without a recognizer that gives times."""
        if not has_inner_comma(text) or not isinstance(self.recognizer, Whisper):
            return {}
        key = f"words/{self.recognizer.name}/{digest(waveform)}"
        words = self._cached(key, lambda: {"words": self.recognizer.words(waveform)})["words"]
        quiet = signals.quiet_frames(waveform.samples, waveform.sample_rate)
        return {"comma_pauses": comma_pauses(text, words, quiet)}

    def _words(self, waveform: Waveform, spoken: str, audio_key: str) -> Numbers:
        if isinstance(self.recognizer, Missing) or not spoken:
            return {}
        recognizer = self.recognizer
        key = f"{recognizer.name}/{self.version}/{audio_key}"
        transcript = self._cached(key, lambda: {"heard": recognizer.transcribe(waveform)})["heard"]
        errors = word_errors(recognizer.normalize(spoken), recognizer.normalize(transcript))
        return {"heard": transcript, **errors._asdict()}

    def _cached(self, key: str, measure: Any) -> Numbers:
        value = self.cache.get(key)
        return self.cache.put(key, measure()) if value is None else value


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that choose judges; `Panel.load` takes what they say."""
    parser.add_argument(
        "--judge", type=user_path, metavar="PATH", help="encoder that judges likeness (default: published)"
    )
    parser.add_argument("--recognizer", choices=("auto", "whisper", "pocketsphinx", "none"), default="auto")
    parser.add_argument(
        "--whisper", type=user_path, metavar="DIR", help="a model for faster-whisper (default: installed)"
    )
    parser.add_argument("--dnsmos", action="store_true", help="DNSMOS too, slow and made for noisy calls")


def word_cells(rows: list[Numbers]) -> dict[str, Cell]:
    """Error rates in percent, pooled over all words, or characters, of some sentences."""
    result = {}
    for heading, (_, edits, length) in WORDS.items():
        pairs = np.array([[row[edits], row[length]] for row in rows if edits in row], dtype=float)
        rate = bootstrap(pairs, pooled_rate) if len(pairs) else None
        result[heading] = Cell.of(rate and Interval(*(100 * x for x in rate)), "no recognizer")
    return result


def voice_numbers(waveform: Waveform) -> Numbers:
    """Pitch, pauses and length of speech of one waveform."""
    quiet = signals.quiet_frames(waveform.samples, waveform.sample_rate)
    track = signals.quick_pitch(waveform.samples, waveform.sample_rate)
    median, spread = signals.pitch_statistics(track)
    return {
        "f0_hz": median,
        "f0_spread": spread,
        "pause_s": signals.longest_pause(quiet),
        "speech_seconds": signals.speech_seconds(quiet),
    }


def comparison_mel(waveform: Waveform) -> np.ndarray:
    """(M, F) in dB for comparing two recordings: the synthesizer's mel at 16 kHz over a floor.

    Levels are taken as they are. In the synthesizer's scale 0 dB is the middle and 50 dB the loudest.
    """
    import torch

    samples = waveform.samples
    if waveform.sample_rate != SYNTHESIZER_MEL.sample_rate:
        samples = resample(samples, waveform.sample_rate, SYNTHESIZER_MEL.sample_rate)
    normalized = mel_spectrogram(torch.from_numpy(samples), SYNTHESIZER_MEL).numpy()
    decibels = -SYNTHESIZER_MEL.min_db / (2 * SYNTHESIZER_MEL.max_abs)  # of one unit of the normalized mel
    return np.maximum(normalized * decibels, FLOOR_DB)


def aligned_distance(real: Waveform, other: Waveform) -> float:
    """dB between two recordings of one sentence along their best alignment, silence at the ends left out."""
    mels = [comparison_mel(_at_level(_without_ends(waveform))) for waveform in (real, other)]
    return signals.aligned_mel_distance(*mels)


def digest(waveform: Waveform) -> str:
    """A key of the waveform's samples and sample rate."""
    content = waveform.samples.tobytes() + str(waveform.sample_rate).encode()
    return hashlib.sha256(content).hexdigest()[:20]


def _at_level(waveform: Waveform) -> Waveform:
    # By energy and not by peak: a resynthesis keeps the one and not the other
    level = float(np.sqrt(np.mean(waveform.samples**2))) if len(waveform) else 0.0
    return Waveform(waveform.samples * (LEVEL / max(level, 1e-6)), waveform.sample_rate)


def _without_ends(waveform: Waveform) -> Waveform:
    loud = np.flatnonzero(~signals.quiet_frames(waveform.samples, waveform.sample_rate))
    if not len(loud):
        return waveform
    size = round(signals.PAUSE_FRAME_S * waveform.sample_rate)
    return Waveform(waveform.samples[loud[0] * size : (loud[-1] + 1) * size], waveform.sample_rate)
