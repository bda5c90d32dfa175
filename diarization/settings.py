"""What diarization may be tuned by; the calibration of an encoder lies in a file of its own (`diarization.scores`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from utils.audio.vad import VadConfig


@dataclass(frozen=True)
class DiarizationSettings:
    """Times are in seconds."""

    window: float = 1.6  # of an embedding: the length that the encoders were trained on
    hop: float = 0.4  # from one window to the next
    vad: VadConfig = field(default_factory=lambda: VadConfig(max_silence=3))  # wider edges cost more than they save
    max_pause: float = 0.5  # shorter silences belong to the turn
    min_turn: float = 0.4  # a shorter turn goes to its neighbor
    min_speech: float = 1.0  # less in a recording or a reference is refused
    frame: float = 0.1  # resolution of the changes of speaker inside speech
    mean_turn: float = 8.0  # how long one speaks before another does
    change_at_pause: float = 0.2  # probability that another goes on after a pause longer than `max_pause`
    max_seconds: float = 4 * 3600.0  # of a recording

    def __post_init__(self) -> None:
        if not 0.4 <= self.window <= 10 or not 0.05 <= self.hop <= self.window:
            raise ValueError(f"window {self.window} s must lie in [0.4, 10] and hop {self.hop} s in [0.05, window]")
        if not 0.02 <= self.frame <= self.hop:
            raise ValueError(f"frame {self.frame} s must lie in [0.02, hop {self.hop}]")
        if min(self.max_pause, self.min_turn, self.min_speech) < 0 or self.mean_turn <= self.hop:
            raise ValueError("max_pause, min_turn and min_speech must not be negative, mean_turn longer than the hop")
        if not 0 < self.change_at_pause < 1:
            raise ValueError(f"change_at_pause is {self.change_at_pause}; it must lie in (0, 1)")
