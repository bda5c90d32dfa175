"""Pictures of results; each function returns a matplotlib Figure and imports matplotlib only when called."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from utils.errors import CloningError
from utils.files import atomic_path, user_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".pdf", ".svg", ".eps", ".ps")

_OF_THE_RUN = ("learning_rate", "gradient_norm", "steps_per_second", "waiting_for_data")
_CURVES = {"train": "tab:blue", "validation": "tab:orange"}


def plain(text: str) -> str:
    """Text as a title or label shows it: matplotlib takes what is between two dollars for mathematics."""
    return text.replace("$", r"\$")


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A Figure of its own (no pyplot, no window, no global state) and its axes, always as (rows, columns)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def fit_fonts(figure: Figure) -> None:
    """Gives the texts of a figure fonts in which all of their letters are, if there are such on this machine: names may
    be of any script. What no font has is drawn as an empty box."""
    from matplotlib import font_manager, text

    texts = [label for label in figure.findobj(text.Text) if not label.get_text().isascii()]
    wanted = {ord(letter) for label in texts for letter in label.get_text() if not letter.isspace()}
    families, wanted = ["DejaVu Sans"], wanted - _letters(font_manager.findfont("DejaVu Sans"))
    for font in font_manager.fontManager.ttflist if wanted else ():
        if found := wanted & _letters(font.fname):
            families.append(font.name)
            wanted -= found
        if not wanted:
            break
    for label in texts:
        label.set_fontfamily(families)


@lru_cache(maxsize=512)
def _letters(font: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(font).get_charmap())
    except (OSError, RuntimeError):  # a font that is no longer there, or of another kind
        return frozenset()


def plot_mel(mel: np.ndarray, title: str = "mel", hop_seconds: float = 0.0125) -> Figure:
    """mel (M, F), dB-like -> picture with seconds below."""
    figure, axes = new_figure(10, 3)
    draw_mel(axes[0, 0], mel, title, hop_seconds)
    return figure


def plot_alignment(alignment: np.ndarray, title: str = "alignment", labels: Sequence[str] | None = None) -> Figure:
    """alignment (F, N): attention of each frame over the tokens -> picture."""
    figure, axes = new_figure(8, 4)
    draw_alignment(axes[0, 0], alignment, title, labels)
    return figure


def plot_cloning(mel: np.ndarray, alignments: Sequence[np.ndarray], text: str, hop_seconds: float) -> Figure:
    """mel (M, F) above, the alignment (F, N) of each sentence below, side by side as wide as they are long."""
    figure, axes = new_figure(12, 6.5, rows=2)
    text = " ".join(text.split())
    draw_mel(axes[0, 0], mel, text if len(text) < 110 else text[:107] + "...", hop_seconds)
    frames, tokens = sum(len(a) for a in alignments), sum(a.shape[1] for a in alignments)
    joined = np.zeros((frames, tokens), dtype=np.float32)
    row = column = 0
    for alignment in alignments:
        joined[row : row + len(alignment), column : column + alignment.shape[1]] = alignment
        row, column = row + len(alignment), column + alignment.shape[1]
    draw_alignment(axes[1, 0], joined, "alignment: which token each frame speaks")
    return figure


def draw_mel(axis: Axes, mel: np.ndarray, title: str, hop_seconds: float) -> None:
    """Draw mel (M, F) into `axis`, its time axis in seconds."""
    seconds = mel.shape[1] * hop_seconds
    axis.imshow(mel, origin="lower", aspect="auto", extent=(0, seconds, 0, mel.shape[0]), cmap="magma")
    axis.set(title=plain(title), xlabel="seconds", ylabel="mel channel")


def draw_alignment(axis: Axes, alignment: np.ndarray, title: str, labels: Sequence[str] | None = None) -> None:
    """Draw alignment (F, N) into `axis`, tokens named by `labels` where they are few."""
    axis.imshow(np.asarray(alignment).T, origin="lower", aspect="auto", cmap="viridis", interpolation="none")
    axis.set(title=plain(title), xlabel="frame", ylabel="token")
    if labels and len(labels) <= 80:
        axis.set_yticks(range(len(labels)), [plain(label) for label in labels], fontsize=6)


def plot_curves(rows: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Rows of a training run's `log.jsonl` -> one picture of every number against steps, a panel each: the score, what
    training and validation both measure, what one of them does, then rates and speeds. The step of the best score is
    dotted in all of them."""
    groups: dict[str, dict[str, tuple[list[float], list[float]]]] = {}  # number -> group -> steps, values
    for row in rows:
        for name, value in row.items():
            if name not in ("step", "hours", "group") and isinstance(value, int | float):
                steps, values = groups.setdefault(name, {}).setdefault(str(row.get("group", "")), ([], []))
                steps.append(row["step"])
                values.append(value)
    names = sorted(groups, key=lambda name: (name != "score", name in _OF_THE_RUN, -len(groups[name])))
    columns = min(4, max(1, len(names)))
    height = -(-len(names) // columns) or 1
    width, tall = 3.2 * columns, 2.1 * height + 0.8
    figure, axes = new_figure(width, tall, height, columns, sharex=True)
    figure.set_layout_engine(None)  # three times as fast, and a run waits for it
    figure.subplots_adjust(0.6 / width, 0.45 / tall, 1 - 0.15 / width, 1 - 0.65 / tall, wspace=0.25, hspace=0.3)
    scores = groups.get("score", {}).get("validation")
    best = scores[0][int(np.nanargmin(scores[1]))] if scores and not np.isnan(scores[1]).all() else None
    for axis, name in zip(axes.flat, names, strict=False):
        for group, (steps, values) in sorted(groups[name].items()):
            dots = "." if len(steps) < 50 else ""
            axis.plot(steps, values, color=_CURVES.get(group), label=group, linewidth=1, marker=dots, markersize=4)
        if best is not None:
            axis.axvline(best, color="gray", linestyle=":", linewidth=1)
        axis.set_title(plain(name.replace("_", " ")), fontsize=9)
        axis.locator_params(nbins=5)
        axis.tick_params(labelsize=7)
        axis.yaxis.get_offset_text().set_fontsize(7)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis in axes[-1]:
        axis.set_xlabel("step", fontsize=8)
    found = {label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.suptitle(plain(title), fontsize=10)
    if found:
        names = sorted(found)
        lines = [found[name] for name in names]
        figure.legend(lines, names, loc="upper right", ncols=len(names), fontsize=8, frameon=False)
    return figure


def require_suffix(path: str | Path) -> None:
    """Raises CloningError for a path whose suffix names no kind of picture."""
    if (suffix := Path(path).suffix).lower() not in SUFFIXES:
        raise CloningError(f"{path}: cannot draw {suffix or 'a file without suffix'}; use {', '.join(SUFFIXES)}")


def save(figure: Figure, path: str | Path) -> Path:
    """Write a picture whole or not at all (format by suffix), making its folder. Raises CloningError."""
    path = user_path(path)
    require_suffix(path)
    with atomic_path(path) as partial:
        render(figure, partial, path.suffix[1:].lower())
    return path


def render(figure: Figure, file: Path | IO[bytes], kind: str = "png", **options: Any) -> None:
    """Draw into a file; characters that the font lacks are boxes, without a word on the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(file, format=kind, dpi=110, **options)
