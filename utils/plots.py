"""Pictures of results; each function returns a matplotlib Figure and imports matplotlib only when called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: object
) -> tuple[Figure, np.ndarray]:
    """A Figure of its own (no pyplot, no window, no global state) and its axes, always as (rows, columns)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


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
    draw_mel(axes[0, 0], mel, text if len(text) < 110 else text[:107] + "...", hop_seconds)
    frames, tokens = sum(len(a) for a in alignments), sum(a.shape[1] for a in alignments)
    joined = np.zeros((frames, tokens), dtype=np.float32)
    row = column = 0
    for alignment in alignments:
        joined[row : row + len(alignment), column : column + alignment.shape[1]] = alignment
        row, column = row + len(alignment), column + alignment.shape[1]
    draw_alignment(axes[1, 0], joined, "alignment: which token each frame speaks")
    return figure


def draw_mel(axis: object, mel: np.ndarray, title: str, hop_seconds: float) -> None:
    seconds = mel.shape[1] * hop_seconds
    axis.imshow(mel, origin="lower", aspect="auto", extent=(0, seconds, 0, mel.shape[0]), cmap="magma")
    axis.set(title=title, xlabel="seconds", ylabel="mel channel")


def draw_alignment(axis: object, alignment: np.ndarray, title: str, labels: Sequence[str] | None = None) -> None:
    axis.imshow(np.asarray(alignment).T, origin="lower", aspect="auto", cmap="viridis", interpolation="none")
    axis.set(title=title, xlabel="frame", ylabel="token")
    if labels and len(labels) <= 80:
        axis.set_yticks(range(len(labels)), labels, fontsize=6)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a picture (format by suffix), making its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
