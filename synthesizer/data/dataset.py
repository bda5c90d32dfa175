"""A preprocessed set as batches: the batch of a step is a pure function of (seed, step)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor

from synthesizer.batches import AutoregressiveBatch, ParallelBatch, TextBatch
from synthesizer.config import DataConfig
from synthesizer.data.store import CURVES, MEAN, OWN, BatchRandomness, Store, pad
from synthesizer.features import step_targets
from utils.data.corpora import emotion_of
from utils.data.manifest import Arrays, Manifest, Utterance
from utils.errors import CloningError
from utils.training.sampling import a_few, by_chance, rng

KIND = "synthesizer"
# shares of OWN, OTHER and MEAN embeddings, by DataConfig.embedding
EMBEDDINGS = {
    "utterance": (1.0, 0.0, 0.0),
    "mixed": (0.5, 0.0, 0.5),
    "other": (0.0, 0.5, 0.5),
    "speaker": (0.0, 0.0, 1.0),
}
STATISTICS_NOISE = (0.04, 0.03, 0.04)  # deviations of the noise on a voice's statistics: octaves, octaves, log frames
TO_SPARE = 10  # utterances that a speaker must have for some to be held out


class SynthesisData:
    """The train or validation part of a set that `synthesizer_preprocess.py` wrote."""

    def __init__(
        self, manifest: Manifest, config: DataConfig, split: str, seed: int = 0, emotions: Sequence[str] = ()
    ) -> None:
        """With `emotions`, only utterances of these are taken, and batches hold their labels.

        Raises CloningError when a file is missing, or nothing fits between min_frames and max_frames.
        """
        self.manifest, root = manifest, manifest.root
        self.header: dict[str, Any] = self.manifest.header
        mel, text = (self.header.get(name) or {} for name in ("mel", "text"))
        if not isinstance(mel.get("max_abs"), float | int) or not isinstance(text.get("symbols"), list):
            raise CloningError(f"{root}: its manifest does not say the mel and the symbols: preprocess again")
        self.config, self.seed = config, seed
        self.arrays = Arrays(root)
        found = part(self.manifest, split, config.hold_out)
        if not found:
            raise CloningError(
                f"{root}: nothing to hold out for validation among {len(self.manifest.utterances)} utterances: at "
                "least 2 are needed (cut a long recording into sentences, each with its text), and data.hold_out > 0"
            )
        inside = [u for u in found if config.min_frames <= u.frames <= config.max_frames]
        if not inside:
            raise CloningError(
                f"{root}: no {split} utterance of {config.min_frames} to {config.max_frames} frames among "
                f"{len(found)}: set data.min_frames or data.max_frames, or add recordings"
            )
        self.emotions = tuple(emotions)
        self.utterances = self._expressive(inside, split) if emotions else inside
        self.frames = np.array([u.frames for u in self.utterances])
        self._of_speaker: dict[str, list[Utterance]] = {}
        for utterance in inside:
            self._of_speaker.setdefault(utterance.speaker, []).append(utterance)
        self.prompted = True  # whether batches need another utterance of each speaker, which is then read too
        self._places = {u.id: i for own in self._of_speaker.values() for i, u in enumerate(own)}
        self._epoch = -1  # the epoch that was asked for last; it and its batches follow from (seed, step)
        self._batches: list[np.ndarray] = []
        path = root / "speakers.safetensors"
        if not path.is_file():
            raise CloningError(f"{path}: missing; preprocess again, which finishes what is not done")
        try:
            self.speakers = load_file(path)
        except (SafetensorError, OSError) as error:
            raise CloningError(f"{path}: damaged: {error}: preprocess again") from error
        if missing := sorted(self._of_speaker.keys() - self.speakers.keys()):
            raise CloningError(f"{path}: lacks {len(missing)} speakers, such as {missing[0]!r}: preprocess again")

    def _expressive(self, inside: list[Utterance], split: str) -> list[Utterance]:
        """Those whose emotion is known; in training, others than neutral ones as often as configured."""
        known = [(u, emotion_of(u.speaker, u.emotion)) for u in inside]
        missing = set(self.emotions) - {emotion for _, emotion in known}
        if missing and split == "train":
            raise CloningError(
                f"{self.manifest.root}: no {split} utterance is {' or '.join(sorted(missing))}: preprocess a corpus of "
                "acted speech too, or set model.emotion.labels to what is there"
            )
        repeats = self.config.emotional_repeats if split == "train" else 1
        return [
            u for u, emotion in known if emotion in self.emotions for _ in range(1 if emotion == "neutral" else repeats)
        ]

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def read(self) -> list[Utterance]:
        """All that batches may read: beside what is learned, prompts of other emotions."""
        return [utterance for own in self._of_speaker.values() for utterance in own]

    @property
    def has_durations(self) -> bool:
        """Whether the set was made with alignments."""
        return bool(self.header.get("durations"))

    @property
    def floor(self) -> float:
        """The mel value of silence."""
        return -float(self.header["mel"]["max_abs"])

    def choose(self, step: int) -> list[Utterance]:
        """The utterances of the batch of a step (1, 2, ...), of about the same length."""
        size = min(self.config.batch_size, len(self))
        epoch, place = divmod(step - 1, max(1, len(self) // size))
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._epoch_batches(epoch, size)
        return [self.utterances[i] for i in self._batches[place]]

    def _epoch_batches(self, epoch: int, size: int) -> list[np.ndarray]:
        if not self.config.balance and self.config.question_weight == 1:
            return batches_of_epoch(self.frames, size, self.config.bucket, self.seed, epoch)
        order = rng(self.seed, epoch, 3).choice(len(self), len(self) // size * size, p=self._shares)
        batches = batches_of_epoch(self.frames[order], size, self.config.bucket, self.seed, epoch)
        return [order[batch] for batch in batches]

    @functools.cached_property
    def _shares(self) -> np.ndarray:
        """How often each utterance is to come, of 1 in all."""
        seconds: dict[str, float] = {}
        for u in self.utterances:
            seconds[u.speaker] = seconds.get(u.speaker, 0.0) + u.seconds
        shares = np.array([max(seconds[u.speaker], 20.0) ** -self.config.balance for u in self.utterances])
        shares[["?" in (u.text or "") for u in self.utterances]] *= self.config.question_weight
        return shares / shares.sum()

    def speaker(self, utterance: Utterance, draw: np.random.Generator | None = None) -> np.ndarray:
        """The embedding (D,) of norm 1 to learn `utterance` with; with `draw`, chosen and noisy as configured."""
        own, other, mean = EMBEDDINGS[self.config.embedding]
        source = self._usual_embedding
        others = [u for u in self._of_speaker[utterance.speaker] if u.id != utterance.id] if other else []
        if draw is not None and (others or own) and 0 < mean < 1:
            source = MEAN if draw.random() < mean else OWN
            if source == OWN and others:
                utterance = others[int(draw.integers(len(others)))]
        embed = self.speakers[utterance.speaker] if source == MEAN else self.arrays.read(utterance, "embed")
        if draw is not None and self.config.embedding_noise:
            noise = draw.standard_normal(len(embed)) * self.config.embedding_noise / np.sqrt(len(embed))
            embed = embed + noise
        return (embed / np.linalg.norm(embed)).astype(np.float32)

    @property
    def _usual_embedding(self) -> int:
        """Where nothing is drawn: OWN or MEAN."""
        return OWN if EMBEDDINGS[self.config.embedding][OWN] == 1 else MEAN

    def mel(self, utterance: Utterance, start: int | None = None, stop: int | None = None) -> np.ndarray:
        """(F, M) float32"""
        return self.arrays.read(utterance, "mel", start, stop).astype(np.float32)

    def common(
        self, chosen: Sequence[Utterance], draw: np.random.Generator | None, tokens: list[np.ndarray] | None = None
    ) -> TextBatch:
        """What every batch says of texts and voices; without `draw`, the same for the same utterances."""
        tokens = [self.tokens(u) for u in chosen] if tokens is None else tokens
        seeds = np.arange(len(chosen)) if draw is None else draw.integers(0, 2**31, len(chosen))
        batch: TextBatch = {
            "tokens": torch.from_numpy(pad(tokens)),
            "token_lengths": torch.tensor([len(t) for t in tokens]),
            "speaker": torch.from_numpy(np.stack([self.speaker(u, draw) for u in chosen])),
            "seeds": torch.from_numpy(seeds.astype(np.int64)),
        }
        if (labels := self.emotion_labels(chosen)) is not None:
            batch["emotion"] = labels
        return batch

    def emotion_labels(self, chosen: Sequence[Utterance]) -> Tensor | None:
        """Places (B,) in the list of labels; None for a network without emotions."""
        if not self.emotions:
            return None
        return torch.tensor([self.emotions.index(str(emotion_of(u.speaker, u.emotion))) for u in chosen])

    def tokens(self, utterance: Utterance) -> np.ndarray:
        """(N,) int64"""
        return self.arrays.read(utterance, "tokens").astype(np.int64)

    def marks(self, utterance: Utterance) -> np.ndarray:
        """(N,) int64, see `synthesizer.text.clauses`; zeros in sets that were made without."""
        if not self.header.get("clauses"):
            return np.zeros(utterance.extra["tokens"], dtype=np.int64)
        return self.arrays.read(utterance, "marks").astype(np.int64)

    def windows(self, chosen: Sequence[Utterance], draw: np.random.Generator | None, width: int) -> ParallelBatch:
        """A batch of windows; without `draw`, windows begin at 0 and noise and times are fixed."""
        return self.gathered(chosen, self.draws(chosen, draw, width))

    def gathered(self, chosen: Sequence[Utterance], draws: BatchRandomness) -> ParallelBatch:
        """`Store.batch`, where the store holds only what the batch needs."""
        used = {u.id: u for u in chosen} | {p.id: p for p in draws.prompts if p is not None}
        return Store(self, list(used.values())).batch(chosen, draws)

    def draws(self, chosen: Sequence[Utterance], draw: np.random.Generator | None, width: int) -> BatchRandomness:
        """All that is random in a batch; without `draw`, the same for the same utterances."""
        learning, draw = draw is not None, rng(self.seed) if draw is None else draw
        size = len(chosen)
        frames = np.array([u.frames for u in chosen])
        width = min(width, int(frames.max()))
        prompts = [self._other(u, draw if learning else None) for u in chosen]
        noise = self.config.embedding_noise if learning else 0.0
        return BatchRandomness(
            width=width,
            starts=(draw.random(size) * np.maximum(1, frames - width + 1)).astype(np.int64) * learning,
            prompts=prompts if self.prompted else [None] * size,
            prompt_frames=int(draw.integers(self.config.prompt_frames[0], self.config.prompt_frames[1] + 1))
            if learning
            else self.config.prompt_frames[1],
            prompt_starts=draw.random(size) * learning,
            own=self._own(draw, size, learning),
            noise=(draw.standard_normal((size, self.size)) * noise / np.sqrt(self.size)).astype(np.float32),
            statistics_noise=(draw.standard_normal((size, 3)) * STATISTICS_NOISE).astype(np.float32) * learning,
            punctuated=draw.random(size) >= self.config.punctuation_dropout if learning else np.ones(size, dtype=bool),
            seeds=draw.integers(0, 2**31, size) if learning else np.arange(size),
            seed=int(draw.integers(2**62)),
            channels=self._channels(draw, size) if learning and self.config.random_eq_db else None,
        )

    def _channels(self, draw: np.random.Generator, size: int) -> np.ndarray:
        """A random microphone for half of the items, that recordings have in common with their prompts."""
        curves = draw.standard_normal((size, CURVES)) * self.config.random_eq_db
        return (curves * (draw.random((size, 1)) < 0.5)).astype(np.float32)

    def _own(self, draw: np.random.Generator, size: int, learning: bool) -> np.ndarray:
        """The clip that each embedding is of: OWN, OTHER (that of the prompt) or MEAN."""
        shares = EMBEDDINGS[self.config.embedding]
        return draw.choice(3, size, p=shares) if learning else np.full(size, self._usual_embedding)

    def _other(self, utterance: Utterance, draw: np.random.Generator | None) -> Utterance | None:
        """Another utterance of the same speaker; None where there is none."""
        own = self._of_speaker[utterance.speaker]
        if len(own) < 2:
            return None
        place = self._places[utterance.id]
        return own[(place + (1 if draw is None else int(draw.integers(1, len(own))))) % len(own)]

    @property
    def size(self) -> int:
        """Numbers of a speaker embedding."""
        return len(next(iter(self.speakers.values())))

    def whole(
        self, chosen: Sequence[Utterance], draw: np.random.Generator | None, reduction: int
    ) -> AutoregressiveBatch:
        """A batch of whole utterances, or of stretches of them if cropped."""
        parts = [self._part(u, draw) for u in chosen]
        mels = [mel for mel, _, _ in parts]
        longest = max(len(m) for m in mels) + 1  # one more frame, so that the stop is always there to be learned
        longest += -longest % reduction
        targets = np.full((len(chosen), longest // reduction), -1, dtype=np.int64)
        for row, (_, _, durations) in enumerate(parts):
            if durations is not None:
                targets[row] = step_targets(durations, reduction, targets.shape[1])
        batch: AutoregressiveBatch = {
            **self.common(chosen, draw, [tokens for _, tokens, _ in parts]),
            "mel": torch.from_numpy(pad(mels, longest, self.floor)).transpose(1, 2),
            "mel_lengths": torch.tensor([len(m) for m in mels]),
            "targets": torch.from_numpy(targets),
        }
        if self.has_durations:
            batch["durations"] = torch.from_numpy(pad([d for _, _, d in parts if d is not None]))
        return batch

    def _part(
        self, utterance: Utterance, draw: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """mel (F, M), tokens (N,) and durations (N,) of an utterance, or of a stretch of it if cropped."""
        tokens = self.tokens(utterance)
        if not self.has_durations:
            return self.mel(utterance), tokens, None
        durations = self.arrays.read(utterance, "durations").astype(np.int64)
        if draw is None or not self.config.crop or utterance.frames <= self.config.crop:
            return self.mel(utterance), tokens, durations
        first, last = crop(tokens, durations, self._between_words, self.config.crop, draw)
        start, stop = int(durations[:first].sum()), int(durations[:last].sum())
        cut = np.append(tokens[first:last], tokens[-1])  # the end symbol stands after any stretch
        edge = {0, len(cut) - 2} & set(np.flatnonzero(np.isin(cut, self._between_words)).tolist())
        cut[list(edge)] = self._silence  # a pause at an end is silence
        return self.mel(utterance, start, stop), cut, np.append(durations[first:last], 0)

    @property
    def _between_words(self) -> list[int]:
        symbols = self.header["text"]["symbols"]
        return [symbols.index(s) for s in (" ", ",")]

    @property
    def _silence(self) -> int:
        return self.header["text"]["symbols"].index("SIL")

    def mel_statistics(self, sample: int = 200) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each mel channel (M,), from utterances spread over the set."""
        step = max(1, len(self) // sample)
        mels = np.concatenate([self.mel(u) for u in self.utterances[::step]])
        return torch.from_numpy(mels.mean(axis=0)), torch.from_numpy(mels.std(axis=0).clip(0.1))


def part(manifest: Manifest, split: str, hold_out: int) -> list[Utterance]:
    """The utterances to train on; or, of "validation", those of unseen speakers and `hold_out` of each other speaker
    with at least TO_SPARE, chosen by their names alone: whoever is added, they stay the same. What is held
    out is not learned at another speed either.
    """
    if split == "test":
        return manifest.split(split)
    of_speaker: dict[str, list[str]] = {}
    for utterance in manifest.split("train"):
        if "original" not in utterance.extra:
            of_speaker.setdefault(utterance.speaker, []).append(utterance.id)
    kept = {name for names in of_speaker.values() if len(names) >= TO_SPARE for name in by_chance(names)[:hold_out]}
    if not kept and not manifest.split("validation"):
        kept = set(a_few([name for names in of_speaker.values() for name in names], hold_out))
    return [
        u
        for u in manifest.utterances
        if (u.split == "train" and (u.id in kept) == (split == "validation") and u.extra.get("original") not in kept)
        or u.split == split == "validation"
    ]


def batches_of_epoch(frames: np.ndarray, size: int, bucket: int, seed: int, epoch: int) -> list[np.ndarray]:
    """All batches of a round: items shuffled, sorted by length within `bucket` batches, and the batches shuffled."""
    draw = rng(seed, epoch, 1)
    order = draw.permutation(len(frames))[: len(frames) // size * size]
    pools = [order[i : i + bucket * size] for i in range(0, len(order), bucket * size)]
    batches = [
        pool[np.argsort(frames[pool], kind="stable")][i : i + size] for pool in pools for i in range(0, len(pool), size)
    ]
    return [batches[i] for i in draw.permutation(len(batches))]


def crop(
    tokens: np.ndarray, durations: np.ndarray, between: Sequence[int], longest: int, draw: np.random.Generator
) -> tuple[int, int]:
    """A stretch of whole words, tokens first .. last - 1 without the end symbol, of at most `longest` frames.

    It begins at a random word and is as long as can be; a pause (a boundary that takes time) at either side stays in.
    """
    inner = np.flatnonzero(np.isin(tokens, between))
    timed = durations[inner] > 0
    starts = np.concatenate([[0], np.where(timed, inner, inner + 1)])
    stops = np.concatenate([np.where(timed, inner + 1, inner), [len(tokens) - 1]])
    ends = np.concatenate([[0], np.cumsum(durations)])
    choice = int(draw.integers(0, len(starts)))
    fitting = np.flatnonzero(ends[stops[choice:]] - ends[starts[choice]] <= longest)
    word = choice + (int(fitting[-1]) if len(fitting) else 0)
    return int(starts[choice]), int(stops[word])
