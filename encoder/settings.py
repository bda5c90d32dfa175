"""Everything a training run is told: the model, its data, its augmentation, its losses, the loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from encoder.config import EncoderConfig
from utils.task import TrainingConfig


@dataclass(frozen=True)
class DataConfig:
    """Batches of speakers x utterances; every batch has one crop length, drawn anew."""

    speakers: int = 32  # a batch
    utterances: int = 2  # a speaker; one with fewer gives several crops of the same
    min_seconds: float = 0.8
    max_seconds: float = 3.0
    balance: Literal["equal", "sqrt"] = "sqrt"  # turns of a speaker in a round: one, or by the root of its seconds
    validation_seconds: tuple[float, ...] = (1.5, 3.0)  # crops at which the EER is measured; their mean is the score
    validation_utterances: int = 8  # a held-out speaker, at most
    validation_speakers: int = 200  # at most

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds <= self.max_seconds:
            raise ValueError(f"need 0 < min_seconds <= max_seconds, got {self.min_seconds} and {self.max_seconds}")
        if self.speakers < 2 or self.utterances < 1 or not self.validation_seconds:
            raise ValueError("need at least 2 speakers, 1 utterance each, and one length of validation crops")

    @property
    def batch_size(self) -> int:
        return self.speakers * self.utterances


@dataclass(frozen=True)
class AugmentConfig:
    """What may happen to a training crop: every effect by its own probability; all 0 turns augmentation off."""

    noise: float = 0.3  # coloured noise, or the noise files of the feature set
    noise_snr_db: tuple[float, float] = (0.0, 25.0)
    babble: float = 0.2  # one to three other utterances on top
    babble_snr_db: tuple[float, float] = (8.0, 25.0)
    reverb: float = 0.2  # a room's decay, made of shaped noise
    reverb_seconds: tuple[float, float] = (0.1, 0.6)  # RT60
    reverb_rooms: float = 0.5  # share of the reverbs that is a simulated room of the feature set, if it holds some
    band_limit: float = 0.2  # a low-pass and a high-pass of random corner
    telephone: float = 0.1  # 300-3400 Hz and 8-bit mu-law
    codec: float = 0.0  # there and back through MP3 or Opus at a random rate; 10 to 35 ms a crop in the loader
    gain: float = 0.5
    gain_db: tuple[float, float] = (-6.0, 6.0)
    mask: float = 0.3  # one band of mel channels and one stretch of frames (SpecAugment, arXiv 1904.08779)
    mask_channels: int = 8  # at most
    mask_share: float = 0.15  # of the frames, at most
    mask_by: Literal["ours", "torchaudio"] = "ours"  # who draws the mask; ours where torchaudio does not load
    # A speaker's crops of a batch, played faster or slower: another voice, so another speaker.
    # Where preprocessing had the teacher hear these speeds (--speeds) they are distilled too, else left out of it.
    speed: float = 0.0
    speeds: tuple[float, ...] = (0.9, 1.1)

    def __post_init__(self) -> None:
        if self.speed and (not self.speeds or not all(0.5 <= s <= 2 and s != 1 for s in self.speeds)):
            raise ValueError(f"speeds must lie in 0.5 .. 2 and not be 1, got {self.speeds}")

    @property
    def any(self) -> bool:
        sounds = (self.noise, self.babble, self.reverb, self.band_limit, self.telephone, self.codec, self.gain)
        return any(sounds) or bool(self.mask)

    @property
    def voices(self) -> int:
        """How many voices one speaker makes: its own, and one a speed."""
        return 1 + len(self.speeds) if self.speed else 1


@dataclass(frozen=True)
class LossConfig:
    """Losses are weighted and summed; a weight of 0 leaves one out."""

    distill_weight: float = 0.0  # 1 - cosine to the teacher's embedding of the clean, whole utterance
    target: Literal["utterance", "partials"] = "utterance"  # or: of the windows that the crop overlaps
    speaker_share: float = 0.0  # how far the target moves to the mean of the speaker's utterances (0 .. 1)
    center: bool = False  # subtract the teacher's mean over the training set first: differences count more
    ge2e_weight: float = 1.0
    ge2e: Literal["softmax", "contrast", "angular"] = "softmax"
    aam_weight: float = 0.0  # additive angular margin over the training speakers (ArcFace, arXiv 1801.07698)
    aam_margin: float = 0.2
    aam_scale: float = 30.0

    def __post_init__(self) -> None:
        if min(self.distill_weight, self.ge2e_weight, self.aam_weight) < 0:
            raise ValueError("weights of losses must not be negative")
        if not self.distill_weight + self.ge2e_weight + self.aam_weight > 0:
            raise ValueError("no loss left: one of distill_weight, ge2e_weight, aam_weight must be above 0")
        if not 0 <= self.speaker_share <= 1:
            raise ValueError(f"speaker_share must lie in [0, 1], got {self.speaker_share}")


@dataclass(frozen=True)
class EncoderSettings:
    """Everything a training run is told (a preset in `configs/encoder/`)."""

    model: EncoderConfig = field(default_factory=EncoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if self.loss.ge2e_weight and self.data.utterances < 2:
            raise ValueError("GE2E compares utterances of one speaker: data.utterances must be at least 2")
