"""The result of the job `attribution`: which components and directions carry which attribute of the classes."""

from __future__ import annotations

from pydantic import Field

from jobs.results import ModelUsed, Result

__all__ = ["Attribute", "Attributed", "AttributedPart", "AttributionResult"]


class Attribute(Result):
    """An attribute of the classes."""

    name: str = Field(description="Its name.")
    values: list[str] = Field(description="Its values, each once, in the order of the classes.")


class AttributedPart(Result):
    """How much of the variance an attribute has by itself; or the rest."""

    part: str = Field(
        description="The name of the attribute; `interaction` for what none has by itself, `within` beside a single "
        "attribute."
    )
    plain: float = Field(description="Its share of the variance of the class vectors, from 0 to 1.")
    weighted: float = Field(description="Its share of the variance of the modulations that they make.")


class Attributed(Result):
    """A component, or a principal direction, and what its variance is of."""

    index: int = Field(description="The component, or the direction, counted from 0.")
    share: float = Field(
        description="For a component, var_i |W_i|^2 as a share of the sum of all; for a direction, its share of the "
        "variance of the modulations. From 0 to 1."
    )
    parts: list[float] = Field(description="The shares of its own variance, in the order of `shares`, which add to 1.")


class AttributionResult(Result):
    """The variance of the class part y over the classes, divided among attributes."""

    model: ModelUsed
    count: int = Field(description="How many classes there are.")
    dim: int = Field(description="The width d of the vectors.")
    attributes: list[Attribute] = Field(description="The attributes.")
    shares: list[AttributedPart] = Field(description="How much each attribute has, then the rest.")
    components: list[Attributed] = Field(
        description="The components, those first whose variance changes the modulations most; at most 4,096."
    )
    directions: list[Attributed] = Field(
        description="The principal directions of the classes, as the modulations see them, the first the largest."
    )
