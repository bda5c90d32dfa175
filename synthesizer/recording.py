"""What a recording must have for a network to be teacher-forced by it."""

from __future__ import annotations

import numpy as np

from synthesizer.models.base import AcousticModel
from utils.errors import CloningError


def require_recording(
    network: AcousticModel,
    sizes: tuple[int, int],
    tokens: np.ndarray,
    mel: np.ndarray,
    durations: np.ndarray | None,
    prosody: np.ndarray | None,
) -> None:
    """`sizes`: how many symbols and mel channels the network has; the arrays are those of `Synthesizer.teacher_forced`.

    Raises CloningError for arrays that do not fit the network or one another, and for those that it needs and lacks.
    """
    symbols, channels = sizes
    if np.ndim(mel) != 2 or np.shape(mel)[0] != channels:
        raise CloningError(f"the mel has the shape {np.shape(mel)}, ({channels}, F) is wanted")
    ids = np.asarray(tokens)
    if ids.ndim != 1 or not ids.size or not (0 <= ids.min() and ids.max() < symbols):
        raise CloningError(f"tokens are ids from 0 to {symbols - 1} in one row (N,), at least one")
    lacking = [
        name
        for name, needed, value in (
            ("durations", network.needs_durations, durations),
            ("prosody", network.needs_prosody, prosody),
        )
        if needed and value is None
    ]
    if lacking:
        raise CloningError(f"this synthesizer needs {' and '.join(lacking)}: give what was measured in the recording")
    for name, value, shape in (("durations", durations, ids.shape), ("prosody", prosody, (len(ids), 3))):
        if value is not None and np.shape(value) != shape:
            raise CloningError(f"{name} has the shape {np.shape(value)}, {shape} is wanted: a row for each token")
    if durations is not None and np.min(durations) < 0:
        raise CloningError(f"durations has {np.min(durations)} frames: none may be below 0")
    frames = np.shape(mel)[1]
    if network.needs_durations and durations is not None and (total := int(np.sum(durations))) != frames:
        raise CloningError(f"durations sum to {total} frames, the mel has {frames}: they must be equal")
