"""The description of a stored file, which records have."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Artifact", "Folder"]

Folder = Literal["results", "shards", "uploads", "models"]
"""What a file is: of a job's result, a part of a job, uploaded conditions, the checkpoint of a compacted model."""


class Artifact(BaseModel):
    """A stored file, by the sha256 of its bytes; `size` is in bytes."""

    model_config = ConfigDict(frozen=True)

    digest: str
    media_type: str
    size: int
    folder: Folder = "results"
