"""The request of the job `anatomy`: the large transformer whose AdaLN is described."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel

from jobs.anatomy_results import AnatomyResult
from jobs.requests.base import History, TransformerRequest

__all__ = ["AnatomyRequest"]


class AnatomyRequest(TransformerRequest):
    """Describe what the AdaLN of a large transformer takes, and what could stand in its place."""

    kind: ClassVar[str] = "anatomy"
    result: ClassVar[type[BaseModel]] = AnatomyResult
    history: ClassVar[History] = "statistics"
