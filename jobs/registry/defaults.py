"""What a request gets that leaves something out: how the authors of a family sample, changed by the registry."""

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
    """What a request that does not say otherwise gets."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    sampler: str
    steps: int = Field(ge=2)
    guidance_scale: float = Field(ge=1, le=1000)
    guidance_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    guidance_power: float | None = Field(default=None, gt=0, le=1000)
    guided_channels: Annotated[int, Field(ge=1)] | Literal["all"] = "all"
    timestep_shift: float | None = Field(default=None, gt=0, le=1000)
    labels: list[int] | None = Field(default=None, description="Null for a model that takes conditions.")
    samples_per_label: int = Field(default=1, ge=1)

    def faults(self, family: str, channels: int, classes: int | None) -> Iterator[str]:
        """What no request of a model could ask for, of this family and so many channels and classes."""
        facts = FAMILIES[family]
        if facts.features and self.labels is not None:
            yield f"defaults.labels: {family} takes {', '.join(facts.features)}, not labels"
        for label in self.labels or []:
            if classes is not None and not 0 <= label < classes:
                yield f"defaults.labels: label {label} is outside 0 to {classes - 1}"
        guided, interval = self.guided_channels, self.guidance_interval
        if isinstance(guided, int) and guided > channels:
            yield f"defaults.guided_channels: {guided} is more than the {channels} channels there are"
        if interval is not None:
            low, high = interval
            if low >= high:
                yield f"defaults.guidance_interval: {low:g} to {high:g} is empty; the lower time comes first"
            for time in interval:
                if fault := facts.check_time(time):
                    yield f"defaults.guidance_interval: {fault}"
        if self.sampler not in facts.samplers:
            yield (
                f"defaults.sampler: {self.sampler!r} does not sample {family}, which has {', '.join(facts.samplers)}"
            )


def labels_shown(classes: Any) -> list[int] | None:
    """The labels that a model of so many classes is sampled at; None where `classes` is no number."""
    if not isinstance(classes, int):
        return None
    return IMAGENET_LABELS if classes == IMAGENET_CLASSES else list(range(min(LABELS_SHOWN, classes)))
