"""The request of the job `study`: a grid of prunes, or a search for a threshold, and by what samples are judged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from jobs.registry.evaluation import MEASURES, EvaluationAssets, Measure
from jobs.registry.models import ExtractorName, ModelEntry
from jobs.requests.fields import UNIQUE, all_different, one_or_several
from jobs.requests.prunes import Fill, Grid, PruneSpec, Schedule
from jobs.requests.sampled import SampledRequest

__all__ = [
    "Search",
    "SearchMeasure",
    "StudyRequest",
    "evaluation_of",
    "extractors_of",
    "references_of",
]  # fmt: skip

SearchMeasure = Literal["drift", "accuracy", "fid"]
Measures = Annotated[list[Measure], Field(min_length=1, json_schema_extra=UNIQUE), AfterValidator(all_different)]
ReferenceName = Annotated[str, Field(min_length=1, max_length=100)]
Grids = Annotated[list[Grid], Field(min_length=1, max_length=16)]
OneOrMoreGrids = Annotated[
    Annotated[Grid, Tag("one")] | Annotated[Grids, Tag("several")], Discriminator(one_or_several)
]


class Search(BaseModel):
    """The largest tail threshold whose samples stay within a budget, by bisection over what share it removes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    measure: SearchMeasure = Field(
        description="What may get worse: `drift`, class `accuracy`, or the Fréchet distance `fid`."
    )
    budget: float = Field(
        gt=0,
        description="Largest drift; how much less of the class accuracy, in [0, 1]; or how much more Fréchet distance, "
        "than the baseline.",
    )
    schedule: Schedule = Schedule(when="every")
    fill: Fill = "zero"
    trials: int = Field(
        default=7, ge=1, le=16, description="Thresholds tried: n find the share to one part in 2 to the n."
    )


class StudyRequest(SampledRequest):
    """Sample a model under many prunes, and score the samples beside the unpruned ones."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "shapes-repa",
                    "grid": {
                        "thresholds": [0.07, 0.15],
                        "schedules": [{"when": "every"}, {"when": "last", "count": 10}],
                    },
                    "prunes": [{"side": "head", "threshold": 2.7}],
                    "samples_per_label": 2,
                    "measures": ["fid", "accuracy", "drift"],
                }
            ]
        }
    )

    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="What the network computes in, as in a request for samples; auto would let each worker of a study "
        "choose for itself.",
    )
    prunes: list[PruneSpec] | None = Field(
        default=None,
        min_length=1,
        description="What to try: these, a `grid` or a `search`. A compacted model may be scored as it is.",
    )
    grid: OneOrMoreGrids | None = Field(
        default=None, description="Every combination of sides, thresholds, schedules and fills; after `prunes`."
    )
    search: Search | None = Field(default=None, description="Look for a threshold besides, or alone.")
    measures: Measures | None = Field(
        default=None, description="What samples are scored by; all that can be had for the model unless said."
    )
    extractor: ExtractorName | None = Field(
        default=None,
        description="Whose features Fréchet and kernel distance, Inception score, precision and recall are of; the "
        "model's own unless said.",
    )
    reference: ReferenceName | None = Field(
        default=None, description="The registered set of images that samples are compared with."
    )
    targets: ReferenceName | None = Field(
        default=None,
        description="A registered set of images, the n-th that of label or condition n, that PSNR, SSIM and LPIPS "
        "compare with; the unpruned samples unless said.",
    )

    @property
    def sample_count(self) -> int:
        """Samples a variant, of a resolved request."""
        return len(self.subjects) * (self.samples_per_label or 1)


def extractors_of(request: StudyRequest, entry: ModelEntry) -> list[ExtractorName]:
    """The networks that a resolved request needs."""
    needed: list[ExtractorName] = []
    for measure in request.measures or []:
        by = MEASURES[measure].by
        name = {"features": request.extractor, "classes": entry.classifier, "clip": "clip", "lpips": "lpips"}.get(
            by or ""
        )
        if name is not None and name not in needed:
            needed.append(name)
    return needed


def references_of(request: StudyRequest) -> list[str]:
    """The sets of images that a resolved request needs."""
    facts = [MEASURES[measure] for measure in request.measures or []]
    named = [
        request.reference if any(fact.reference for fact in facts) else None,
        request.targets if any(fact.paired for fact in facts) else None,
    ]
    return list(dict.fromkeys(name for name in named if name is not None))


def evaluation_of(request: StudyRequest, entry: ModelEntry, instruments: EvaluationAssets) -> dict[str, Path | str]:
    """What a resolved request is evaluated with, for `jobs.registry.digests.identify`. Raises FileNotFoundError."""
    found: dict[str, Path | str] = {}
    for name in extractors_of(request, entry):
        path = instruments.extractor(name)
        if path is None:
            raise FileNotFoundError(f"the extractor {name!r} is missing; {instruments.missing_extractor(name)}")
        found[f"extractor {name}"] = path
    if "clip-score" in (request.measures or []):
        found["extractor clip, prompt"] = entry.prompt
    for reference in references_of(request):
        if lack := instruments.missing_reference(reference):
            raise FileNotFoundError(lack)
        where, registered = instruments.reference(reference), instruments.references[reference]
        found[f"reference {reference}"] = where or f"{registered.dataset}, {registered.count}"
    return found
