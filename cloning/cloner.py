"""From a few seconds of a voice and a sentence to that sentence in that voice.

The only module that knows all three stages (Jia et al. 2018, arXiv 1806.04558): audio -> embedding; text + embedding ->
mel; mel -> audio.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack, cast

import utils  # isort: skip (before torch: how its threads wait)
import numpy as np

from cloning.references import MAX_SECONDS, Assessor, Clips, Reference, ReferenceClip, read_clips
from cloning.results import Cloning, Speaking
from encoder.inference import SpeakerEncoder
from synthesizer.inference import Synthesizer
from synthesizer.speech import Speech, SpeechArguments, SpeechOptions, SpokenSentence, require_texts
from synthesizer.text.sentences import Sentence
from utils.audio.io import Source, Waveform, read
from utils.audio.watermark import mark
from utils.device import pick_device
from utils.errors import MismatchError
from utils.files import user_path
from utils.speech_bounds import require_one_emotion
from utils.voice import Voice, is_voice
from utils.weights.find import DEFAULT_MODELS, find_chosen, models_folder
from vocoder.inference import Vocoder

utils.bound_kernels()
log = logging.getLogger(__name__)
PUBLISHED_ENCODER = "173bdb63c1714ecc"  # fingerprint of the encoder that published synthesizers were trained with
MIN_REFERENCE_SECONDS = 1.0  # of voice


class CloningArguments(SpeechArguments, total=False):
    """Keyword arguments that say how a text is to be spoken."""

    emotion_reference: Source | None  # a clip, in place of an emotion


def speech_options(*, emotion_reference: Source | None = None, **how: Unpack[SpeechArguments]) -> SpeechOptions:
    """These options, with a seed. Raises CloningError for what is out of bounds or contradicts itself."""
    if unknown := how.keys() - SpeechArguments.__annotations__:
        raise TypeError(
            f"no option {', '.join(sorted(unknown))}; there are {', '.join(CloningArguments.__annotations__)}"
        )
    require_one_emotion(how.get("emotion"), emotion_reference)
    if emotion_reference is not None:
        how["emotion"] = read(emotion_reference, max_seconds=MAX_SECONDS)
    return SpeechOptions(**how).with_seed()


class VoiceCloner:
    """The three stages, checked against each other."""

    def __init__(
        self,
        encoder: SpeakerEncoder,
        synthesizer: Synthesizer,
        vocoder: Vocoder,
        *,
        allow_mismatch: bool = False,
        watermark: bool = True,
        calibrations: Sequence[Path] = (DEFAULT_MODELS,),
    ) -> None:
        """`calibrations`: folders where diarization.json of this encoder may lie, to tell two people in a reference."""
        self.encoder, self.synthesizer, self.vocoder = encoder, synthesizer, vocoder
        self.watermark, self.allow_mismatch = watermark, allow_mismatch
        self._assessor = Assessor(encoder, calibrations)
        for problem in _mismatches(encoder, synthesizer, vocoder):
            if not allow_mismatch:
                raise MismatchError(f"{problem}; allow_mismatch=True goes on all the same")
            log.warning("%s", problem)

    @classmethod
    def load(
        cls,
        models: str | Path = DEFAULT_MODELS,
        *,
        encoder: str | Path | None = None,
        synthesizer: str | Path | None = None,
        vocoder: str | Path | None = None,
        lexicon: str | Path | None = None,
        device: str = "auto",
        allow_mismatch: bool = False,
        watermark: bool = True,
    ) -> VoiceCloner:
        """Load `encoder`, `synthesizer` and `vocoder` from a folder, each replaceable by a path of its own.

        `models`: its path, or its name in saved_models. Without an encoder of its own it is spoken with the one of ours
        that its synthesizer was trained with.

        `synthesizer` and `vocoder` may also be named by their file's name in that folder, in ours, or among those with
        emotions: "tacotron", "parallel"; the vocoder "griffin-lim" needs no weights. `lexicon`: pronunciations, a file;
        `device`: auto, cpu, cuda or mps; `watermark`: whether cloned speech is marked, inaudibly, as such
        (utils.audio.watermark).
        Raises CloningError: a file is missing or is not a checkpoint; MismatchError: stages that do not fit together
        (unless `allow_mismatch`).
        """
        models, target = models_folder(models), pick_device(device)
        encoder, synthesizer, vocoder, lexicon = (
            path and os.path.expanduser(path) for path in (encoder, synthesizer, vocoder, lexicon)
        )
        chosen = {"encoder": encoder, "synthesizer": synthesizer, "vocoder": vocoder}
        paths = {stage: find_chosen(models, stage, choice) for stage, choice in chosen.items()}
        speaker_encoder = SpeakerEncoder.load(paths["encoder"], target)
        acoustic_model = Synthesizer.load(paths["synthesizer"], target, lexicon=lexicon)
        return cls(
            speaker_encoder,
            acoustic_model,
            Vocoder.load(paths["vocoder"], target, mel=acoustic_model.mel),
            allow_mismatch=allow_mismatch,
            watermark=watermark,
            calibrations=(paths["encoder"].parent, DEFAULT_MODELS),
        )

    def embed_voice(self, reference: Clips) -> Voice:
        """The voice of one clip or of several (paths, bytes, files, arrays, Waveforms), to be cloned often or saved.

        Its `notes` say what keeps the clips from being a good reference. Raises CloningError for a clip that cannot be
        read, holds too little voice, or is too long.
        """
        clips = read_clips(reference)
        files = [replace(clip, name=Path(clip.name).name) for clip in clips]  # saved: where they lie is nobody else's
        voice, notes = self._embed(clips, pitch=True), self._assessor.notes(files)
        return replace(voice, notes=tuple(notes), sources=tuple(clip.sha256() for clip in clips))

    def embed_reference(self, reference: Reference) -> np.ndarray:
        """The speaker embedding (D,), of length 1, of what `clone` takes as a reference; raises as `embed_voice`."""
        return self._voice(reference)[0].embedding

    def assess(self, reference: Clips) -> list[str]:
        """Lines on what keeps the clips from being a good reference; none is a good sign. Raises CloningError for a
        clip that cannot be read."""
        return self._assessor.notes(read_clips(reference))

    def _voice(self, reference: Reference) -> tuple[Voice, list[ReferenceClip]]:
        """The voice of a reference, and the clips that it was made from here: none for a saved voice."""
        only = reference[0] if isinstance(reference, list | tuple) and len(reference) == 1 else reference
        if not is_voice(only):
            clips = read_clips(cast(Clips, reference))
            return self._embed(clips), clips
        voice = only if isinstance(only, Voice) else Voice.load(user_path(only))
        if voice.encoder != self.encoder.fingerprint and not self.allow_mismatch:
            raise MismatchError(
                f"the voice was made by encoder {voice.encoder or 'unknown'}, this one is {self.encoder.fingerprint}: "
                "make it anew from its recordings"
            )
        if voice.synthesizer != self.synthesizer.voice_fingerprint:  # frames of another mel, pace by another measure
            if not self.allow_mismatch:
                self.synthesizer.require_own(voice)
            voice = replace(voice, prompt=None, pace=None, compensation=None, adapted=None)
        return voice, []

    def _embed(self, clips: Sequence[ReferenceClip], pitch: bool = False) -> Voice:
        """With what the synthesizer uses of a voice; F0 too if `pitch`."""
        names, waves = [clip.name for clip in clips], [clip.wav for clip in clips]
        voice = self.encoder.embed_voice(waves, min_seconds=MIN_REFERENCE_SECONDS, names=names, pitch=pitch)
        rate = self.encoder.config.mel.sample_rate
        return self.synthesizer.describe_voice(voice, [read(wav, sample_rate=rate) for wav in waves])

    def clone(
        self,
        reference: Reference,
        text: str | Sequence[Sentence],
        *,
        progress: Callable[[str], None] | None = None,
        **how: Unpack[CloningArguments],
    ) -> Cloning:
        """Speak `text` in the voice of `reference`: a clip, or several of the same person, or a Voice, or its file.

        `text`: or some of the sentences that `synthesizer.sentences` cuts one into. `progress` is called with the name
        of each stage as it begins. `how`: fields of `SpeechOptions`: `rate` (2 is twice as fast), `pause` (factor of
        the silences between sentences), `pitch` (semitones higher), `seed` (the same gives the same samples),
        `emotion` (one of `synthesizer.emotions`); or `emotion_reference`: a clip, of anybody, whose emotion is taken.
        Raises CloningError for a reference without enough voice, a text with nothing to say, a value out of bounds.
        """
        return self.clone_many(reference, [text], progress=progress, **how)[0]

    def clone_many(
        self,
        reference: Reference,
        texts: Sequence[str | Sequence[Sentence]],
        *,
        progress: Callable[[str], None] | None = None,
        **how: Unpack[CloningArguments],
    ) -> list[Cloning]:
        """Each text as `clone` speaks it with the same seed (but for rounding errors); the arguments are `clone`'s.

        The voice is embedded once, and the synthesizer speaks the sentences of all texts in batches. `seconds` of what
        both took are shared out by length. Raises TypeError for a str in place of a list of texts.
        """
        require_texts(texts)
        options = speech_options(**how)
        on_stage = progress or (lambda stage: None)
        timer = _Timer()
        on_stage("encoder")
        voice, clips = self._voice(reference)
        timer.record("encoder")
        on_stage("synthesizer")
        speeches = self.synthesizer.speak_many(texts, voice, options)
        timer.record("synthesizer")
        shared, frames = dict(timer.seconds), sum(speech.mel.shape[1] for speech in speeches)
        on_stage("vocoder")
        clonings = []
        for speech in speeches:
            audio = self.vocoder.vocode(speech.mel, seed=options.seed)
            timer.record("vocoder")
            seconds = {name: value * speech.mel.shape[1] / frames for name, value in shared.items()}
            seconds["vocoder"] = timer.seconds["vocoder"]
            clonings.append(self._cloning(audio, speech, voice, clips, options, seconds))
        return clonings

    def _cloning(
        self,
        audio: Waveform,
        spoken: Speech,
        voice: Voice,
        clips: list[ReferenceClip],
        options: SpeechOptions,
        seconds: dict,
    ) -> Cloning:
        """Mark the whole of `audio`, and say all that is known of it."""
        started = time.perf_counter()
        if self.watermark:
            audio = Waveform(mark(audio.samples, audio.sample_rate), audio.sample_rate)
        seconds["vocoder"] += time.perf_counter() - started
        utils.return_memory()
        emotion = options.emotion
        return Cloning(
            audio=audio,
            mel=np.asarray(spoken.mel),
            pieces=spoken.pieces,
            similarity=self.similarity(voice.embedding, audio),
            seconds=seconds,
            seed=options.seed or 0,
            models=self.describe(),
            notes=[*voice.notes, *self._assessor.notes(clips), *spoken.notes],
            times=spoken.times.until(audio.seconds),
            emotion="as in the clip" if isinstance(emotion, Waveform) else emotion or "",
            watermark=self.watermark,
        )

    def follow(self, reference: Reference, text: str, **how: Unpack[CloningArguments]) -> Speaking:
        """Speak as `stream` does, and have the Cloning of what has been made so far, at the end or before.

        `how`: as of `clone`. Raises as `stream`.
        """
        options = speech_options(**how)
        started = time.perf_counter()
        voice, clips = self._voice(reference)
        heard = time.perf_counter() - started
        sentences = self.synthesizer.follow(text, voice, options)

        def done(audio: np.ndarray, spoken: Sequence[SpokenSentence], seconds: dict[str, float]) -> Cloning:
            speech = self.synthesizer.join(spoken, options)
            wav = Waveform(audio, self.vocoder.mel.sample_rate)
            return self._cloning(wav, speech, voice, clips, options, {"encoder": heard, **seconds})

        return Speaking(sentences, lambda mels: self.vocoder.stream(mels, seed=options.seed), self._pieces, done)

    def stream(self, reference: Reference, text: str, **how: Unpack[CloningArguments]) -> Iterator[Waveform]:
        """What `clone` says, in pieces of up to a second, each as soon as it is made; the arguments are `clone`'s.

        Joined, the pieces are `clone(...).audio`, but for the watermark, which is laid into each piece by itself, and
        for a WaveRNN, which streams unfolded. Raises CloningError at once for what `clone` refuses, and for a vocoder
        that cannot stream (griffin-lim).
        """
        options = speech_options(**how)
        voice, _ = self._voice(reference)
        mels = self.synthesizer.stream(text, voice, options)
        return self._pieces(self.vocoder.stream(mels, seed=options.seed))

    def _pieces(self, sounds: Iterable[np.ndarray]) -> Iterator[Waveform]:
        done, sample_rate = 0, self.vocoder.mel.sample_rate
        for samples in sounds:
            yield Waveform(mark(samples, sample_rate, done) if self.watermark else samples, sample_rate)
            done += len(samples)
        utils.return_memory()

    def similarity(self, speaker: np.ndarray, audio: Waveform) -> float:
        """Cosine of an embedding (D,) of norm 1 with the embedding of `audio`."""
        voice = self.encoder.preprocess(audio)
        return float(speaker @ self.encoder.embed_utterance(voice if len(voice) else audio))

    def describe(self) -> dict[str, str]:
        """Names and fingerprints of the three stages."""
        return {
            "encoder": f"{self.encoder.config.architecture} {self.encoder.fingerprint}",
            "synthesizer": f"{self.synthesizer.name} {self.synthesizer.fingerprint}",
            "vocoder": f"{self.vocoder.name} {self.vocoder.fingerprint}",
        }


class _Timer:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def record(self, name: str) -> None:
        """Give the time since the last call to `name`."""
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


def _mismatches(encoder: SpeakerEncoder, synthesizer: Synthesizer, vocoder: Vocoder) -> list[str]:
    """One line for each pair of stages that were not made for each other."""
    problems = []
    if differences := synthesizer.mel.differences(vocoder.mel):
        problems.append(f"synthesizer and vocoder differ in their mels ({'; '.join(differences)})")
    if synthesizer.speaker_size != encoder.embedding_size:
        problems.append(
            f"the encoder gives {encoder.embedding_size} numbers, the synthesizer wants {synthesizer.speaker_size}"
        )
    wanted = synthesizer.encoder_fingerprint or PUBLISHED_ENCODER
    if wanted != encoder.fingerprint:
        problems.append(f"the synthesizer was trained with encoder {wanted}, this one is {encoder.fingerprint}")
    return problems
