"""Which ways of speaking are taken: known without torch, so that a script refuses others at once."""

from __future__ import annotations

from numbers import Real

from utils.errors import CloningError

RATES = (0.25, 4.0)  # factor of the speed
PAUSES = (0.0, 10.0)  # factor of the silences
PITCHES = (-12.0, 12.0)  # semitones


def require_speech_bounds(rate: float, pause: float, pitch: float) -> None:
    """Raises CloningError for what is no number, and for a value outside its bounds, both of which are allowed."""
    for name, value, (low, high) in (("rate", rate, RATES), ("pause", pause, PAUSES), ("pitch", pitch, PITCHES)):
        if not isinstance(value, Real) or isinstance(value, bool):
            raise CloningError(f"{name} is {value!r}; a number from {low:g} to {high:g} is wanted")
        if not low <= value <= high:
            raise CloningError(f"{name} is {value:g}; it must be {low:g} to {high:g}")


def require_one_emotion(emotion: object, reference: object) -> None:
    """Raises CloningError where both an emotion and a clip that carries one are given."""
    if emotion is not None and reference is not None:
        raise CloningError("an emotion and an emotion reference exclude each other: give one of them")
