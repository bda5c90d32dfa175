"""Text and a voice to a mel: `Synthesizer`, the same for all models and published checkpoints."""

from __future__ import annotations

import dataclasses
import logging
import math
import secrets
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from synthesizer.config import SynthesizerConfig
from synthesizer.data.alignments import PAUSE
from synthesizer.emotion_input import Feeling, embed_emotion
from synthesizer.models.generate import Told, generate, health_of, lead_parallel, lead_step_by_step
from synthesizer.models.parallel import Parallel
from synthesizer.models.tacotron.network import Tacotron, published_config, published_state
from synthesizer.models.transformer import Transformer
from synthesizer.speech import Speech, Synthesis, after, complaint
from synthesizer.text import PUBLISHED, Sentence, TextProcessor
from synthesizer.text.clauses import mark_ids, marks_of_words
from synthesizer.text.symbols import SILENCE, WORD_BOUNDARY
from utils.audio.io import Waveform
from utils.audio.mel import SYNTHESIZER_MEL, MelConfig
from utils.config import from_dict
from utils.errors import CloningError
from utils.voice import Voice, pitch_facts
from utils.weights.checkpoint import Checkpoint, load_weights
from utils.weights.networks import rebuild

log = logging.getLogger(__name__)
BATCH = 8  # sentences at once
PROMPT_SECONDS = 12.0  # of a reference, whose frames are read
RATES = (0.25, 4.0)
# of a sentence; longer ones are said in clauses
MAX_CHARACTERS = {"parallel": 200, "tacotron": 130, "transformer": 130}
MAX_TOKENS = 600
NETWORKS = {"tacotron": Tacotron, "parallel": Parallel, "transformer": Transformer}


class Reading(NamedTuple):
    """What the network reads: ids of symbols, and of the mark of each (`synthesizer.text.clauses`)."""

    tokens: list[int]
    marks: list[int]


@dataclasses.dataclass(frozen=True)
class Details:
    """What a checkpoint says beside its network."""

    mel: MelConfig = SYNTHESIZER_MEL
    marks: str = "all"  # "pauses": learned from alignments, where only the place of a pause is known
    encoder_fingerprint: str = ""
    fingerprint: str = ""
    name: str = "tacotron"
    tempo: float = 1.0  # what predicted durations are multiplied by


class Synthesizer:
    """A trained synthesizer.

    >>> synthesizer = Synthesizer.load("synthesizer.safetensors")
    >>> first, second = synthesizer.synthesize(["One.", "Two."], voice, seed=1)   # voice (D,) from the encoder
    >>> synthesizer.speak("A long text. With several sentences.", voice).mel       # (M, F)
    """

    def __init__(
        self,
        network: Tacotron | Parallel | Transformer,
        config: SynthesizerConfig,
        text: TextProcessor,
        details: Details | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.network: nn.Module = network.to(self.device).eval()
        if isinstance(network, Tacotron):
            network.settled = True
        self.config, self.text, self.details = config, text, details or Details()
        self.monotonic = False  # Tacotron's attention may neither go back nor skip

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
        mel = from_dict(MelConfig, checkpoint.mel, "mel")
        network = rebuild(lambda: NETWORKS[config.model](config, len(text), mel.n_mels), checkpoint)
        tempo = checkpoint.metrics.get("tempo", 1.0)
        details = Details(
            mel=mel,
            marks="pauses" if checkpoint.extra.get("marks") == "pauses" else "all",
            encoder_fingerprint=str(checkpoint.extra.get("encoder") or ""),
            fingerprint=checkpoint.fingerprint,
            name=config.model,
            tempo=float(tempo) if isinstance(tempo, int | float) and 0 < tempo < 10 else 1.0,
        )
        return cls(network, config, text, details, device)

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
        network = rebuild(lambda: Tacotron(config, n_symbols, n_mels), checkpoint, state)
        details = Details(fingerprint=checkpoint.fingerprint, name="published tacotron")
        return cls(network, config, text, details, device)

    @property
    def name(self) -> str:
        return self.details.name

    @property
    def fingerprint(self) -> str:
        """Names the weights."""
        return self.details.fingerprint

    @property
    def encoder_fingerprint(self) -> str:
        """Of the encoder whose embeddings it was trained with; "" for published checkpoints."""
        return self.details.encoder_fingerprint

    @property
    def mel(self) -> MelConfig:
        return self.details.mel

    @property
    def speaker_size(self) -> int:
        return self.config.speaker_size

    @property
    def emotions(self) -> tuple[str, ...]:
        """What `emotion` may be; () for a synthesizer that knows none."""
        return self.config.emotion.labels

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.text.symbols

    def __repr__(self) -> str:
        return f"Synthesizer({self.name}, {self.text.config.symbol_set}, {self.fingerprint})"

    def speak(
        self,
        text: str,
        speaker: np.ndarray,
        *,
        rate: float = 1.0,
        pause: float = 1.0,
        seed: int | None = None,
        emotion: Feeling = None,
        attempts: int = 2,
    ) -> Speech:
        """A text of any length, read as a whole and cut at sentences; `pause` scales the silences between them.

        `emotion`: one of `emotions`, or a recording that carries one; neutral if None.

        A sentence whose alignment failed is tried again with the next seeds, `attempts` times in all; the best is kept.
        """
        sentences = list(self.sentences(text))
        silences = [0.0, *(s.pause_s * pause / rate for s in sentences)]
        seed = secrets.randbelow(2**31) if seed is None else seed
        pieces = self._spoken([s.text for s in sentences], speaker, rate, seed, emotion, attempts)
        notes = list(dict.fromkeys(note for s in sentences for note in s.notes))
        notes += [f"{p.text[:40]!r}: said with seed {p.seed}, seed {seed} failed" for p in pieces if p.seed != seed]
        notes += [f"{p.text[:40]!r}: {complaint(p)}" for p in pieces if not p.good]
        mels = [after(before, s, p, self.mel) for before, s, p in zip([None, *pieces], silences, pieces, strict=False)]
        return Speech(np.concatenate(mels, axis=1), pieces, notes)

    def stream(
        self,
        text: str,
        speaker: np.ndarray,
        *,
        rate: float = 1.0,
        pause: float = 1.0,
        seed: int | None = None,
        emotion: Feeling = None,
        attempts: int = 2,
    ) -> Iterator[np.ndarray]:
        """What `speak` makes, sentence by sentence: mels (M, f), all but the first with the pause before them.

        The text is read as it is spoken: memory does not grow with its length. Raises CloningError at once
        for a text with nothing to say.
        """
        sentences = self.sentences(text)
        first = next(sentences)
        seed = secrets.randbelow(2**31) if seed is None else seed

        def mels() -> Iterator[np.ndarray]:
            before, silence = None, 0.0
            for sentence in chain([first], sentences):
                (piece,) = self._spoken([sentence.text], speaker, rate, seed, emotion, attempts)
                yield after(before, silence, piece, self.mel)
                before, silence = piece, sentence.pause_s * pause / rate

        return mels()

    def sentences(self, text: str) -> Iterator[Sentence]:
        """The sentences of a text exactly as `speak` says them. Raises CloningError when nothing can be spoken."""
        return self.text.sentences(text, MAX_CHARACTERS[self.config.model])

    def _spoken(
        self, texts: list[str], speaker: np.ndarray, rate: float, seed: int, emotion: Feeling, attempts: int
    ) -> list[Synthesis]:
        """Each sentence, the failed ones tried again."""
        pieces = self.synthesize(texts, speaker, rate=rate, seed=seed, emotion=emotion)
        for attempt in range(1, attempts):
            failed = [i for i, piece in enumerate(pieces) if not piece.good]
            if not failed:
                break
            wanted = [texts[i] for i in failed]
            again = self.synthesize(wanted, speaker, rate=rate, seed=seed + attempt, emotion=emotion)
            for i, piece in zip(failed, again, strict=True):
                pieces[i] = max(pieces[i], piece, key=lambda p: (p.stop_reason != "limit", p.health.number))
        return pieces

    def synthesize(
        self,
        texts: Sequence[str],
        speaker: np.ndarray,
        *,
        rate: float = 1.0,
        seed: int | None = None,
        emotion: Feeling = None,
    ) -> list[Synthesis]:
        """Each text, one sentence, in the voice `speaker` (D,), or each in its own (B, D).

        `rate` 2 is twice as fast. The same seed gives the same mels, whatever else is in the batch (but for rounding
        errors). Raises CloningError: nothing to say, a text that is too long, a speaker, rate or emotion that makes no
        sense.
        """
        if not RATES[0] <= rate <= RATES[1]:
            raise CloningError(f"rate is {rate:g}; it must be {RATES[0]:g} to {RATES[1]:g}")
        told = self._told(speaker, len(texts))
        speakers = self._speakers(speaker.embedding if isinstance(speaker, Voice) else speaker, len(texts))
        seed = secrets.randbelow(2**31) if seed is None else seed
        texts = [self.text.normalize(text) for text in texts]
        readings = [self.read(text) for text in texts]
        tokens = [reading.tokens for reading in readings]
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        results: dict[int, Synthesis] = {}
        with torch.inference_mode():
            feeling = embed_emotion(self.network, self.emotions, self.mel, emotion)
            for start in range(0, len(order), BATCH):
                chosen = order[start : start + BATCH]
                voice = told and Told(*(part[: len(chosen)] for part in told))
                found = generate(self, [readings[i] for i in chosen], speakers[chosen], rate, seed, feeling, voice)
                for i, (mel, alignment, reason) in zip(chosen, found, strict=True):
                    results[i] = Synthesis(
                        mel=mel.float().cpu().numpy(),
                        alignment=alignment.float().cpu().numpy(),
                        stop_reason=reason,
                        text=texts[i],
                        tokens=self.text.decode(tokens[i]),
                        health=health_of(self.config, alignment, tokens[i], self.text.symbols),
                        seed=seed,
                    )
        return [results[i] for i in range(len(texts))]

    def teacher_forced(
        self,
        tokens: np.ndarray,
        mel: np.ndarray,
        speaker: np.ndarray,
        *,
        durations: np.ndarray | None = None,
        prosody: np.ndarray | None = None,
        seed: int = 0,
    ) -> np.ndarray:
        """What the model predicts when it is led by a recording: mel (M, F) of tokens (N,) and the true mel (M, F).

        Tacotron hears the true frame before each step; its attention finds the tokens. The parallel model takes the
        true durations (N,) in frames and prosody (N, 3) (`synthesizer.data.dataset.prosody`), and draws the mel from
        `seed`.
        Raises CloningError: nothing to lead it by, durations whose sum is not F, a speaker of another size.
        """
        frames = np.shape(mel)[1]
        speakers = self._speakers(speaker, 1)
        ids = torch.as_tensor(np.asarray(tokens, dtype=np.int64), device=self.device)[None]
        lengths = torch.tensor([ids.shape[1]], device=self.device)
        with torch.inference_mode():
            if not isinstance(self.network, Tacotron):
                if durations is None or prosody is None:
                    raise CloningError(f"{self.name} is led by durations and prosody: neither may be left out")
                if (total := int(np.sum(durations))) != frames:
                    raise CloningError(f"durations sum to {total} frames, the mel has {frames}: they must be equal")
            if isinstance(self.network, Parallel):
                made = lead_parallel(self, ids, lengths, speakers, durations, prosody, seed)
            else:
                made = lead_step_by_step(self, ids, lengths, speakers, mel, durations, seed)
        return made[0, :, :frames].clamp(-self.mel.max_abs, self.mel.max_abs).float().cpu().numpy()

    def tokens(self, text: str) -> list[int]:
        """The ids that the network reads. Models of aligned speech know one kind of pause, and silence at both ends."""
        return self.read(text).tokens

    def read(self, text: str) -> Reading:
        """Tokens and the marks at which clauses end; CloningError when there are too many for one sentence."""
        if self.details.marks == "pauses":
            words = self.text.words(text)
            symbols, marks = [SILENCE], [""]
            for word, mark in zip(words, marks_of_words(words, self.text.language), strict=True):
                symbols += [*word.phones, PAUSE if mark else WORD_BOUNDARY]
                marks += [*[""] * len(word.phones), mark]
            symbols[-1] = SILENCE  # what ends the text is no pause
            reading = Reading(self.text.table.encode(symbols), mark_ids(marks, self.text.table))
        else:
            ids = self.text.encode(text)
            reading = Reading(ids, [0] * len(ids))
        if (count := len(reading.tokens)) > MAX_TOKENS:
            raise CloningError(
                f"{text[:40]!r}...: {count} symbols, at most {MAX_TOKENS} in a sentence: make it shorter"
            )
        return reading

    def hear(self, embedding: np.ndarray, clips: Sequence[Waveform] = (), encoder: str = "") -> Voice:
        """What this model wants to know of a voice: its embedding (D,), and from clips of it pitch, pace and frames.

        Each clip is brought to the level of the training. A model that is not told of voices keeps the embedding alone.
        """
        if not (isinstance(self.network, Parallel) and self.network.config.voice and clips):
            return Voice(embedding, encoder)
        from synthesizer.reference import prompt_of

        prompt, track = prompt_of(clips, self.mel)
        heard = torch.from_numpy(prompt).to(self.device)[None]
        with torch.inference_mode():
            normal = (heard - self.network.mel_mean) / self.network.mel_std
            pace = float(self.network.listener.pace(normal, torch.ones_like(normal[..., :1], dtype=torch.bool)))
        pitch, spread = pitch_facts(track) or (None, None)
        return Voice(embedding, encoder, pitch, spread, pace, prompt)

    def _told(self, voice: np.ndarray | Voice, count: int) -> Told | None:
        """What the network is told of a voice beside its embedding; the longest prompt is cut at PROMPT_SECONDS."""
        if not isinstance(voice, Voice) or voice.prompt is None:
            return None
        facts = torch.tensor([math.nan if f is None else f for f in (voice.pitch, voice.spread, voice.pace)])
        prompt = torch.from_numpy(voice.prompt[: round(PROMPT_SECONDS / self.mel.frame_seconds)]).t()
        lengths = torch.full((count,), prompt.shape[1], device=self.device)
        return Told(facts.to(self.device).expand(count, -1), prompt.to(self.device).expand(count, -1, -1), lengths)

    def _speakers(self, speaker: np.ndarray, count: int) -> Tensor:
        speakers = torch.as_tensor(np.asarray(speaker, dtype=np.float32))
        speakers = speakers.expand(count, -1) if speakers.ndim == 1 else speakers
        if tuple(speakers.shape) != (count, self.speaker_size):
            raise CloningError(
                f"the speaker embedding is of shape {tuple(np.shape(speaker))}; this synthesizer wants "
                f"({self.speaker_size},) or ({count}, {self.speaker_size})"
            )
        if not torch.isfinite(speakers).all() or (speakers.norm(dim=1) < 1e-3).any():
            raise CloningError("the speaker embedding is zero or not finite: embed a clip with voice in it")
        return speakers.to(self.device)
