"""The shape of the speaker encoder: what a checkpoint needs to be rebuilt."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from utils.audio.mel import ENCODER_MEL, MelConfig
from utils.config import check_ranges

Slices = list[tuple[int, int]]


@dataclass(frozen=True)
class LstmConfig:
    """Sizes of the published network (GE2E, arXiv 1710.10467, sec. 3.1, made smaller by the SV2TTS repositories)."""

    hidden: int = 256
    layers: int = 3

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
    normalize: Literal["level", "channel", "none"] = "level"  # of the log mel: subtract one mean, or one a channel
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
