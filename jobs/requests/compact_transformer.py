"""The request of the job `compact-transformer`: which times and inputs a smaller large transformer covers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag, model_validator

from jobs.compact_transformer_results import CompactTransformerResult
from jobs.problems import Fault, InvalidRequest
from jobs.requests.base import Queue, TransformerRequest
from jobs.requests.checks import body_fault
from jobs.requests.fields import (
    UNIQUE,
    ConditionsId,
    Timesteps,
    all_different,
    as_list,
    in_short,
    one_or_several,
    or_else,
)
from jobs.requests.transformer_inputs import (
    MOST_NUMBER,
    Classes,
    Scale,
    classes_fault,
    population_fault,
    scales_fault,
)
from jobs.requests.transformer_schedule import (
    Resolutions,
    facts_of,
    schedule_faults,
    scheduler_digest,
    steps_fault,
)
from tailprune.spec.transformers import MOST_COVERED

if TYPE_CHECKING:
    from jobs.registry.transformers import TransformerEntry, TransformerFacts
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["CompactTransformerRequest"]

COVERS = ("steps", "times", "rank", "error")

Steps = Annotated[int, Field(ge=1, le=MOST_COVERED)]
OneOrMoreSteps = Annotated[
    Annotated[Steps, Tag("one")]
    | Annotated[
        Annotated[
            list[Steps], Field(min_length=1, max_length=64, json_schema_extra=UNIQUE), AfterValidator(all_different)
        ],
        Tag("several"),
    ],
    Discriminator(one_or_several),
]
OneOrMoreScales = Annotated[
    Annotated[Scale, Tag("one")]
    | Annotated[
        Annotated[
            list[Scale], Field(min_length=1, max_length=64, json_schema_extra=UNIQUE), AfterValidator(all_different)
        ],
        Tag("several"),
    ],
    Discriminator(one_or_several),
]


class CompactTransformerRequest(TransformerRequest):
    """Make a smaller large transformer, whose AdaLN reads few directions in place of SiLU(c)."""

    kind: ClassVar[str] = "compact-transformer"
    result: ClassVar[type[BaseModel]] = CompactTransformerResult

    steps: OneOrMoreSteps | None = Field(
        default=None,
        description="Cover exactly the times of this many steps, or of each of several numbers. Give one of `steps`, "
        "`times`, `rank` and `error`.",
    )
    scheduler: Literal["own", "plain"] | None = Field(
        default=None,
        description="With `steps`: whose times they are, those of the model's `own` scheduler, which lies in "
        "`scheduler/` beside the transformer, or the `plain` ones, sigmas from 1 to 1/N. By default `own`; `plain` "
        "where the pipeline makes the times itself. Required where no scheduler lies beside the transformer.",
    )
    resolutions: Resolutions | None = Field(
        default=None,
        description="Widths and heights in pixels that are covered: of a model that takes the size of the picture, and "
        "with a scheduler that shifts its times by the resolution.",
        examples=[[[1024, 1024], [1664, 928]]],
    )
    times: Timesteps | None = Field(
        default=None,
        description="Cover exactly these times, as the pipeline passes them to the transformer, in the order of steps.",
    )
    rank: Annotated[int, Field(ge=1, le=MOST_NUMBER)] | None = Field(
        default=None, description="Cover all times by so many directions, those with the least error."
    )
    error: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Cover all times by as few directions as have at most this error."
    )
    guidance: OneOrMoreScales | None = Field(
        default=None,
        description="The guidance scales that are covered, of a model that takes one; the pipeline's default if not "
        "given.",
    )
    pooled: Literal["zero", "mean"] | None = Field(
        default=None,
        description="Of a model that takes a pooled text, which needs this or `population`: `zero` makes it take each "
        "for zeros, `mean` for the mean of the population, so that it follows the prompt by its tokens alone.",
    )
    population: ConditionsId | None = Field(
        default=None,
        description="The id of uploaded pooled texts, as `POST /conditions` returned it: they are covered, and texts "
        "alike. With `pooled` all count as one, and `text_error` of the result is measured over them.",
    )
    classes: Classes | None = Field(
        default=None,
        description="The classes that are covered, of a model that takes one, and required for it; the one that "
        "stands for none is covered besides.",
    )
    qkv: Literal["stacked", "interleaved"] | None = Field(
        default=None,
        description="Of a MiniMax-H3 under its original names, and required for it: the order of rows in `qkv_proj`, "
        "`stacked` in single files for ComfyUI, `interleaved` by heads in MiniMax's own shards. No tensor tells it.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in COVERS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of steps, times, rank and error, not {' and '.join(given) or 'none'}")
        if self.scheduler is not None and self.steps is None:
            raise ValueError(f"a scheduler makes the times of steps; leave scheduler out, or {given[0]}")
        return self

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `compact-transformer of flux-dev for 28 steps`."""
        if self.steps is not None:
            numbers: list[int] = as_list(self.steps)
            covers = f"for {in_short(numbers, 'numbers')} steps"
        elif self.times is not None:
            covers = f"for {len(self.times)} times"
        else:
            covers = f"within {self.error:g}" if self.rank is None else f"to {self.rank} directions"
        return f"{super().job_title} {covers}"

    @property
    def queue(self) -> Queue:
        return "sampling"

    def reading(self, entry: TransformerEntry) -> dict[str, Any]:
        """The digest of the model's scheduler, where that makes the times."""
        return scheduler_digest(entry, self.scheduler)

    def resolve(self, entry: TransformerEntry, conditions: ConditionInfo | None = None) -> Self:
        """See `TransformerRequest.resolve`. `guidance` may stay None, for the pipeline's default."""
        facts = facts_of(entry)
        makes = "plain" if facts.cls.gives == "times" else "own"
        resolved = self.model_copy(
            update={
                "steps": None if self.steps is None else as_list(self.steps),
                "scheduler": None if self.steps is None else or_else(self.scheduler, makes),
                "guidance": None if self.guidance is None else as_list(self.guidance),
                "classes": None if self.classes is None else sorted(self.classes),
            }
        )
        faults = [
            *_input_faults(resolved, entry.name, facts),
            *_text_faults(resolved, entry.name, facts, conditions),
            *_time_faults(resolved, entry, facts),
        ]
        if not faults:
            faults = list(_count_faults(resolved, facts, conditions))
        if faults:
            raise InvalidRequest(faults)
        return resolved


def _input_faults(request: CompactTransformerRequest, name: str, facts: TransformerFacts) -> Iterator[Fault]:
    """What is wrong with the other inputs of c than the time."""
    if fault := scales_fault(name, facts, request.guidance):
        yield fault
    if fault := classes_fault(name, facts, request.classes):
        yield fault
    if facts.classes is not None and request.classes is None:
        yield body_fault("classes", f"{name} takes a class: give classes, of 0 to {facts.classes - 1}")
    if facts.in_two_orders and request.qkv is None:
        yield body_fault(
            "qkv",
            f"{name} has the original names of {facts.cls.models}, under which no tensor tells the order of rows in "
            "qkv_proj: give 'stacked' for a single file as published for ComfyUI, or 'interleaved' for MiniMax's own "
            "shards and what was merged of them",
        )
    if request.qkv is not None and not facts.in_two_orders:
        yield body_fault("qkv", "qkv is for a MiniMax-H3 under its original names; leave qkv out")


def _text_faults(
    request: CompactTransformerRequest, name: str, facts: TransformerFacts, texts: ConditionInfo | None
) -> Iterator[Fault]:
    """What is wrong with pooled texts. texts: the description of the upload; None if the request names none."""
    if fault := population_fault(name, facts, texts):
        yield fault
    if facts.text_width is None:
        if request.pooled is not None:
            yield body_fault("pooled", f"{name} takes no pooled text; leave pooled out")
    elif texts is None and request.pooled == "mean":
        what = "upload them with POST /conditions, and give the id that it returns"
        yield body_fault("population", f"the mean of pooled texts needs texts: {what}")
    elif texts is None and request.pooled is None:
        yield body_fault(
            "pooled",
            f"{name} takes a pooled text: give 'zero', by which it follows the prompt by its tokens alone; or a "
            "population of texts, to cover them, or with 'mean' to take each for their mean",
        )


def _time_faults(
    request: CompactTransformerRequest, entry: TransformerEntry, facts: TransformerFacts
) -> Iterator[Fault]:
    """What is wrong with the times, and with resolutions."""
    name = entry.name
    if request.times is None and request.steps is None and any(part.scheduled for part in facts.parts):
        field = "rank" if request.rank is not None else "error"
        yield body_fault(field, f"{name} takes the time of the next step too; give steps or times instead")
    if request.rank is not None and request.rank > facts.width:
        yield body_fault("rank", f"c of {name} has {facts.width} components; give a rank of at most as many")
    if fault := steps_fault(facts, request.scheduler, as_list(request.steps or [])):
        yield fault
    yield from schedule_faults(entry, facts, request.scheduler, request.resolutions, "give times")
    number = facts.cls.time.number
    assert number is not None, "the time is a number"
    if request.times is not None and not all(0 <= time <= number.most for time in request.times):
        yield body_fault("times", f"the pipeline of {facts.cls.models} passes times of 0 to {number.most:g}; give such")


def _count_faults(
    request: CompactTransformerRequest, facts: TransformerFacts, texts: ConditionInfo | None
) -> Iterator[Fault]:
    """What is wrong with how much a request covers that is right by itself. texts: as in `_text_faults`."""
    resolutions = len(request.resolutions or [None])
    takes_sizes = facts.part("sizes") is not None
    counts = {
        "times": len(request.times or [None]) if request.steps is None else sum(as_list(request.steps)),
        "resolutions": resolutions,
        "guidance scales": 1 if request.guidance is None else len(as_list(request.guidance)),
        "classes": 1 if request.classes is None else len(request.classes) + 1,
        "pooled texts": 1 if texts is None or request.pooled is not None else texts.count,
    }
    if not takes_sizes and request.scheduler != "own":
        del counts["resolutions"]
    if (covered := math.prod(counts.values())) > MOST_COVERED:
        field = next(field for field in COVERS if getattr(request, field) is not None)
        what = " x ".join(f"{count:,} {name}" for name, count in counts.items() if count > 1)
        yield body_fault(field, f"{what} are {covered:,} vectors, and at most {MOST_COVERED:,} are covered; give fewer")
