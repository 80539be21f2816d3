"""The description of uploaded conditions."""

from __future__ import annotations

from pydantic import BaseModel, Field

from jobs.requests.fields import CONDITIONS_PATTERN

__all__ = ["POOLED", "TRANSFORMER", "ConditionInfo"]

TRANSFORMER = "transformer"
"""The family of pooled texts, which large transformers take; no family of systems has this name."""
POOLED = "pooled"
"""The array of their file, with shape (K, width of a pooled text)."""


class ConditionInfo(BaseModel):
    """A description of stored conditions."""

    id: str = Field(
        description="The id by which requests name them in `conditions`, or pooled texts in `population`: a digest of "
        "the numbers as float32.",
        pattern=CONDITIONS_PATTERN,
    )
    count: int = Field(description="How many conditions there are; their rows are 0 to count - 1.", ge=1)
    inputs: dict[str, list[int]] = Field(description="The arrays by name, with the shape of one condition.")
    family: str = Field(
        description="The family of models that takes them; `transformer` for pooled texts, which large transformers "
        "take."
    )
    bytes: int = Field(description="The size of the stored file in bytes.", ge=1)
