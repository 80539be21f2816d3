"""The request of the job `study`: a grid of prunes or a search for a threshold, and the measures that score samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from jobs.problems import Fault, InvalidRequest
from jobs.registry.measures import MEASURES, Measure
from jobs.requests.checks import (
    block_faults,
    body_fault,
    by_step_fault,
    keep_fault,
    schedule_faults,
    single_fault,
    subject_faults,
    unprunable_fault,
)
from jobs.requests.fields import MOST_STUDY_VARIANTS, UNIQUE, Shares, Thresholds, all_different, one_or_several
from jobs.requests.measured import MeasuredRequest, missing_of_extractor, missing_of_measure
from jobs.requests.sampled import sampling_faults, sampling_of
from jobs.study_results import ScoredSearchMeasure, SearchMeasure, StudyResult
from tailprune.spec.prune import EVERY, Fill, Of, PruneSpec, Schedule, Side

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["Grid", "Search", "StudyRequest"]

MOST_LABELS = 4096
"""The most labels of a request."""

Sides = Annotated[
    list[Side], Field(min_length=1, max_length=2, json_schema_extra=UNIQUE), AfterValidator(all_different)
]
Fills = Annotated[
    list[Fill], Field(min_length=1, max_length=2, json_schema_extra=UNIQUE), AfterValidator(all_different)
]
Magnitudes = Annotated[
    list[Of], Field(min_length=1, max_length=2, json_schema_extra=UNIQUE), AfterValidator(all_different)
]


class Grid(BaseModel):
    """All combinations of these sides, magnitudes, fills, schedules and thresholds or shares."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    thresholds: Thresholds | None = Field(
        default=None,
        description="The magnitudes at which components of c are removed. A grid needs these, `remove_fractions`, or "
        "both.",
    )
    remove_fractions: Shares | None = Field(
        default=None,
        description="Shares of the components to remove: the thresholds are these quantiles over all vectors of the "
        "study.",
    )
    sides: Sides = Field(
        default=["tail"],
        description="Remove the components below the thresholds (`tail`) or above them (`head`).",
    )
    of: Magnitudes = Field(
        default=["c"], description="Whose magnitudes count: those of `c`, or of what the blocks `read`, SiLU(c)."
    )
    schedules: list[Schedule] = Field(
        default=[EVERY], min_length=1, max_length=16, description="The sampling steps at which to prune."
    )
    fills: Fills = Field(
        default=["zero"],
        description="What takes the place of a removed component: `zero`, or the `mean` over the classes.",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_single_prunes(cls, given: Any) -> Any:
        _refuse_by_step_and_block(given, "a grid", "give such a prune in prunes")
        return given

    @model_validator(mode="after")
    def _has_rules(self) -> Self:
        if self.thresholds is None and self.remove_fractions is None:
            raise ValueError("give thresholds, remove_fractions, or both")
        return self

    @property
    def count(self) -> int:
        """How many prunes the grid has."""
        rules = len(self.thresholds or []) + len(self.remove_fractions or [])
        return len(self.sides) * len(self.of) * len(self.fills) * len(self.schedules) * rules

    @property
    def prunes(self) -> list[PruneSpec]:
        """The resolved prunes of the grid; thresholds and shares vary fastest, then schedules, fills, of and sides."""
        rules: list[dict[str, Any]] = [{"threshold": value} for value in self.thresholds or []]
        rules += [{"remove_fraction": value} for value in self.remove_fractions or []]
        return [
            PruneSpec(**rule, side=side, of=of, fill=fill, schedule=schedule).resolved()
            for side in self.sides
            for of in self.of
            for fill in self.fills
            for schedule in self.schedules
            for rule in rules
        ]


Grids = Annotated[list[Grid], Field(min_length=1, max_length=16)]
OneOrMoreGrids = Annotated[
    Annotated[Grid, Tag("one")] | Annotated[Grids, Tag("several")], Discriminator(one_or_several)
]


class Search(BaseModel):
    """A search for the largest tail threshold within a budget, among shares of removed components."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    measure: SearchMeasure = Field(
        description="What to keep within the budget: `drift`, class `accuracy` or Fréchet distance (`fid`) of samples, "
        "or the `modulation-error`, for which nothing is sampled."
    )
    budget: float = Field(
        gt=0,
        description="The largest drift or modulation error; or how much the class accuracy (0 to 1) may fall, or the "
        "Fréchet distance rise, compared with the baseline.",
    )
    schedule: Schedule = Field(default=EVERY, description="The sampling steps at which to prune; all by default.")
    of: Of = Field(
        default="c", description="Whose magnitudes count: those of `c`, or of what the blocks `read`, SiLU(c)."
    )
    fill: Fill = Field(
        default="zero",
        description="What takes the place of a removed component: `zero`, or the `mean` over the classes.",
    )
    trials: int = Field(
        default=7,
        ge=1,
        le=16,
        description="The resolution: n finds the share of removed components to within 1 / 2^n. Bisection would try n "
        "thresholds; beginning where the modulation error predicts the budget, most searches try fewer, and few more.",
    )

    @property
    def scored_by(self) -> ScoredSearchMeasure | None:
        """The measure of samples that it uses; None for the modulation error."""
        return None if self.measure == "modulation-error" else self.measure

    @model_validator(mode="before")
    @classmethod
    def _of_one_threshold(cls, given: Any) -> Any:
        _refuse_by_step_and_block(given, "a search", "it is of one threshold for all steps and blocks")
        return given


def _refuse_by_step_and_block(given: Any, what: str, instead: str) -> None:
    """Raise ValueError for fields that only single prunes have."""
    for name in ("threshold_by_step", "blocks"):
        if isinstance(given, dict) and given.get(name) is not None:
            raise ValueError(f"{what} has no {name}: {instead}")


class StudyRequest(MeasuredRequest):
    """Sample a model under many prunes, and score the samples beside the unpruned ones."""

    kind: ClassVar[str] = "study"
    result: ClassVar[type[BaseModel]] = StudyResult

    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="The precision in which the network computes: `float32`, the reference, or `bfloat16`. `auto` is "
        "not allowed, since each worker of a study would choose for itself.",
    )
    prunes: list[PruneSpec] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_STUDY_VARIANTS,
        description="Prunes to try. A study needs `prunes`, `grid` or `search`; that of a compacted model may "
        "have none, which scores the model as it is.",
    )
    grid: OneOrMoreGrids | None = Field(
        default=None,
        description="A grid, or a list of grids: every combination of its sides, magnitudes, thresholds and shares, "
        "schedules and fills is tried, after `prunes`.",
    )
    search: Search | None = Field(
        default=None, description="A search for the largest threshold within a budget, alone or besides other prunes."
    )

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `study of shapes-sit: 12 prunes and a search by fid`."""
        count = len(self.prunes or [])
        tried = [f"{count} prune{'' if count == 1 else 's'}"] if count else []
        tried += [] if self.search is None else [f"a search by {self.search.measure}"]
        return f"{super().job_title}: {' and '.join(tried) or 'the model as it is'}"

    @property
    def samples_nothing(self) -> bool:
        """Whether a resolved request is of a search by modulation error alone."""
        return self.search is not None and self.search.scored_by is None and not self.prunes

    @property
    def pruned_at(self) -> list[float] | None:
        """The thresholds of its prunes; not those that a search tries."""
        tried = (prune.threshold for prune in self.prunes or [])
        return list(dict.fromkeys(threshold for threshold in tried if threshold is not None)) or None

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> StudyRequest:
        """See `ModelRequest.resolve`. Grids become `prunes`, without repetitions."""
        assert evaluation is not None, "a study is resolved against the registered extractors and references"
        too_many = _too_many(self, settings)
        given: dict[str, Any] = {
            "prunes": _resolved_prunes(self, with_grids=too_many is None),
            "grid": None,
            "extractor": self.extractor or entry.extractor,
            "reference": self.reference or entry.reference,
        }
        if self.labels is None and entry.classes is not None:  # by default a study is of all classes
            given["labels"] = list(range(min(entry.classes, MOST_LABELS)))
        resolved = self.model_copy(update=sampling_of(self, entry, conditions) | given)
        resolved = _with_measures(resolved, entry, evaluation)
        faults = [
            *_trial_faults(self, entry),
            *subject_faults(self.labels, self.rows, entry, conditions),
            *(_unscored_faults(self, resolved) if too_many is None else [too_many]),
            *_prune_faults(self, resolved, entry, conditions),
            *sampling_faults(resolved, entry, settings, settings.max_study_samples),
            *_measure_faults(self, resolved, entry, evaluation),
        ]
        if faults:
            raise InvalidRequest(faults)
        return resolved


def _resolved_prunes(request: StudyRequest, *, with_grids: bool) -> list[PruneSpec] | None:
    """The prunes of a request and, if wanted, those of its grids, each once; None if there are none."""
    prunes = [prune.resolved() for prune in request.prunes or []]
    if with_grids:
        prunes += [prune for _, grid in _grids(request) for prune in grid.prunes]
    return list(dict.fromkeys(prunes)) or None


def _with_measures(request: StudyRequest, entry: ModelEntry, evaluation: EvaluationAssets) -> StudyRequest:
    """The request with its measures filled in, None where nothing is sampled.

    Extractor, reference and targets are None if no measure uses them.
    """
    if request.samples_nothing:
        return request.model_copy(update=dict.fromkeys(("measures", "extractor", "reference", "targets")))
    asked = request.measures
    if asked is None:
        asked = [name for name in MEASURES if missing_of_measure(name, request, entry, evaluation) is None]
    measures = _with_search(asked, request.search)
    scored = [MEASURES[name] for name in measures]
    used = {
        "extractor": any(measure.by == "features" for measure in scored),
        "reference": any(measure.reference for measure in scored),
        "targets": any(measure.paired for measure in scored),
    }
    unused = {field: None for field, is_used in used.items() if not is_used}
    return request.model_copy(update={"measures": measures, **unused})


def _trial_faults(request: StudyRequest, entry: ModelEntry) -> list[Fault]:
    """What is wrong with trying prunes on this model, or with trying none."""
    tried = [name for name in ("prunes", "grid", "search") if getattr(request, name) is not None]
    if not tried and entry.compacted is None:
        return [Fault(location="body", message="there is nothing to try; give prunes, a grid of them, or a search")]
    fault = unprunable_fault(entry)
    return [] if fault is None else [Fault(location=f"body.{name}", message=fault) for name in tried]


def _unscored_faults(request: StudyRequest, resolved: StudyRequest) -> list[Fault]:
    """What is asked of the samples of a study that makes none.

    request: as it was sent.
    resolved: the same request with every default filled in.
    """
    if not resolved.samples_nothing:
        return []
    message = "a search by modulation-error alone samples nothing, so there is nothing to score; leave it out"
    asked = ("measures", "extractor", "reference", "targets")
    return [body_fault(name, message) for name in asked if getattr(request, name) is not None]


def _grids(request: StudyRequest) -> list[tuple[str, Grid]]:
    """The grids of a request, each with its location in the body."""
    if isinstance(request.grid, list):
        return [(f"grid.{place}", grid) for place, grid in enumerate(request.grid)]
    return [] if request.grid is None else [("grid", request.grid)]


def _too_many(request: StudyRequest, settings: Settings) -> Fault | None:
    """What is wrong with the number of prunes, counted without making those of the grids; None if it is allowed."""
    count = len(request.prunes or []) + sum(grid.count for _, grid in _grids(request))
    if count <= settings.max_study_variants:
        return None
    where = "prunes" if request.grid is None else "grid"
    return Fault(
        location=f"body.{where}",
        message=f"{count} prunes is more than the {settings.max_study_variants} of one study; use several studies",
    )


def _with_search(measures: list[Measure], search: Search | None) -> list[Measure]:
    """These measures and that of the search, in the order of MEASURES."""
    return [name for name in MEASURES if name in measures or (search is not None and name == search.scored_by)]


def _prune_faults(
    request: StudyRequest, resolved: StudyRequest, entry: ModelEntry, conditions: ConditionInfo | None
) -> list[Fault]:
    """What is wrong with prunes, grids and search.

    request: as it was sent, since its locations are those of the faults.
    resolved: the same request with every default filled in.
    entry: the model.
    conditions: the description of the conditions that the request names; None if it names none.
    """
    faults: list[Fault] = []

    def wrong(location: str, message: str) -> None:
        faults.append(Fault(location=f"body.{location}", message=message))

    def check(location: str, schedule: Schedule) -> None:
        for field, fault in schedule_faults(schedule, resolved.sampler, resolved.steps):
            wrong(f"{location}.{field}", fault)

    def check_population(location: str, field: str) -> None:
        if fault := single_fault(field, conditions):
            wrong(location, fault)

    for place, prune in enumerate(request.prunes or []):
        where = f"prunes.{place}"
        check(f"{where}.schedule", prune.schedule)
        if fault := by_step_fault(prune.threshold_by_step, resolved.sampler, resolved.steps):
            wrong(f"{where}.threshold_by_step", fault)
        for number, fault in block_faults(prune.blocks, entry):
            wrong(f"{where}.blocks.{number}", fault)
        if prune.keep is not None and (fault := keep_fault(prune.keep, entry)):
            wrong(f"{where}.keep", fault)
        if prune.resolved().needs_population:
            field = "fill" if not prune.keeps else "keep" if prune.keep_fraction is None else "keep_fraction"
            check_population(f"{where}.{field}", field)
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
    """What is missing for the named assets and for the measures.

    request: as it was sent, since its locations are those of the faults.
    resolved: the same request with every default filled in.
    entry: the model.
    evaluation: the registered extractors and references.
    """
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
