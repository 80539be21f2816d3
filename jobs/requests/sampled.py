"""What requests say that have a model sampled: of what, how many, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from jobs.problems import Fault
from jobs.registry.models import ModelEntry
from jobs.requests.base import Queue, Reads, Request
from jobs.requests.checks import (
    SHIFTED,
    body_fault,
    interval_faults,
    sampler_fault,
    shift_fault,
    steps_fault,
)
from jobs.requests.fields import CONDITIONS, Channels, ConditionsId, Labels, Seed, or_else
from jobs.settings import Settings
from jobs.storage.uploads import ConditionInfo

__all__ = ["Precision", "SampledRequest", "sampling_faults", "sampling_of"]

Precision = Literal["float32", "bfloat16", "auto"]


class SampledRequest(Request):
    """A request for samples of a model."""

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

    precision: Precision = Field(
        default="float32",
        description="What the network computes in: float32, the reference; bfloat16, faster where the hardware has it, "
        "with its drift in the result; auto: bfloat16 on a GPU that has it, else float32.",
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
        return (self.labels if self.conditions is None else self.rows) or []


def sampling_of(request: SampledRequest, entry: ModelEntry, conditions: ConditionInfo | None) -> dict[str, Any]:
    """The fields above with every default filled in."""
    defaults = entry.defaults
    sampler = request.sampler or defaults.sampler
    is_sde, shifts = sampler == "sde", sampler in SHIFTED
    return {
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


def sampling_faults(request: SampledRequest, entry: ModelEntry, settings: Settings, most_samples: int) -> list[Fault]:
    """What the model and the limits do not allow of a resolved request's sampling.

    most_samples: labels x samples_per_label of one job.
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
    faults += interval_faults(request.guidance_interval, entry)
    if request.sampler != "sde":
        for name in ("diffusion", "last_step"):
            if (value := getattr(request, name)) is not None:
                faults.append((name, f"{name} {value!r} goes with sampler 'sde' alone; leave it out"))
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
