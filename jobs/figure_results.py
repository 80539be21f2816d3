"""The numbers behind the figures: the artifacts `FIGURE.json`, and what `Accept: application/json` gets.

The result of the job `figure-transformer` besides; that of `figure` is in `jobs.results`.
"""

from __future__ import annotations

from pydantic import Field

from jobs.anatomy_results import Ranks, TransformerUsed
from jobs.attribution_results import Attributed
from jobs.requests.fields import AnyFigureName, ErrorRule, MeasuredDrift, TransformerFigureName
from jobs.results import Histogram, ModelUsed, Result

__all__ = [
    "AttributionNumbers",
    "CosineNumbers",
    "ErrorLine",
    "ErrorNumbers",
    "FigureNumbers",
    "FigureTransformerResult",
    "MarkedShare",
    "Numbers",
    "RemovalNumbers",
    "SparsityNumbers",
    "TrainingNumbers",
    "TsneNumbers",
    "VarianceNumbers",
    "VectorsNumbers",
]


class CosineNumbers(Result):
    """The cosine of every pair of the drawn vectors."""

    names: list[str] = Field(description="The names of rows and columns.")
    values: list[list[float]] = Field(description="The cosines, row by row.")


class VectorsNumbers(Result):
    """The magnitudes of the drawn vectors."""

    names: list[str] = Field(description="The names of the vectors.")
    magnitudes: list[list[float]] = Field(description="The magnitude of each component, by vector.")


class VarianceNumbers(Result):
    """The variance of each component over the vectors, the largest first."""

    components: list[int] = Field(description="The components, counted from 0, by their variance.")
    shares: list[float] = Field(description="The share of each in the total variance, from 0 to 1.")


class MarkedShare(Result):
    """A threshold that the figure marks."""

    threshold: float = Field(description="The threshold.")
    fraction: float = Field(description="The share of components below it, from 0 to 1.")


class SparsityNumbers(Result):
    """The share of components below a threshold, at one time."""

    thresholds: list[float] = Field(description="The thresholds of the curve, ascending.")
    fractions: list[float] = Field(description="The share of components below each, from 0 to 1.")
    marked: list[MarkedShare] = Field(description="The thresholds that are marked.")


class TsneNumbers(Result):
    """The positions of the vectors in the t-SNE of all their components; they have no unit."""

    names: list[str] = Field(description="The names of the vectors.")
    labels: list[int] = Field(description="Their labels, rows of conditions, or the numbers of times, from 0.")
    x: list[float] = Field(description="The position of each from left to right.")
    y: list[float] = Field(description="The position of each from bottom to top.")


class AttributionNumbers(Result):
    """The shares of variance that the figure draws."""

    parts: list[str] = Field(description="The attributes, then what none of them has by itself.")
    plain: list[float] = Field(description="The share of each in the variance of the class vectors.")
    weighted: list[float] = Field(description="The share of each in the variance of the modulations.")
    components: list[Attributed] = Field(description="The drawn components, the largest first.")
    directions: list[Attributed] = Field(description="The drawn directions, the largest first.")


class RemovalNumbers(Result):
    """What each threshold removed, and how far that moved the samples."""

    thresholds: list[float] = Field(description="The thresholds, a row of the figure each.")
    names: list[str] = Field(description="The prunes in words.")
    removed: list[float] = Field(
        description="The share of components that each removes, from 0 to 1, over all classes or conditions at steps "
        "of the sampling run."
    )
    drift: list[float] = Field(
        description="How far the samples of each are from the baseline: |pruned - baseline| / |baseline|, over all "
        "latents."
    )


class ErrorLine(Result):
    """The modulation errors of one rule of pruning."""

    rule: ErrorRule = Field(description="What the components that go are the least in, and what takes their place.")
    errors: list[float] = Field(description="The modulation error at each share.")


class ErrorNumbers(Result):
    """The modulation error against the share removed, and measured drifts."""

    removed: list[float] = Field(description="The shares of components that are removed, from 0 to 1.")
    lines: list[ErrorLine] = Field(description="The rules.")
    measured: list[MeasuredDrift] = Field(description="The drifts of the study that was named; none without one.")


class TrainingNumbers(Result):
    """The curves of the record of a training."""

    steps: list[float] = Field(description="The training steps at which it was measured.")
    curves: dict[str, list[float]] = Field(
        description="What was measured at each, by name: `cosine` and `npr` of c, and whatever else the record has at "
        "every point.",
        examples=[{"cosine": [0.2, 0.9], "npr": [0.6, 0.3]}],
    )


Numbers = (
    CosineNumbers
    | Histogram
    | VectorsNumbers
    | VarianceNumbers
    | SparsityNumbers
    | TsneNumbers
    | ErrorNumbers
    | AttributionNumbers
    | RemovalNumbers
    | TrainingNumbers
    | Ranks
)


class FigureNumbers(Result):
    """The numbers behind a figure."""

    figure: AnyFigureName = Field(description="The figure, which decides what `data` has.")
    caption: str = Field(description="What the figure shows, in a sentence or two.")
    model: ModelUsed | TransformerUsed = Field(description="The model that was measured.")
    data: Numbers = Field(description="The numbers.")


class FigureTransformerResult(Result):
    """A figure of a large transformer, as PNG and as SVG."""

    model: TransformerUsed
    figure: TransformerFigureName = Field(description="Which figure it is.")
    caption: str = Field(description="What the figure shows, in a sentence or two.")
    png: str = Field(description="The name of the artifact with the figure as PNG.")
    svg: str = Field(description="The name of the artifact with the figure as SVG.")
    data: str = Field(
        description="The name of the artifact with the numbers behind the figure as JSON, a `FigureNumbers`."
    )
