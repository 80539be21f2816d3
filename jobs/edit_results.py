"""The result of the job `edit`: samples by strength, and what the model's classifier sees in them."""

from __future__ import annotations

from pydantic import Field

from jobs.results import Drift, Engine, Image, ModelUsed, Pictures, Result, Sound, Timing
from tailprune.spec.edit import EditSpec

__all__ = ["EditResult", "EditVariant", "EditedImage", "Verdict"]


class Verdict(Result):
    """What the model's classifier sees in one image."""

    label: int = Field(description="The class of the greatest probability.")
    class_name: str | None = Field(description="Its name; null if it has none.")
    probability: float = Field(description="Its probability, from 0 to 1.")
    source: float = Field(description="The probability of the classes that the edit leads away from, together.")
    target: float = Field(description="The probability of those that it leads towards.")


class EditedImage(Image):
    """One sample as a picture."""

    verdict: Verdict | None = Field(
        default=None, description="What the classifier sees in it; null for a model without a classifier."
    )


class EditVariant(Result):
    """The samples of one strength."""

    name: str = Field(description="The edit in words.")
    edit: EditSpec = Field(description="The edit.")
    drift: Drift | None = Field(
        default=None,
        description="How far the samples are from those of strength 0; null for these, and if they are not made.",
    )
    source: float | None = Field(
        default=None, description="The mean of the verdicts' `source` over the images; null without a classifier."
    )
    target: float | None = Field(default=None, description="The same of `target`.")
    images: list[EditedImage] = Field(description="A picture of each sample.")
    sounds: list[Sound] = Field(default_factory=list, description="Each sample as sound, of models that make sound.")
    latents: str = Field(description="The name of the artifact with the final latents (safetensors).")


class EditResult(Result):
    """The samples of every strength, from the same noise."""

    model: ModelUsed
    pictures: Pictures
    classifier: str | None = Field(
        description="The network whose verdicts the images have; null for a model that has none."
    )
    moved: float = Field(
        description="|shift| / |difference|: how much of the difference of the two means is moved, by its norm; 1 "
        "where all components are."
    )
    variants: list[EditVariant] = Field(description="One for each strength, in the order of the request.")
    grid: str = Field(
        description="The name of the artifact that shows the variants in one picture, a row for each strength."
    )
    timing: Timing
    engine: Engine
