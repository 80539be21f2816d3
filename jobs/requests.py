"""What can be asked for: the requests, their defaults, and what a model allows.

A request is checked twice. Its own shape is checked where it is read (`PruneSampleRequest`,
`MetricsRequest`); `resolve` then fills in the model's defaults and checks everything against the model and
the limits. The resolved request says the whole job, so it is what the job's key is made of.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag, model_validator

from jobs.conditions import CONDITIONS_PATTERN, ConditionInfo
from jobs.problems import Fault, InvalidRequest
from jobs.registry import ModelEntry
from jobs.settings import Settings

__all__ = [
    "UNION_TAGS",
    "ConditionsId",
    "MetricsRequest",
    "PruneSampleRequest",
    "Schedule",
    "Thresholds",
    "resolve",
    "resolve_metrics",
]

DEFAULT_THRESHOLDS = [0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
SHIFTED = ("euler", "heun")
GREATEST_SEED = 2**63 - 1
UNIQUE: dict[str, JsonValue] = {"uniqueItems": True}

T = TypeVar("T")


def _different(values: list[T]) -> list[T]:
    repeated = sorted({value for value in values if values.count(value) > 1}, key=str)
    if repeated:
        raise ValueError(f"{repeated[0]} is given more than once; name each value once")
    return values


UNION_TAGS = frozenset({"one", "several", "word"})
"""Stand in the locations of pydantic's errors for the branch of a union that a value was meant for."""


def _one_or_several(value: Any) -> str:
    return "several" if isinstance(value, list) else "one"


def _number_or_word(value: Any) -> str:
    return "word" if isinstance(value, str) else "one"


Threshold = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Thresholds = Annotated[
    list[Threshold], Field(min_length=1, max_length=64, json_schema_extra=UNIQUE), AfterValidator(_different)
]
Counts = Annotated[
    list[Count], Field(min_length=1, max_length=64, json_schema_extra=UNIQUE), AfterValidator(_different)
]
Label = Annotated[int, Field(ge=0)]
OneOrMoreThresholds = Annotated[
    Annotated[Threshold, Tag("one")] | Annotated[Thresholds, Tag("several")], Discriminator(_one_or_several)
]
OneOrMoreCounts = Annotated[
    Annotated[Count, Tag("one")] | Annotated[Counts, Tag("several")], Discriminator(_one_or_several)
]
Channels = Annotated[
    Annotated[Count, Tag("one")] | Annotated[Literal["all"], Tag("word")], Discriminator(_number_or_word)
]
Labels = Annotated[
    list[Label], Field(min_length=1, max_length=4096, json_schema_extra=UNIQUE), AfterValidator(_different)
]
ConditionsId = Annotated[str, Field(pattern=CONDITIONS_PATTERN)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str = Field(min_length=1, max_length=100, description="A registered model; see GET /models.")


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


class PruneSampleRequest(_Request):
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
    side: Literal["tail", "head"] | None = Field(
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
    conditions: ConditionsId | None = Field(
        default=None,
        description="What POST /conditions answered with, for a model that takes conditions in place of labels.",
    )
    rows: Labels | None = Field(default=None, description="Which of the conditions to sample; all unless said.")
    samples_per_label: int | None = Field(default=None, ge=1, description="Samples of each label or condition.")
    seed: int = Field(default=0, ge=0, le=GREATEST_SEED, description="The same seed gives the same noise.")
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


class MetricsRequest(_Request):
    """Measure the condition vectors of a model, over its classes or over uploaded conditions."""

    conditions: ConditionsId | None = Field(
        default=None,
        description="What POST /conditions answered with, for a model that takes conditions in place of labels.",
    )
    part: Literal["c", "y", "t"] = Field(
        default="c", description="The sum c, or the input part y or time part t of it."
    )
    timestep: float | None = Field(
        default=None,
        description="The time at which c is measured; where sampling starts, unless said. Part c alone.",
    )
    thresholds: Thresholds = Field(
        default_factory=lambda: list(DEFAULT_THRESHOLDS),
        description="Magnitudes at which sparsity is measured.",
    )


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
        "side": _or(request.side, "tail") if by_threshold else None,
        "fill": _or(request.fill, "zero" if by_threshold else "mean"),
        "labels": _or(request.labels, defaults.labels),
        "rows": _or(request.rows, None if conditions is None else list(range(conditions.count))),
        "samples_per_label": _or(request.samples_per_label, defaults.samples_per_label),
        "sampler": sampler,
        "steps": _or(request.steps, defaults.steps),
        "guidance_scale": _or(request.guidance_scale, defaults.guidance_scale),
        "guidance_interval": _or(request.guidance_interval, defaults.guidance_interval),
        "guidance_power": _or(request.guidance_power, defaults.guidance_power),
        "guided_channels": _or(request.guided_channels, defaults.guided_channels),
        "timestep_shift": _or(request.timestep_shift, defaults.timestep_shift) if shifts else request.timestep_shift,
        "diffusion": _or(request.diffusion, "sigma") if is_sde else request.diffusion,
        "last_step": _or(request.last_step, "mean") if is_sde else request.last_step,
    }
    resolved = request.model_copy(update=given)
    faults = [
        *_condition_faults(request, entry, conditions),
        *_model_faults(resolved, entry),
        *_limit_faults(resolved, settings),
    ]
    if faults:
        raise InvalidRequest(faults)
    return resolved


def resolve_metrics(
    request: MetricsRequest, entry: ModelEntry, conditions: ConditionInfo | None = None
) -> MetricsRequest:
    """The request with its timestep filled in. conditions: what is known of those that the request names.

    Raises InvalidRequest for a timestep that the part or the model does not have, or for conditions that do not fit.
    """
    if fault := _population_fault(request, entry, conditions):
        raise InvalidRequest([Fault(location="query.conditions", message=fault)])
    if request.part != "c":
        if request.timestep is not None:
            message = f"part {request.part!r} is measured without a timestep; leave it out, or ask for part 'c'"
            raise InvalidRequest([Fault(location="query.timestep", message=message)])
        return request
    timestep = _or(request.timestep, entry.facts.first_time)
    if fault := entry.facts.check_time(timestep):
        raise InvalidRequest([Fault(location="query.timestep", message=fault)])
    return request.model_copy(update={"timestep": timestep})


def _condition_faults(request: PruneSampleRequest, entry: ModelEntry, conditions: ConditionInfo | None) -> list[Fault]:
    """What does not fit of labels, conditions and rows, in a request as it came."""
    faults: list[Fault] = []

    def wrong(location: str, message: str) -> None:
        faults.append(Fault(location=f"body.{location}", message=message))

    if fault := _fit(entry, conditions):
        wrong("conditions", fault)
    if entry.facts.features and request.labels is not None:
        wrong("labels", f"{entry.name} has no classes; it takes conditions of {_features(entry)}: leave labels out")
    if not entry.facts.features and request.rows is not None:
        wrong("rows", f"rows choose among conditions, and {entry.name} takes labels; leave them out")
    elif conditions is not None:
        for place, row in enumerate(request.rows or []):
            if row >= conditions.count:
                wrong(f"rows.{place}", f"row {row} is outside 0 to {conditions.count - 1}, the conditions there are")
    return faults


def _population_fault(request: MetricsRequest, entry: ModelEntry, conditions: ConditionInfo | None) -> str | None:
    """What is wrong with the conditions that statistics are to be taken over, or None."""
    if request.part == "t":
        return "part 't' is measured without conditions; leave them out" if conditions is not None else None
    if fault := _fit(entry, conditions):
        return fault
    if conditions is not None and conditions.count < 2:
        return "statistics are taken over two conditions or more, and this is one; upload a file of several"
    return None


def _fit(entry: ModelEntry, conditions: ConditionInfo | None) -> str | None:
    """What is wrong with giving these conditions, or none, to a model; None where nothing is."""
    if not entry.facts.features:
        return None if conditions is None else f"{entry.name} takes labels, not conditions; leave conditions out"
    if conditions is None:
        return (
            f"{entry.name} takes conditions of {_features(entry)}: upload their file with POST /conditions, and give "
            "the id that it answers with"
        )
    if conditions.family != entry.family:
        has = ", ".join(conditions.inputs)
        return f"these are conditions of {has}, and {entry.name} takes {_features(entry)}"
    return None


def _features(entry: ModelEntry) -> str:
    """What a model is conditioned on, with shapes."""
    return ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in entry.facts.features.items())


def _model_faults(request: PruneSampleRequest, entry: ModelEntry) -> list[Fault]:
    """What the model does not allow, in a resolved request."""
    faults: list[Fault] = []

    def wrong(location: str, message: str) -> None:
        faults.append(Fault(location=f"body.{location}", message=message))

    for place, label in enumerate(_list(request.labels)):
        if entry.classes is not None and label >= entry.classes:
            wrong(
                f"labels.{place}",
                f"label {label} is outside 0 to {entry.classes - 1}, the classes of {entry.name}",
            )
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


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _as_list(value: T | list[T] | None) -> list[T] | None:
    return value if value is None or isinstance(value, list) else [value]


def _list(value: Any) -> list[Any]:
    """A resolved field that is a list or absent, as a list."""
    return value if isinstance(value, list) else []
