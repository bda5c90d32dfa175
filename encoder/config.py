"""Settings of the speaker encoder: what rebuilds a model, and what a training run adds to it.

A preset in `configs/encoder/` is a `RunConfig`; a checkpoint carries its `EncoderConfig`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from encoder.names import OWN, Perturbation, perturbations_of
from utils.audio.mel import ENCODER_MEL, MelConfig
from utils.config import check_ranges, check_rising
from utils.training.task import TrainingConfig

SAMPLE_RATE = ENCODER_MEL.sample_rate  # Hz, of feature sets
Slices = list[tuple[int, int]]


@dataclass(frozen=True)
class LstmConfig:
    """Sizes of the published network (GE2E, arXiv 1710.10467, sec. 3.1, made smaller by the SV2TTS repositories)."""

    hidden: int = 256
    layers: int = 3
    scale: Literal["power", "log"] = "power"  # of the mel that it reads; the published network reads power

    def __post_init__(self) -> None:
        check_ranges(self, hidden=(1, 8192), layers=(1, 64))


@dataclass(frozen=True)
class TransformerConfig:
    """Convolutions that take a quarter of the frames, transformer blocks, pooling over the valid frames."""

    width: int = 160
    blocks: int = 4
    heads: int = 4
    feedforward: int = 640
    stem_kernel: int = 5  # of the two convolutions with stride 2
    block_kernel: int = 9  # of the depthwise convolution in each block, in frames of 40 ms; 0: none
    pooled: int = 384  # channels that the pooling sees, made from the outputs of all blocks
    pooling: Literal["attentive", "mean"] = "attentive"
    normalize: Literal["level", "channel"] = "level"  # of the log mel: subtract one mean, or one a channel
    dropout: float = 0.0  # augmentation does this work; on a CPU the masks cost a tenth of a step

    def __post_init__(self) -> None:
        check_ranges(
            self, width=(2, 8192), blocks=(1, 128), heads=(1, 256), feedforward=(1, 65_536), stem_kernel=(1, 255),
            block_kernel=(0, 255), pooled=(1, 65_536), dropout=(0, 1),
        )  # fmt: skip
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and a multiple of heads {self.heads}")
        if self.stem_kernel % 2 == 0 or (self.block_kernel and self.block_kernel % 2 == 0):
            raise ValueError("stem_kernel and block_kernel must be odd")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")


@dataclass(frozen=True)
class PartialConfig:
    """Windows that an utterance is cut into for embedding; the published ones are 1.6 s every 0.8 s."""

    frames: int = 160
    overlap: float = 0.5  # share of a window that the next one covers too
    min_coverage: float = 0.75  # a last window with less audio than this share is dropped
    pad: bool = False  # fill the last window with silence, as the published network was trained and used

    def __post_init__(self) -> None:
        check_ranges(self, frames=(1, 3000), overlap=(0, 0.95), min_coverage=(0, 1))
        if self.min_coverage == 0:
            raise ValueError("min_coverage must be above 0")

    @property
    def step(self) -> int:
        """Frames from one window to the next."""
        return max(round(self.frames * (1 - self.overlap)), 1)


def partial_slices(n_samples: int, config: PartialConfig, hop_length: int = 160) -> tuple[Slices, Slices]:
    """Where the windows of an utterance lie: (start, stop) in samples, and the same in frames.

    The last window may pass the end of the audio; one with too little audio is dropped, unless it is the only one.
    """
    frames = math.ceil((n_samples + 1) / hop_length)
    starts = range(0, max(1, frames - config.frames + config.step + 1), config.step)
    mel = [(i, i + config.frames) for i in starts]
    wav = [(start * hop_length, stop * hop_length) for start, stop in mel]
    coverage = (n_samples - wav[-1][0]) / (wav[-1][1] - wav[-1][0])
    if coverage < config.min_coverage and len(mel) > 1:
        mel, wav = mel[:-1], wav[:-1]
    return wav, mel


@dataclass(frozen=True)
class EncoderConfig:
    """What a checkpoint needs to be rebuilt."""

    architecture: Literal["lstm", "transformer"] = "lstm"
    embedding_size: int = 256
    mel: MelConfig = ENCODER_MEL
    lstm: LstmConfig = field(default_factory=LstmConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    partials: PartialConfig = field(default_factory=PartialConfig)
    target_dbfs: float = -30.0  # quieter audio is raised to this level before the VAD

    def __post_init__(self) -> None:
        check_ranges(self, embedding_size=(1, 8192), target_dbfs=(-100, 0))


@dataclass(frozen=True)
class DataConfig:
    """Batches of speakers x utterances; every batch has one crop length, drawn anew."""

    speakers: int = 32  # a batch
    utterances: int = 2  # a speaker; one with fewer gives several crops of the same
    min_seconds: float = 0.8
    max_seconds: float = 3.0
    final_share: float = 0.0  # of the run, at its end, with crops of `final_seconds`
    final_seconds: tuple[float, float] = (3.0, 5.0)
    balance: Literal["equal", "sqrt"] = "sqrt"  # turns of a speaker in a round: one, or by the root of its seconds
    balance_seconds: float = 10.0  # of speech for one turn by the root; four times as much has two
    validation_seconds: tuple[float, ...] = (1.5, 3.0)  # crops at which the EER is measured; their mean is the score
    validation_utterances: int = 8  # a held-out speaker, at most
    validation_speakers: int = 200  # at most

    def __post_init__(self) -> None:
        check_ranges(
            self, speakers=(2, 100_000), utterances=(1, 10_000), min_seconds=(0, 600), max_seconds=(0, 600),
            final_share=(0, 1), final_seconds=(0.01, 600), balance_seconds=(0.01, 10**6),
            validation_seconds=(0.01, 600), validation_utterances=(1, 100_000), validation_speakers=(1, 10**6),
        )  # fmt: skip
        if not 0 < self.min_seconds <= self.max_seconds:
            raise ValueError(f"need 0 < min_seconds <= max_seconds, got {self.min_seconds} and {self.max_seconds}")
        check_rising(self, "final_seconds")

    @property
    def batch_size(self) -> int:
        """Crops in a batch."""
        return self.speakers * self.utterances


@dataclass(frozen=True)
class AugmentConfig:
    """What may happen to a training crop: every effect by its own probability; all 0 turns augmentation off."""

    RENAMED: ClassVar[dict[str, str]] = {"thinning": "spectral_dropout", "thinning_db": "spectral_dropout_db"}
    REMOVED: ClassVar[dict[str, tuple[str, ...]]] = {"mask_by": ("ours",)}

    noise: float = 0.3  # colored noise, or the noise files of the feature set
    noise_snr_db: tuple[float, float] = (0.0, 25.0)
    babble: float = 0.2  # one to three other utterances on top
    babble_snr_db: tuple[float, float] = (8.0, 25.0)
    reverb: float = 0.2  # a room's decay, made of shaped noise
    reverb_seconds: tuple[float, float] = (0.1, 0.6)  # RT60
    reverb_rooms: float = 0.5  # share of the reverbs that is a simulated room of the feature set, if it holds some
    equalizer: float = 0.0  # a microphone's color
    equalizer_db: float = 8.0  # at most, up or down
    band_limit: float = 0.2  # a low-pass and a high-pass of random corner
    telephone: float = 0.1  # 300-3400 Hz and 8-bit mu-law
    spectral_dropout: float = 0.0  # quiet bins of the spectrum dropped, as a codec of a low rate does
    spectral_dropout_db: tuple[float, float] = (25.0, 50.0)  # under a frame's loudest bin
    codec: float = 0.0  # there and back through MP3 or Opus at a random rate; 10 to 35 ms a crop in the loader
    gain: float = 0.5
    gain_db: tuple[float, float] = (-6.0, 6.0)
    mask: float = 0.3  # one band of mel channels and one stretch of frames (SpecAugment, arXiv 1904.08779)
    mask_channels: int = 8  # at most
    mask_share: float = 0.15  # of the frames, at most
    # How often a speaker's crops of a batch are given another voice, which makes another speaker: played faster or
    # slower, or with the formants moved and pitch and pace kept. Those that preprocessing had a teacher hear (--speeds,
    # --formants) are distilled too, others left out of it.
    speed: float = 0.0
    speeds: tuple[float, ...] = (0.9, 1.1)
    formants: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        share, decibels = (0, 1), (-100, 100)
        check_ranges(
            self, noise=share, noise_snr_db=decibels, babble=share, babble_snr_db=decibels, reverb=share,
            reverb_seconds=(0.01, 60), reverb_rooms=share, band_limit=share, telephone=share, codec=share, gain=share,
            gain_db=decibels, mask=share, mask_channels=(0, 512), mask_share=share, speed=share,
            equalizer=share, equalizer_db=(0, 100), spectral_dropout=share, spectral_dropout_db=(0, 200),
        )  # fmt: skip
        check_rising(self, "noise_snr_db", "babble_snr_db", "reverb_seconds", "spectral_dropout_db", "gain_db")
        for name in ("speeds", "formants"):
            if getattr(self, name):
                check_ranges(self, **{name: (0.5, 2)})
        factors = (*self.speeds, *self.formants)
        if self.speed and (not factors or 1 in factors):
            raise ValueError(f"speeds and formants must not be 1, got {self.speeds}, {self.formants}")

    @property
    def any(self) -> bool:
        """Whether any effect changes the waveform."""
        sounds = (self.noise, self.babble, self.reverb, self.equalizer, self.band_limit, self.telephone)
        return any((*sounds, self.spectral_dropout, self.codec, self.gain))

    @property
    def perturbations(self) -> list[Perturbation]:
        """The voices that one speaker makes, its own first."""
        return perturbations_of(self.speeds, self.formants) if self.speed else [OWN]


@dataclass(frozen=True)
class LossConfig:
    """Losses are weighted and summed; a weight of 0 leaves one out."""

    distill_weight: float = 0.0  # 1 - cosine to the teacher's embedding of the clean, whole utterance
    speaker_share: float = 0.0  # how far the target moves to the mean of the speaker's utterances (0 .. 1)
    center: bool = False  # subtract the teacher's mean over the training set first: differences count more
    ge2e_weight: float = 1.0  # GE2E softmax (arXiv 1710.10467, eq. 6)
    aam_weight: float = 0.0  # additive angular margin over the training speakers (ArcFace, arXiv 1801.07698)
    aam_margin: float = 0.2
    aam_rise: float = 0.0  # share of the run in which the margin grows from 0
    aam_final_margin: float = 0.0  # in the part of the run with other crops (data.final_share); 0: as before
    aam_scale: float = 30.0

    def __post_init__(self) -> None:
        weight = (0, 1e6)
        check_ranges(
            self, distill_weight=weight, speaker_share=(0, 1), ge2e_weight=weight, aam_weight=weight,
            aam_margin=(0, 3.2), aam_rise=(0, 1), aam_final_margin=(0, 3.2), aam_scale=(0.001, 1e6),
        )  # fmt: skip
        if not self.distill_weight + self.ge2e_weight + self.aam_weight > 0:
            raise ValueError("no loss left: one of distill_weight, ge2e_weight, aam_weight must be above 0")


@dataclass(frozen=True)
class RunConfig:
    """Everything a training run is told (a preset in `configs/encoder/`)."""

    model: EncoderConfig = field(default_factory=EncoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if self.loss.ge2e_weight and self.data.utterances < 2:
            raise ValueError("GE2E compares utterances of one speaker: data.utterances must be at least 2")
