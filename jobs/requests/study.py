"""The request of the job `study`: a grid of prunes, or a search for a threshold, and by what samples are judged."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from jobs.problems import Fault, InvalidRequest
from jobs.registry.evaluation import MEASURES, EvaluationAssets, Measure
from jobs.registry.models import ModelEntry
from jobs.requests.checks import (
    body_fault,
    keep_fault,
    schedule_faults,
    single_fault,
    subject_faults,
    unprunable_fault,
)
from jobs.requests.fields import UNIQUE, Thresholds, all_different, one_or_several
from jobs.requests.measured import MeasuredRequest, missing_of_extractor, missing_of_measure
from jobs.requests.sampled import sampling_faults, sampling_of
from jobs.settings import Settings
from jobs.storage.uploads import ConditionInfo
from jobs.study_results import SearchMeasure, StudyResult
from tailprune.spec.prune import EVERY, Fill, PruneSpec, Schedule, Side

__all__ = ["Grid", "Search", "StudyRequest"]

MOST_LABELS = 4096
"""As many as a request may name."""

Sides = Annotated[
    list[Side], Field(min_length=1, max_length=2, json_schema_extra=UNIQUE), AfterValidator(all_different)
]
Fills = Annotated[
    list[Fill], Field(min_length=1, max_length=2, json_schema_extra=UNIQUE), AfterValidator(all_different)
]


class Grid(BaseModel):
    """All prunes of these sides, thresholds, schedules and fills."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    thresholds: Thresholds = Field(description="Magnitudes at which components of c are cut.")
    sides: Sides = Field(default=["tail"], description="Cut below the thresholds (tail) or above them (head).")
    schedules: list[Schedule] = Field(default=[EVERY], min_length=1, max_length=16)
    fills: Fills = Field(default=["zero"], description="What takes the place of a removed component.")

    @property
    def count(self) -> int:
        """How many prunes that is."""
        return len(self.sides) * len(self.fills) * len(self.schedules) * len(self.thresholds)

    @property
    def prunes(self) -> list[PruneSpec]:
        """Each of them, resolved: thresholds of one side, schedule and fill one after the other."""
        return [
            PruneSpec(threshold=threshold, side=side, fill=fill, schedule=schedule)
            for side in self.sides
            for fill in self.fills
            for schedule in self.schedules
            for threshold in self.thresholds
        ]


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


class StudyRequest(MeasuredRequest):
    """Sample a model under many prunes, and score the samples beside the unpruned ones."""

    kind: ClassVar[str] = "study"
    result: ClassVar[type[BaseModel]] = StudyResult

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

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> StudyRequest:
        """As of every request, with grids as `prunes`, none of them twice."""
        assert evaluation is not None, "a study is resolved against what is registered to evaluate samples with"
        grids = _grids(self)
        too_many = _too_many(self, settings)
        prunes = [prune.resolved() for prune in self.prunes or []]
        if too_many is None:
            prunes += [prune for _, grid in grids for prune in grid.prunes]
        given: dict[str, Any] = sampling_of(self, entry, conditions) | {
            "prunes": list(dict.fromkeys(prunes)) or None,
            "grid": None,
            "extractor": self.extractor or entry.extractor,
            "reference": self.reference or entry.reference,
        }
        if self.labels is None and entry.classes is not None:
            given["labels"] = list(
                range(min(entry.classes, MOST_LABELS))
            )  # a study is of the whole model, or of much of it
        resolved = self.model_copy(update=given)
        asked = self.measures
        if asked is None:
            asked = [name for name in MEASURES if missing_of_measure(name, resolved, entry, evaluation) is None]
        measures = _with_search(asked, self.search)
        scored = [MEASURES[name] for name in measures]
        used = {
            "extractor": any(measure.by == "features" for measure in scored),
            "reference": any(measure.reference for measure in scored),
            "targets": any(measure.paired for measure in scored),
        }
        resolved = resolved.model_copy(
            update={"measures": measures} | {field: None for field, is_used in used.items() if not is_used}
        )
        faults = [
            *_trial_faults(self, entry),
            *subject_faults(self.labels, self.rows, entry, conditions),
            *([] if too_many is None else [too_many]),
            *_prune_faults(self, resolved, entry, conditions),
            *sampling_faults(resolved, entry, settings, settings.max_study_samples),
            *_measure_faults(self, resolved, entry, evaluation),
        ]
        if faults:
            raise InvalidRequest(faults)
        return resolved


def _trial_faults(request: StudyRequest, entry: ModelEntry) -> list[Fault]:
    """What is wrong with trying prunes on this model, or with trying none."""
    tried = [name for name in ("prunes", "grid", "search") if getattr(request, name) is not None]
    if not tried and entry.compacted is None:
        return [Fault(location="body", message="say what to try: prunes, a grid of them, or a search")]
    fault = unprunable_fault(entry)
    return [] if fault is None else [Fault(location=f"body.{name}", message=fault) for name in tried]


def _grids(request: StudyRequest) -> list[tuple[str, Grid]]:
    """The grids of a request, each with where it is in the body."""
    if isinstance(request.grid, list):
        return [(f"grid.{place}", grid) for place, grid in enumerate(request.grid)]
    return [] if request.grid is None else [("grid", request.grid)]


def _too_many(request: StudyRequest, settings: Settings) -> Fault | None:
    """What is wrong with the number of prunes; None where it is within the limit, counted before grids are spread."""
    count = len(request.prunes or []) + sum(grid.count for _, grid in _grids(request))
    if count <= settings.max_study_variants:
        return None
    where = "prunes" if request.grid is None else "grid"
    return Fault(
        location=f"body.{where}",
        message=f"{count} prunes is more than the {settings.max_study_variants} of one study; ask in several studies",
    )


def _with_search(measures: list[Measure], search: Search | None) -> list[Measure]:
    """The measures and the one that is searched by, in their order."""
    return [name for name in MEASURES if name in measures or (search is not None and name == search.measure)]


def _prune_faults(
    request: StudyRequest, resolved: StudyRequest, entry: ModelEntry, conditions: ConditionInfo | None
) -> list[Fault]:
    """What does not fit of prunes, grids and search, in the body of a request as it came."""
    faults: list[Fault] = []

    def wrong(location: str, message: str) -> None:
        faults.append(Fault(location=f"body.{location}", message=message))

    def check(location: str, schedule: Schedule) -> None:
        for field, fault in schedule_faults(schedule, resolved.sampler, resolved.steps):
            wrong(f"{location}.{field}", fault)

    def check_population(location: str, asked: str) -> None:
        if fault := single_fault(asked, conditions):
            wrong(location, fault)

    for place, prune in enumerate(request.prunes or []):
        where = f"prunes.{place}"
        check(f"{where}.schedule", prune.schedule)
        if prune.keep is not None:
            if fault := keep_fault(prune.keep, entry):
                wrong(f"{where}.keep", fault)
            check_population(f"{where}.keep", "keep")
        elif prune.fill == "mean":
            check_population(f"{where}.fill", "fill")
    for where, grid in _grids(request):
        for place, schedule in enumerate(grid.schedules):
            check(f"{where}.schedules.{place}", schedule)
        if "mean" in grid.fills:
            check_population(f"{where}.fills.{grid.fills.index('mean')}", "fill")
    if request.search is not None:
        check("search.schedule", request.search.schedule)
        if request.search.fill == "mean":
            check_population("search.fill", "fill")
    return faults


def _measure_faults(
    request: StudyRequest, resolved: StudyRequest, entry: ModelEntry, evaluation: EvaluationAssets
) -> list[Fault]:
    """What the named assets and the measures lack; in the place of the request where each was asked for."""
    named = {
        "extractor": request.extractor and missing_of_extractor(request.extractor, evaluation),
        "reference": request.reference and evaluation.missing_reference(request.reference),
        "targets": request.targets and evaluation.missing_reference(request.targets),
    }
    faults = [body_fault(field, lack) for field, lack in named.items() if lack]
    for name in resolved.measures or []:
        lack = missing_of_measure(name, resolved, entry, evaluation)
        if lack is None or lack in named.values():
            continue
        place = request.measures.index(name) if request.measures and name in request.measures else None
        where = "search.measure" if place is None else f"measures.{place}"
        faults.append(body_fault(where, f"measure {name!r}: {lack}"))
    return faults
