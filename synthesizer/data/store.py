"""Arrays of a set's utterances, joined on one device, and batches cut out of them by index.

One store holds the whole set on a GPU (or in memory, where it fits), or only what one batch needs: the batches are the
same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synthesizer.batches import ParallelBatch
from synthesizer.features import prosody
from synthesizer.text.symbols import END, PAD, PAUSES, SILENCE, WORD_BOUNDARY
from utils.data.manifest import Arrays, Utterance, read_manifest
from utils.errors import CloningError
from utils.voice import LEAST_SPREAD, pitch_statistics

CURVES = 4  # cosines over the mel channels that make up a microphone's curve
OWN, OTHER, MEAN = 0, 1, 2  # of which clip a speaker embedding is: the utterance's, another's, the speaker's mean


@dataclass(frozen=True)
class BatchRandomness:
    """What is random in a batch of B items."""

    width: int  # frames of the window
    starts: np.ndarray  # (B,) first frame of the window
    prompts: Sequence[Utterance | None]
    prompt_frames: int  # at most, of each prompt
    prompt_starts: np.ndarray  # (B,) place of the prompt in its utterance, 0 .. 1
    own: np.ndarray  # (B,) embedding: OWN, OTHER (its prompt's) or MEAN
    noise: np.ndarray  # (B, D) added to the embeddings
    statistics_noise: np.ndarray  # (B, 3)
    punctuated: np.ndarray  # (B,) bool: whether the batch has its punctuation
    seeds: np.ndarray  # (B,) of dropout
    seed: int  # of noise and times
    channels: np.ndarray | None = None  # (B, CURVES) dB: the microphone that window and prompt are heard through


class StoredSet(Protocol):
    """What a store reads of a set (`synthesizer.data.dataset.SynthesisData`)."""

    arrays: Arrays
    header: dict[str, Any]
    speakers: dict[str, np.ndarray]

    @property
    def floor(self) -> float:
        """The mel value of silence."""

    def marks(self, utterance: Utterance) -> np.ndarray:
        """(N,) int64"""

    def emotion_labels(self, chosen: Sequence[Utterance]) -> Tensor | None:
        """(B,), or None for a network without emotions"""


class Store:
    """`utterances` of a set; mels in float16."""

    def __init__(self, data: StoredSet, utterances: Sequence[Utterance], device: torch.device | str = "cpu") -> None:
        self.data, self.device = data, torch.device(device)
        self.index = {u.id: i for i, u in enumerate(utterances)}
        read = data.arrays.read
        mels = [read(u, "mel") for u in utterances]
        tokens = [read(u, "tokens").astype(np.int64) for u in utterances]
        durations = [read(u, "durations").astype(np.int64) for u in utterances]
        pitches = [read(u, "pitch") for u in utterances]
        self.frames = np.array([len(m) for m in mels])
        self.counts = np.array([len(t) for t in tokens])
        symbols = data.header["text"]["symbols"]
        silent = np.isin(symbols, (SILENCE, *PAUSES, WORD_BOUNDARY, END, PAD))
        names = sorted({u.speaker for u in utterances})
        joined = {
            "mel": np.concatenate(mels).astype(np.float16),
            "first": np.concatenate([[0], np.cumsum(self.frames)[:-1]]),
            "tokens": np.concatenate(tokens),
            "token_first": np.concatenate([[0], np.cumsum(self.counts)[:-1]]),
            "durations": np.concatenate(durations),
            "marks": np.concatenate([data.marks(u) for u in utterances]),
            "prosody": np.concatenate([prosody(*p) for p in zip(mels, pitches, durations, strict=True)]),
            "embed": np.stack([read(u, "embed") for u in utterances]).astype(np.float32),
            "mean_embed": np.stack([data.speakers[name] for name in names]).astype(np.float32),
            "speaker": np.searchsorted(names, [u.speaker for u in utterances]),
            "voice_statistics": np.stack(
                [statistics_of(*p, silent) for p in zip(pitches, tokens, durations, strict=True)]
            ),
            "frame_counts": self.frames,
            "token_counts": self.counts,
            "bands": np.array([bands(mel) for mel in mels]),
        }
        self.arrays = {name: torch.from_numpy(array).to(self.device) for name, array in joined.items()}
        self.silent = torch.from_numpy(silent).to(self.device)

    def batch(self, chosen: Sequence[Utterance], draws: BatchRandomness) -> ParallelBatch:
        """The batch of these utterances."""
        items = np.array([self.index[u.id] for u in chosen])
        others = np.array([i if p is None else self.index[p.id] for i, p in zip(items, draws.prompts, strict=True)])
        there = np.array([p is not None for p in draws.prompts])
        seconds = np.minimum(self.frames[others], draws.prompt_frames)
        prompt_first = (draws.prompt_starts * (self.frames[others] - seconds + 1)).astype(np.int64)
        item, other = self._to(items), self._to(others)
        read = self.arrays
        places = read["token_first"][item][:, None] + torch.arange(int(self.counts[items].max()), device=self.device)
        inside = places < (read["token_first"] + read["token_counts"])[item][:, None]
        places = places.clamp(max=len(read["tokens"]) - 1)
        tokens, durations, marks = (read[n][places] * inside for n in ("tokens", "durations", "marks"))
        mean_embed = read["mean_embed"][read["speaker"][item]]
        embed = torch.where(
            self._to(draws.own)[:, None] == MEAN,
            mean_embed,
            read["embed"][torch.where(self._to((draws.own == OTHER) & there), other, item)],
        )
        embed = F.normalize(embed + self._to(draws.noise), dim=1)
        generator = torch.Generator(self.device).manual_seed(draws.seed)
        mel, window = self._mels(items, draws.starts, self.frames[items] - draws.starts, draws.width)
        prompt, prompt_lengths = self._mels(others, prompt_first, seconds, int(seconds.max()))
        if draws.channels is not None:
            curves = self._curves(draws.channels, mel.shape[1])
            mel, prompt = (self._through(curves, x) for x in (mel, prompt))
        shape = (len(items), draws.width, mel.shape[1])
        batch: ParallelBatch = {
            "tokens": tokens,
            "token_lengths": read["token_counts"][item],
            "durations": durations,
            "marks": marks * self._to(draws.punctuated)[:, None],
            "prosody": read["prosody"][places] * inside[..., None],
            "speaker": embed,
            "embed": F.normalize(read["embed"][item] + mean_embed, dim=1),
            "seeds": self._to(draws.seeds),
            "voice_statistics": plausible(read["voice_statistics"][other] + self._to(draws.statistics_noise)),
            "window_start": self._to(draws.starts),
            "window_lengths": window,
            "mel": mel,
            "prompt": prompt,
            "prompt_lengths": prompt_lengths * self._to(there),
            "noise": torch.randn(shape, generator=generator, device=self.device),
            "time": torch.rand(len(items), generator=generator, device=self.device),
            "silent": self.silent[tokens],
            "bands": torch.arange(mel.shape[1], device=self.device) < read["bands"][item][:, None],
        }
        if (labels := self.data.emotion_labels(chosen)) is not None:
            batch["emotion"] = labels.to(self.device)
        return batch

    def _to(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def _curves(self, channels: np.ndarray, n_mels: int) -> Tensor:
        """Smooth curves over frequency in the units of mels (B, M, 1), from cosines in dB (B, CURVES)."""
        units = self.data.header["mel"]
        turns = torch.arange(1, channels.shape[1] + 1)[:, None] * (torch.arange(n_mels) + 0.5) * (np.pi / n_mels)
        curves = self._to(channels) @ turns.cos().to(self.device)
        return curves[..., None] * (2 * units["max_abs"] / -units["min_db"])

    def _through(self, curves: Tensor, mel: Tensor) -> Tensor:
        """Mels (B, M, F) with curves (B, M, 1) added; silence and the loudest stay."""
        moved = mel + curves
        return torch.where(mel > self.data.floor, moved.clamp(self.data.floor, -self.data.floor), mel)

    def _mels(self, items: np.ndarray, starts: np.ndarray, lengths: np.ndarray, width: int) -> tuple[Tensor, Tensor]:
        """Frames from `starts` of each item, at most `lengths` and `width`: (B, M, width), and how many these are."""
        first, start = self.arrays["first"][self._to(items)], self._to(starts)
        count = self._to(np.minimum(lengths, width))
        steps = torch.arange(width, device=self.device)
        places = (first + start)[:, None] + steps
        mel = self.arrays["mel"][places.clamp(max=len(self.arrays["mel"]) - 1)].float()
        mel = torch.where((steps < count[:, None])[..., None], mel, self.data.floor)
        return mel.transpose(1, 2), count


class BatchVoices(NamedTuple):
    """What a batch says of its voices: shapes as in `ParallelBatch`."""

    speaker: Tensor
    voice_statistics: Tensor
    prompt: Tensor
    prompt_lengths: Tensor
    embed: Tensor


class Voices:
    """Clips without texts (`synthesizer_preprocess.py --voices`): voices to speak with, all in memory."""

    def __init__(self, root: str | Path) -> None:
        """Raises CloningError where there is no such set."""
        manifest = read_manifest(root, "voices")
        self.encoder = manifest.header.get("encoder")  # whose embeddings these are
        arrays = Arrays(root)
        pitches = [(u, pitch_statistics(arrays.read(u, "pitch"))) for u in manifest.split("train")]
        found = [(u, pitch) for u, pitch in pitches if pitch is not None]
        if not found:
            raise CloningError(f"{root}: no voice to train with is in this set: preprocess more speakers")
        mels = [arrays.read(u, "mel") for u, _ in found]
        embeds = np.stack([arrays.read(u, "embed") for u, _ in found]).astype(np.float32)
        speakers = [u.speaker for u, _ in found]
        self.frames = np.array([len(m) for m in mels])
        self.first = np.concatenate([[0], np.cumsum(self.frames)[:-1]])
        self.shares = 1 / np.array([speakers.count(s) for s in speakers])
        self.shares /= self.shares.sum()
        means = np.stack([embeds[[t == s for t in speakers]].mean(axis=0) for s in speakers])
        self.mel = torch.from_numpy(np.concatenate(mels).astype(np.float16))
        self.embed = torch.from_numpy(embeds)
        self.wanted = F.normalize(self.embed + F.normalize(torch.from_numpy(means), dim=1), dim=1)
        self.voice_statistics = torch.tensor([(*pitch, np.nan) for _, pitch in found])

    def to(self, device: torch.device) -> None:
        """Move all arrays to a device."""
        for name in ("mel", "embed", "wanted", "voice_statistics"):
            setattr(self, name, getattr(self, name).to(device))

    def mixed_in(self, voices: BatchVoices, places: np.ndarray, draw: np.random.Generator) -> BatchVoices:
        """`voices` with those of this set at some places."""
        chosen = draw.choice(len(self.frames), len(places), p=self.shares)
        width = voices.prompt.shape[2]
        count = np.minimum(self.frames[chosen], width)
        first = self.first[chosen] + (draw.random(len(chosen)) * (self.frames[chosen] - count + 1)).astype(np.int64)
        device = self.mel.device
        place, item, start, size = (torch.from_numpy(x).to(device) for x in (places, chosen, first, count))
        steps = torch.arange(width, device=device)
        mel = self.mel[(start[:, None] + steps).clamp(max=len(self.mel) - 1)].float()
        new = BatchVoices(
            speaker=self.embed[item],
            voice_statistics=self.voice_statistics[item],
            prompt=(mel * (steps < size[:, None])[..., None]).transpose(1, 2),
            prompt_lengths=size,
            embed=self.wanted[item],
        )
        return BatchVoices(*(a.index_copy(0, place, b.to(a.dtype)) for a, b in zip(voices, new, strict=True)))


def plausible(voice_statistics: Tensor) -> Tensor:
    """voice_statistics (B, 3) with a spread that pitches can be divided by; what is not known stays so."""
    pitch, spread, pace = voice_statistics.unbind(dim=1)
    return torch.stack([pitch, spread.clamp(min=LEAST_SPREAD), pace], dim=1)


def statistics_of(pitch: np.ndarray, tokens: np.ndarray, durations: np.ndarray, silent: np.ndarray) -> np.ndarray:
    """Pitch and spread of an utterance as `utils.voice` has them, and log frames a phone (3,); NaN where not known.

    pitch (F,), tokens and durations (N,), silent (S,): which symbols are no phones.
    """
    found = pitch_statistics(pitch) or (np.nan, np.nan)
    phones = durations[~silent[tokens] & (durations > 0)]
    pace = np.log(phones.mean()) if len(phones) >= 5 else np.nan
    return np.array([*found, pace], dtype=np.float32)


def bands(mel: np.ndarray, least: float = -1.6) -> int:
    """How many mel channels, from the lowest, hold speech: above a low-pass nothing comes near the loud parts.

    mel (F, M) in the units of `utils.audio.mel` (8 are 100 dB); `least`: what the loudest fiftieth of a channel's
    frames has at least. Full-band speech at the level of the sets has some 0 in all channels, what is above a cut -2 or
    less.
    """
    loud = np.flatnonzero(np.percentile(mel.astype(np.float32), 98, axis=0) > least)
    return int(loud[-1]) + 1 if len(loud) else mel.shape[1]


def pad(arrays: Sequence[np.ndarray], length: int | None = None, value: float = 0) -> np.ndarray:
    """Arrays (N, ...) of different N -> (B, length, ...), filled up with `value`."""
    length = max(len(a) for a in arrays) if length is None else length
    out = np.full((len(arrays), length, *arrays[0].shape[1:]), value, dtype=arrays[0].dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out
