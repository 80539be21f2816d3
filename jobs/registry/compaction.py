"""How a compacted model was made, and its name."""

from __future__ import annotations

import re
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from tailprune.spec.compaction import CompactFill, CompactRule

__all__ = ["KEY_LETTERS", "Compaction", "compacted_name", "is_compacted_name"]

KEY_LETTERS = 16
"""How many letters of its job's key are in the name of a compacted model."""


class Compaction(BaseModel):
    """From which model a compacted model was made, and how."""

    model_config = ConfigDict(frozen=True)

    model: str = Field(description="The model from which it was made.")
    model_digest: str = Field(description="The sha256 of that model's checkpoint.")
    by: CompactRule = Field(description="The rule that chose the components or directions that stay.")
    fill: CompactFill = Field(
        description="What takes the place of the removed components: zero, their mean over the classes at each time, "
        "or (`refit`) their prediction from the components that are kept."
    )
    components: int = Field(description="The width d of the condition vectors, which compaction does not change.")
    kept: int = Field(description="How many components, or principal directions, AdaLN still reads.")
    time_columns: int = Field(description="How many further columns give AdaLN the mean as a function of time.")
    created: datetime = Field(description="When it was made.")


OF_COMPACTED = re.compile(rf".*-compact-[0-9a-f]{{{KEY_LETTERS}}}")


def is_compacted_name(name: str) -> bool:
    """Whether a name has the form of those of compacted models, which no added model is given."""
    return OF_COMPACTED.fullmatch(name) is not None


def compacted_name(model: str, job_key: str) -> str:
    """The name of the compacted model that a job makes from another."""
    return f"{model}-compact-{job_key[:KEY_LETTERS]}"
