"""The request of the job `figure`: which picture, of what, and which of its options each figure has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from jobs.problems import Fault, InvalidRequest
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import ModelEntry
from jobs.requests.base import Queue, Reads, Request
from jobs.requests.checks import conditions_fault, population_fault, time_of, unprunable_fault
from jobs.requests.fields import CONDITIONS, ConditionsId, FigureName, Part, Seed, Thresholds, or_else
from jobs.results import FigureResult
from jobs.settings import Settings
from jobs.storage.uploads import ConditionInfo
from tailprune.spec.prune import Side

__all__ = ["OPTIONS", "FigureRequest"]

OF_VECTORS = ("part", "timestep", "conditions")
OPTIONS: Mapping[FigureName, tuple[str, ...]] = {
    "cosine": (*OF_VECTORS, "classes", "seed"),
    "histogram": OF_VECTORS,
    "vectors": (*OF_VECTORS, "classes", "seed"),
    "variance": OF_VECTORS,
    "sparsity": (*OF_VECTORS, "thresholds"),
    "tsne": (*OF_VECTORS, "seed"),
    "removal": ("conditions", "classes", "thresholds", "side", "seed"),
    "training": (),
}
"""What may be said of each figure."""

LEAST_CLASSES: Mapping[FigureName, int] = {"cosine": 2, "vectors": 1, "removal": 1}
MOST_CLASSES: Mapping[FigureName, int] = {"cosine": 4096, "vectors": 12, "removal": 16}
"""More would not be legible; a matrix may be as large as it likes."""
CLASSES_UNLESS_SAID: Mapping[FigureName, int] = {"vectors": 5, "removal": 8}
LEAST_POINTS = 4
"""Fewer have no neighbourhoods that t-SNE could keep."""
DEFAULT_VARIANTS = 3
"""Thresholds of `removal` unless said, which a worker chooses from the model's own magnitudes."""


class FigureRequest(Request):
    """Draw a figure of a model's condition vectors, of what pruning does to its samples, or of its training."""

    kind: ClassVar[str] = "figure"
    result: ClassVar[type[BaseModel]] = FigureResult

    figure: FigureName
    part: Part | None = Field(default=None, description="The sum c, unless said, or the input part y or time part t.")
    timestep: float | None = Field(
        default=None, description="The time of c; where sampling starts, unless said. Part c alone."
    )
    conditions: ConditionsId | None = Field(default=None, description=CONDITIONS)
    classes: int | None = Field(
        default=None, ge=1, le=4096, description="How many classes, or conditions, are drawn, picked by the seed."
    )
    thresholds: Thresholds | None = Field(
        default=None,
        description="Magnitudes to prune at (removal) or to mark (sparsity); chosen from the model's own unless said.",
    )
    side: Side | None = Field(
        default=None, description="Of `removal`: what is below the thresholds (tail, unless said) or above (head)."
    )
    seed: Seed | None = Field(
        default=None, description="Picks the classes, starts t-SNE, and is the seed of samples; 0 unless said."
    )

    @property
    def queue(self) -> Queue:
        return "sampling" if self.figure == "removal" else "metrics"

    @property
    def reads(self) -> Reads:
        by_figure: Mapping[FigureName, Reads] = {"removal": "model", "training": "training"}
        return by_figure.get(self.figure, "named condition")

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> FigureRequest:
        """As of every request; `thresholds` stay None where the worker is to choose them."""
        figure = self.figure
        faults = _stray(self)
        filled: dict[str, Any] = {}
        count = _count(self.part, entry, conditions)
        if "part" in OPTIONS[figure]:
            part: Part = self.part or "c"
            filled["part"] = part
            if fault := population_fault(part, entry, conditions):
                faults.append(_fault("conditions", fault))
            filled["timestep"], fault = time_of(part, self.timestep, entry)
            if fault:
                faults.append(_fault("timestep", fault))
        elif "conditions" in OPTIONS[figure] and (fault := conditions_fault(entry, conditions)):
            faults.append(_fault("conditions", fault))
        if figure == "tsne" and count is not None and count < LEAST_POINTS:
            faults.append(_fault("conditions", f"t-SNE is of {LEAST_POINTS} vectors or more, and these are {count}"))
        if "classes" in OPTIONS[figure]:
            filled["classes"] = classes = _classes(self, entry, count)
            if fault := _classes_fault(self, classes, count):
                faults.append(_fault("classes", fault))
        if "seed" in OPTIONS[figure]:
            picks = _uses_seed(self)
            if not picks and self.seed is not None:
                faults.append(_fault("seed", "a seed picks classes, and none are picked here; leave it out"))
            filled["seed"] = or_else(self.seed, 0) if picks else None
        if figure == "removal":
            if fault := unprunable_fault(entry):
                faults.append(Fault(location="path.figure", message=fault))
            filled["side"] = or_else(self.side, "tail")
            variants = len(self.thresholds or range(DEFAULT_VARIANTS))
            if variants > settings.max_variants:
                faults.append(
                    _fault("threshold", f"{variants} thresholds is more than the {settings.max_variants} of one job")
                )
        if faults:
            raise InvalidRequest(faults)
        return self.model_copy(update=filled)


def _stray(request: FigureRequest) -> list[Fault]:
    """What was said that its figure does not have."""
    has = OPTIONS[request.figure]
    may = f"it has {', '.join(map(_query, has))}" if has else "it has no options"
    others = sorted({name for options in OPTIONS.values() for name in options} - set(has))
    return [
        _fault(_query(name), f"{_query(name)} says nothing of the figure {request.figure!r}; {may}")
        for name in others
        if getattr(request, name) is not None
    ]


def _count(part: Part | None, entry: ModelEntry, conditions: ConditionInfo | None) -> int | None:
    """How many classes or conditions there are; None for part t, and where conditions are missing."""
    if part == "t":
        return None
    return entry.classes if conditions is None else conditions.count


def _uses_seed(request: FigureRequest) -> bool:
    """Whether a figure that may have a seed depends on it."""
    if request.figure == "cosine":
        return request.classes is not None
    return request.figure != "vectors" or request.part != "t"


def _classes(request: FigureRequest, entry: ModelEntry, count: int | None) -> int | None:
    """How many classes a figure draws: as asked for, its own number, or None for all or the model's own choice."""
    if request.classes is not None:
        return request.classes
    if request.figure == "removal" and entry.defaults.labels is not None:
        return None
    least = CLASSES_UNLESS_SAID.get(request.figure)
    return least if least is None or count is None else min(least, count)


def _classes_fault(request: FigureRequest, classes: int | None, count: int | None) -> str | None:
    if request.classes is None or classes is None:
        return None
    if request.part == "t":
        return "part 't' has no classes, but times; leave classes out"
    least, most = LEAST_CLASSES[request.figure], MOST_CLASSES[request.figure]
    if count is not None:
        most = min(most, count)
    if not least <= classes <= most:
        return f"classes {classes} is outside {least} to {most}, what the figure {request.figure!r} can draw of this"
    return None


def _query(name: str) -> str:
    """What a field is called in the query."""
    return "threshold" if name == "thresholds" else name


def _fault(name: str, message: str) -> Fault:
    return Fault(location=f"query.{name}", message=message)
