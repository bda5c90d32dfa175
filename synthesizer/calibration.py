"""What a checkpoint asks predictions to be multiplied by, measured on held-out speech at the end of its training."""

from __future__ import annotations

import logging
from typing import NamedTuple

from utils.weights.checkpoint import Checkpoint

log = logging.getLogger(__name__)
DURATION_SCALES = (0.7, 1.5)  # what is granted
PITCH_SCALES = (1.0, 1.6)  # the same: twice as far, words were lost on validation voices
FORMER = {"duration_scale": "tempo"}  # names in older files, which have them among the metrics


class ProsodyCalibration(NamedTuple):
    """Predicted durations times the first, distances of predicted pitch from its median times the second."""

    duration_scale: float = 1.0
    pitch_scale: float = 1.0


def calibration_of(checkpoint: Checkpoint) -> ProsodyCalibration:
    """What `checkpoint` asks for, within the limits; 1 where it has no sound value."""
    return ProsodyCalibration(
        _granted(checkpoint, "duration_scale", *DURATION_SCALES), _granted(checkpoint, "pitch_scale", *PITCH_SCALES)
    )


def _granted(checkpoint: Checkpoint, name: str, low: float, high: float) -> float:
    stored = {**checkpoint.metrics, **checkpoint.calibration}
    asked = stored.get(name, stored.get(FORMER.get(name, ""), 1.0))
    if not isinstance(asked, int | float) or not 0 < asked < 10:
        return 1.0
    granted = min(max(float(asked), low), high)
    if granted != asked:
        log.info("%s: asks for %s %.3g; %g is the limit, and used", checkpoint.path, name, asked, granted)
    return granted
