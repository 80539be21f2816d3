"""The request of the job `compact`: what AdaLN still reads of the condition, and for which times and inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from jobs.problems import Fault, InvalidRequest
from jobs.registry.compaction import KEY_LETTERS, compacted_name
from jobs.requests.base import ModelRequest, Queue, Reads
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
from jobs.requests.fields import CONDITIONS, ConditionsId, Count, Rows, Threshold, Timesteps, in_short, or_else
from jobs.requests.labels import Labels, class_numbers
from jobs.results import CompactResult
from tailprune.spec.compaction import FILLS, CompactBy, CompactFill, CompactRule, check_by, check_compaction
from tailprune.spec.prune import Of, Side

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["CompactRequest"]

LONGEST_NAME = 100
"""The most characters in the name of a model in a request."""


class CompactRequest(ModelRequest):
    """Make a smaller model whose AdaLN reads only a part of the condition."""

    kind: ClassVar[str] = "compact"
    result: ClassVar[type[BaseModel]] = CompactResult

    threshold: Threshold | None = Field(
        default=None,
        description="Remove the components that a prune at this magnitude removes at every covered time and for every "
        "covered label. Give either this or `keep`.",
    )
    of: Of | None = Field(
        default=None,
        description="With `threshold`: whose magnitudes count, those of `c` (the default), or of what the blocks "
        "`read`, SiLU(c).",
    )
    side: Side | None = Field(
        default=None,
        description="With `threshold`: remove the components below it (`tail`, the default) or above it (`head`).",
    )
    keep: Count | None = Field(
        default=None, description="How many components or directions to keep. Give either this or `threshold`."
    )
    by: CompactBy | None = Field(
        default=None,
        description="With `keep`: keep the components that vary most over the classes (`variance`, the default), those "
        "from which the others are predicted best (`prediction`, the default with the fill `refit`), or this many "
        "principal directions of what AdaLN reads (`directions`).",
    )
    fill: CompactFill | None = Field(
        default=None,
        description="What takes the place of removed components: `zero` (the default with `threshold`), the `mean` "
        "over the classes at each covered time (the default with `keep`), or their prediction from the components that "
        "are kept, by least squares (`refit`, the only one with `prediction`).",
    )
    sampler: Literal["ddim", "ddpm", "dpmpp", "euler", "heun", "dopri5", "sde"] | None = Field(
        default=None,
        description="Cover the times that this sampler evaluates; the model's default sampler if not given. Not "
        "`dopri5`, which chooses its times itself.",
    )
    steps: int | None = Field(
        default=None, ge=2, description="Sampling steps of that sampler; the model's default if not given."
    )
    timestep_shift: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Timestep shift of that sampler, as in `POST /prune-sample`; the model's default if not given.",
    )
    timesteps: Timesteps | None = Field(
        default=None,
        description="Cover these times, in the model's own time, instead of those of a sampler.",
    )
    labels: Labels | None = Field(
        default=None,
        description="The classes to cover, each by its number, counted from 0, or by its name (`class_names` of the "
        "model); all by default.",
    )
    conditions: ConditionsId | None = Field(default=None, description=CONDITIONS)
    rows: Rows | None = Field(
        default=None, description="Which conditions of the file to cover, counted from 0; all by default."
    )
    guided: bool | None = Field(
        default=None,
        description="Whether to cover the null condition too, which guided sampling needs. True by default, except for "
        "a model that has none: one that takes its guidance scale as an input, or was trained without dropping labels. "
        "For these it cannot be true.",
    )

    @field_validator("by", mode="before")
    @classmethod
    def _by(cls, by: Any) -> Any:
        check_by(by)
        return by

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        check_compaction(self.threshold, self.keep, self.side, self.by, self.of, self.fill)
        if self.timesteps is not None:
            for name in ("sampler", "steps", "timestep_shift"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"the covered times come either from timesteps or from a sampler; leave {name} out"
                    )
        return self

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `compact of shapes-sit to 24 directions`."""
        if self.keep is not None:
            return f"{super().job_title} to {self.keep} {'directions' if self.by == 'directions' else 'components'}"
        side = "head " if self.side == "head" else ""
        of = " of SiLU(c)" if self.of == "read" else ""
        return f"{super().job_title} at {side}{in_short([self.threshold or 0], 'thresholds')}{of}"

    @property
    def rule(self) -> CompactRule:
        """The rule that chooses the components or directions that stay."""
        return check_compaction(self.threshold, self.keep, self.side, self.by, self.of, self.fill)

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
        """See `ModelRequest.resolve`. The covered times are `timesteps`, or those of the sampler and its steps.

        Two fields may stay None: `labels` or `rows` where all are covered, and `guided` for a family some of whose
        models take their guidance scale as an input, which only the checkpoint shows.
        """
        rule = self.rule
        by_threshold = rule == "threshold"
        given: dict[str, Any] = {
            "side": or_else(self.side, "tail") if by_threshold else None,
            "of": or_else(self.of, "c") if by_threshold else None,
            "by": None if by_threshold else rule,
            "fill": or_else(self.fill, "mean" if rule == "variance" else FILLS[rule][0]),
            "guided": or_else(self.guided, None if entry.facts.takes_guidance else entry.null_condition),
            "labels": _none_for_all(class_numbers(self.labels, entry), entry.classes),
            "rows": _none_for_all(self.rows, None if conditions is None else conditions.count),
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


def _none_for_all(chosen: list[int] | None, count: int | None) -> list[int] | None:
    """The chosen ones, all different, of `count` in all; None if these are all."""
    return None if chosen is None or len(chosen) == count else chosen


def _model_faults(entry: ModelEntry) -> list[Fault]:
    """Why a model cannot be compacted."""
    if entry.compacted is not None:
        return [body_fault("model", f"{entry.name} is compacted already; compact {entry.compacted.model}")]
    if len(compacted_name(entry.name, "0" * KEY_LETTERS)) > LONGEST_NAME:
        return [
            body_fault(
                "model",
                f"the name {entry.name} is too long for that of a compacted model to be made from it; register the "
                "model under a shorter one",
            )
        ]
    return []


def _rule_faults(request: CompactRequest, entry: ModelEntry, conditions: ConditionInfo | None) -> list[Fault]:
    """What is wrong with the rule of a resolved request."""
    faults: list[Fault] = []
    if request.guided and not entry.null_condition:
        faults.append(body_fault("guided", f"{entry.name} has no null condition to cover; leave guided out"))
    if request.threshold == 0 and request.side == "tail":
        nothing = "no magnitude is below 0, so no component would be removed; raise threshold, or use side 'head'"
        faults.append(body_fault("threshold", nothing))
    if request.keep is not None and (fault := _keep_fault(request.keep, entry)):
        faults.append(body_fault("keep", fault))
    field = "keep" if request.keep is not None else "fill"
    if (field == "keep" or request.fill == "mean") and (fault := single_fault(field, conditions)):
        faults.append(body_fault(field, fault))
    return faults


def _keep_fault(count: int, entry: ModelEntry) -> str | None:
    if count == entry.condition_dim:
        return f"keep {count} keeps all components of {entry.name}, which makes it no smaller; keep fewer"
    return keep_fault(count, entry)


def _time_faults(request: CompactRequest, entry: ModelEntry, settings: Settings) -> list[Fault]:
    """What is wrong with the covered times of a resolved request."""
    if request.timesteps is not None:
        return [body_fault(*found) for found in times_faults("timesteps", request.timesteps, entry)]
    faults: list[Fault] = []
    if fault := sampler_fault(request.sampler, entry):
        faults.append(body_fault("sampler", fault))
    elif request.sampler == "dopri5":
        message = (
            "dopri5 chooses its times while it samples, so they cannot be covered; give timesteps, or another sampler"
        )
        faults.append(body_fault("sampler", message))
    if fault := shift_fault(request.timestep_shift, request.sampler):
        faults.append(body_fault("timestep_shift", fault))
    if fault := steps_fault(request.steps, settings):
        faults.append(body_fault("steps", fault))
    return faults
