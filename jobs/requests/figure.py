"""The request of the job `figure`: which figure to draw, of what, and the options that each figure has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import BaseModel, Field

from jobs.problems import Fault, InvalidRequest
from jobs.requests.attribution import ATTRIBUTES, Attributes, attributes_fault
from jobs.requests.base import History, ModelRequest, Queue, Reads
from jobs.requests.checks import conditions_fault, population_fault, time_of, unprunable_fault
from jobs.requests.fields import (
    CONDITIONS,
    MOST_STUDY_VARIANTS,
    ColourRange,
    ConditionsId,
    FigureName,
    MeasuredDrift,
    Part,
    Seed,
    Thresholds,
    in_short,
    or_else,
)
from jobs.results import FigureResult
from tailprune.spec.prune import Side, plain

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["OPTIONS", "FigureRequest"]

OF_VECTORS = ("part", "timestep", "conditions")
OPTIONS: Mapping[FigureName, tuple[str, ...]] = {
    "cosine": (*OF_VECTORS, "classes", "range", "seed"),
    "histogram": OF_VECTORS,
    "vectors": (*OF_VECTORS, "classes", "seed"),
    "variance": OF_VECTORS,
    "sparsity": (*OF_VECTORS, "thresholds"),
    "tsne": (*OF_VECTORS, "seed"),
    "error": ("conditions", "measured"),
    "attribution": ("attributes",),
    "removal": ("conditions", "classes", "thresholds", "side", "seed"),
    "training": (),
}
"""The options of each figure."""

PAIRED: frozenset[FigureName] = frozenset({"cosine", "variance", "error"})
"""The figures that need at least two vectors."""
LEAST_CLASSES: Mapping[FigureName, int] = {"cosine": 2, "vectors": 1, "removal": 1}
MOST_CLASSES: Mapping[FigureName, int] = {"cosine": 4096, "vectors": 12, "removal": 16}
"""More vectors or rows of samples would not be legible; a matrix of cosines has only the limit of the field."""
DEFAULT_CLASSES: Mapping[FigureName, int] = {"vectors": 5, "removal": 8}
LEAST_POINTS = 4
"""Fewer vectors have no neighbourhoods that t-SNE could preserve."""
DEFAULT_VARIANTS = 3
"""How many thresholds of `removal` a worker chooses from the model's own magnitudes by default."""


class FigureRequest(ModelRequest):
    """Draw a figure of a model's condition vectors, of what pruning does to its samples, or of its training."""

    kind: ClassVar[str] = "figure"
    result: ClassVar[type[BaseModel]] = FigureResult
    history: ClassVar[History] = "statistics"

    figure: FigureName = Field(description="Which figure to draw.")
    part: Part | None = Field(
        default=None,
        description="What to draw: the condition c = y + t (the default), its input part y, or its time part t.",
    )
    timestep: float | None = Field(
        default=None,
        description="The time of c, in the model's own time; by default where sampling starts. Only for part c.",
    )
    conditions: ConditionsId | None = Field(default=None, description=CONDITIONS)
    classes: int | None = Field(
        default=None, ge=1, le=4096, description="How many classes, or conditions, to draw; the seed selects them."
    )
    thresholds: Thresholds | None = Field(
        default=None,
        description="The magnitudes at which to prune (`removal`) or which to mark (`sparsity`); by default chosen "
        "from the model's own magnitudes.",
    )
    side: Side | None = Field(
        default=None,
        description="For `removal`: prune the components below the thresholds (`tail`, the default) or above (`head`).",
    )
    attributes: Attributes | None = Field(default=None, description=f"For `attribution`: {ATTRIBUTES}")
    range: ColourRange | None = Field(
        default=None,
        description="For `cosine`: the cosines at the two ends of the colours, the lower first; the same for figures "
        "to compare. By default from the least cosine drawn to 1.",
    )
    measured: list[MeasuredDrift] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_STUDY_VARIANTS,
        description="For `error`: measured drifts to mark, in the query the id of the study that has them, `study`.",
    )
    seed: Seed | None = Field(
        default=None,
        description="The seed that selects classes, initialises t-SNE, and makes the noise of samples; 0 by default.",
    )

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `cosine figure of shapes-dit: c at time 0`."""
        of = f"{self.figure} figure of {self.model}"
        if self.part is not None:
            return f"{of}: {self.part}" + ("" if self.timestep is None else f" at time {plain(self.timestep)}")
        if self.thresholds is not None:
            return f"{of} at {'head ' if self.side == 'head' else ''}{in_short(self.thresholds, 'thresholds')}"
        return of

    @property
    def pruned_at(self) -> list[float] | None:
        return self.thresholds if self.figure == "removal" else None

    @property
    def queue(self) -> Queue:
        return "sampling" if self.figure == "removal" else "metrics"

    @property
    def reads(self) -> Reads:
        by_figure: Mapping[FigureName, Reads] = {
            "attribution": "model",
            "removal": "model",
            "training": "training",
            "error": "modulation",
        }
        return by_figure.get(self.figure, "named condition")

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> FigureRequest:
        """See `ModelRequest.resolve`. `thresholds` stay None if the worker is to choose them."""
        count = _count(self.part, entry, conditions)
        resolved = [
            _vectors(self, entry, conditions, count),
            _drawn_classes(self, entry, count),
            _used_seed(self),
            _attributed(self, entry),
            _removal(self, entry, settings),
        ]
        faults = _stray_options(self) + _range_faults(self) + [fault for part in resolved for fault in part.faults]
        if faults:
            raise InvalidRequest(faults)
        return self.model_copy(update={name: value for part in resolved for name, value in part.fields.items()})


class _Resolved(NamedTuple):
    """Some options of a request with their defaults filled in, and what is wrong with them."""

    fields: dict[str, Any]
    faults: list[Fault]


def _stray_options(request: FigureRequest) -> list[Fault]:
    """The given options that the figure does not have."""
    has = OPTIONS[request.figure]
    may = f"it has {', '.join(map(_query, has))}" if has else "it has no options"
    others = sorted({name for options in OPTIONS.values() for name in options} - set(has))
    return [
        _fault(_query(name), f"{_query(name)} is not an option of the figure {request.figure!r}; {may}")
        for name in others
        if getattr(request, name) is not None
    ]


def _range_faults(request: FigureRequest) -> list[Fault]:
    """What is wrong with the range of the colours."""
    if request.range is None or request.range[0] < request.range[1]:
        return []
    low, high = request.range
    return [_fault("range", f"the range {low:g} to {high:g} is empty; give the lower cosine first")]


def _vectors(
    request: FigureRequest, entry: ModelEntry, conditions: ConditionInfo | None, count: int | None
) -> _Resolved:
    """Which vectors a figure is of: part, time and conditions.

    request: as it was sent.
    entry: the model.
    conditions: the description of the conditions that the request names; None if it names none.
    count: how many classes or conditions there are, or None.
    """
    fields: dict[str, Any] = {}
    faults: list[Fault] = []
    if "part" in OPTIONS[request.figure]:
        part: Part = request.part or "c"
        fields["part"] = part
        if fault := population_fault(part, entry, conditions):
            faults.append(_fault("conditions", fault))
        fields["timestep"], fault = time_of(part, request.timestep, entry)
        if fault:
            faults.append(_fault("timestep", fault))
    elif "conditions" in OPTIONS[request.figure] and (fault := conditions_fault(entry, conditions)):
        faults.append(_fault("conditions", fault))
    if request.figure in PAIRED and count == 1:
        of = "conditions" if conditions is not None else "figure"
        where = _fault if conditions is not None else _path_fault
        faults.append(where(of, f"the figure {request.figure!r} compares vectors, and there is only one"))
    if request.figure == "tsne" and count is not None and count < LEAST_POINTS:
        faults.append(_fault("conditions", f"t-SNE needs at least {LEAST_POINTS} vectors, and there are {count}"))
    return _Resolved(fields, faults)


def _drawn_classes(request: FigureRequest, entry: ModelEntry, count: int | None) -> _Resolved:
    """How many classes a figure draws, of `count` in all."""
    if "classes" not in OPTIONS[request.figure]:
        return _Resolved({}, [])
    classes = _classes(request, entry, count)
    fault = _classes_fault(request, classes, count)
    return _Resolved({"classes": classes}, [] if fault is None else [_fault("classes", fault)])


def _used_seed(request: FigureRequest) -> _Resolved:
    """The seed of a figure that depends on one."""
    if "seed" not in OPTIONS[request.figure]:
        return _Resolved({}, [])
    if _uses_seed(request):
        return _Resolved({"seed": or_else(request.seed, 0)}, [])
    fault = _fault("seed", "the seed selects classes, and this figure draws all of them; leave seed out")
    return _Resolved({"seed": None}, [] if request.seed is None else [fault])


def _attributed(request: FigureRequest, entry: ModelEntry) -> _Resolved:
    """What the figure `attribution` is of."""
    if request.figure != "attribution":
        return _Resolved({}, [])
    fault = attributes_fault(request.attributes, entry)
    where = _path_fault("figure", fault or "") if request.attributes is None else _fault("attribute", fault or "")
    return _Resolved({}, [] if fault is None else [where])


def _removal(request: FigureRequest, entry: ModelEntry, settings: Settings) -> _Resolved:
    """How the figures `removal` and `error` prune."""
    if request.figure not in ("removal", "error"):
        return _Resolved({}, [])
    faults: list[Fault] = []
    if fault := unprunable_fault(entry):
        faults.append(_path_fault("figure", fault))
    if request.figure == "error":
        return _Resolved({}, faults)
    variants = len(request.thresholds or range(DEFAULT_VARIANTS))
    if variants > settings.max_variants:
        message = f"{variants} thresholds is more than the {settings.max_variants} of one job; give fewer"
        faults.append(_fault("threshold", message))
    return _Resolved({"side": or_else(request.side, "tail")}, faults)


def _count(part: Part | None, entry: ModelEntry, conditions: ConditionInfo | None) -> int | None:
    """How many classes or conditions there are; None for part t, and if conditions are missing."""
    if part == "t":
        return None
    return entry.classes if conditions is None else conditions.count


def _uses_seed(request: FigureRequest) -> bool:
    """Whether a figure that has the option `seed` depends on it with these options."""
    if request.figure == "cosine":
        return request.classes is not None
    return request.figure != "vectors" or request.part != "t"


def _classes(request: FigureRequest, entry: ModelEntry, count: int | None) -> int | None:
    """How many classes a figure draws: the requested or the default number; None for all, or the model's own labels."""
    if request.classes is not None:
        return request.classes
    if request.figure == "removal" and entry.defaults.labels is not None:
        return None
    default = DEFAULT_CLASSES.get(request.figure)
    return default if default is None or count is None else min(default, count)


def _classes_fault(request: FigureRequest, classes: int | None, count: int | None) -> str | None:
    if request.classes is None or classes is None:
        return None
    if request.part == "t":
        return "part 't' depends on the time, not on classes; leave classes out"
    least, most = LEAST_CLASSES[request.figure], MOST_CLASSES[request.figure]
    if count is not None:
        most = min(most, count)
    if not least <= classes <= most:
        return f"classes {classes} is outside {least} to {most}, the range of the figure {request.figure!r} here"
    return None


def _query(name: str) -> str:
    """The name of a field's query parameter."""
    return {"thresholds": "threshold", "measured": "study", "attributes": "attribute"}.get(name, name)


def _path_fault(name: str, message: str) -> Fault:
    return Fault(location=f"path.{name}", message=message)


def _fault(name: str, message: str) -> Fault:
    return Fault(location=f"query.{name}", message=message)
