"""The request of the job `metrics`: which part of the condition is measured, when, and over what."""

from __future__ import annotations

from pydantic import Field

from jobs.problems import Fault, InvalidRequest
from jobs.registry.models import ModelEntry
from jobs.requests.fields import CONDITIONS, ConditionsId, Part, Request, Thresholds
from jobs.requests.subjects import population_fault, time_of
from jobs.storage.uploads import ConditionInfo

__all__ = ["MetricsRequest", "resolve_metrics"]

DEFAULT_THRESHOLDS = [0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]


class MetricsRequest(Request):
    """Measure the condition vectors of a model, over its classes or over uploaded conditions."""

    conditions: ConditionsId | None = Field(default=None, description=CONDITIONS)
    part: Part = Field(default="c", description="The sum c, or the input part y or time part t of it.")
    timestep: float | None = Field(
        default=None,
        description="The time at which c is measured; where sampling starts, unless said. Part c alone.",
    )
    thresholds: Thresholds = Field(
        default_factory=lambda: list(DEFAULT_THRESHOLDS),
        description="Magnitudes at which sparsity is measured.",
    )


def resolve_metrics(
    request: MetricsRequest, entry: ModelEntry, conditions: ConditionInfo | None = None
) -> MetricsRequest:
    """The request with its timestep filled in. conditions: what is known of those that the request names.

    Raises InvalidRequest for a timestep that the part or the model does not have, or for conditions that do not fit.
    """
    if fault := population_fault(request.part, entry, conditions):
        raise InvalidRequest([Fault(location="query.conditions", message=fault)])
    timestep, fault = time_of(request.part, request.timestep, entry)
    if fault:
        raise InvalidRequest([Fault(location="query.timestep", message=fault)])
    return request.model_copy(update={"timestep": timestep})
