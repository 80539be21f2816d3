"""t-SNE of the vectors: of all components, of the head alone, of the tail alone.

scikit-learn's TSNE (van der Maaten and Hinton, 2008), initialised with the first two principal components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tailprune.extras import require
from tailprune.figures.head import Head, head_of
from tailprune.figures.labelled_vectors import LabelledVectors, shared_words
from tailprune.figures.style import MAP, PALETTE, new_figure, note, plain, styled
from tailprune.spec import InputError

if TYPE_CHECKING:
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["LEAST_POINTS", "Positions", "draw_tsne", "embed", "tsne_positions"]

LEAST_POINTS = 4
PERPLEXITY = 30.0
MANY = 200
"""More vectors have smaller markers."""
LARGE, SMALL = 34, 10
MARKERS = "os^Pd*vX<h>D"
EDGE, EDGE_WIDTH, EMPTY = "#59636e", 0.4, "none"
GREATEST_SEED = 2**32 - 1


Positions = Mapping[str, NDArray[np.float32]]
"""The positions of N vectors in each panel, by its name, with shape (N, 2); a panel without components is left out."""


def tsne_positions(vectors: LabelledVectors, seed: int = 0) -> Positions:
    """The positions that `draw_tsne` draws: of all components, of the head alone, of the tail alone.

    vectors: at least four
    seed: of the embedding, 0 by default

    Raises InputError for fewer than four vectors.
    """
    values = vectors.values.double().cpu().numpy()
    panels = _panels(head_of(vectors.values))
    return {name: embed(values[:, components], seed) for name, components in panels.items() if components}


def _panels(head: Head) -> dict[str, list[int]]:
    """The components of each panel, by its name."""
    return {"all": list(range(head.dim)), "head alone": head.components, "tail alone": head.tail}


def draw_tsne(vectors: LabelledVectors, seed: int = 0, positions: Positions | None = None) -> Figure:
    """Three panels, with the same colour and marker for a vector in each.

    vectors: at least four
    seed: of the embedding, 0 by default
    positions: of the vectors, from `tsne_positions` with the same seed; computed by default

    Colours and markers are the words that the names of classes share, such as colours and shapes; else the names, if
    there are few; else the norm of the vector. Times have a colour by their order.

    Raises InputError for fewer than four vectors.
    """
    require("figures", "matplotlib", "sklearn", "threadpoolctl")
    head = head_of(vectors.values)
    positions = tsne_positions(vectors, seed) if positions is None else positions
    panels, count = _panels(head), len(vectors.values)
    size = LARGE if count <= MANY else SMALL
    looks = _looks(vectors)
    with styled():
        figure = new_figure(f"t-SNE of {vectors.part}", f"{vectors.source}, {vectors.size}", 4.2, width=10.4)
        rows = figure.subplots(1, 3)
        for axes, (name, components) in zip(rows, panels.items(), strict=True):
            axes.set_title(f"{name}: {len(components)} components", loc="left")
            axes.set(xlabel="t-SNE 1", xticks=[], yticks=[])
            axes.grid(False)
            axes.set_box_aspect(1)
            if not components:
                axes.text(0.5, 0.5, "no component", ha="center", transform=axes.transAxes)
                continue
            found = positions[name]
            for marker in dict.fromkeys(looks.markers):
                of_marker = [place for place, each in enumerate(looks.markers) if each == marker]
                axes.scatter(
                    *found[of_marker].T,
                    c=looks.colours[of_marker],
                    s=size,
                    marker=marker,
                    linewidth=EDGE_WIDTH,
                    edgecolor=EDGE,
                )
            axes.margins(0.08)
        rows[0].set_ylabel("t-SNE 2")
        if looks.scale is None:
            height = max(map(len, looks.legend))
            keys = [key for column in looks.legend for key in [*column, *[_key("")] * (height - len(column))]]
            figure.legend(
                handles=keys,
                loc="outside right center",
                ncols=len(looks.legend),
                title=looks.title,
                columnspacing=1.0,
                handletextpad=0.2,
            )
        else:
            bar = figure.colorbar(looks.scale, ax=rows, label=looks.title, shrink=0.82)
            if vectors.kind == "time":
                places = [0, (count - 1) // 2, count - 1]
                bar.set_ticks(places, labels=[vectors.names[place] for place in places])
        note(
            figure,
            f"{head.rule(vectors.part)}\nPerplexity {_perplexity(count):.3g}, seed {seed}. Distances have no unit; "
            "what lies together is alike.",
        )
    return figure


@dataclass(frozen=True)
class _Looks:
    """The colours (N, 4) and markers of N vectors, and their legend, in columns, or the scale of the colours."""

    colours: NDArray[np.float64]
    markers: Sequence[str]
    title: str
    legend: Sequence[Sequence[Line2D]] = ()
    scale: ScalarMappable | None = None


def _looks(vectors: LabelledVectors) -> _Looks:
    """How to draw the vectors."""
    from matplotlib.colors import to_rgba

    count = len(vectors.values)
    if vectors.kind == "time":
        return _on_a_scale(np.arange(count, dtype=float), "t")
    words = [each for each in shared_words(vectors.names) if len(set(each)) <= len(PALETTE)]
    words = sorted(words, key=lambda each: not _are_colours(each))[:2]  # colours are drawn as what they are
    if not words and count <= len(PALETTE):
        words = [list(vectors.names)]
    if not words:
        norms = vectors.values.double().norm(dim=1).cpu().numpy()
        return _on_a_scale(norms, f"norm of {vectors.part}")
    hues = _hues(words[0])
    legend = [[_key(word, colour=hue) for word, hue in hues.items()]]
    markers = ["o"] * count
    if len(words) > 1:
        shapes = dict(zip(dict.fromkeys(words[1]), MARKERS, strict=False))
        legend.append([_key(word, marker=shape) for word, shape in shapes.items()])
        markers = [shapes[word] for word in words[1]]
    colours = np.array([to_rgba(hues[word]) for word in words[0]])
    return _Looks(colours, markers, vectors.kind, legend)


def _on_a_scale(values: NDArray[np.float64], title: str) -> _Looks:
    from matplotlib.cm import ScalarMappable

    scale = ScalarMappable(cmap=MAP)
    scale.set_clim(values.min(), values.max())
    return _Looks(np.asarray(scale.to_rgba(values)), ["o"] * len(values), title, scale=scale)


def _hues(names: Sequence[str]) -> dict[str, str]:
    """The colour of each different name: the one that a word of it says, if such words tell all names apart."""
    different = list(dict.fromkeys(names))
    for words in zip(*(name.lower().split() for name in different), strict=False):
        if _are_colours(words) and len(set(words)) == len(different):
            return dict(zip(different, words, strict=True))
    return dict(zip(different, PALETTE, strict=False))


def _are_colours(words: Sequence[str]) -> bool:
    from matplotlib.colors import CSS4_COLORS

    return all(word.lower() in CSS4_COLORS for word in words)


def _key(name: str, colour: str = EMPTY, marker: str = "o") -> Line2D:
    """An entry of the legend; without a name, an empty one."""
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        linestyle="none",
        marker=marker,
        markersize=5.5,
        markerfacecolor=colour,
        markeredgecolor=EDGE if name else EMPTY,
        markeredgewidth=EDGE_WIDTH,
        label=plain(name),
    )


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
