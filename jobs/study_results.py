"""The result of a study: the scores of every variant, the trials of a search, and the names of the exports."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jobs.registry.measures import Measure
from jobs.results import Embedding, Engine, ModelUsed, Removed, Result
from tailprune.spec.prune import PruneSpec

__all__ = [
    "Exports",
    "MeasureUsed",
    "ReferenceUsed",
    "SamplesDone",
    "Score",
    "ScoredSearchMeasure",
    "ScoresSoFar",
    "SearchMeasure",
    "SearchResult",
    "Shards",
    "StudyResult",
    "StudyVariant",
    "Trial",
    "VariantScores",
]

ScoredSearchMeasure = Literal["drift", "accuracy", "fid"]
"""The measures of samples that a search can keep within a budget."""
SearchMeasure = Literal["drift", "accuracy", "fid", "modulation-error"]
"""All that a search can keep within a budget: the modulation error needs no samples."""


class MeasureUsed(Result):
    """A measure of a study, and what it was computed with."""

    measure: Measure = Field(description="The measure.")
    title: str = Field(
        description="Its full name, with the extractor.", examples=["Fréchet distance (shapes-classifier)"]
    )
    better: Literal["higher", "lower"] = Field(description="Whether higher or lower values are better.")
    extractor: str | None = Field(
        description="The network whose features, class probabilities or distances it uses; null if it uses none. A "
        "Fréchet distance is an FID only with inception-2015-12-05."
    )
    reference: str | None = Field(
        description="What the samples were compared with: a registered set of images, or `baseline`; null if with "
        "neither."
    )


class ReferenceUsed(Result):
    """The registered set of images that samples were compared with."""

    images: int | None = Field(description="How many images it has; 0 for published moments without images.")
    passed_over: dict[str, int] = Field(
        default={},
        description="How many other files its folder has that were not read, by the ending of their names; text and "
        "metadata do not count.",
        examples=[{".jp2": 3}],
    )


class Score(Result):
    """The value of one measure."""

    value: float | None = Field(
        description="The value; null if there is none, such as the PSNR of a study whose images are all equal."
    )
    low: float | None = Field(
        default=None,
        description="The lower end of the 95 % interval: Wilson's of accuracy and precision, by the bootstrap of "
        "drift, PSNR, SSIM, LPIPS and CLIP score. Null for the other measures, and while the study runs.",
    )
    high: float | None = Field(default=None, description="The upper end of that interval.")
    std: float | None = Field(
        default=None, description="The standard deviation over the random subsets of the kernel distance."
    )
    left_out: int = Field(
        default=0, description="How many images have no value and were left out: equal images have no PSNR."
    )
    reliable: bool = Field(
        default=True,
        description="False where there are so few samples, or reference images, that the value is mostly due to their "
        "number, and can be compared with nothing: a Fréchet distance, a kernel distance, recall, precision (of few "
        "reference images) with fewer than 10,000 for 2,048 features or as many in proportion, an Inception score with "
        "fewer than 5 a class.",
    )
    note: str | None = Field(default=None, description="Why the value is not reliable; null if it is.")


class StudyVariant(Result):
    """The scores of one prune, or of none (the baseline)."""

    name: str = Field(description="The prune in words, or `baseline`.")
    prune: PruneSpec | None = Field(description="The prune; null for the baseline.")
    removed: Removed | None = Field(default=None, description="What was removed; null for the baseline.")
    embedding: Embedding | None = Field(default=None, description="Null for the baseline.")
    samples: int = Field(description="How many samples were scored.")
    scores: dict[Measure, Score] = Field(description="The scores, by measure.")


class Trial(Result):
    """One threshold of a search."""

    threshold: float = Field(description="The threshold.")
    fraction: float = Field(description="The share of components that it removes, from 0 to 1.")
    value: float = Field(description="The value of the measure that the search uses.")
    within: bool = Field(description="Whether that value is within the budget.")
    variant: str = Field(description="The name of the prune, which is that of its variant where it was sampled.")


class SearchResult(Result):
    """The threshold that a search found, and the thresholds that it tried."""

    measure: SearchMeasure = Field(description="The measure that the search keeps within the budget.")
    budget: float = Field(description="The budget, as requested.")
    limit: float = Field(description="The worst value within the budget: the baseline's value and the budget combined.")
    baseline: float | None = Field(
        description="The value of the unpruned samples; null for drift and modulation error."
    )
    threshold: float | None = Field(description="The largest threshold within the budget; null if none was.")
    fraction: float | None = Field(description="The share of components that it removes, from 0 to 1.")
    reliable: bool = Field(
        default=True, description="False where a value that the search compared is not; see `reliable` of the scores."
    )
    trials: list[Trial] = Field(description="The thresholds, in the order in which they were tried.")


class Exports(Result):
    """The names of the artifacts of a finished study."""

    document: str = Field(description="The artifact with this result, as JSON.")
    table: str = Field(description="The artifact with a table of the scores, a row for each variant, as CSV.")
    markdown: str = Field(description="The artifact with the same table in Markdown.")
    png: str | None = Field(
        description="The artifact with a figure of quality against the fraction removed, as PNG; null if nothing was "
        "pruned."
    )
    svg: str | None = Field(description="The artifact with the same figure as SVG.")


class Shards(Result):
    """How much of a study is done. Which job or worker made a shard does not affect the scores."""

    total: int = Field(description="How many shards the study has.")
    done: int = Field(description="How many of them are done.")
    made: int = Field(description="How many of these were made for this job, on any worker.")
    found: int = Field(description="How many of these were left by earlier jobs.")


class StudyResult(Result):
    """The scores of every variant, all sampled from the same noise."""

    model: ModelUsed
    complete: bool = Field(description="False while the study runs, when scores are of the samples made so far.")
    measures: list[MeasureUsed] = Field(description="The measures, in the order in which they are shown.")
    references: dict[str, ReferenceUsed] = Field(
        default={}, description="The references and targets that measures compare with, by name."
    )
    variants: list[StudyVariant] = Field(
        description="The baseline first; the trials of a search last. The baseline alone, with 0 samples, where the "
        "study is a search by modulation error."
    )
    search: SearchResult | None = Field(default=None, description="Null for a study without a search.")
    exports: Exports | None = Field(default=None, description="Null until the study is complete.")
    shards: Shards
    engine: Engine


class SamplesDone(Result):
    """How many samples of a study are scored, over all variants that are tried so far."""

    done: int = Field(description="How many are scored.")
    total: int = Field(description="How many there are.")


class VariantScores(Result):
    """The scores of a variant so far."""

    name: str = Field(description="The prune in words, or `baseline`.")
    samples: int = Field(description="How many samples were scored.")
    scores: dict[Measure, Score] = Field(description="The scores, by measure.")


class ScoresSoFar(Result):
    """The data of the event `result` of a study: its scores so far; fields that have their defaults are left out."""

    samples: SamplesDone
    variants: list[VariantScores] = Field(description="The baseline first; the trials of a search last.")
    search: SearchResult | None = Field(description="The search so far; null for a study without one.")

    @classmethod
    def of(cls, result: StudyResult, total: int) -> ScoresSoFar:
        """The scores of a preliminary result. total: how many samples all its variants together will have."""
        return cls(
            samples=SamplesDone(done=sum(variant.samples for variant in result.variants), total=total),
            variants=[
                VariantScores(name=variant.name, samples=variant.samples, scores=variant.scores)
                for variant in result.variants
            ],
            search=result.search,
        )
