"""The numbers behind a figure of condition vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from jobs.figure_results import (
    CosineNumbers,
    MarkedShare,
    SparsityNumbers,
    TrainingNumbers,
    TsneNumbers,
    VarianceNumbers,
    VectorsNumbers,
)
from jobs.requests.cosine import MOST_COSINES_IN_JSON
from jobs.results import Histogram
from tailprune.figures.components import shares_below
from tailprune.figures.labelled_vectors import LabelledVectors
from tailprune.figures.tsne import Positions
from tailprune.statistics import cosine_matrix, magnitude_histogram

__all__ = [
    "cosine_numbers",
    "histogram_numbers",
    "sparsity_numbers",
    "training_numbers",
    "tsne_numbers",
    "variance_numbers",
    "vectors_numbers",
]


def cosine_numbers(vectors: LabelledVectors, rows: Sequence[int] | None) -> CosineNumbers | None:
    """The cosines of some vectors, by default of all; None where they are too many."""
    shown = list(range(len(vectors.values))) if rows is None else list(rows)
    if len(shown) > MOST_COSINES_IN_JSON:
        return None
    values = cosine_matrix(vectors.values[shown]).clamp(-1, 1).tolist()
    return CosineNumbers(names=[vectors.names[row] for row in shown], values=values)


def histogram_numbers(vectors: LabelledVectors) -> Histogram:
    """All bins; the figure draws those from the first to the last that are not empty."""
    return Histogram.model_validate(magnitude_histogram(vectors.values))


def vectors_numbers(vectors: LabelledVectors, rows: Sequence[int]) -> VectorsNumbers:
    """The magnitudes of these rows."""
    return VectorsNumbers(
        names=[vectors.names[row] for row in rows], magnitudes=vectors.values[list(rows)].abs().tolist()
    )


def variance_numbers(vectors: LabelledVectors) -> VarianceNumbers:
    """The shares of all components; 0 each where the vectors are all equal."""
    variance = vectors.values.double().var(0, unbiased=False)
    order = variance.sort(descending=True, stable=True)
    total = variance.sum().item()
    return VarianceNumbers(components=order.indices.tolist(), shares=(order.values / (total or 1.0)).tolist())


def sparsity_numbers(vectors: LabelledVectors, thresholds: Sequence[float]) -> SparsityNumbers:
    """The curve and what is marked. thresholds: to mark; chosen by the figure if there are none."""
    shares = shares_below(vectors, thresholds)
    return SparsityNumbers(
        thresholds=shares.thresholds.tolist(),
        fractions=shares.below.tolist(),
        marked=[MarkedShare(threshold=tau, fraction=share) for tau, share in shares.marked.items()],
    )


def tsne_numbers(vectors: LabelledVectors, positions: Positions) -> TsneNumbers:
    """The positions of all components. positions: from `tsne_positions`."""
    x, y = positions["all"].T
    return TsneNumbers(names=list(vectors.names), labels=list(range(len(x))), x=x.tolist(), y=y.tolist())


def training_numbers(curve: Sequence[Mapping[str, float]]) -> TrainingNumbers:
    """The curves of a record: what every point has. curve: its points, each with `step`."""
    names = [name for name in curve[0] if name != "step" and all(_is_number(point.get(name)) for point in curve)]
    return TrainingNumbers(
        steps=[point["step"] for point in curve],
        curves={name: [point[name] for point in curve] for name in names},
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
