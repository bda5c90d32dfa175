"""A picture of who speaks when; matplotlib is imported when it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diarization.pipeline import UNKNOWN, Diarization
from utils.plots import new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#3366cc", "#dc7a00", "#109618", "#b82e9e", "#0099a8", "#994422", "#7048c8", "#8a8a00")
GREY = "#888888"
_POINTS = 4000  # of a curve: more than a picture has columns


def colors(names: list[str]) -> dict[str, str]:
    """A color for each name; grey for who is none of the references."""
    palette = {name: COLORS[i % len(COLORS)] for i, name in enumerate(n for n in names if n != UNKNOWN)}
    return palette | {UNKNOWN: GREY}


def plot_diarization(result: Diarization, title: str = "") -> Figure:
    """Cosine of the sliding window with each voice above, turns below."""
    names = list(dict.fromkeys([*result.speakers, *(turn.speaker for turn in result.turns)]))
    palette = colors(names)
    figure, axes = new_figure(
        14, 4 + 0.3 * len(names), rows=2, sharex=True, height_ratios=[3, max(1.0, 0.35 * len(names))]
    )
    curves, lanes = axes[0, 0], axes[1, 0]
    step = max(1, len(result.times) // _POINTS)
    times = result.times[::step]
    pauses = np.flatnonzero(np.diff(times) > 2 * step * result.settings.hop + result.settings.max_pause) + 1
    for name, cosines in zip(result.speakers, result.cosines[::step].T, strict=True):
        broken = np.insert(cosines, pauses, np.nan)  # no line where nobody speaks
        curves.plot(np.insert(times, pauses, np.nan), broken, color=palette[name], linewidth=1, label=plain(name))
    curves.set(ylabel="cosine to the voice", title=plain(title))
    curves.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    for lane, name in enumerate(names):
        spans = [(turn.start, turn.seconds) for turn in result.turns if turn.speaker == name]
        lanes.broken_barh(spans, (lane - 0.4, 0.8), color=palette[name])
    lanes.set_yticks(range(len(names)), [plain(name) for name in names])
    lanes.set(xlabel="seconds", xlim=(0, result.audio.seconds), ylim=(len(names) - 0.5, -0.5))
    return figure
