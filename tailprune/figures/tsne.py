"""t-SNE of the vectors: of all components, of the head alone, of the tail alone.

scikit-learn's TSNE (van der Maaten and Hinton, 2008), initialised with the first two principal components.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tailprune.extras import require
from tailprune.figures.head import head_of
from tailprune.figures.labelled_vectors import LabelledVectors
from tailprune.figures.style import MAP, new_figure, note, styled
from tailprune.spec import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LEAST_POINTS", "draw_tsne", "embed"]

LEAST_POINTS = 4
PERPLEXITY = 30.0
GREATEST_SEED = 2**32 - 1


def draw_tsne(vectors: LabelledVectors, seed: int = 0) -> Figure:
    """Three panels, with the same colour for a vector in each. Raises InputError for fewer than four vectors."""
    require("figures", "matplotlib", "sklearn", "threadpoolctl")
    from matplotlib.ticker import MaxNLocator

    head = head_of(vectors.values)
    values = vectors.values.double().cpu().numpy()
    panels = {"all": list(range(head.dim)), "head alone": head.components, "tail alone": head.tail}
    count = len(values)
    with styled():
        figure = new_figure(f"t-SNE of {vectors.part}", f"{vectors.source}, {vectors.size}", 3.9, width=9.6)
        rows = figure.subplots(1, 3)
        points = None
        for axes, (name, components) in zip(rows, panels.items(), strict=True):
            axes.set_title(f"{name}: {len(components)} components", loc="left")
            axes.set(xlabel="t-SNE 1", xticks=[], yticks=[])
            axes.grid(False)
            axes.set_box_aspect(1)
            if not components:
                axes.text(0.5, 0.5, "no component", ha="center", transform=axes.transAxes)
                continue
            x, y = embed(values[:, components], seed).T
            points = axes.scatter(
                x, y, c=np.arange(count), cmap=MAP, s=26 if count <= 200 else 8, linewidth=0.3, edgecolor="white"
            )
            axes.margins(0.08)
        rows[0].set_ylabel("t-SNE 2")
        assert points is not None, "all components are a panel"
        bar = figure.colorbar(points, ax=rows, label="t" if vectors.kind == "time" else vectors.kind, shrink=0.82)
        if vectors.kind != "time":
            bar.locator = MaxNLocator(integer=True)
        else:
            places = [0, (count - 1) // 2, count - 1]
            bar.set_ticks(places, labels=[vectors.names[place] for place in places])
        note(
            figure,
            f"{head.rule(vectors.part)}\nPerplexity {_perplexity(count):.3g}, seed {seed}. Distances have no unit; "
            "what lies together is alike.",
        )
    return figure


def embed(vectors: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """The embedding of vectors, with shape (N, k) -> (N, 2); the same bits for the same vectors and seed."""
    require("figures", "sklearn", "threadpoolctl")
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(vectors) < LEAST_POINTS:
        raise InputError(f"t-SNE needs at least {LEAST_POINTS} vectors, not {len(vectors)}")
    spread = vectors.std(axis=0)
    start = "pca" if (spread > 0).sum() > 1 else "random"
    unit = vectors / (spread.max() or 1.0)  # t-SNE depends on the scale, and tails are small
    tsne = TSNE(perplexity=_perplexity(len(vectors)), init=start, random_state=seed % GREATEST_SEED)
    with threadpool_limits(1):  # a fixed order of summation
        return np.asarray(tsne.fit_transform(unit), np.float32)


def _perplexity(count: int) -> float:
    """The perplexity: 30, or less for few vectors."""
    return min(PERPLEXITY, (count - 1) / 3)
