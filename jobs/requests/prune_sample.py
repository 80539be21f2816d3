"""The request of the job `prune-sample`: prunes of a model, and how it is sampled under each."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobs.conditions import ConditionInfo
from jobs.problems import Fault, InvalidRequest
from jobs.registry import ModelEntry
from jobs.requests.fields import (
    CONDITIONS,
    Channels,
    ConditionsId,
    Labels,
    OneOrMoreCounts,
    OneOrMoreThresholds,
    Request,
    Seed,
    Side,
    or_else,
)
from jobs.requests.subjects import subject_faults
from jobs.settings import Settings

__all__ = ["PruneSampleRequest", "Schedule", "resolve"]

SHIFTED = ("euler", "heun")

T = TypeVar("T")


class Schedule(BaseModel):
    """The sampling steps at which `c` is pruned."""

    model_config = ConfigDict(extra="forbid", strict=True)

    when: Literal["every", "first", "last"] = Field(
        default="every", description="At every step, at the first steps only, or at the last steps only."
    )
    count: int | None = Field(
        default=None,
        ge=1,
        description="How many first or last steps; 1 unless said for `first`, none for `every`.",
    )

    @model_validator(mode="after")
    def _count_fits(self) -> Self:
        if self.when == "every" and self.count is not None:
            raise ValueError(f"count {self.count} says nothing with 'every'; leave it out, or use 'first' or 'last'")
        if self.when == "last" and self.count is None:
            raise ValueError("'last' needs count, the number of last steps to prune at")
        if self.when == "first" and self.count is None:
            self.count = 1
        return self


class PruneSampleRequest(Request):
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
        description="Magnitudes at which components of c are cut, one variant each. Either this or `keep`.",
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
    fill: Literal["zero", "mean"] | None = Field(
        default=None,
        description="What takes the place of a removed component: zero (unless said, with `threshold`) or "
        "the mean over the classes (unless said, with `keep`).",
    )
    schedule: Schedule = Schedule(when="every")
    labels: Labels | None = Field(
        default=None, description="The classes to sample; the model's own choice unless said."
    )
    conditions: ConditionsId | None = Field(default=None, description=CONDITIONS)
    rows: Labels | None = Field(default=None, description="Which of the conditions to sample; all unless said.")
    samples_per_label: int | None = Field(default=None, ge=1, description="Samples of each label or condition.")
    seed: Seed = Field(default=0, description="The same seed gives the same noise.")
    sampler: Literal["ddim", "ddpm", "dpmpp", "euler", "heun", "dopri5", "sde"] | None = None
    steps: int | None = Field(default=None, ge=2, description="Sampling steps.")
    guidance_scale: float | None = Field(default=None, ge=1, le=1000, description="1 is unguided.")
    guidance_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Guide only between these two times, in the model's own time."
    )
    guidance_power: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Exponent of the power-cosine guidance scale; constant when null.",
    )
    guided_channels: Channels | None = Field(
        default=None, description="Guide the first so many latent channels, or all."
    )
    timestep_shift: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Grid point u becomes s u / (1 + (s - 1) u), with sampler `euler` or `heun`; 1 is no shift.",
    )
    diffusion: Literal["sigma", "linear"] | None = Field(
        default=None, description="Form of the diffusion coefficient, with sampler `sde`; sigma unless said."
    )
    last_step: Literal["mean", "tweedie"] | None = Field(
        default=None, description="How the last step is taken, with sampler `sde`; mean unless said."
    )
    compare: bool = Field(default=True, description="Also sample unpruned from the same noise, and report the drift.")

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.threshold is None) == (self.keep is None):
            raise ValueError("say how to prune: exactly one of threshold and keep")
        if self.keep is not None and self.side is not None:
            raise ValueError(f"side {self.side!r} goes with threshold, not with keep; leave it out")
        if self.threshold is not None and self.by is not None:
            raise ValueError(f"by {self.by!r} goes with keep, not with threshold; leave it out")
        return self


def resolve(
    request: PruneSampleRequest, entry: ModelEntry, settings: Settings, conditions: ConditionInfo | None = None
) -> PruneSampleRequest:
    """The request with every default filled in, `threshold` and `keep` as lists.

    conditions: what is known of those that the request names. Raises InvalidRequest with everything that the model or
    the limits do not allow.
    """
    defaults = entry.defaults
    sampler = request.sampler or defaults.sampler
    by_threshold = request.threshold is not None
    is_sde, shifts = sampler == "sde", sampler in SHIFTED
    given: dict[str, Any] = {
        "threshold": _as_list(request.threshold),
        "keep": _as_list(request.keep),
        "by": None if by_threshold else "variance",
        "side": or_else(request.side, "tail") if by_threshold else None,
        "fill": or_else(request.fill, "zero" if by_threshold else "mean"),
        "labels": or_else(request.labels, defaults.labels),
        "rows": or_else(request.rows, None if conditions is None else list(range(conditions.count))),
        "samples_per_label": or_else(request.samples_per_label, defaults.samples_per_label),
        "sampler": sampler,
        "steps": or_else(request.steps, defaults.steps),
        "guidance_scale": or_else(request.guidance_scale, defaults.guidance_scale),
        "guidance_interval": or_else(request.guidance_interval, defaults.guidance_interval),
        "guidance_power": or_else(request.guidance_power, defaults.guidance_power),
        "guided_channels": or_else(request.guided_channels, defaults.guided_channels),
        "timestep_shift": or_else(request.timestep_shift, defaults.timestep_shift)
        if shifts
        else request.timestep_shift,
        "diffusion": or_else(request.diffusion, "sigma") if is_sde else request.diffusion,
        "last_step": or_else(request.last_step, "mean") if is_sde else request.last_step,
    }
    resolved = request.model_copy(update=given)
    faults = [
        *subject_faults(request.labels, request.rows, entry, conditions),
        *_population_faults(resolved, conditions),
        *_model_faults(resolved, entry),
        *_limit_faults(resolved, settings),
    ]
    if faults:
        raise InvalidRequest(faults)
    return resolved


def _population_faults(request: PruneSampleRequest, conditions: ConditionInfo | None) -> list[Fault]:
    """What of a resolved request asks for the mean or the variance of a single condition."""
    if conditions is None or conditions.count >= 2:
        return []
    asked = "keep" if request.keep is not None else "fill" if request.fill == "mean" else None
    if asked is None:
        return []
    message = (
        f"{asked} goes by all conditions of the file, and there is one; upload a file of several, and choose among "
        "them with rows"
    )
    return [Fault(location=f"body.{asked}", message=message)]


def _model_faults(request: PruneSampleRequest, entry: ModelEntry) -> list[Fault]:
    """What the model does not allow, in a resolved request."""
    faults: list[Fault] = []

    def wrong(location: str, message: str) -> None:
        faults.append(Fault(location=f"body.{location}", message=message))

    for place, count in enumerate(_list(request.keep)):
        if count > entry.condition_dim:
            wrong(
                f"keep.{place}",
                f"keep {count} is more than the {entry.condition_dim} components of {entry.name}",
            )
    if request.sampler not in entry.facts.samplers:
        has = ", ".join(entry.facts.samplers)
        wrong("sampler", f"sampler {request.sampler!r} does not sample {entry.name}; it has {has}")
    if isinstance(request.guided_channels, int) and request.guided_channels > entry.latent_shape[0]:
        wrong(
            "guided_channels",
            f"guided_channels {request.guided_channels} is more than the {entry.latent_shape[0]} channels "
            f"of {entry.name}",
        )
    if request.guidance_interval is not None:
        low, high = request.guidance_interval
        if low >= high:
            wrong("guidance_interval", f"the interval {low:g} to {high:g} is empty; give the lower time first")
        for place, time in enumerate((low, high)):
            if fault := entry.facts.check_time(time):
                wrong(f"guidance_interval.{place}", fault)
    if request.sampler != "sde":
        for name in ("diffusion", "last_step"):
            if (value := getattr(request, name)) is not None:
                wrong(name, f"{name} {value!r} goes with sampler 'sde' alone; leave it out")
    if request.sampler not in SHIFTED and request.timestep_shift is not None:
        shifted = " and ".join(repr(sampler) for sampler in SHIFTED)
        wrong("timestep_shift", f"timestep_shift goes with the samplers {shifted}; leave it out")
    if request.sampler == "dopri5" and request.schedule.when != "every":
        wrong(
            "schedule.when",
            f"dopri5 chooses its own steps and cannot prune at the {request.schedule.when!r} of them; "
            "use 'every', or another sampler",
        )
    return faults


def _limit_faults(request: PruneSampleRequest, settings: Settings) -> list[Fault]:
    """What the settings do not allow, in a resolved request."""
    faults: list[Fault] = []

    def wrong(location: str, message: str) -> None:
        faults.append(Fault(location=f"body.{location}", message=message))

    what, count = ("labels", len(request.labels)) if request.labels else ("conditions", len(_list(request.rows)))
    each = request.samples_per_label or 1
    if count * each > settings.max_samples:
        wrong(
            "samples_per_label",
            f"{count} {what} x {each} samples is {count * each} samples; a job makes at most "
            f"{settings.max_samples}: ask for fewer, or in several jobs",
        )
    steps = request.steps or 0
    if steps > settings.max_steps:
        wrong("steps", f"{steps} steps is more than the {settings.max_steps} allowed")
    if request.schedule.count is not None and request.schedule.count > steps:
        wrong("schedule.count", f"count {request.schedule.count} is more than the {steps} steps")
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
