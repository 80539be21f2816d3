"""What comes out of a study: scores of every variant, a search's trace, and the names of the exports."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jobs.registry.evaluation import Measure
from jobs.results import Embedding, Engine, ModelUsed, Removed, Result
from tailprune.spec.prune import PruneSpec

__all__ = [
    "Exports",
    "MeasureUsed",
    "Score",
    "SearchMeasure",
    "SearchResult",
    "Shards",
    "StudyResult",
    "StudyVariant",
    "Trial",
]

SearchMeasure = Literal["drift", "accuracy", "fid"]
"""What a search may go by."""


class MeasureUsed(Result):
    """A measure of a study, with what it is of."""

    measure: Measure
    title: str = Field(description="With its extractor.", examples=["Fréchet distance (shapes-classifier)"])
    better: Literal["higher", "lower"]
    extractor: str | None = Field(
        description="The network whose features, classes or distances it is of; null where none has a part in it. An "
        "FID is a Fréchet distance of inception-2015-12-05 alone."
    )
    reference: str | None = Field(
        description="What samples were compared with: a registered set of images, or `baseline`; null for neither."
    )


class Score(Result):
    """The value of one measure."""

    value: float | None = Field(description="Null where there is none, such as the PSNR of equal images alone.")
    low: float | None = Field(
        default=None, description="With `high` the 95 % bootstrap interval, of a measure that is an average."
    )
    high: float | None = None
    std: float | None = Field(default=None, description="Over its random subsets, of the kernel distance.")
    left_out: int = Field(default=0, description="Images without a value: of equal images there is no PSNR.")


class StudyVariant(Result):
    """The scores of one prune, or of none (the baseline)."""

    name: str
    prune: PruneSpec | None = Field(description="Null for the baseline.")
    removed: Removed | None = Field(default=None, description="Null for the baseline.")
    embedding: Embedding | None = None
    samples: int = Field(description="How many samples the scores are of.")
    scores: dict[Measure, Score]


class Trial(Result):
    """One threshold of a search."""

    threshold: float
    fraction: float = Field(description="The share of components that it removes, in [0, 1].")
    value: float = Field(description="The measure of the search.")
    within: bool = Field(description="Whether that is within the budget.")
    variant: str


class SearchResult(Result):
    """What a search found, and what it tried on the way."""

    measure: SearchMeasure
    budget: float
    limit: float = Field(description="The worst value within the budget, the baseline's and the budget together.")
    baseline: float | None = Field(description="The measure of the unpruned samples; null for the drift.")
    threshold: float | None = Field(description="The largest one tried that is within; null where none is.")
    fraction: float | None = Field(description="The share of components that it removes.")
    trials: list[Trial] = Field(description="In the order in which they were tried.")


class Exports(Result):
    """The artifacts of a finished study."""

    document: str = Field(description="This result, as JSON.")
    table: str = Field(description="A row a variant, as CSV.")
    markdown: str = Field(description="The same as a Markdown table.")
    png: str | None = Field(description="Quality against the fraction removed; null where nothing was pruned.")
    svg: str | None


class Shards(Result):
    """How far a study is; who made what has no part in its scores."""

    total: int
    done: int
    made: int = Field(description="By this job, on any worker.")
    found: int = Field(description="Left by earlier jobs.")


class StudyResult(Result):
    """The scores of every variant, over the same noise."""

    model: ModelUsed
    complete: bool = Field(description="False while it runs: then scores are of the samples that are there.")
    measures: list[MeasureUsed]
    variants: list[StudyVariant] = Field(description="The baseline first; the trials of a search last.")
    search: SearchResult | None = None
    exports: Exports | None = Field(default=None, description="Null until it is complete.")
    shards: Shards
    engine: Engine
