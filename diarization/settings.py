"""What diarization may be set; the calibration of an encoder lies in its own file (`diarization.normalization`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DiarizationSettings:
    """Times are in seconds."""

    window: float = 1.6  # of the similarity curves
    hop: float = 0.4  # from one of these windows to the next ...
    most_windows: int = 1500  # ... or more where there would be more of them (10 min of speech)
    max_pause: float = 0.25  # shorter silences belong to the turn
    min_turn: float = 0.1  # a shorter turn is left out
    min_speech: float = 0.25  # less in a recording is refused ...
    min_reference: float = 1.0  # ... and less in a reference
    max_seconds: float = 4 * 3600.0  # of a recording

    def __post_init__(self) -> None:
        if not 0.4 <= self.window <= 10 or not 0.05 <= self.hop <= self.window:
            raise ValueError(f"window {self.window} s must lie in [0.4, 10] and hop {self.hop} s in [0.05, window]")
        if min(self.max_pause, self.min_turn, self.min_speech, self.min_reference) < 0:
            raise ValueError("max_pause, min_turn, min_speech and min_reference must not be negative")
        if self.most_windows < 1:
            raise ValueError(f"most_windows is {self.most_windows}; at least 1 is wanted")
