"""Mels of another front end than that which a synthesizer works with: settings, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass, field

from utils.audio.mel import SYNTHESIZER_MEL_22K, MelConfig
from utils.config import check_ranges


@dataclass(frozen=True)
class ConversionConfig:
    """A network that makes mels of another front end of those that a synthesizer makes (`MelConversion`)."""

    channels: int = 0  # 0: there is none
    blocks: tuple[int, int] = (3, 3)  # at the frame rate of the synthesizer, and at that of `mel`
    kernel: int = 7  # frames
    expansion: int = 2
    mel: MelConfig = field(default_factory=lambda: SYNTHESIZER_MEL_22K)  # what it makes

    def __post_init__(self) -> None:
        check_ranges(self, channels=(0, 8192), blocks=(0, 128), kernel=(1, 255), expansion=(1, 32))
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} must be odd")


def frame_step(source: MelConfig, target: MelConfig) -> float:
    """Frames of `source` from one frame of `target` to the next."""
    return target.frame_seconds / source.frame_seconds


def converted_frames(frames: int, step: float) -> int:
    """Frames that `frames` become, at `step` of them to the next: as many as begin before they end."""
    return 1 + int((frames - 1) / step)
