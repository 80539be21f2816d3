"""The request of the job `figure-transformer`: which figure of a large transformer to draw."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field

from jobs.figure_results import FigureTransformerResult
from jobs.requests.base import History, TransformerRequest
from jobs.requests.fields import TransformerFigureName

__all__ = ["FigureTransformerRequest"]


class FigureTransformerRequest(TransformerRequest):
    """Draw a figure of a large transformer's AdaLN."""

    kind: ClassVar[str] = "figure-transformer"
    result: ClassVar[type[BaseModel]] = FigureTransformerResult
    history: ClassVar[History] = "statistics"

    figure: TransformerFigureName = Field(description="Which figure to draw.")

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `rank figure of flux-dev`."""
        return f"{self.figure} figure of {self.model}"
