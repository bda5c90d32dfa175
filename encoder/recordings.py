"""Crops of a set's recordings, many at a time: read from its shards, or cut from what lies on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from encoder.augment import to_device
from encoder.config import SAMPLE_RATE
from encoder.perturbation import speed_perturb
from utils.audio.io import PCM16, from_pcm16
from utils.data.manifest import Arrays, Utterance

ROW_SECONDS = 2000  # of audio that are played at another speed at once; bounds the memory for it


class Recordings(Protocol):
    """Recordings by number, each at every speed."""

    def crops(self, numbers: np.ndarray, places: np.ndarray, speeds: np.ndarray, samples: int) -> Tensor:
        """Stretches (B, samples) float32 in [-1, 1] of recordings `numbers` (B,); what is shorter begins again.

        places (B,) in [0, 1): where they begin, of all places where they could; speeds (B,) are numbers of speeds.
        """
        ...


class OnDisk:
    """Reads the samples that a crop needs and no others."""

    def __init__(self, arrays: Arrays, recordings: Sequence[Utterance], speeds: Sequence[float]) -> None:
        self.arrays, self.recordings, self.speeds = arrays, recordings, speeds

    def crops(self, numbers: np.ndarray, places: np.ndarray, speeds: np.ndarray, samples: int) -> Tensor:
        """As `Recordings.crops`."""
        rows = zip(numbers.tolist(), places.tolist(), speeds.tolist(), strict=True)
        return torch.stack([self._crop(number, place, self.speeds[speed], samples) for number, place, speed in rows])

    def _crop(self, number: int, place: float, speed: float, samples: int) -> Tensor:
        recording = self.recordings[number]
        total = self.arrays.length(recording, "wav")
        # One more than needed: what is played faster or slower is rounded down
        needed = samples if speed == 1 else int(samples * speed) + 2
        start = int(place * (max(0, total - needed) + 1))
        pcm = self.arrays.read(recording, "wav", start, min(start + needed, total))
        wav = speed_perturb(torch.from_numpy(from_pcm16(pcm))[None], speed)[0]
        return wav[torch.arange(samples) % len(wav)]


class OnDevice:
    """All recordings as int16 in one piece on the device, at every speed: a crop is an index."""

    def __init__(
        self, arrays: Arrays, recordings: Sequence[Utterance], speeds: Sequence[float], device: torch.device
    ) -> None:
        rows = [arrays.read(recording, "wav") for recording in recordings]
        own = np.array([len(row) for row in rows])
        self.lengths = np.stack([np.array([int(n / speed) for n in own]) for speed in speeds])
        self.firsts = (np.cumsum(self.lengths) - self.lengths.ravel()).reshape(self.lengths.shape)
        self.device = device
        self.pcm = torch.empty(int(self.lengths.sum()), dtype=torch.int16, device=device)
        for batch in by_length(own, ROW_SECONDS * SAMPLE_RATE):
            wav = torch.zeros(len(batch), int(own[batch].max()), dtype=torch.int16)
            for row, number in enumerate(batch):
                wav[row, : own[number]] = torch.from_numpy(rows[number])
            played = wav.to(device).float()
            for index, speed in enumerate(speeds):
                changed = speed_perturb(played, speed).round().clamp(-PCM16, PCM16).to(torch.int16)
                for row, number in enumerate(batch):
                    first, length = self.firsts[index, number], self.lengths[index, number]
                    self.pcm[first : first + length] = changed[row, :length]

    @staticmethod
    def bytes_needed(seconds: float, speeds: Sequence[float]) -> int:
        """What the samples will take."""
        return int(sum(2 * SAMPLE_RATE * seconds / speed for speed in speeds))

    def crops(self, numbers: np.ndarray, places: np.ndarray, speeds: np.ndarray, samples: int) -> Tensor:
        """As `Recordings.crops`."""
        lengths, firsts = self.lengths[speeds, numbers], self.firsts[speeds, numbers]
        starts = (places * (np.maximum(0, lengths - samples) + 1)).astype(np.int64)
        bounds = to_device(np.stack([firsts, starts, lengths])[:, :, None], self.device)
        index = bounds[0] + (bounds[1] + torch.arange(samples, device=self.device)) % bounds[2]
        return from_pcm16(self.pcm[index])


def by_length(lengths: np.ndarray, most: int) -> list[np.ndarray]:
    """Numbers of the recordings, the longest first, in groups that take at most `most` samples when padded."""
    order, groups, start = np.argsort(-lengths, kind="stable"), [], 0
    while start < len(order):
        count = max(1, int(most // max(1, lengths[order[start]])))
        groups.append(order[start : start + count])
        start += count
    return groups
