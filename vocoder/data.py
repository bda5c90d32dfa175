"""What a training step of a vocoder sees: crops of recorded speech, and the mel frames that belong to them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from utils.errors import CloningError
from utils.manifest import Arrays, Manifest, Utterance
from utils.mel import MelConfig, mel_spectrogram
from utils.sampling import Cycler, rng
from vocoder.config import DataConfig

log = logging.getLogger(__name__)


def edge_frames(config: MelConfig) -> int:
    """Frames at each end of a crop's mel whose window reaches past the crop."""
    return math.ceil(config.n_fft / 2 / config.hop_length)


def crop_mel(wav: Tensor, config: MelConfig) -> Tensor:
    """Mel of a crop without the frames that saw its edges, so that they equal those of the whole utterance.

    wav (B, (F - 1 + 2 * edge) * hop) -> (B, M, F): frame 0 is centred on sample edge * hop
    """
    edge = edge_frames(config)
    return mel_spectrogram(wav, config)[:, :, edge:-edge]


@dataclass(frozen=True)
class Crop:
    """Which stretch of which utterance: frames start .. start + frames, `margin` frames around them."""

    utterance: Utterance
    start: int
    gain: float = 1.0


class Crops:
    """Random crops of a preprocessed set, addressed by step; the crops of a step depend on (seed, step) alone.

    Every utterance is cut into stretches of one crop's length; the cycler walks over all stretches of the set, and a
    crop starts at random within half a crop of its stretch: long recordings count by their length.
    """

    def __init__(self, manifest: Manifest, mel: MelConfig, config: DataConfig, margin: int, seed: int) -> None:
        """`margin`: frames of waveform (and of teacher-forced mel) that a crop holds beyond itself on each side."""
        self.mel, self.config, self.margin, self.seed = mel, config, margin, seed
        self.arrays = Arrays(manifest.root)
        self.utterances = _usable(manifest, "train", mel, config)
        length = config.crop_frames * mel.hop_length / mel.sample_rate  # seconds
        counts = [max(1, int(u.seconds / length)) for u in self.utterances]
        self.stretches = np.repeat(np.arange(len(counts)), counts)  # stretch -> utterance
        self.first = np.cumsum([0, *counts[:-1]])  # utterance -> its first stretch
        self.cycler = Cycler(len(self.stretches), seed)

    def __len__(self) -> int:
        """Stretches in a round."""
        return len(self.stretches)

    def at(self, step: int) -> list[Crop]:
        """The crops of a step (1, 2, ...)."""
        generator = rng(self.seed, step)
        crops = []
        for i in range(self.config.batch_size):
            stretch = self.cycler.at((step - 1) * self.config.batch_size + i)
            index = int(self.stretches[stretch])
            utterance = self.utterances[index]
            place = stretch - int(self.first[index])
            last = max(0, utterance.frames - self.config.crop_frames - 1)
            start = place * self.config.crop_frames + round((generator.random() - 0.5) * self.config.crop_frames)
            # a teacher-forced mel belongs to one level
            gain_db = 0.0 if self.config.teacher_forced else generator.random() * self.config.min_gain_db
            crops.append(Crop(utterance, min(max(start, 0), last), 10 ** (gain_db / 20)))
        return crops

    def batch(self, step: int) -> dict[str, Tensor]:
        """"wav" (B, (crop_frames + 2 * margin) * hop), zeros beyond an utterance's ends; with teacher_forced "mel" too.

        "mel" (B, M, crop_frames + 1 + 2 * mel_margin), see `read_mel`.
        """
        crops = self.at(step)
        wavs = [read_wav(self.arrays, c, self.config.crop_frames, self.margin, self.mel) for c in crops]
        batch = {"wav": torch.from_numpy(np.stack(wavs))}
        if self.config.teacher_forced:
            context = self.margin - edge_frames(self.mel)
            mels = [read_mel(self.arrays, c, self.config.crop_frames, context, self.mel) for c in crops]
            batch["mel"] = torch.from_numpy(np.stack(mels))
        return batch


def read_wav(arrays: Arrays, crop: Crop, frames: int, margin: int, mel: MelConfig) -> np.ndarray:
    """Samples of frames start - margin .. start + frames + margin as float32; zeros where there is no utterance."""
    begin, end = (crop.start - margin) * mel.hop_length, (crop.start + frames + margin) * mel.hop_length
    pcm = _slice(arrays, crop.utterance, "wav", begin, end)
    wav = np.zeros(end - begin, np.float32)
    offset = max(-begin, 0)
    wav[offset : offset + len(pcm)] = pcm.astype(np.float32) * (crop.gain / 32768)
    return wav


def read_mel(arrays: Arrays, crop: Crop, frames: int, context: int, mel: MelConfig) -> np.ndarray:
    """Teacher-forced mel (M, frames + 1 + 2 * context) of a crop, silence where there is no utterance."""
    begin, end = crop.start - context, crop.start + frames + 1 + context
    stored = _slice(arrays, crop.utterance, "mel", begin, end)  # (F, M)
    out = np.full((end - begin, mel.n_mels), -mel.max_abs, np.float32)
    offset = max(-begin, 0)
    out[offset : offset + len(stored)] = stored
    return out.T.copy()


def _slice(arrays: Arrays, utterance: Utterance, name: str, begin: int, end: int) -> np.ndarray:
    """What there is of rows begin .. end."""
    return arrays.read(utterance, name, max(begin, 0), min(end, arrays.length(utterance, name)))


@dataclass(frozen=True)
class HeldOut:
    """Whole hops of a held-out utterance: wav (T,) float32, and mel (M, 1 + T // hop) where it is teacher-forced."""

    wav: np.ndarray
    mel: np.ndarray | None = None

    def tensors(self, config: MelConfig, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """mel (1, M, F), the teacher-forced one or that of the recording, and wav (1, T)."""
        wav = torch.from_numpy(self.wav).to(device)[None]
        mel = mel_spectrogram(wav, config) if self.mel is None else torch.from_numpy(self.mel).to(device)[None]
        return mel, wav


def held_out(manifest: Manifest, mel: MelConfig, config: DataConfig) -> list[HeldOut]:
    """The same utterances every time, spread over the held-out speakers."""
    utterances = sorted(_usable(manifest, "validation", mel, config), key=lambda u: u.id)
    chosen: list[Utterance] = []
    by_speaker: dict[str, list[Utterance]] = {}
    for u in utterances:
        by_speaker.setdefault(u.speaker, []).append(u)
    for turn in range(max(map(len, by_speaker.values()))):
        chosen += [own[turn] for _, own in sorted(by_speaker.items()) if turn < len(own)]
    arrays = Arrays(manifest.root)
    most = int(config.validation_seconds * mel.sample_rate) // mel.hop_length
    items = []
    for u in chosen[: config.validation_items]:
        whole = arrays.length(u, "wav") // mel.hop_length
        frames, start = min(whole, most), max(0, (whole - most) // 2)
        crop = Crop(u, start)
        wav = read_wav(arrays, crop, frames, 0, mel)
        items.append(HeldOut(wav, read_mel(arrays, crop, frames, 0, mel) if config.teacher_forced else None))
    return items


def _usable(manifest: Manifest, split: str, mel: MelConfig, config: DataConfig) -> list[Utterance]:
    """Utterances of a split that a crop fits into."""
    everything = manifest.split(split)
    shortest = (config.crop_frames + 1) * mel.hop_length / mel.sample_rate
    usable = [u for u in everything if u.seconds >= shortest]
    if not usable:
        found = f"{len(everything)} utterances, all shorter than a crop of {shortest:.2f} s" if everything else "none"
        raise CloningError(
            f"{manifest.root}: nothing to use in the {split} split ({found}): preprocess more speakers, raise "
            "--validation, or lower --set data.crop_frames=..."
        )
    if len(usable) < len(everything):
        short = len(everything) - len(usable)
        log.info("%s: %d of %d %s utterances are shorter than a crop", manifest.root, short, len(everything), split)
    if config.teacher_forced and (lacking := [u.id for u in usable if not u.extra.get("teacher_forced")]):
        raise CloningError(
            f"{manifest.root}: {len(lacking)} utterances without teacher-forced mels (such as {lacking[0]}): run "
            "vocoder_preprocess.py with --synthesizer, or --set data.teacher_forced=false"
        )
    return usable


def check_mel(manifest: Manifest, mel: MelConfig, teacher_forced: bool = False) -> None:
    """Refuse a set whose audio was prepared for another sampling rate, or whose stored mels are others."""
    rate = manifest.header.get("sample_rate")
    if rate is not None and rate != mel.sample_rate:
        raise CloningError(f"{manifest.root}: audio at {rate} Hz, the model wants {mel.sample_rate}: preprocess again")
    if teacher_forced and (stored := manifest.header.get("mel")):
        if different := mel.differences(MelConfig(**stored)):
            raise CloningError(
                f"{manifest.root}: the synthesizer's mel is another than this preset's ({different[0]}): "
                "choose a preset that reads it"
            )
