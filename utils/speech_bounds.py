"""Which ways of speaking are taken: known without torch, so that a script refuses others at once."""

from __future__ import annotations

from numbers import Integral, Real

from utils.errors import CloningError

RATES = (0.25, 4.0)  # factor of the speed
PAUSES = (0.0, 10.0)  # factor of the silences
PITCHES = (-12.0, 12.0)  # semitones


def require_speech_bounds(rate: float, pause: float, pitch: float) -> None:
    """Raises CloningError for what is no number, and for a value outside its bounds, both of which are allowed."""
    for name, value, bounds in (("rate", rate, RATES), ("pause", pause, PAUSES), ("pitch", pitch, PITCHES)):
        require_number(name, value, *bounds)


def require_number(name: str, value: float, low: float, high: float) -> None:
    """Raises CloningError for what is no number, and for one outside `low` to `high`, both of which are allowed."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise CloningError(f"{name} is {value!r}; a number from {low:g} to {high:g} is wanted")
    if not low <= value <= high:
        raise CloningError(f"{name} is {value:g}; it must be {low:g} to {high:g}")


def require_count(name: str, value: int, least: int = 1) -> None:
    """Raises CloningError for what is no whole number of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise CloningError(f"{name} is {value!r}; it must be a whole number of at least {least}")


def require_one_emotion(emotion: object, reference: object) -> None:
    """Raises CloningError where both an emotion and a clip that carries one are given."""
    if emotion is not None and reference is not None:
        raise CloningError("an emotion and an emotion reference exclude each other: give one of them")
