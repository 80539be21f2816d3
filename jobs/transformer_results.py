"""The results of the jobs `metrics-transformer` and `over-time-transformer`: statistics of a large transformer's c."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jobs.anatomy_results import TransformerUsed
from jobs.results import BelowOverTime, Cosine, OverTime, Result, Statistics

__all__ = ["MetricsTransformerResult", "OverTimeTransformerResult", "PartCovered", "PartMeasured"]


class PartCovered(Result):
    """A part of c, and of which values its vectors are."""

    what: str = Field(description="What it is.", examples=["time", "guidance", "pooled text"])
    covers: str = Field(
        description="Of which values its vectors are, in words: of a class or a pooled text none, unless some are "
        "given.",
        examples=["50 times from 1 to 0.02"],
    )


class PartMeasured(PartCovered):
    """Statistics of the vectors of a part of c."""

    count: int = Field(description="How many vectors it has.")
    cosine: Cosine | None = Field(description="The cosine over all pairs of them; null for a single vector.")
    pr: float = Field(description="Their mean participation ratio.")
    npr: float = Field(description="Their mean nPR.")
    norm: float = Field(description="Their mean Euclidean norm.")


class MetricsTransformerResult(Statistics):
    """Statistics of the condition vectors of a large transformer over the times of a schedule."""

    model: TransformerUsed
    scheduler: Literal["own", "plain"] = Field(description="Whose times they are.")
    times: list[float] = Field(description="The times, as the pipeline passes them.")
    parts: list[PartMeasured] = Field(description="What c is the sum of, the time first.")


class OverTimeTransformerResult(OverTime):
    """Statistics of the condition vectors of a large transformer at many times."""

    model: TransformerUsed
    removed: list[BelowOverTime] = Field(
        description="What prunes of the tail would remove. The times are evenly spaced; a scheduler's may not be."
    )
    parts: list[PartCovered] = Field(description="What c is the sum of, the time first.")
