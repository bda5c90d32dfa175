"""Text and a voice to a mel: `Synthesizer`, the same for all models and published checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from synthesizer.adapters import adapted
from synthesizer.aligned_clip import recorded
from synthesizer.config import SynthesizerConfig
from synthesizer.emotion_input import embed_emotion
from synthesizer.metadata import SynthesizerMetadata
from synthesizer.model_input import (
    padded_input,
    require_recording,
    speaker_embeddings,
    with_voice_statistics,
)
from synthesizer.models.base import AcousticModel, Generated, GenerationSettings, ModelInput, Recording
from synthesizer.models.build import build_network
from synthesizer.models.parallel import Parallel
from synthesizer.models.tacotron.published import published_config, published_state
from synthesizer.speech import (
    DEFAULT,
    EmotionInput,
    Speech,
    SpeechOptions,
    SpokenSentence,
    SynthesizedSentence,
    complaint,
    require_text,
    require_texts,
    with_pauses,
)
from synthesizer.text.encoding import EncodedText, encode
from synthesizer.text.marks import NO_PROSODY, plain
from synthesizer.text.processor import PUBLISHED, TextProcessor
from synthesizer.text.sentences import Sentence
from synthesizer.times import times_of
from synthesizer.voice_description import compensation_of, facts_of, first_clips
from utils.audio.io import Waveform
from utils.audio.mel import SYNTHESIZER_MEL, MelConfig
from utils.config import from_dict
from utils.errors import CloningError, MismatchError
from utils.seeds import SEEDS
from utils.voice import Voice
from utils.weights.checkpoint import Checkpoint, load_weights
from utils.weights.networks import rebuild

BATCH = 8  # sentences at once
AnyVoice = np.ndarray | Voice  # an embedding (D,), of which no more is known, or a voice


class Synthesizer:
    """A trained synthesizer.

    >>> synthesizer = Synthesizer.load("synthesizer.safetensors")
    >>> first, second = synthesizer.synthesize(["One.", "Two."], voice, SpeechOptions(seed=1))  # voice of the encoder
    >>> synthesizer.speak("A long text. With several sentences.", voice).mel       # (M, F)
    """

    def __init__(
        self,
        network: AcousticModel,
        config: SynthesizerConfig,
        text: TextProcessor,
        metadata: SynthesizerMetadata | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.config, self.text, self.metadata = config, text, metadata or SynthesizerMetadata()
        self._adapted: tuple[Any, AcousticModel] | None = None  # to the voice that was spoken last, if it has adapters

    @classmethod
    def load(
        cls, path: str | Path, device: str | torch.device = "cpu", *, lexicon: str | Path | None = None
    ) -> Synthesizer:
        """From our `.safetensors` or a published `synthesizer.pt`; CloningError when it is neither or does not fit."""
        checkpoint = load_weights(path, "synthesizer")
        if checkpoint.published:
            return cls._published(checkpoint, device, lexicon)
        config = from_dict(SynthesizerConfig, checkpoint.config, "synthesizer")
        text = TextProcessor.from_description(checkpoint.extra.get("text"), lexicon=lexicon)
        metadata = SynthesizerMetadata.of(checkpoint, config.architecture)
        network = rebuild(lambda: build_network(config, len(text), metadata.mel.n_mels), checkpoint)
        return cls(network, config, text, metadata, device)

    @classmethod
    def _published(cls, checkpoint: Checkpoint, device: str | torch.device, lexicon: Any) -> Synthesizer:
        config, n_symbols, n_mels = published_config(checkpoint.state)
        text = TextProcessor(PUBLISHED, lexicon=lexicon)
        if (n_symbols, n_mels) != (len(text), SYNTHESIZER_MEL.n_mels):
            raise CloningError(
                f"{checkpoint.path}: has {n_symbols} symbols and {n_mels} mel channels, published ones have "
                f"{len(text)} and {SYNTHESIZER_MEL.n_mels}: it is of another kind"
            )
        state = published_state(checkpoint.state)
        network = rebuild(lambda: build_network(config, n_symbols, n_mels), checkpoint, state)
        metadata = SynthesizerMetadata(fingerprint=checkpoint.fingerprint, name="published tacotron")
        return cls(network, config, text, metadata, device)

    @property
    def name(self) -> str:
        """The architecture, and whether it is a published checkpoint."""
        return self.metadata.name

    @property
    def fingerprint(self) -> str:
        """Names the weights."""
        return self.metadata.fingerprint

    @property
    def voice_fingerprint(self) -> str:
        """Names the weights that voices are described for: those of the synthesizer whose mels this one converts."""
        return self.metadata.voices_of or self.fingerprint

    @property
    def encoder_fingerprint(self) -> str:
        """The encoder whose embeddings it was trained with; "" for published checkpoints."""
        return self.metadata.encoder_fingerprint

    @property
    def mel(self) -> MelConfig:
        """The settings of the mels that it makes."""
        return self.network_mel if self.network.conversion is None else self.config.conversion.mel

    @property
    def network_mel(self) -> MelConfig:
        """Those of the mels that its network works with: others than `mel` where it converts them in the end."""
        return self.metadata.mel

    @property
    def speaker_size(self) -> int:
        """Numbers in a speaker embedding."""
        return self.config.speaker_size

    @property
    def emotions(self) -> tuple[str, ...]:
        """What `emotion` may be; () for a synthesizer that knows none."""
        return self.config.emotion.labels

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols; the index is the id."""
        return self.text.symbols

    def __repr__(self) -> str:
        return f"Synthesizer({self.name}, {self.text.config.symbol_set}, {self.fingerprint})"

    def speak(self, text: str | Sequence[Sentence], voice: AnyVoice, options: SpeechOptions = DEFAULT) -> Speech:
        """A text of any length, read as a whole and cut at sentences; or some of its `sentences`.

        A sentence whose alignment failed is tried again with the next seeds; the best is kept. Raises CloningError as
        `synthesize` does.
        """
        return self.speak_many([text], voice, options)[0]

    def speak_many(
        self, texts: Sequence[str | Sequence[Sentence]], voice: AnyVoice, options: SpeechOptions = DEFAULT
    ) -> list[Speech]:
        """Each text as `speak` says it (but for rounding errors), their sentences in batches together."""
        require_texts(texts)
        options = options.with_seed()
        cut = [list(self.sentences(text) if isinstance(text, str) else text) for text in texts]
        pieces = iter(self._spoken([s.said for sentences in cut for s in sentences], voice, options))
        paired = (zip(sentences, pieces, strict=False) for sentences in cut)  # takes as many as there are sentences
        return [self.join([*with_pauses(pairs, options, self.mel)], options) for pairs in paired]

    def join(self, spoken: Sequence[SpokenSentence], options: SpeechOptions) -> Speech:
        """The sentences of `follow`, all or those so far, as `speak` gives them; `options` with the seed used."""
        pieces = [sentence.piece for sentence in spoken]
        notes = list(dict.fromkeys(note for sentence in spoken for note in sentence.sentence.notes))
        if not self.network.moves_pitch and any(sentence.sentence.styled for sentence in spoken):
            notes.append(NO_PROSODY)
        notes += [
            f"{p.text[:40]!r}: said with seed {p.seed}, seed {options.seed} failed"
            for p in pieces
            if p.seed != options.seed
        ]
        notes += [f"{p.text[:40]!r}: {complaint(p)}" for p in pieces if not p.good]
        mel = np.concatenate([sentence.mel for sentence in spoken], axis=1)
        return Speech(mel, pieces, notes, times_of(spoken, self.mel))

    def stream(self, text: str, voice: AnyVoice, options: SpeechOptions = DEFAULT) -> Iterator[np.ndarray]:
        """What `speak` makes, sentence by sentence: mels (M, f), all but the first with the pause before them.

        The text is read as it is spoken: memory does not grow with its length. Raises CloningError at once
        for a text with nothing to say.
        """
        return (spoken.mel for spoken in self.follow(text, voice, options))

    def follow(self, text: str, voice: AnyVoice, options: SpeechOptions = DEFAULT) -> Iterator[SpokenSentence]:
        """As `stream`, with all that is known of each sentence; `join` makes of them what `speak` gives."""
        options = options.with_seed()
        sentences = self.sentences(text)
        first = next(sentences)
        pieces = ((s, self._spoken([s.said], voice, options)[0]) for s in chain([first], sentences))
        return with_pauses(pieces, options, self.mel)

    def sentences(self, text: str) -> Iterator[Sentence]:
        """The sentences of a text exactly as `speak` says them. Raises CloningError when nothing can be spoken."""
        require_text(text)
        return self.text.sentences(text, self.network.max_characters)

    def _spoken(self, texts: list[str], voice: AnyVoice, options: SpeechOptions) -> list[SynthesizedSentence]:
        """Each sentence, the failed ones tried again."""
        seed = options.seed or 0
        pieces = self.synthesize(texts, voice, options)
        for attempt in range(1, options.attempts):
            failed = [i for i, piece in enumerate(pieces) if not piece.good]
            if not failed:
                break
            other = dataclasses.replace(options, seed=(seed + attempt) % SEEDS)
            again = self.synthesize([texts[i] for i in failed], voice, other)
            for i, piece in zip(failed, again, strict=True):
                pieces[i] = max(pieces[i], piece, key=lambda p: (p.stop_reason != "limit", p.quality.score))
        return pieces

    def synthesize(
        self, texts: Sequence[str], voice: AnyVoice, options: SpeechOptions = DEFAULT
    ) -> list[SynthesizedSentence]:
        """Each text, one sentence, in `voice`: a Voice, an embedding (D,), or one of each text's own (B, D).

        The same seed gives the same mels, whatever else is in the batch (but for rounding errors). Raises CloningError:
        nothing to say, a text that is too long, a voice that makes no sense, what `require_options` refuses.
        """
        require_texts(texts)
        options, network = options.with_seed(), self._network_of(voice)
        self._require_effects(options)
        speakers = self._speakers(voice, len(texts))
        texts = [self.text.normalize(text) for text in texts]
        encoded = [self.encode(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: len(encoded[i].tokens))
        results: dict[int, SynthesizedSentence] = {}
        network.use_native_decoder()
        with torch.inference_mode():
            emotion = self._emotion(options.emotion)
            settings = GenerationSettings(
                self.network_mel, self.text.table, options.rate, *self.metadata.calibration,
                options.pitch / 12, options.monotonic,
            )  # fmt: skip
            for start in range(0, len(order), BATCH):
                chosen = order[start : start + BATCH]
                inputs = self._input([encoded[i] for i in chosen], speakers[chosen], options.seed or 0, emotion, voice)
                for i, found in zip(chosen, _generated(network, inputs, settings), strict=True):
                    made = found.converted(network.conversion, self.network_mel, self.mel)
                    results[i] = SynthesizedSentence(
                        mel=made.mel.float().cpu().numpy(),
                        alignment=made.alignment.float().cpu().numpy(),
                        stop_reason=found.stop_reason,
                        text=plain(texts[i]),
                        tokens=self.text.decode(encoded[i].tokens),
                        words=encoded[i].words,
                        quality=self.network.alignment_quality(found.alignment, encoded[i].tokens, self.text.table),
                        seed=options.seed or 0,
                    )
        return [results[i] for i in range(len(texts))]

    def teacher_forced(
        self,
        tokens: np.ndarray,
        mel: np.ndarray,
        voice: AnyVoice,
        *,
        durations: np.ndarray | None = None,
        prosody: np.ndarray | None = None,
        seed: int = 0,
    ) -> np.ndarray:
        """What the network predicts when a recording is given: mel (M, F) of tokens (N,) and the true mel (M, F).

        Tacotron gets the true frame before each step; its attention finds the tokens. The others need the
        durations (N,) in frames, a parallel one prosody (N, 3) too (`synthesizer.features.prosody`). The same `seed`,
        the same mel. Both mels are of `network_mel`.
        voice: a Voice or an embedding (D,), of which no more is known then.
        Raises CloningError: what is needed is not given, has another shape, or durations another sum than F or one
        below 0; an unknown token; a mel with other channels; a speaker of another size.
        """
        require_recording(self.network, (len(self.text), self.network_mel.n_mels), tokens, mel, durations, prosody)
        frames = np.shape(mel)[1]

        def one(values: np.ndarray | None, kind: type) -> Tensor | None:
            return None if values is None else torch.as_tensor(np.asarray(values, kind), device=self.device)[None]

        true_mel = torch.as_tensor(np.asarray(mel, np.float32), device=self.device)[None]
        with torch.inference_mode():
            emotion = self._emotion(None)
            text = EncodedText(np.asarray(tokens).tolist(), [0] * len(tokens))
            inputs = self._input([text], self._speakers(voice, 1), seed, emotion, voice)
            recording = Recording(true_mel, one(durations, np.int64), one(prosody, np.float32))
            made = self._network_of(voice).teacher_forced(inputs, recording, -self.network_mel.max_abs)
        return made[0, :, :frames].clamp(-self.network_mel.max_abs, self.network_mel.max_abs).float().cpu().numpy()

    def encode(self, text: str) -> EncodedText:
        """The ids that the network reads, and more; CloningError when they are too many for one sentence."""
        return encode(text, self.text, pauses=self.metadata.marks == "pauses")

    def describe_voice(self, voice: Voice, clips: Sequence[Waveform]) -> Voice:
        """`voice` with what this network uses beside the embedding, from clips of it: pitch, pace, frames, and what the
        network gets wrong of it.

        Each clip is brought to the level of the training. For a network that uses no more, `voice` as it is.
        """
        if not (self.network.uses_voice_statistics and clips):
            return voice
        recordings = [recorded(clip, self.network_mel) for clip in clips]
        with torch.inference_mode():
            facts = facts_of(self.network, self.network_mel, recordings)
            voice = dataclasses.replace(voice, **facts, synthesizer=self.voice_fingerprint)
            if not self.network.finds_symbols:
                return voice
            aligned = first_clips(self.network, self.text.table, self.network_mel, recordings)
            wrong = compensation_of(cast(Parallel, self.network), self.voice_input(voice), aligned)
        return dataclasses.replace(voice, compensation=wrong and wrong.arrays())

    def voice_input(self, voice: Voice) -> ModelInput:
        """A voice as the network reads it, beside no text. Raises CloningError for a voice that makes no sense."""
        silence = EncodedText([0], [0])
        return self._input([silence], self._speakers(voice, 1), 0, self._emotion(None), voice)

    def require_options(self, options: SpeechOptions) -> None:
        """Raises CloningError for what this synthesizer cannot do: an emotion that it does not know, another pitch, or
        a monotonic attention, of a network in which it makes no difference."""
        self._require_effects(options)
        self._emotion(options.emotion)

    def _require_effects(self, options: SpeechOptions) -> None:
        if options.pitch and not self.network.moves_pitch:
            raise CloningError(
                f"{self.name} plans no pitch that could be moved: use a parallel one, or leave pitch out"
            )
        if options.monotonic and not self.network.moves_attention:
            raise CloningError(
                f"{self.name} has no attention that could go back or skip: take a Tacotron with one, or leave monotonic"
                " out"
            )

    def require_own(self, voice: Voice) -> None:
        """Raises MismatchError for a voice that was adapted to another synthesizer."""
        if voice.adapted is not None and voice.synthesizer != self.voice_fingerprint:
            raise MismatchError(
                f"the voice was adapted to synthesizer {voice.synthesizer}, this one is {self.voice_fingerprint}: take "
                "that one, or make the voice anew"
            )

    def _network_of(self, voice: AnyVoice) -> AcousticModel:
        """The network, with a voice's own changes where it has some (`synthesizer.adapters`)."""
        if not isinstance(voice, Voice) or voice.adapted is None:
            return self.network
        self.require_own(voice)
        last = self._adapted
        if last is None or last[0] is not voice.adapted:
            last = self._adapted = (voice.adapted, adapted(self.network, voice.adapted))
        return last[1]

    def _input(
        self, encoded: Sequence[EncodedText], speakers: Tensor, seed: int, emotion: Tensor | None, voice: AnyVoice
    ) -> ModelInput:
        """Sentences of one seed in `voice`; speakers (B, D) and emotion (1, E) are embeddings."""
        inputs = padded_input(encoded, speakers, seed, emotion, self.device)
        if not self.network.uses_voice_statistics or not isinstance(voice, Voice):
            return inputs
        return with_voice_statistics(inputs, voice, self.config, self.network_mel)

    def _speakers(self, voice: AnyVoice, count: int) -> Tensor:
        return speaker_embeddings(voice, count, self.speaker_size)

    def _emotion(self, emotion: EmotionInput) -> Tensor | None:
        return embed_emotion(self.network.emotion, self.emotions, self.network_mel, emotion)


def _generated(network: AcousticModel, inputs: ModelInput, settings: GenerationSettings) -> list[Generated]:
    try:
        return network.generate(inputs, settings)
    except FloatingPointError as error:
        raise CloningError(f"the synthesizer makes {error}: its weights are damaged, take others") from error
