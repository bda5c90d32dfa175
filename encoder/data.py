"""Batches of speakers x utterances, every one a pure function of (seed, step); and the fixed crops of validation."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from encoder.augment import Sounds, augment, draw_masks, to_device
from encoder.config import RunConfig
from encoder.names import NOISE_SHARD, OWN, ROOM_SHARD, noise_name, room_name
from encoder.recordings import OnDevice, OnDisk, Recordings
from encoder.sampling import SpeakerCycler
from encoder.teach import TeacherEmbeddings
from utils.audio.io import from_pcm16
from utils.data.manifest import Arrays, Manifest, Utterance
from utils.errors import CloningError, MissingError
from utils.training.sampling import rng
from utils.voice import unit

LENGTHS = 0.1  # s: crops last a multiple of this, so that a device sees few sizes


class SpeakerBatch(TypedDict):
    """Crops of several speakers, those of one next to each other: B rows."""

    wav: Tensor  # (B, T) float32
    speaker: Tensor  # (B,): a speaker in another voice has a number of its own
    perturbation: Tensor  # (B,): number of the voice that the speaker has been given, 0 its own
    mask: Tensor  # (B, 4): first channel, stop channel, first frame, stop frame to blank out
    target: NotRequired[Tensor]  # (B, D): the teacher's embeddings, 0 where it has not embedded the speaker so


class TrainingBatches:
    """Draws who and what a step holds, crops and augments it."""

    def __init__(self, manifest: Manifest, config: RunConfig, teacher: TeacherEmbeddings | None = None) -> None:
        self.config, self.data, self.seed = config, config.data, config.training.seed
        self.rate, self.mel = config.model.mel.sample_rate, config.model.mel
        by_speaker: dict[str, list[Utterance]] = defaultdict(list)
        for utterance in manifest.split("train"):
            by_speaker[utterance.speaker].append(utterance)
        self.speakers = sorted(by_speaker)
        require_speakers(manifest, len(self.speakers), "training")
        if len(self.speakers) < self.data.speakers:
            raise CloningError(
                f"{manifest.root}: {len(self.speakers)} training speakers, a batch wants {self.data.speakers}: "
                f"preprocess more or set data.speakers to {len(self.speakers)}"
            )
        rows = [by_speaker[name] for name in self.speakers]
        self.utterances = [u for row in rows for u in row]
        self.cycler = SpeakerCycler(rows, [self._turns(row) for row in rows], self.seed)
        self.noises: int = manifest.header.get("noise", 0)
        self.perturbations = config.augment.perturbations
        self.speeds = list(dict.fromkeys(speed for speed, _ in self.perturbations))  # the first is 1
        self.speed_of = np.array([self.speeds.index(speed) for speed, _ in self.perturbations])
        arrays = Arrays(manifest.root)
        if self.noises:  # the last is there: no manifest asks for more than the file holds
            arrays.length(Utterance(noise_name(self.noises - 1), "", shard=NOISE_SHARD), "wav")
        sounds = [Utterance(noise_name(i), "", shard=NOISE_SHARD) for i in range(self.noises)]
        self.recordings: Recordings = OnDisk(arrays, [*self.utterances, *sounds], self.speeds)
        self.rooms = _rooms(arrays, manifest.header.get("rooms", 0))
        self.targets: Tensor | None = None
        if config.loss.distill_weight and teacher is not None:
            self.targets = self._targets(rows, teacher)
        self.device = torch.device("cpu")

    def move(self, device: torch.device) -> None:
        """Put everything on the device: from now on batches are made there."""
        assert isinstance(self.recordings, OnDisk)
        self.recordings = OnDevice(self.recordings.arrays, self.recordings.recordings, self.speeds, device)
        self.device = device
        self.targets = self.targets.to(device) if self.targets is not None else None
        self.rooms = self.rooms.to(device) if self.rooms is not None else None

    @property
    def bytes_needed(self) -> int:
        """What `move` takes of a device."""
        targets = self.targets.numel() * self.targets.element_size() if self.targets is not None else 0
        return OnDevice.bytes_needed(sum(u.seconds for u in self.utterances), self.speeds) + targets

    def _turns(self, utterances: list[Utterance]) -> int:
        if self.data.balance == "equal":
            return 1
        return max(1, round(math.sqrt(sum(u.seconds for u in utterances) / self.data.balance_seconds)))

    def batch(self, step: int, progress: float = 0.0) -> SpeakerBatch:
        """The batch of a step.

        `progress` is the share of the run that is done: the last part may have other crops. A speaker in another voice
        is a speaker of its own (`speaker` >= the number of speakers), without a target (0) where the teacher has not
        heard it so.
        """
        draws = rng(self.seed, 3, step)
        samples = self._samples(draws, progress)
        who, utterances = self.cycler.draw(step, self.data.speakers, self.data.utterances)
        perturbation = np.repeat(self._perturbations(len(who), draws), self.data.utterances)
        numbers = utterances.ravel()
        wav = self.recordings.crops(numbers, draws.random(len(numbers)), self.speed_of[perturbation], samples)
        config = self.config.augment
        noises = torch.Generator(self.device).manual_seed(int(draws.integers(2**62)))
        if config.any:
            sounds = Sounds(
                lambda n, random: self._others(n, samples, random),
                (lambda n, random: self._noise(n, samples, random)) if self.noises else None,
                self.rooms,
            )
            wav = augment(wav, config, draws, noises, self.rate, sounds)
        speaker = np.repeat(who, self.data.utterances) + perturbation * len(self.speakers)
        masks = draw_masks(config, draws, len(numbers), self.mel.n_mels, self.mel.frames(samples))
        batch: SpeakerBatch = {
            "wav": wav,
            "speaker": to_device(speaker, self.device),
            "perturbation": to_device(perturbation, self.device),
            "mask": to_device(masks, self.device),
        }
        if self.targets is not None:
            batch["target"] = self.targets[batch["perturbation"], to_device(numbers, self.device)].float()
        return batch

    def names(self, step: int) -> list[str]:
        """Utterances in the batch of a step."""
        _, utterances = self.cycler.draw(step, self.data.speakers, self.data.utterances)
        return [self.utterances[number].id for number in utterances.ravel()]

    def _samples(self, draws: np.random.Generator, progress: float) -> int:
        low, high = self.data.min_seconds, self.data.max_seconds
        if self.data.final_share and progress >= 1 - self.data.final_share:
            low, high = self.data.final_seconds
        seconds = draws.uniform(low, high)
        return int(min(high, max(low, round(seconds / LENGTHS) * LENGTHS)) * self.rate)

    def _perturbations(self, speakers: int, draws: np.random.Generator) -> np.ndarray:
        """Numbers of voices (I,), one a speaker, for all of its crops in a step; 0 is the speaker's own."""
        if len(self.perturbations) == 1:
            return np.zeros(speakers, np.int64)
        other = draws.integers(1, len(self.perturbations), speakers)
        return np.where(draws.random(speakers) < self.config.augment.speed, other, 0)

    def _others(self, rows: int, samples: int, random: np.random.Generator) -> Tensor:
        return self._recorded(random.integers(len(self.utterances), size=rows), samples, random)

    def _noise(self, rows: int, samples: int, random: np.random.Generator) -> Tensor:
        return self._recorded(len(self.utterances) + random.integers(self.noises, size=rows), samples, random)

    def _recorded(self, numbers: np.ndarray, samples: int, random: np.random.Generator) -> Tensor:
        return self.recordings.crops(numbers, random.random(len(numbers)), np.zeros_like(numbers), samples)

    def prototypes(self) -> Tensor:
        """Where to begin with the prototypes (V * I, D) of all speakers in all voices, length 1.

        The teacher's mean of a speaker that it embedded, so that the margin has a meaning at the first step; else at
        random.
        """
        size = self.config.model.embedding_size
        found = torch.randn(len(self.perturbations) * len(self.speakers), size)  # from the run's seed, which is set
        if self.targets is not None:
            speaker = torch.repeat_interleave(torch.from_numpy(self.cycler.counts))
            sums = torch.zeros(len(self.perturbations), len(self.speakers), size)
            sums.index_add_(1, speaker, self.targets.float())
            sums = sums.flatten(0, 1)
            found = torch.where(sums.any(dim=1, keepdim=True), sums, found)
        return torch.nn.functional.normalize(found, dim=1)

    # -- the teacher ---------------------------------------------------------------------------------------------------

    @property
    def target_share(self) -> float:
        """The share of rows with a target that is expected."""
        others = self.perturbations[1:]
        unheard = sum(other not in self.heard for other in others) / max(len(others), 1)
        return 1 - self.config.augment.speed * unheard

    def _targets(self, rows: list[list[Utterance]], teacher: TeacherEmbeddings) -> Tensor:
        """Targets (V, U, D) of utterances in each voice: between the teacher's embedding of it and of the speaker."""
        self.heard = set(teacher.embeddings)
        loss, row_of = self.config.loss, {id: row for row, id in enumerate(teacher.ids)}
        order = np.array([row_of[u.id] for u in self.utterances])
        speaker = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        whole = {v: teacher.embeddings[v][order].astype(np.float32) for v in self.perturbations if v in self.heard}
        persons = {v: unit(_sums(found, speaker, len(rows))) for v, found in whole.items()}
        size = teacher.embeddings[OWN].shape[1]
        self.center = persons[OWN].mean(axis=0) if loss.center else np.zeros(size, np.float32)
        targets = torch.zeros(len(self.perturbations), len(order), size, dtype=torch.float16)
        for index, perturbation in enumerate(self.perturbations):
            if perturbation in whole:
                person = persons[perturbation][speaker]
                mixed = (1 - loss.speaker_share) * whole[perturbation] + loss.speaker_share * person
                targets[index] = torch.from_numpy(self.centered(mixed))
        return targets

    def centered(self, target: np.ndarray) -> np.ndarray:
        """Teacher's embeddings (..., D) as the student is to give them: less the center, length 1."""
        return unit(target - self.center).astype(np.float32)


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


def validation_crops(
    manifest: Manifest, config: RunConfig, seconds: float, teacher: TeacherEmbeddings | None = None
) -> ValidationCrops:
    """The same crops in every run (no seed of the run enters). CloningError where fewer than two speakers are held out.

    Speakers with one utterance give two crops of it; those with more, one of each.
    """
    data = config.data
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in manifest.split("validation"):
        by_speaker[utterance.speaker].append(utterance)
    # Speakers with several utterances first: two crops of one recording are too easy to tell
    names = sorted(by_speaker, key=lambda name: (len(by_speaker[name]) < 2, name))[: data.validation_speakers]
    require_speakers(manifest, len(names), "held-out")
    arrays, samples = Arrays(manifest.root), int(seconds * config.model.mel.sample_rate)
    heard = {} if teacher is None else dict(zip(teacher.ids, teacher.embeddings[OWN], strict=True))
    rows, lengths, labels, recordings, targets = [], [], [], [], []
    for label, name in enumerate(names):
        utterances = spread(sorted(by_speaker[name], key=lambda u: u.id), data.validation_utterances)
        for i, utterance in enumerate(utterances if len(utterances) > 1 else utterances * 2):
            wav = read_crop(arrays, utterance, samples, rng(label, i, int(1000 * seconds)))
            rows.append(np.pad(wav, (0, samples - len(wav))))
            lengths.append(len(wav))
            labels.append(label)
            recordings.append(utterance.id)
            if heard:
                targets.append(heard[utterance.id].astype(np.float32))
    target = np.stack(targets) if targets else None
    numbers = np.unique(recordings, return_inverse=True)[1]
    return ValidationCrops(seconds, np.stack(rows), np.array(lengths), np.array(labels), numbers, names, target)


def require_speakers(manifest: Manifest, found: int, which: str) -> None:
    """CloningError, with what helps, where there are fewer than two to learn from or to validate on."""
    if found >= 2:
        return
    available = {u.speaker for u in manifest.utterances if u.split != "test"}
    if len(available) < 4:
        raise CloningError(
            f"{manifest.root}: {len(available)} speakers that are not set aside; an encoder learns to tell voices "
            "apart and wants at least 4, 2 of them for validation: preprocess recordings of more people"
        )
    raise MissingError(
        f"{manifest.root}: {found} {which} speakers, at least 2 are needed: preprocess again with another part of the "
        "speakers held out (nothing is computed again)",
        "validation speakers",
    )


def spread(utterances: list[Utterance], most: int) -> list[Utterance]:
    """At most so many, from all over the list, so that they come from several sessions."""
    return [utterances[int(i * len(utterances) / most)] for i in range(most)] if len(utterances) > most else utterances


def read_crop(arrays: Arrays, utterance: Utterance, samples: int, random: np.random.Generator) -> np.ndarray:
    """A random stretch of `samples` (all of it where there is less) as float32 in [-1, 1]."""
    total = arrays.length(utterance, "wav")
    start = int(random.integers(0, max(0, total - samples) + 1))
    pcm = arrays.read(utterance, "wav", start, min(start + samples, total))
    return from_pcm16(pcm)


def _rooms(arrays: Arrays, count: int) -> Tensor | None:
    if not count:
        return None
    rows = [arrays.read(Utterance(room_name(i), "", shard=ROOM_SHARD), "wav") for i in range(count)]
    rooms = torch.zeros(count, max(map(len, rows)))
    for index, row in enumerate(rows):
        rooms[index, : len(row)] = torch.from_numpy(row.astype(np.float32))
    return rooms


def _sums(rows: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    total = np.zeros((count, rows.shape[1]), np.float32)
    np.add.at(total, groups, rows)
    return total
