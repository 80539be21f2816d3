"""The request of the job `prune-sample`: prunes of a model, and how it is sampled under each."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeVar

from pydantic import ConfigDict, Field, model_validator

from jobs.problems import Fault, InvalidRequest
from jobs.registry.models import ModelEntry
from jobs.requests.fields import OneOrMoreCounts, OneOrMoreThresholds, Side, or_else
from jobs.requests.prunes import (
    EVERY,
    NO_RULE,
    Fill,
    Schedule,
    check_rule,
    keep_fault,
    schedule_faults,
    single_fault,
    unprunable_fault,
)
from jobs.requests.sampled import SampledRequest, sampling_faults, sampling_of
from jobs.requests.subjects import subject_faults
from jobs.settings import Settings
from jobs.storage.uploads import ConditionInfo

__all__ = ["PruneSampleRequest", "resolve"]

T = TypeVar("T")


class PruneSampleRequest(SampledRequest):
    """Sample a model with its condition vectors pruned."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "shapes-sit",
                    "threshold": [0.01, 0.05],
                    "side": "tail",
                    "schedule": {"when": "last", "count": 10},
                    "labels": [0, 17],
                    "samples_per_label": 4,
                    "seed": 0,
                }
            ]
        }
    )

    threshold: OneOrMoreThresholds | None = Field(
        default=None,
        description="Magnitudes at which components of c are cut, one variant each. Either this or `keep`; a compacted "
        "model may be sampled as it is, with neither.",
    )
    keep: OneOrMoreCounts | None = Field(
        default=None,
        description="How many components are kept, one variant each. Either this or `threshold`.",
    )
    by: Literal["variance"] | None = Field(
        default=None, description="With `keep`: components are ranked by their variance over the classes."
    )
    side: Side | None = Field(
        default=None,
        description="With `threshold`: cut the components below it (tail, unless said) or above it (head).",
    )
    fill: Fill | None = Field(
        default=None,
        description="What takes the place of a removed component: zero (unless said, with `threshold`) or "
        "the mean over the classes (unless said, with `keep`).",
    )
    schedule: Schedule = EVERY
    compare: bool = Field(default=True, description="Also sample unpruned from the same noise, and report the drift.")

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.has_rule:
            check_rule(self.threshold, self.keep, self.side, self.by)
        return self

    @property
    def has_rule(self) -> bool:
        """Whether it says how to prune: a compacted model may be sampled as it is."""
        return self.threshold is not None or self.keep is not None


def resolve(
    request: PruneSampleRequest, entry: ModelEntry, settings: Settings, conditions: ConditionInfo | None = None
) -> PruneSampleRequest:
    """The request with every default filled in, `threshold` and `keep` as lists.

    conditions: what is known of those that the request names. Raises InvalidRequest with everything that the model or
    the limits do not allow.
    """
    by_threshold = request.threshold is not None
    given: dict[str, Any] = {}
    if request.has_rule:
        given = {
            "threshold": _as_list(request.threshold),
            "keep": _as_list(request.keep),
            "by": None if by_threshold else "variance",
            "side": or_else(request.side, "tail") if by_threshold else None,
            "fill": or_else(request.fill, "zero" if by_threshold else "mean"),
        }
    resolved = request.model_copy(update=given | sampling_of(request, entry, conditions))
    faults = [
        *_rule_faults(request, entry),
        *subject_faults(request.labels, request.rows, entry, conditions),
        *_population_faults(resolved, conditions),
        *_prune_faults(resolved, entry, settings),
        *sampling_faults(resolved, entry, settings, settings.max_samples),
    ]
    if faults:
        raise InvalidRequest(faults)
    return resolved


def _rule_faults(request: PruneSampleRequest, entry: ModelEntry) -> list[Fault]:
    """What is wrong with pruning this model, or with not pruning it."""
    if request.has_rule:
        fault = unprunable_fault(entry)
        return [] if fault is None else [_fault("keep" if request.threshold is None else "threshold", fault)]
    if entry.compacted is None:
        return [Fault(location="body", message=NO_RULE)]
    faults = [
        _fault(name, f"{name} says how to prune, and neither threshold nor keep is said; leave it out")
        for name in ("side", "by", "fill", "schedule")
        if getattr(request, name) not in (None, EVERY)
    ]
    if not request.compare:
        faults.append(_fault("compare", "without threshold or keep the baseline is all that is sampled; leave it out"))
    return faults


def _population_faults(request: PruneSampleRequest, conditions: ConditionInfo | None) -> list[Fault]:
    """What of a resolved request asks for the mean or the variance of a single condition."""
    asked = "keep" if request.keep is not None else "fill"
    fault = single_fault(asked, conditions) if request.keep is not None or request.fill == "mean" else None
    return [] if fault is None else [Fault(location=f"body.{asked}", message=fault)]


def _prune_faults(request: PruneSampleRequest, entry: ModelEntry, settings: Settings) -> list[Fault]:
    """What the model and the limits do not allow of a resolved request's prunes."""
    faults: list[Fault] = []

    def wrong(location: str, message: str) -> None:
        faults.append(Fault(location=f"body.{location}", message=message))

    for place, count in enumerate(_list(request.keep)):
        if fault := keep_fault(count, entry):
            wrong(f"keep.{place}", fault)
    for field, fault in schedule_faults(request.schedule, request.sampler, request.steps):
        wrong(f"schedule.{field}", fault)
    for name in ("threshold", "keep"):
        variants = len(_list(getattr(request, name)))
        if variants > settings.max_variants:
            wrong(
                name,
                f"{variants} prunes is more than the {settings.max_variants} of one job; ask in several jobs",
            )
    return faults


def _as_list(value: T | list[T] | None) -> list[T] | None:
    return value if value is None or isinstance(value, list) else [value]


def _list(value: Any) -> list[Any]:
    """A resolved field that is a list or absent, as a list."""
    return value if isinstance(value, list) else []


def _fault(location: str, message: str) -> Fault:
    return Fault(location=f"body.{location}", message=message)
