"""A picture of who speaks when; matplotlib is imported when it is drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from diarization.exports import clock
from diarization.pipeline import UNKNOWN, Diarization
from utils.plots import fit_fonts, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#3366cc", "#dc7a00", "#109618", "#b82e9e", "#0099a8", "#994422", "#7048c8", "#8a8a00")
GRAY = "#888888"
STRIP_SECONDS = 300.0  # of turns side by side ...
MOST_STRIPS = 12  # ... in a picture of up to an hour; of more, they are longer
_POINTS = 700  # of a curve: more cannot be told apart
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)  # seconds between ticks


def colors(names: list[str]) -> dict[str, str]:
    """A color for each name; gray for who is none of the references."""
    palette = {name: COLORS[i % len(COLORS)] for i, name in enumerate(n for n in names if n != UNKNOWN)}
    return palette | {UNKNOWN: GRAY}


def plot_diarization(result: Diarization, title: str = "") -> Figure:
    """Cosine of the sliding window with each voice above, turns below: a row a voice, in strips of five minutes."""
    names = result.names
    palette = colors(names)
    seconds = max(result.audio.seconds, 1e-3)
    strips = min(MOST_STRIPS, max(1, math.ceil(seconds / STRIP_SECONDS - 1e-6)))
    each = seconds / strips if seconds > MOST_STRIPS * STRIP_SECONDS else min(seconds, STRIP_SECONDS)
    row = 0.35 * max(2, len(names)) + 0.25
    figure, axes = new_figure(14, 3.2 + strips * row, rows=1 + strips, height_ratios=[3.0, *[row] * strips])
    _curves(axes[0, 0], result, palette)
    axes[0, 0].set(title=plain(title), xlim=(0, seconds))
    _time_axis(axes[0, 0], seconds)
    for k, lanes in enumerate(axes[1:, 0]):
        for lane, name in enumerate(names):
            spans = [(turn.start, turn.seconds) for turn in result.turns if turn.speaker == name]
            lanes.broken_barh(spans, (lane - 0.4, 0.8), color=palette[name])
        lanes.set_yticks(range(len(names)), [plain(name) for name in names])
        lanes.set(xlim=(k * each, (k + 1) * each), ylim=(len(names) - 0.5, -0.5))
        _time_axis(lanes, each)
    axes[-1, 0].set_xlabel("time (h:mm:ss)")
    fit_fonts(figure)
    return figure


def _curves(axes: Axes, result: Diarization, palette: dict[str, str]) -> None:
    """Means over as many windows as fall on one point of the picture."""
    together = max(1, len(result.times) // _POINTS)
    starts = np.arange(0, len(result.times), together)
    sizes = np.diff(np.append(starts, len(result.times)))
    if not len(starts):
        starts = np.zeros(0, int)
    times = np.add.reduceat(result.times, starts) / sizes if len(starts) else result.times
    pauses = np.flatnonzero(np.diff(times) > together * result.longest_step) + 1
    for name, cosines in zip(result.speakers, result.cosines.T, strict=True):
        means = np.add.reduceat(cosines, starts) / sizes if len(starts) else cosines
        broken = np.insert(means, pauses, np.nan)  # no line where nobody speaks
        axes.plot(np.insert(times, pauses, np.nan), broken, color=palette[name], linewidth=1, label=plain(name))
    axes.set(ylabel="cosine to the voice")
    if result.speakers:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, title="voice")


def _time_axis(axes: Axes, seconds: float) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    step = next((step for step in _STEPS if seconds / step <= 12), _STEPS[-1])
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: clock(at)))
