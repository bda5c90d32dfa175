"""Voices found in a recording against named references, with an answer for "none of these".

Windows of one recording are compared with each other much more surely than with a clip of another day, room and
microphone. So voices are found first (`diarization.spectral`), and then each as a whole is named: by the reference
that its mean is most like, if it is more like it than `Calibration.threshold`. Two that get one name become one.
"""

from __future__ import annotations

import numpy as np

NONE = -1  # of these


def name_voices(means: np.ndarray, references: np.ndarray, threshold: float) -> np.ndarray:
    """Of each voice (S, D) the index of its reference (R, D) or NONE: (S,). All have norm 1."""
    cosines = means @ references.T
    return np.where(cosines.max(axis=1) >= threshold, cosines.argmax(axis=1), NONE)
