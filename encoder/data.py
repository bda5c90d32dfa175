"""Batches of speakers x utterances, every one a pure function of (seed, step); and the fixed crops of validation."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoder.augment import augment, draw_mask
from encoder.names import NOISE_SHARD, ROOM_SHARD, noise_name, room_name, teacher_at
from encoder.settings import AugmentConfig, EncoderSettings
from utils.audio import change_speed
from utils.errors import CloningError
from utils.manifest import Arrays, Manifest, Utterance
from utils.sampling import Cycler, rng

PCM = np.float32(1 / 32767)  # features hold int16
SPEAKER = "speaker:"  # the mean of a speaker's utterances, among the teacher's embeddings


@dataclass(frozen=True)
class Draw:
    """One row of a batch: whose, and which utterance."""

    speaker: int
    utterance: Utterance


class SpeakerCycler:
    """Which speakers and utterances step k holds, without state.

    Speakers come in rounds, each `turns[s]` times a round, in random order; a batch holds every speaker at most once.
    A speaker's utterances come in rounds of their own. So every speaker is met within two rounds.
    """

    def __init__(self, utterances: list[list[Utterance]], turns: list[int], seed: int) -> None:
        self.utterances, self.turns = utterances, turns
        self.slots = [(s, copy) for s, count in enumerate(turns) for copy in range(count)]
        self.order = Cycler(len(self.slots), seed, 1)
        self.own = [Cycler(len(rows), seed, 2, s) for s, rows in enumerate(utterances)]

    def draw(self, step: int, speakers: int, per_speaker: int) -> list[Draw]:
        """Rows of a step, one speaker's utterances beside each other."""
        chosen: dict[int, int] = {}  # speaker -> how often it has been drawn before
        position = step * speakers
        while len(chosen) < speakers:
            turn = position // len(self.slots)
            speaker, copy = self.slots[self.order.at(position)]
            chosen.setdefault(speaker, turn * self.turns[speaker] + copy)
            position += 1
        return [
            Draw(speaker, self.utterances[speaker][self.own[speaker].at(turn * per_speaker + i)])
            for speaker, turn in chosen.items()
            for i in range(per_speaker)
        ]


class TrainingBatches:
    """Reads, crops and augments what `SpeakerCycler` draws."""

    def __init__(self, manifest: Manifest, settings: EncoderSettings) -> None:
        self.settings, self.data, self.seed = settings, settings.data, settings.training.seed
        self.rate, self.mel = settings.model.mel.sample_rate, settings.model.mel
        self.arrays = Arrays(manifest.root)
        by_speaker: dict[str, list[Utterance]] = defaultdict(list)
        for utterance in manifest.split("train"):
            by_speaker[utterance.speaker].append(utterance)
        self.speakers = sorted(by_speaker)
        if len(self.speakers) < self.data.speakers:
            raise CloningError(
                f"{manifest.root}: {len(self.speakers)} training speakers, a batch wants {self.data.speakers}: "
                f"preprocess more or --set data.speakers={max(2, len(self.speakers))}"
            )
        rows = [by_speaker[name] for name in self.speakers]
        self.all = [u for row in rows for u in row]
        self.cycler = SpeakerCycler(rows, [self._turns(row) for row in rows], self.seed)
        self.noise: int = manifest.header.get("noise", 0)  # recordings
        self.rooms: int = manifest.header.get("rooms", 0)  # impulse responses
        teacher = manifest.header.get("teacher") or {}
        self.taught = set(teacher.get("speeds", [])) | {1.0}  # speeds at which the teacher has heard the clips
        self.targets = self._targets(rows) if settings.loss.distill_weight else None

    def _turns(self, utterances: list[Utterance]) -> int:
        if self.data.balance == "equal":
            return 1
        return max(1, round(math.sqrt(sum(u.seconds for u in utterances) / 10)))

    def batch(self, step: int) -> dict[str, Tensor]:
        """wav (B, T) float32, lengths (B,) samples, speaker (B,), mask (B, 4); with a teacher: target (B, D).

        A speaker at another speed is a speaker of its own (`speaker` >= the number of speakers), without a target (0)
        where the teacher has not heard it so.
        """
        seconds = rng(self.seed, 3, step).uniform(self.data.min_seconds, self.data.max_seconds)
        samples = int(seconds * self.rate)
        draws = self.cycler.draw(step, self.data.speakers, self.data.utterances)
        voices = [self._voice(draw, step) for draw in draws]
        rows = [
            self._row(draw, voice, samples, rng(self.seed, 4, step, i))
            for i, (draw, voice) in enumerate(zip(draws, voices, strict=True))
        ]
        batch = {
            "wav": torch.from_numpy(np.stack([row["wav"] for row in rows])),
            "lengths": torch.tensor([row["length"] for row in rows]),
            "speaker": torch.tensor([d.speaker + v * len(self.speakers) for d, v in zip(draws, voices, strict=True)]),
            "mask": torch.from_numpy(np.stack([row["mask"] for row in rows])),
        }
        if self.targets is not None:
            batch["target"] = torch.from_numpy(np.stack([row["target"] for row in rows]))
        return batch

    def names(self, step: int) -> list[str]:
        return [d.utterance.id for d in self.cycler.draw(step, self.data.speakers, self.data.utterances)]

    def _voice(self, draw: Draw, step: int) -> int:
        """0 for the speaker as it is, 1 .. for the speeds; the same for all crops of a speaker in a step."""
        config = self.settings.augment
        if not config.speed:
            return 0
        random = rng(self.seed, 5, step, draw.speaker)
        return 1 + int(random.integers(len(config.speeds))) if random.random() < config.speed else 0

    def _row(self, draw: Draw, voice: int, samples: int, random: np.random.Generator) -> dict:
        config: AugmentConfig = self.settings.augment
        speed = config.speeds[voice - 1] if voice else 1.0
        wav, start = read_crop(self.arrays, draw.utterance, int(samples * speed), random)
        if voice:
            wav = change_speed(wav, speed)
        length = len(wav)
        if config.any:
            noise = (lambda n: self._noise(n, random)) if self.noise else None
            room = (lambda: self._room(random)) if self.rooms else None
            wav = augment(wav, config, random, self.rate, lambda n: self._other(n, random), noise, room)
        row = {
            "wav": np.pad(wav, (0, samples - length)),
            "length": length,
            "mask": draw_mask(config, random, self.mel.n_mels, self.mel.frames(length)),
        }
        if self.targets is not None:
            row["target"] = self._target(draw, speed, start, start + int(samples * speed))
        return row

    def _other(self, samples: int, random: np.random.Generator) -> np.ndarray:
        utterance = self.all[int(random.integers(len(self.all)))]
        wav, _ = read_crop(self.arrays, utterance, samples, random)
        return np.resize(wav, samples)

    def _noise(self, samples: int, random: np.random.Generator) -> np.ndarray:
        sound = Utterance(id=noise_name(int(random.integers(self.noise))), speaker="", shard=NOISE_SHARD)
        wav, _ = read_crop(self.arrays, sound, samples, random)
        return np.resize(wav, samples)

    def _room(self, random: np.random.Generator) -> np.ndarray:
        room = Utterance(id=room_name(int(random.integers(self.rooms))), speaker="", shard=ROOM_SHARD)
        return self.arrays.read(room, "wav").astype(np.float32)

    # -- the teacher ---------------------------------------------------------------------------------------------------

    @property
    def taught_share(self) -> float:
        """The share of rows with a target that is expected."""
        config = self.settings.augment
        untaught = sum(speed not in self.taught for speed in config.speeds) / max(len(config.speeds), 1)
        return 1 - config.speed * untaught

    def _targets(self, rows: list[list[Utterance]]) -> dict[tuple[str, float], np.ndarray]:
        """Embeddings that stay as they are: of every utterance and speaker by speed, and the mean over all speakers."""
        targets: dict[tuple[str, float], np.ndarray] = {}
        for speed in self.taught & {1.0, *self.settings.augment.speeds}:
            field = "teacher" if speed == 1 else teacher_at(speed)
            for name, row in zip(self.speakers, rows, strict=True):
                whole = [_teacher(self.arrays, u, field) for u in row]
                targets |= {(u.id, speed): target for u, target in zip(row, whole, strict=True)}
                targets[SPEAKER + name, speed] = _unit(np.mean(whole, axis=0))
        speakers = np.stack([targets[SPEAKER + name, 1.0] for name in self.speakers])
        self.center = speakers.mean(axis=0) if self.settings.loss.center else np.zeros_like(speakers[0])
        return targets

    def _target(self, draw: Draw, speed: float, start: int, stop: int) -> np.ndarray:
        assert self.targets is not None
        loss = self.settings.loss
        if speed not in self.taught:
            return np.zeros_like(self.center, dtype=np.float32)
        target = self.targets[draw.utterance.id, speed]
        if loss.target == "partials" and speed == 1:
            target = self._partials(draw.utterance, start, stop)
        speaker = self.targets[SPEAKER + self.speakers[draw.speaker], speed]
        return self.centered((1 - loss.speaker_share) * target + loss.speaker_share * speaker)

    def centered(self, target: np.ndarray) -> np.ndarray:
        """Teacher's embeddings (..., D) as the student is to give them: less the center, length 1."""
        moved = target - self.center
        return (moved / np.maximum(np.linalg.norm(moved, axis=-1, keepdims=True), 1e-9)).astype(np.float32)

    def _partials(self, utterance: Utterance, start: int, stop: int) -> np.ndarray:
        """Mean of the teacher's windows (1.6 s every 0.8 s), weighted by how much of the crop each covers."""
        partials = _teacher(self.arrays, utterance, "teacher_partials")
        first = np.arange(len(partials)) * 80 * self.mel.hop_length
        shared = np.minimum(first + 160 * self.mel.hop_length, stop) - np.maximum(first, start)
        weights = np.maximum(shared, 0).astype(np.float32) + 1e-3
        return _unit(weights @ partials)


@dataclass(frozen=True)
class ValidationCrops:
    """Fixed crops of held-out speakers: wav (N, T), lengths (N,) samples, speakers (N,), target (N, D) or None."""

    seconds: float
    wav: np.ndarray
    lengths: np.ndarray
    speakers: np.ndarray
    recordings: np.ndarray  # (N,): crops with one number come from one utterance
    names: list[str]
    target: np.ndarray | None


def validation_crops(manifest: Manifest, settings: EncoderSettings, seconds: float) -> ValidationCrops:
    """The same crops in every run (no seed of the run enters). CloningError where fewer than two speakers are held out.

    Speakers with one utterance give two crops of it; those with more, one of each.
    """
    data = settings.data
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in manifest.split("validation"):
        by_speaker[utterance.speaker].append(utterance)
    # Speakers with several utterances first: two crops of one recording are too easy to tell
    names = sorted(by_speaker, key=lambda name: (len(by_speaker[name]) < 2, name))[: data.validation_speakers]
    if len(names) < 2:
        raise CloningError(
            f"{manifest.root}: {len(names)} held-out speakers, validation wants 2: "
            f"preprocess with a larger --validation"
        )
    arrays, samples = Arrays(manifest.root), int(seconds * settings.model.mel.sample_rate)
    rows, lengths, labels, recordings, targets = [], [], [], [], []
    for label, name in enumerate(names):
        utterances = sorted(by_speaker[name], key=lambda u: u.id)[: data.validation_utterances]
        for i, utterance in enumerate(utterances if len(utterances) > 1 else utterances * 2):
            wav, _ = read_crop(arrays, utterance, samples, rng(label, i, int(1000 * seconds)))
            rows.append(np.pad(wav, (0, samples - len(wav))))
            lengths.append(len(wav))
            labels.append(label)
            recordings.append(utterance.id)
            if settings.loss.distill_weight:
                targets.append(_teacher(arrays, utterance, "teacher"))
    target = np.stack(targets) if targets else None
    numbers = np.unique(recordings, return_inverse=True)[1]
    return ValidationCrops(seconds, np.stack(rows), np.array(lengths), np.array(labels), numbers, names, target)


def read_crop(
    arrays: Arrays, utterance: Utterance, samples: int, random: np.random.Generator
) -> tuple[np.ndarray, int]:
    """A random stretch of `samples` (all of it where there is less) as float32 in [-1, 1], and where it starts."""
    total = arrays.length(utterance, "wav")
    start = int(random.integers(0, max(0, total - samples) + 1))
    pcm = arrays.read(utterance, "wav", start, min(start + samples, total))
    return pcm.astype(np.float32) * PCM, start


def _teacher(arrays: Arrays, utterance: Utterance, field: str) -> np.ndarray:
    return arrays.read(utterance, field).astype(np.float32)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / max(float(np.linalg.norm(x)), 1e-9)
