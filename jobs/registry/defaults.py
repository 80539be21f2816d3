"""The sampling defaults of a model's requests: those of the family's authors, or the registry's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tailprune.spec.families import FAMILIES

__all__ = ["IMAGENET_LABELS", "ModelDefaults", "labels_shown"]

IMAGENET_CLASSES = 1000
IMAGENET_LABELS = [207, 360, 387, 974, 88, 979, 417, 279]
"""The labels of DiT's own sample script, and so of its successors'."""
LABELS_SHOWN = 8


class ModelDefaults(BaseModel):
    """The values that a request of a model has by default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    sampler: str = Field(description="The sampler.")
    steps: int = Field(ge=2, description="The number of sampling steps.")
    guidance_scale: float = Field(ge=1, le=1000, description="The guidance scale; 1 is unguided.")
    guidance_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Guide only between these two times; null to guide at all times."
    )
    guidance_power: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="The exponent of the power-cosine schedule of the guidance scale; null for a constant scale.",
    )
    guided_channels: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        default="all", description="How many latent channels are guided, counted from the first, or `all`."
    )
    timestep_shift: float | None = Field(
        default=None, gt=0, le=1000, description="The timestep shift of `euler` and `heun`; null for none."
    )
    labels: list[int] | None = Field(
        default=None, description="The class labels; null for a model that takes conditions."
    )
    samples_per_label: int = Field(default=1, ge=1, description="How many samples of each label or condition.")

    def faults(self, family: str, channels: int, classes: int | None) -> Iterator[str]:
        """What is wrong with these defaults for a model of this family, with these numbers of channels and classes."""
        facts = FAMILIES[family]
        if facts.features and self.labels is not None:
            yield f"defaults.labels: {family} takes {', '.join(facts.features)}, not labels"
        for label in self.labels or []:
            if classes is not None and not 0 <= label < classes:
                yield f"defaults.labels: label {label} is outside 0 to {classes - 1}"
        guided, interval = self.guided_channels, self.guidance_interval
        if isinstance(guided, int) and guided > channels:
            yield f"defaults.guided_channels: {guided} is more than the {channels} channels of the model"
        if interval is not None:
            low, high = interval
            if low >= high:
                yield f"defaults.guidance_interval: {low:g} to {high:g} is empty; give the lower time first"
            for time in interval:
                if fault := facts.check_time(time):
                    yield f"defaults.guidance_interval: {fault}"
        if self.sampler not in facts.samplers:
            yield (f"defaults.sampler: {self.sampler!r} does not fit {family}; use one of {', '.join(facts.samplers)}")


def labels_shown(classes: Any) -> list[int] | None:
    """The default labels of a model with this number of classes; None if `classes` is not a number."""
    if not isinstance(classes, int):
        return None
    return IMAGENET_LABELS if classes == IMAGENET_CLASSES else list(range(min(LABELS_SHOWN, classes)))
