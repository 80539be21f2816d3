"""The request of the job `edit`: a class moved towards another, by several strengths, and how it is sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag, model_validator

from jobs.edit_results import EditResult
from jobs.problems import Fault, InvalidRequest
from jobs.requests.checks import body_fault, schedule_faults, single_fault, subject_faults
from jobs.requests.fields import UNIQUE, Count, all_different, in_short, one_or_several, or_else
from jobs.requests.labels import Labels, class_numbers, label_faults, subjects_of
from jobs.requests.sampled import SampledRequest, sampling_faults, sampling_of
from tailprune.spec.edit import MOST_STRENGTH, EditSpec, check_moved
from tailprune.spec.prune import EVERY, Schedule

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["EditRequest"]

STRENGTHS = [0.0, 0.25, 0.5, 0.75, 1.0]

Strength = Annotated[float, Field(ge=-MOST_STRENGTH, le=MOST_STRENGTH)]
Strengths = Annotated[
    list[Strength], Field(min_length=1, max_length=64, json_schema_extra=UNIQUE), AfterValidator(all_different)
]


class EditRequest(SampledRequest):
    """Sample a model with its condition moved from some classes towards others, a row for each strength."""

    kind: ClassVar[str] = "edit"
    result: ClassVar[type[BaseModel]] = EditResult

    source: Labels = Field(
        description="The classes to lead away from, by number or name: the shift is the mean vector of `target` less "
        "that of these. For a model that takes conditions, rows of the uploaded file."
    )
    target: Labels = Field(description="The classes, or rows, to lead towards.")
    strength: (
        Annotated[Annotated[Strength, Tag("one")] | Annotated[Strengths, Tag("several")], Discriminator(one_or_several)]
        | None
    ) = Field(
        default=None,
        description="How far: c + strength * shift. 0 samples unedited, 1 adds the whole shift, more or negative ones "
        "lead beyond or away. A number, or a list for one row each; 0, 0.25, 0.5, 0.75 and 1 by default.",
    )
    components: Count | None = Field(
        default=None,
        description="How many components are moved: those in which the shift changes the shifts, scales and gates of "
        "the blocks most. All by default.",
    )
    directions: Count | None = Field(
        default=None,
        description="In place of components, along how many principal directions of the classes the shift leads: those "
        "in which it leads furthest. All by default.",
    )
    schedule: Schedule = Field(default=EVERY, description="The sampling steps at which to edit; every step by default.")

    @model_validator(mode="after")
    def _moves_one_thing(self) -> Self:
        check_moved(self.components, self.directions)
        return self

    @property
    def strengths(self) -> list[float]:
        """The strengths, each of which makes a variant."""
        if self.strength is None:
            return STRENGTHS
        return self.strength if isinstance(self.strength, list) else [self.strength]

    @property
    def edits(self) -> list[EditSpec]:
        """The edit of each variant of a resolved request."""
        source, target = tuple(subjects_of(self.source)), tuple(subjects_of(self.target))
        return [
            EditSpec(source, target, strength, self.components, self.directions, self.schedule)
            for strength in self.strengths
        ]

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `edit of shapes-sit from 3 to 7 at strength 0, 0.5, 1`."""
        what = "rows" if self.conditions is not None else "classes"
        source, target = (in_short(subjects_of(each), what) for each in (self.source, self.target))
        moved = "" if self.components is None else f", with {self.components} components"
        moved += "" if self.directions is None else f", with {self.directions} directions"
        steps = "" if self.schedule == EVERY else f", {self.schedule.name}"
        strengths = in_short(self.strengths, "strengths")
        at = strengths if strengths.count("strengths") else f"strength {strengths}"
        return f"{super().job_title} from {source} to {target} at {at}{moved}{steps}"

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> EditRequest:
        """See `ModelRequest.resolve`. Without labels, or rows, those of `source` are sampled."""
        by_row = bool(entry.facts.features)
        update = {"rows": or_else(self.rows, subjects_of(self.source))} if by_row else {
            "labels": or_else(self.labels, self.source)
        }  # fmt: skip
        asked = self.model_copy(update=update)
        found = sampling_of(asked, entry, conditions) | {
            "source": self.source if by_row else class_numbers(self.source, entry),
            "target": self.target if by_row else class_numbers(self.target, entry),
            "strength": [float(each) + 0.0 for each in self.strengths],  # -0 is 0
        }
        resolved = asked.model_copy(update=found)
        faults = [
            *subject_faults(self.labels, self.rows, entry, conditions),
            *_end_faults(self, resolved, entry, conditions),
            *_moved_faults(self, entry, conditions),
            *(
                body_fault(f"schedule.{field}", fault)
                for field, fault in schedule_faults(self.schedule, resolved.sampler, resolved.steps)
            ),
            *sampling_faults(resolved, entry, settings, settings.max_samples),
        ]
        if (count := len(self.strengths)) > settings.max_variants:
            message = f"{count} strengths is more than the {settings.max_variants} of one job; use several jobs"
            faults.append(body_fault("strength", message))
        if faults:
            raise InvalidRequest(faults)
        return resolved

    def evaluated_with(self, entry: ModelEntry, evaluation: EvaluationAssets) -> Mapping[str, Path | str]:
        """The classifier of the model, where its samples are images and it is there."""
        if entry.classifier is None or not entry.shows_images:
            return {}
        path = evaluation.extractor(entry.classifier)
        return {} if path is None else {f"extractor {entry.classifier}": path}


def _end_faults(
    request: EditRequest, resolved: EditRequest, entry: ModelEntry, conditions: ConditionInfo | None
) -> list[Fault]:
    """What is wrong with the classes, or rows, that the edit leads away from and towards."""
    faults = [
        body_fault(f"{field}.{place}", message)
        for field in ("source", "target")
        for place, message in _faults_of(getattr(request, field), entry, conditions)
    ]
    if not faults and sorted(subjects_of(resolved.source)) == sorted(subjects_of(resolved.target)):
        faults.append(body_fault("target", "source and target are the same, which moves nothing; give others"))
    return faults


def _faults_of(ends: Sequence[int | str], entry: ModelEntry, conditions: ConditionInfo | None) -> list[tuple[int, str]]:
    """What is wrong with one end of an edit, as pairs of place and message."""
    if not entry.facts.features:
        return label_faults(ends, entry)
    faults = []
    for place, row in enumerate(ends):
        if isinstance(row, str):
            faults.append((place, f"{entry.name} has no classes; give the row of a condition instead of {row!r}"))
        elif conditions is not None and row >= conditions.count:
            faults.append((place, f"row {row} is outside 0 to {conditions.count - 1}, the rows of the conditions"))
    return faults


def _moved_faults(request: EditRequest, entry: ModelEntry, conditions: ConditionInfo | None) -> list[Fault]:
    """What is wrong with moving some components or directions of this model."""
    faults = []
    for name in ("components", "directions"):
        count = getattr(request, name)
        if count is None:
            continue
        if count > entry.condition_dim:
            faults.append(
                body_fault(name, f"{name} {count} is more than the {entry.condition_dim} components of {entry.name}")
            )
        if entry.compacted is not None:
            message = (
                f"AdaLN of {entry.name}, which is compacted, does not read the components of c; leave {name} out, or "
                f"edit {entry.compacted.model}, from which it was made"
            )
            faults.append(body_fault(name, message))
        elif name == "directions" and (fault := single_fault(name, conditions)):
            faults.append(body_fault(name, fault))
    return faults
