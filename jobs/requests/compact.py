"""The request of the job `compact`: what of the condition AdaLN is to read still, at which times and of what."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobs.problems import Fault, InvalidRequest
from jobs.registry.compacted import KEY_LETTERS, Rule, compacted_name
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import ModelEntry
from jobs.requests.base import Queue, Reads, Request
from jobs.requests.checks import (
    SHIFTED,
    body_fault,
    keep_fault,
    sampler_fault,
    shift_fault,
    single_fault,
    steps_fault,
    subject_faults,
    times_faults,
)
from jobs.requests.fields import CONDITIONS, ConditionsId, Count, Labels, Threshold, Timesteps, or_else
from jobs.results import CompactResult
from jobs.settings import Settings
from jobs.storage.uploads import ConditionInfo
from tailprune.spec.prune import Fill, Side, check_rule

__all__ = ["CompactRequest"]

LONGEST_NAME = 100
"""Of a model that a request names."""


class CompactRequest(Request):
    """Make a smaller model, whose AdaLN reads no more of the condition than is said."""

    kind: ClassVar[str] = "compact"
    result: ClassVar[type[BaseModel]] = CompactResult

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "shapes-sit", "keep": 24, "by": "directions"}]})

    threshold: Threshold | None = Field(
        default=None,
        description="Components go that a prune at this magnitude removes at every time and from every label that is "
        "covered. Either this or `keep`.",
    )
    side: Side | None = Field(
        default=None, description="With `threshold`: what is below it goes (tail, unless said) or above it (head)."
    )
    keep: Count | None = Field(default=None, description="How many components are kept, in place of a threshold.")
    by: Literal["variance", "directions"] | None = Field(
        default=None,
        description="With `keep`: the components that vary most over the classes (unless said), or so many principal "
        "directions of what AdaLN reads.",
    )
    fill: Fill | None = Field(
        default=None,
        description="What stands in the place of what goes: zero (unless said, with `threshold`), or the mean over the "
        "classes at each covered time (unless said, with `keep`).",
    )
    sampler: Literal["ddim", "ddpm", "dpmpp", "euler", "heun", "dopri5", "sde"] | None = Field(
        default=None, description="The times that sampling so evaluates are covered; as the model does, unless said."
    )
    steps: int | None = Field(default=None, ge=2, description="Sampling steps, of the times that are covered.")
    timestep_shift: float | None = Field(
        default=None, gt=0, le=1000, description="As in POST /prune-sample, of the times that are covered."
    )
    timesteps: Timesteps | None = Field(
        default=None, description="The times that are covered, in place of those of a sampling."
    )
    labels: Labels | None = Field(default=None, description="The classes that are covered; all unless said.")
    conditions: ConditionsId | None = Field(default=None, description=CONDITIONS)
    rows: Labels | None = Field(default=None, description="Which of the conditions are covered; all unless said.")
    guided: bool | None = Field(
        default=None,
        description="Whether the null condition is covered too, which guided sampling needs; it is unless said, but "
        "where the model is told its guidance as an input: that has no null condition, and fails where this is true.",
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        check_rule(self.threshold, self.keep, self.side, self.by)
        if self.by == "directions" and self.fill == "zero":
            raise ValueError(
                "fill 'zero' does not go with directions, which are counted from the mean; leave fill out, or keep by "
                "'variance'"
            )
        if self.timesteps is not None:
            for name in ("sampler", "steps", "timestep_shift"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"say which times are covered either by timesteps or by a sampling: leave {name} out"
                    )
        return self

    @property
    def rule(self) -> Rule:
        """By what a resolved request chooses what stays."""
        return self.by or "threshold"

    @property
    def queue(self) -> Queue:
        return "sampling"

    @property
    def reads(self) -> Reads:
        return "model"

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> CompactRequest:
        """As of every request; the covered times are `timesteps`, or those of its sampler and steps.

        Two stay None: `labels` or `rows` where all are covered, however many there are; and `guided` of a family some
        of whose models take their guidance scale as an input, until the checkpoint is read.
        """
        by_threshold = self.threshold is not None
        given: dict[str, Any] = {
            "side": or_else(self.side, "tail") if by_threshold else None,
            "by": None if by_threshold else or_else(self.by, "variance"),
            "fill": or_else(self.fill, "zero" if by_threshold else "mean"),
            "guided": or_else(self.guided, None if entry.facts.takes_guidance else True),
            "labels": _but_all(self.labels, entry.classes),
            "rows": _but_all(self.rows, None if conditions is None else conditions.count),
        }
        if self.timesteps is None:
            sampler = self.sampler or entry.defaults.sampler
            shift = entry.defaults.timestep_shift if sampler in SHIFTED else None
            given |= {
                "sampler": sampler,
                "steps": or_else(self.steps, entry.defaults.steps),
                "timestep_shift": or_else(self.timestep_shift, shift),
            }
        resolved = self.model_copy(update=given)
        faults = [
            *_model_faults(entry),
            *subject_faults(self.labels, self.rows, entry, conditions),
            *_rule_faults(resolved, entry, conditions),
            *_time_faults(resolved, entry, settings),
        ]
        if faults:
            raise InvalidRequest(faults)
        return resolved


def _but_all(chosen: list[int] | None, count: int | None) -> list[int] | None:
    """Those that are chosen among so many, all of them different; None for all."""
    return None if chosen is None or len(chosen) == count else chosen


def _model_faults(entry: ModelEntry) -> list[Fault]:
    if entry.compacted is not None:
        return [body_fault("model", f"{entry.name} is compacted already; compact {entry.compacted.model}")]
    if len(compacted_name(entry.name, "0" * KEY_LETTERS)) > LONGEST_NAME:
        return [
            body_fault("model", f"{entry.name} is too long a name for one to be made of it; register a shorter one")
        ]
    return []


def _rule_faults(request: CompactRequest, entry: ModelEntry, conditions: ConditionInfo | None) -> list[Fault]:
    """What does not fit of the rule of a resolved request."""
    faults: list[Fault] = []
    if request.threshold == 0 and request.side == "tail":
        nothing = "nothing is below threshold 0, so that no component would go; raise it, or cut the head"
        faults.append(body_fault("threshold", nothing))
    if request.keep is not None and (fault := _keep_fault(request.keep, entry)):
        faults.append(body_fault("keep", fault))
    asked = "keep" if request.keep is not None else "fill"
    if (asked == "keep" or request.fill == "mean") and (fault := single_fault(asked, conditions)):
        faults.append(body_fault(asked, fault))
    return faults


def _keep_fault(count: int, entry: ModelEntry) -> str | None:
    if count == entry.condition_dim:
        return f"keep {count} is all components of {entry.name}, and would make it no smaller; keep fewer"
    return keep_fault(count, entry)


def _time_faults(request: CompactRequest, entry: ModelEntry, settings: Settings) -> list[Fault]:
    """What does not fit of the times that a resolved request has covered."""
    if request.timesteps is not None:
        return [body_fault(*found) for found in times_faults("timesteps", request.timesteps, entry)]
    faults: list[Fault] = []
    if fault := sampler_fault(request.sampler, entry):
        faults.append(body_fault("sampler", fault))
    elif request.sampler == "dopri5":
        message = "dopri5 chooses its own times, so that none are known to cover; say timesteps, or another"
        faults.append(body_fault("sampler", message))
    if fault := shift_fault(request.timestep_shift, request.sampler):
        faults.append(body_fault("timestep_shift", fault))
    if fault := steps_fault(request.steps, settings):
        faults.append(body_fault("steps", fault))
    return faults
