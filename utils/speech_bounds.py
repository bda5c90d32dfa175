"""Which rates, pauses and pitches of speech are taken: known without torch, so that a script refuses others at once."""

from __future__ import annotations

from utils.errors import CloningError

RATES = (0.25, 4.0)  # factor of the speed
PAUSES = (0.0, 10.0)  # factor of the silences
PITCHES = (-12.0, 12.0)  # semitones


def require_speech_bounds(rate: float, pause: float, pitch: float) -> None:
    """Raises CloningError for a value outside its bounds, both of which are allowed."""
    for name, value, (low, high) in (("rate", rate, RATES), ("pause", pause, PAUSES), ("pitch", pitch, PITCHES)):
        if not low <= value <= high:
            raise CloningError(f"{name} is {value:g}; it must be {low:g} to {high:g}")
