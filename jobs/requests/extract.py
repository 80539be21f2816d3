"""The request of the job `extract`: which parts of which condition vectors to extract, at which times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, Field

from jobs.problems import Fault, InvalidRequest
from jobs.requests.base import ModelRequest
from jobs.requests.checks import body_fault, subject_faults, times_faults
from jobs.requests.fields import CONDITIONS, UNIQUE, ConditionsId, Part, Timesteps, all_different, in_short
from jobs.requests.labels import Label, class_numbers, subjects_of
from jobs.results import ExtractResult

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["ExtractRequest", "Parts"]

PARTS: list[Part] = ["c", "y", "t"]
FLOAT_BYTES = 4

_SEVERAL = (Field(min_length=1, max_length=65_536, json_schema_extra=UNIQUE), AfterValidator(all_different))
Parts = Annotated[
    list[Part], Field(min_length=1, max_length=len(PARTS), json_schema_extra=UNIQUE), AfterValidator(all_different)
]


class ExtractRequest(ModelRequest):
    """Extract the condition vectors of a model, as tensors."""

    kind: ClassVar[str] = "extract"
    result: ClassVar[type[BaseModel]] = ExtractResult

    labels: Annotated[list[Label], *_SEVERAL] | None = Field(
        default=None,
        description="The classes, each by its number, counted from 0, or by its name (`class_names` of the model); all "
        "by default.",
    )
    conditions: ConditionsId | None = Field(default=None, description=CONDITIONS)
    rows: Annotated[list[Annotated[int, Field(ge=0)]], *_SEVERAL] | None = Field(
        default=None, description="Which conditions of the file, counted from 0; all by default."
    )
    timesteps: Timesteps | None = Field(
        default=None,
        description="The times of c and t, in the model's own time; by default the one where sampling starts.",
    )
    parts: Parts | None = Field(
        default=None,
        description="What to extract: the condition c = y + t, its input part y, its time part t; all by default.",
    )

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `extract of shapes-sit: c, y at time 0, 0.5`."""
        at = f" at time {in_short(self.timesteps, 'times')}" if self.timesteps else ""
        return f"{super().job_title}: {', '.join(self.parts or PARTS)}{at}"

    @property
    def subjects(self) -> list[int]:
        """The labels of a resolved request, or the rows of its conditions; none if it asks for part t alone."""
        return subjects_of(self.labels if self.conditions is None else self.rows)

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> ExtractRequest:
        parts = [part for part in PARTS if part in (self.parts or PARTS)]
        faults: list[Fault] = []
        labels, rows, timesteps = class_numbers(self.labels, entry), self.rows, self.timesteps
        if parts == ["t"]:
            for name in ("labels", "conditions", "rows"):
                if getattr(self, name) is not None:
                    faults.append(
                        body_fault(name, f"part 't' does not depend on {name}; leave them out, or ask for c or y")
                    )
        else:
            faults += subject_faults(self.labels, rows, entry, conditions)
            if labels is None and entry.classes is not None:
                labels = list(range(entry.classes))
            if rows is None and conditions is not None:
                rows = list(range(conditions.count))
        if parts == ["y"]:
            if timesteps is not None:
                faults.append(
                    body_fault("timesteps", "part 'y' does not depend on time; leave timesteps out, or ask for c or t")
                )
        elif timesteps is None:
            timesteps = [entry.facts.noise_time]
        else:
            faults += [body_fault(*found) for found in times_faults("timesteps", timesteps, entry)]
        resolved = self.model_copy(update={"labels": labels, "rows": rows, "timesteps": timesteps, "parts": parts})
        if not faults:
            faults += _size_faults(resolved, entry, settings)
        if faults:
            raise InvalidRequest(faults)
        return resolved


def _size_faults(request: ExtractRequest, entry: ModelEntry, settings: Settings) -> list[Fault]:
    """What is wrong with the size of the vectors of a resolved request."""
    times, inputs, dim = len(request.timesteps or []), len(request.subjects), entry.condition_dim
    vectors = {"c": times * inputs, "y": inputs, "t": times}
    size = FLOAT_BYTES * dim * sum(vectors[part] for part in request.parts or [])
    if size <= settings.max_extract_bytes:
        return []
    where = "timesteps" if times > 1 else "labels" if request.conditions is None else "rows"
    return [
        body_fault(
            where,
            f"{times} timesteps x {inputs} inputs x {dim} components are {size} bytes; a job makes at most "
            f"{settings.max_extract_bytes}: ask for fewer, or in several jobs",
        )
    ]
