"""The fields of requests that sample a model: what is sampled, how often, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.problems import Fault
from jobs.requests.base import ModelRequest, Queue, Reads
from jobs.requests.checks import (
    SHIFTED,
    body_fault,
    guidance_fault,
    interval_faults,
    sampler_fault,
    shift_fault,
    steps_fault,
)
from jobs.requests.fields import CONDITIONS, Channels, ConditionsId, Rows, Seed, or_else
from jobs.requests.labels import Label, Labels, class_numbers, label_faults, subjects_of
from tailprune.spec.edit import MOST_STRENGTH

if TYPE_CHECKING:
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["ModulationFields", "Precision", "SampledRequest", "sampling_faults", "sampling_of"]

Precision = Literal["float32", "bfloat16", "auto"]


class ModulationFields(BaseModel):
    """Modulation guidance (arXiv 2602.09268): c of every sample becomes c + weight (c+ - c-)."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    weight: float = Field(ge=-MOST_STRENGTH, le=MOST_STRENGTH, description="How far c is moved; 0 is not at all.")
    plus: Label | None = Field(default=None, description="The class of c+; by default each sample's own condition.")
    minus: Label | None = Field(default=None, description="The class of c-; by default the null condition.")


class SampledRequest(ModelRequest):
    """A request that samples a model."""

    labels: Labels | None = Field(
        default=None,
        description="The classes to sample, each by its number, counted from 0, or by its name (`class_names` of the "
        "model); by default those of the model's `defaults`, and in a study all classes.",
    )
    conditions: ConditionsId | None = Field(default=None, description=CONDITIONS)
    rows: Rows | None = Field(
        default=None, description="Which conditions of the file to sample, counted from 0; all by default."
    )
    samples_per_label: int | None = Field(
        default=None, ge=1, description="How many samples of each label or condition; the model's default if not given."
    )
    seed: Seed = Field(default=0, description="The seed of the noise: equal seeds give equal noise.")
    sampler: Literal["ddim", "ddpm", "dpmpp", "euler", "heun", "dopri5", "sde"] | None = Field(
        default=None,
        description="The sampler; the model's default if not given. `GET /models/{model}` lists those of a model.",
    )
    steps: int | None = Field(
        default=None, ge=2, description="The number of sampling steps; the model's default if not given."
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="The scale of classifier-free guidance; 1 is unguided. The model's default if not given.",
    )
    guidance_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        default=None,
        description="Guide only between these two times, the lower one first, in the model's own time; the model's "
        "default if not given.",
    )
    guidance_power: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="The exponent of the power-cosine schedule of the guidance scale; the model's default if not "
        "given. Null in a resolved request is a constant scale.",
    )
    guided_channels: Channels | None = Field(
        default=None,
        description="How many latent channels to guide, counted from the first, or `all`; the model's default if not "
        "given.",
    )
    modulation: ModulationFields | None = Field(
        default=None,
        description="Modulation guidance, which moves c itself and costs no call of the network; beside the guidance "
        "scale or in place of it. The null condition's vector is not moved. None by default.",
    )
    timestep_shift: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="The timestep shift s of the samplers `euler` and `heun`: grid point u becomes "
        "s u / (1 + (s - 1) u), so that 1 is no shift. The model's default if not given.",
    )
    diffusion: Literal["sigma", "linear"] | None = Field(
        default=None, description="The form of the diffusion coefficient of the sampler `sde`; `sigma` by default."
    )
    last_step: Literal["mean", "tweedie"] | None = Field(
        default=None, description="How the sampler `sde` takes its last step; `mean` by default."
    )

    precision: Precision = Field(
        default="float32",
        description="The precision in which the network computes: `float32`, the reference; `bfloat16`, faster on "
        "hardware that has it, with its drift in the result; or `auto`, bfloat16 on a GPU that has it and on a CPU "
        "where it was measured faster for this model, and float32 elsewhere.",
    )

    @property
    def queue(self) -> Queue:
        return "sampling"

    @property
    def reads(self) -> Reads:
        return "model"

    @property
    def subjects(self) -> list[int]:
        """The labels of a resolved request, or the rows of its conditions."""
        return subjects_of(self.labels if self.conditions is None else self.rows)


def sampling_of(request: SampledRequest, entry: ModelEntry, conditions: ConditionInfo | None) -> dict[str, Any]:
    """The sampling fields of a request with every default filled in, by name."""
    defaults = entry.defaults
    sampler = request.sampler or defaults.sampler
    is_sde, shifts = sampler == "sde", sampler in SHIFTED
    return {
        "labels": or_else(class_numbers(request.labels, entry), defaults.labels),
        "rows": or_else(request.rows, None if conditions is None else list(range(conditions.count))),
        "samples_per_label": or_else(request.samples_per_label, defaults.samples_per_label),
        "sampler": sampler,
        "steps": or_else(request.steps, defaults.steps),
        "guidance_scale": or_else(request.guidance_scale, defaults.guidance_scale),
        "guidance_interval": or_else(request.guidance_interval, defaults.guidance_interval),
        "guidance_power": or_else(request.guidance_power, defaults.guidance_power),
        "guided_channels": or_else(request.guided_channels, defaults.guided_channels),
        "modulation": _resolved_modulation(request.modulation, entry),
        "timestep_shift": or_else(request.timestep_shift, defaults.timestep_shift)
        if shifts
        else request.timestep_shift,
        "diffusion": or_else(request.diffusion, "sigma") if is_sde else request.diffusion,
        "last_step": or_else(request.last_step, "mean") if is_sde else request.last_step,
    }


def sampling_faults(request: SampledRequest, entry: ModelEntry, settings: Settings, most_samples: int) -> list[Fault]:
    """What the model and the limits do not allow in the sampling fields of a resolved request.

    request: with every default filled in.
    entry: the model.
    settings: the limits.
    most_samples: the limit on labels x samples_per_label of one job.
    """
    faults: list[tuple[str, str]] = []
    if fault := sampler_fault(request.sampler, entry):
        faults.append(("sampler", fault))
    if isinstance(request.guided_channels, int) and request.guided_channels > entry.latent_shape[0]:
        faults.append(
            (
                "guided_channels",
                f"guided_channels {request.guided_channels} is more than the {entry.latent_shape[0]} channels "
                f"of {entry.name}",
            )
        )
    if fault := guidance_fault(request.guidance_scale, entry):
        faults.append(("guidance_scale", fault))
    faults += interval_faults(request.guidance_interval, entry)
    faults += _modulation_faults(request.modulation, entry)
    if request.sampler != "sde":
        for name in ("diffusion", "last_step"):
            if (value := getattr(request, name)) is not None:
                faults.append((name, f"{name} {value!r} applies only to the sampler 'sde'; leave it out"))
    if fault := shift_fault(request.timestep_shift, request.sampler):
        faults.append(("timestep_shift", fault))
    what, count = "conditions" if request.conditions is not None else "labels", len(request.subjects)
    each = request.samples_per_label or 1
    if count * each > most_samples:
        faults.append(
            (
                "samples_per_label",
                f"{count} {what} x {each} samples is {count * each} samples; a job makes at most "
                f"{most_samples}: ask for fewer, or in several jobs",
            )
        )
    if fault := steps_fault(request.steps, settings):
        faults.append(("steps", fault))
    return [body_fault(location, message) for location, message in faults]


def _resolved_modulation(modulation: ModulationFields | None, entry: ModelEntry) -> ModulationFields | None:
    """Modulation guidance with the numbers of its classes; a name that not exactly one class has stays."""
    if modulation is None:
        return None
    ends = {
        name: (class_numbers([label], entry) or [label])[0]
        for name in ("plus", "minus")
        if (label := getattr(modulation, name)) is not None
    }
    return modulation.model_copy(update=ends)


def _modulation_faults(modulation: ModulationFields | None, entry: ModelEntry) -> list[tuple[str, str]]:
    """What is wrong with moving the conditions of a model so, as pairs of location and message."""
    if modulation is None:
        return []
    faults: list[tuple[str, str]] = []
    for name in ("plus", "minus"):
        label = getattr(modulation, name)
        if label is not None and entry.facts.features:
            faults.append((f"modulation.{name}", f"{entry.name} has no classes; leave {name} out"))
        elif label is not None:
            faults += [(f"modulation.{name}", fault) for _, fault in label_faults([label], entry)]
    if modulation.plus is not None and modulation.plus == modulation.minus:
        faults.append(("modulation.minus", "plus and minus are the same class, which moves nothing; give two"))
    if modulation.minus is None and not entry.null_condition:
        faults.append(
            (
                "modulation.minus",
                f"{entry.name} has no null condition to lead away from, since it was trained without dropping labels; "
                "give a class",
            )
        )
    return faults
