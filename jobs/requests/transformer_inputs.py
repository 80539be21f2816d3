"""What requests of large transformers say of the other inputs of c than the time, each check once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from jobs.problems import Fault
from jobs.requests.checks import body_fault
from jobs.requests.fields import UNIQUE, all_different
from jobs.storage.condition_info import POOLED, TRANSFORMER
from tailprune.spec.transformers import MOST_TEXTS

if TYPE_CHECKING:
    from jobs.registry.transformers import TransformerFacts
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["MOST_NUMBER", "Classes", "Scale", "classes_fault", "population_fault", "scales_fault"]

MOST_NUMBER = 2**20
"""Above every rank and class."""

Scale = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Classes = Annotated[
    list[Annotated[int, Field(ge=0, le=MOST_NUMBER)]],
    Field(min_length=1, max_length=4096, json_schema_extra=UNIQUE),
    AfterValidator(all_different),
]


def scales_fault(name: str, facts: TransformerFacts, guidance: object) -> Fault | None:
    """That a model takes no guidance scale, though some are given."""
    if guidance is None or facts.part("guidance") is not None:
        return None
    return body_fault("guidance", f"{name} takes no guidance scale; leave guidance out")


def classes_fault(name: str, facts: TransformerFacts, classes: Sequence[int] | None) -> Fault | None:
    """What is wrong with the classes that are given, or None."""
    if classes is None:
        return None
    if facts.classes is None:
        return body_fault("classes", f"{name} takes no class; leave classes out")
    if wrong := [each for each in classes if each >= facts.classes]:
        return body_fault("classes", f"class {wrong[0]} is outside 0 to {facts.classes - 1}, the classes of {name}")
    return None


def population_fault(name: str, facts: TransformerFacts, texts: ConditionInfo | None) -> Fault | None:
    """What is wrong with the pooled texts that are named, or None. texts: the description of the upload, if one is."""
    width = facts.text_width
    if texts is None:
        return None
    if width is None:
        return body_fault("population", f"{name} takes no pooled text; leave population out")
    if texts.family != TRANSFORMER:
        has = ", ".join(texts.inputs)
        takes = f"an array {POOLED!r} of K pooled texts, K x {width}"
        return body_fault("population", f"these are conditions of {has}, for {texts.family}; {name} takes {takes}")
    if texts.inputs[POOLED] != [width]:
        return body_fault(
            "population",
            f"these pooled texts are {texts.inputs[POOLED][0]} wide, and those of {name} are {width}: give what its "
            "pipeline passes to it, of the model's own text encoder",
        )
    if texts.count > MOST_TEXTS:
        return body_fault("population", f"{texts.count:,} pooled texts are more than {MOST_TEXTS:,}; give fewer")
    return None
