"""What a training step of a vocoder sees: crops of recorded speech, and the mel frames that belong to them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from utils.audio.io import from_pcm16
from utils.audio.mel import MelConfig, mel_spectrogram
from utils.config import from_dict
from utils.data.manifest import Arrays, Manifest, Utterance
from utils.errors import CloningError, MissingError
from utils.training.sampling import Cycler, a_few, rng
from vocoder.config import DataConfig

log = logging.getLogger(__name__)


def edge_frames(config: MelConfig) -> int:
    """Frames at each end of a crop's mel whose window reaches past the crop."""
    return math.ceil(config.n_fft / 2 / config.hop_length)


def crop_mel(wav: Tensor, config: MelConfig) -> Tensor:
    """Mel of a crop without the frames that saw its edges, so that they equal those of the whole utterance.

    wav (B, (F - 1 + 2 * edge) * hop) -> (B, M, F): frame 0 is centered on sample edge * hop
    """
    edge = edge_frames(config)
    return mel_spectrogram(wav, config)[:, :, edge:-edge]


@dataclass(frozen=True)
class Crop:
    """Which stretch of which utterance: frames start .. start + frames, `margin` frames around them."""

    utterance: Utterance
    start: int
    gain: float = 1.0


class CropBatch(TypedDict):
    """What a step sees of B crops."""

    wav: Tensor  # (B, (crop_frames + 2 * margin) * hop), zeros beyond an utterance's ends
    pitch: NotRequired[Tensor]  # (B, crop_frames + 1), see `read_pitch`
    mel: NotRequired[Tensor]  # (B, M, crop_frames + 1 + 2 * mel_margin), teacher-forced, see `read_mel`
    # The others are not in what `Crops` makes.
    start: NotRequired[Tensor]  # (B,): see `WaveformModel.forward`
    band: NotRequired[Tensor]  # (B,) Hz: of the speech in the recordings
    shown: NotRequired[Tensor]  # (B,) Hz: of the mel


class Crops:
    """Random crops of a preprocessed set, addressed by step; the crops of a step depend on (seed, step) alone.

    Every utterance is cut into stretches of one crop's length; the cycler walks over all stretches of the set, and a
    crop starts at random within half a crop of its stretch: long recordings count by their length.
    """

    resident: Resident | None = None

    def __init__(
        self, manifest: Manifest, mel: MelConfig, config: DataConfig, margin: int, seed: int, pitch: bool = False
    ) -> None:
        """`margin`: frames of waveform (and of teacher-forced mel) that a crop holds beyond itself on each side.

        `pitch`: batches hold the pitch too.
        """
        self.mel, self.config, self.margin, self.seed, self.pitch = mel, config, margin, seed, pitch
        self.arrays = Arrays(manifest.root)
        self.utterances = _usable(manifest, "train", mel, config)
        self.frames = np.array([u.frames for u in self.utterances])
        self.bands = np.array([band_of(u) for u in self.utterances], np.float32)  # Hz
        length = config.crop_frames * mel.hop_length / mel.sample_rate  # seconds
        counts = [max(1, int(u.seconds / length)) for u in self.utterances]
        self.stretches = np.repeat(np.arange(len(counts)), counts)  # stretch -> utterance
        self.first = np.cumsum([0, *counts[:-1]])  # utterance -> its first stretch
        self.cycler = Cycler(len(self.stretches), seed)

    def __len__(self) -> int:
        """Stretches in a round."""
        return len(self.stretches)

    def places(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which utterance, from which frame, at which gain: (B,) each, of a step (1, 2, ...)."""
        size, length = self.config.batch_size, self.config.crop_frames
        stretches = np.array([self.cycler.at((step - 1) * size + i) for i in range(size)])
        drawn = rng(self.seed, step).random((size, 2))
        which = self.stretches[stretches]
        starts = (stretches - self.first[which]) * length + np.rint((drawn[:, 0] - 0.5) * length).astype(int)
        starts = starts.clip(0, np.maximum(0, self.frames[which] - length - 1))
        # a teacher-forced mel belongs to one level
        gain_db = 0.0 if self.config.teacher_forced else drawn[:, 1] * self.config.min_gain_db
        return which, starts, np.broadcast_to(10 ** (gain_db / 20), size)

    def at(self, step: int) -> list[Crop]:
        """The crops of a step (1, 2, ...)."""
        return [Crop(self.utterances[i], int(s), float(g)) for i, s, g in zip(*self.places(step), strict=True)]

    def batch(self, step: int) -> CropBatch:
        """Waveforms; with `pitch` their pitch too, and with teacher_forced the synthesizer's mels."""
        if self.resident is not None:
            return self.resident.batch(*self.places(step))
        crops, frames, context = self.at(step), self.config.crop_frames, self.margin - edge_frames(self.mel)
        batch: CropBatch = {"wav": _stacked([read_wav(self.arrays, c, frames, self.margin, self.mel) for c in crops])}
        if self.pitch:
            batch["pitch"] = _stacked([read_pitch(self.arrays, c, frames) for c in crops])
        if self.config.teacher_forced:
            batch["mel"] = _stacked([read_mel(self.arrays, c, frames, context, self.mel) for c in crops])
        return batch

    def bytes(self) -> int:
        """What `load` puts on a device."""
        each = 2 * self.mel.hop_length + 2 * self.pitch + 2 * self.mel.n_mels * self.config.teacher_forced
        return int(self.margin + (self.frames + self.margin + 1).sum()) * each

    def load(self, device: torch.device) -> None:
        """Hold everything on a device: the same batches, made there from then on."""
        self.resident = Resident(self, device)


class Resident:
    """The training part of a set as a few long tensors on a device, so that a batch is cut by indices.

    One row is a frame: `hop` samples from its center on. A pause of `margin` rows lies between utterances.
    """

    def __init__(self, crops: Crops, device: torch.device) -> None:
        self.crops, self.device = crops, device
        config, mel, margin = crops.config, crops.mel, crops.margin
        lengths = crops.frames + margin + 1
        self.first = margin + np.cumsum([0, *lengths[:-1]])  # utterance -> row of its frame 0
        rows = margin + int(lengths.sum())
        wav = np.zeros((rows, mel.hop_length), np.int16)
        pitch = np.zeros(rows, np.float16) if crops.pitch else None
        mels = np.full((rows, mel.n_mels), -mel.max_abs, np.float16) if config.teacher_forced else None
        for utterance, first, frames in zip(crops.utterances, self.first, crops.frames, strict=True):
            samples = crops.arrays.read(utterance, "wav")
            wav[first : first + frames].reshape(-1)[: len(samples)] = samples
            if pitch is not None:
                pitch[first : first + frames] = crops.arrays.read(utterance, "pitch")
            if mels is not None:
                mels[first : first + frames] = crops.arrays.read(utterance, "mel")
        self.wav = torch.from_numpy(wav).to(device)
        self.pitch = None if pitch is None else torch.from_numpy(pitch).to(device)
        self.mels = None if mels is None else torch.from_numpy(mels).to(device)
        context = margin - edge_frames(mel)
        self.around = torch.arange(-margin, config.crop_frames + margin, device=device)
        self.inside = torch.arange(config.crop_frames + 1, device=device)
        self.mel_rows = torch.arange(-context, config.crop_frames + 1 + context, device=device)

    def batch(self, which: np.ndarray, starts: np.ndarray, gains: np.ndarray) -> CropBatch:
        """As `Crops.batch`."""
        first = torch.from_numpy(self.first[which] + starts).to(self.device, non_blocking=True)[:, None]
        gain = torch.from_numpy(gains.astype(np.float32)).to(self.device, non_blocking=True)[:, None]
        batch: CropBatch = {"wav": from_pcm16(self.wav[first + self.around].flatten(1)) * gain}
        if self.pitch is not None:
            batch["pitch"] = self.pitch[first + self.inside].float()
        if self.mels is not None:
            batch["mel"] = self.mels[first + self.mel_rows].float().transpose(1, 2)
        return batch


def read_wav(arrays: Arrays, crop: Crop, frames: int, margin: int, mel: MelConfig) -> np.ndarray:
    """Samples of frames start - margin .. start + frames + margin as float32; zeros where there is no utterance."""
    begin, end = (crop.start - margin) * mel.hop_length, (crop.start + frames + margin) * mel.hop_length
    pcm = _slice(arrays, crop.utterance, "wav", begin, end)
    wav = np.zeros(end - begin, np.float32)
    offset = max(-begin, 0)
    wav[offset : offset + len(pcm)] = from_pcm16(pcm) * np.float32(crop.gain)
    return wav


def read_pitch(arrays: Arrays, crop: Crop, frames: int) -> np.ndarray:
    """Pitch (frames + 1,) float32 of a crop as `utils.audio.pitch` has it, unvoiced where there is no utterance."""
    stored = _slice(arrays, crop.utterance, "pitch", crop.start, crop.start + frames + 1)
    return np.pad(stored.astype(np.float32), (0, frames + 1 - len(stored)))


def read_mel(arrays: Arrays, crop: Crop, frames: int, context: int, mel: MelConfig) -> np.ndarray:
    """Teacher-forced mel (M, frames + 1 + 2 * context) of a crop, silence where there is no utterance."""
    begin, end = crop.start - context, crop.start + frames + 1 + context
    stored = _slice(arrays, crop.utterance, "mel", begin, end)  # (F, M)
    out = np.full((end - begin, mel.n_mels), -mel.max_abs, np.float32)
    offset = max(-begin, 0)
    out[offset : offset + len(stored)] = stored
    return out.T.copy()


def _stacked(rows: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(rows))


def _slice(arrays: Arrays, utterance: Utterance, name: str, begin: int, end: int) -> np.ndarray:
    """What there is of rows begin .. end."""
    return arrays.read(utterance, name, max(begin, 0), min(end, arrays.length(utterance, name)))


@dataclass(frozen=True)
class HeldOut:
    """Whole hops of a held-out utterance: wav (T,) float32, and mel (M, 1 + T // hop) where it is teacher-forced."""

    wav: np.ndarray
    mel: np.ndarray | None = None
    band: float = math.inf  # Hz, of its speech

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
        forced = read_mel(arrays, crop, frames, 0, mel) if config.teacher_forced else None
        items.append(HeldOut(wav, forced, band_of(u)))
    return items


def _part(manifest: Manifest, split: str, mel: MelConfig, config: DataConfig) -> list[Utterance]:
    """Utterances of a split; where no speaker is held out, as with a lone one, a few utterances that fit are."""
    if manifest.split("validation"):
        return manifest.split(split)
    train = manifest.split("train")
    fitting = [u for u in train if u.seconds >= _shortest(mel, config) and not _narrow(u, config)] or train
    aside = set(a_few([u.id for u in fitting], config.validation_items))
    return [u for u in train if (u.id in aside) == (split == "validation")]


def _shortest(mel: MelConfig, config: DataConfig) -> float:
    """Seconds that a crop needs."""
    return (config.crop_frames + 1) * mel.hop_length / mel.sample_rate


def band_of(utterance: Utterance) -> float:
    """Up to which frequency there is speech, in Hz; sets from before this was measured do not say."""
    return float(utterance.extra.get("bandwidth", math.inf))


def _narrow(utterance: Utterance, config: DataConfig) -> bool:
    return band_of(utterance) < config.min_bandwidth


def _usable(manifest: Manifest, split: str, mel: MelConfig, config: DataConfig) -> list[Utterance]:
    """Utterances of a split that a crop fits into."""
    shortest, limit = _shortest(mel, config), config.min_bandwidth
    everything = _part(manifest, split, mel, config)
    long = [u for u in everything if u.seconds >= shortest]
    usable = [u for u in long if not _narrow(u, config)]
    if narrow := len(long) - len(usable):
        log.info("%s: %d of %d %s utterances have less than %g Hz", manifest.root, narrow, len(long), split, limit)
    if not everything:
        raise CloningError(
            f"{manifest.root}: nothing for {'validation' if split == 'validation' else 'training'} among "
            f"{len(manifest.utterances)} utterances: at least 2 are needed; cut a long recording into several"
        )
    if not long:
        fitting = max(1, int(max(u.seconds for u in everything) * mel.sample_rate / mel.hop_length) - 1)
        raise CloningError(
            f"{manifest.root}: all {len(everything)} {split} utterances are shorter than a crop of {shortest:.2f} s: "
            f"set data.crop_frames to {fitting} or less, or add longer recordings"
        )
    if not usable:
        widest = max(u.extra["bandwidth"] for u in long)
        raise CloningError(
            f"{manifest.root}: all {len(long)} {split} utterances are narrower than data.min_bandwidth {limit:g} Hz: "
            f"set data.min_bandwidth to {widest:g} or less, or add better recordings"
        )
    if len(long) < len(everything):
        short = len(everything) - len(long)
        log.info("%s: %d of %d %s utterances are shorter than a crop", manifest.root, short, len(everything), split)
    if config.teacher_forced and (lacking := [u.id for u in usable if not u.extra.get("teacher_forced")]):
        raise MissingError(
            f"{manifest.root}: {len(lacking)} utterances without teacher-forced mels (such as {lacking[0]}): "
            "preprocess with a synthesizer, or set data.teacher_forced to false",
            "teacher-forced mels",
        )
    return usable


def check_set(manifest: Manifest, mel: MelConfig, teacher_forced: bool = False, pitch: bool = False) -> None:
    """Refuse a set whose audio was prepared for another sampling rate, whose mels are others, or without pitch."""
    rate = manifest.header.get("sample_rate")
    if rate is not None and rate != mel.sample_rate:
        raise CloningError(f"{manifest.root}: audio at {rate} Hz, the model wants {mel.sample_rate}: preprocess again")
    if pitch and not manifest.header.get("pitch"):
        raise CloningError(f"{manifest.root}: made before pitch was stored: preprocess again")
    if teacher_forced and (stored := manifest.header.get("mel")):
        if different := mel.differences(from_dict(MelConfig, stored, "mel")):
            raise CloningError(
                f"{manifest.root}: the synthesizer's mel is another than this preset's ({different[0]}): "
                "choose a preset that reads it"
            )
