"""Pictures of embeddings; every function returns its matplotlib Figure, and imports what it needs only when called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from utils.errors import missing_package
from utils.plots import new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_embedding(embedding: np.ndarray, title: str = "embedding") -> Figure:
    """One embedding (D,) as a heat map of 16 columns or so."""
    return plot_embeddings([embedding], [title])


def plot_embeddings(embeddings: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Embeddings (D,) side by side as heat maps of 16 columns or so, all on one color scale."""
    size = len(embeddings[0])
    columns = next(n for n in range(round(size**0.5), 0, -1) if size % n == 0)
    figure, axes = new_figure(0.8 + 2.7 * len(embeddings), 3.2, columns=len(embeddings))
    low, high = min(float(e.min()) for e in embeddings), max(float(e.max()) for e in embeddings)
    for axis, embedding, title in zip(axes[0], embeddings, titles, strict=True):
        image = axis.imshow(embedding.reshape(-1, columns), cmap="viridis", vmin=low, vmax=high)
        axis.set(title=plain(title), xticks=[], yticks=[])
    figure.colorbar(image, ax=list(axes[0]), shrink=0.8, label="value of each number")
    return figure


def plot_similarity(
    rows: np.ndarray, labels: Sequence[str], columns: np.ndarray | None = None, title: str = "cosine similarity"
) -> Figure:
    """Cosines of embeddings rows (N, D) with columns (K, D), or with themselves; one label a row.

    Neighboring rows of one label are taken together: the label is written once and a line drawn between speakers.
    """
    others = rows if columns is None else columns
    matrix = rows @ others.T
    figure, axes = new_figure(7, 6)
    axis = axes[0, 0]
    image = axis.imshow(matrix, cmap="magma", vmin=min(0.0, float(matrix.min())), vmax=1, interpolation="none")
    figure.colorbar(image, ax=axis, shrink=0.8)
    edges = [0, *(i for i in range(1, len(labels)) if labels[i] != labels[i - 1]), len(labels)]
    centers = [(a + b - 1) / 2 for a, b in zip(edges, edges[1:], strict=False)]
    axis.set_yticks(centers, [plain(labels[a]) for a in edges[:-1]], fontsize=7)
    for edge in edges[1:-1]:
        axis.axhline(edge - 0.5, color="white", linewidth=0.4)
        if columns is None:
            axis.axvline(edge - 0.5, color="white", linewidth=0.4)
    axis.set(title=plain(title), xticks=[])
    return figure


def plot_umap(embeddings: np.ndarray, speakers: Sequence[str], title: str = "speakers (UMAP)", seed: int = 0) -> Figure:
    """Embeddings (N, D) brought to the plane by UMAP, one color a speaker; needs at least 3 of them.

    Raises ValueError for fewer.
    """
    points = project(embeddings, seed)
    figure, axes = new_figure(6.5, 6)
    axis = axes[0, 0]
    names = list(dict.fromkeys(speakers))
    labels = np.asarray(speakers)
    colors = _colors(len(names))
    for name, color in zip(names, colors, strict=True):
        x, y = points[labels == name].T
        axis.scatter(x, y, s=24, color=color, label=plain(name))
    if len(names) <= 24:
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set(title=plain(title), xticks=[], yticks=[])
    return figure


def project(embeddings: np.ndarray, seed: int = 0) -> np.ndarray:
    """(N, D) -> (N, 2) by UMAP on cosine distance; the same seed gives the same picture.

    Raises ValueError for fewer than 3, CloningError without umap-learn.
    """
    if len(embeddings) < 3:
        raise ValueError(f"a map needs at least 3 embeddings, got {len(embeddings)}")
    import torch

    try:
        import umap
    except ImportError as error:
        raise missing_package("umap-learn", "a map of speakers", "requirements/analysis.txt") from error

    threads = torch.get_num_threads()  # numba sets them for the whole process
    # UMAP's spectral start needs more points than it has; a random one does for a handful
    few = len(embeddings) < 8
    reducer = umap.UMAP(
        n_neighbors=min(15, len(embeddings) - 1),
        metric="cosine",
        random_state=seed,
        n_jobs=1,
        init="random" if few else "spectral",
    )
    try:
        return reducer.fit_transform(embeddings)
    finally:
        torch.set_num_threads(threads)


def _colors(n: int) -> list:
    from matplotlib import colormaps

    palette = colormaps["tab20" if n <= 20 else "gist_rainbow"]
    return [palette(i if n <= 20 else i / n) for i in range(n)]
