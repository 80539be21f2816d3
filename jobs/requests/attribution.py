"""The request of the job `attribution`: the attributes among which the variance of the class vectors is divided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BaseModel, Field

from jobs.attribution_results import AttributionResult
from jobs.problems import Fault, InvalidRequest
from jobs.requests.base import History, ModelRequest, Reads
from tailprune.spec import InputError
from tailprune.spec.attributes import read_attributes

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.models import ModelEntry
    from jobs.settings import Settings
    from jobs.storage.condition_info import ConditionInfo

__all__ = ["ATTRIBUTES", "Attributes", "AttributionRequest", "attributes_fault"]

Attributes = Annotated[list[Annotated[str, Field(min_length=1, max_length=50_000)]], Field(min_length=1, max_length=8)]
ATTRIBUTES = (
    "What to call each word of the class names, such as `colour` and `shape` for classes as `red circle`, by default "
    "`word 1` and so on; or, for other classes, an attribute with the value of every class in order: "
    "`colour=red,red,blue`. Every value of one attribute has to occur with every value of another, as often as by "
    "chance."
)


class AttributionRequest(ModelRequest):
    """Divide the variance of a model's class vectors among attributes of the classes."""

    kind: ClassVar[str] = "attribution"
    result: ClassVar[type[BaseModel]] = AttributionResult
    history: ClassVar[History] = "statistics"

    attributes: Attributes | None = Field(default=None, description=ATTRIBUTES)

    @property
    def reads(self) -> Reads:
        return "model"  # AdaLN's weights, and the names of the classes

    def resolve(
        self,
        entry: ModelEntry,
        settings: Settings,
        conditions: ConditionInfo | None = None,
        evaluation: EvaluationAssets | None = None,
    ) -> AttributionRequest:
        if fault := attributes_fault(self.attributes, entry):
            raise InvalidRequest([Fault(location="query.attribute", message=fault)])
        return self


def attributes_fault(attributes: list[str] | None, entry: ModelEntry) -> str | None:
    """What is wrong with attributing the variance of a model's classes to these attributes, or None."""
    if entry.classes is None:
        return f"{entry.name} has no classes, but takes conditions: there is nothing whose attributes would be named"
    if entry.compacted is not None:
        return (
            f"AdaLN of {entry.name}, which is compacted, does not read the components of c; ask for "
            f"{entry.compacted.model}, from which it was made"
        )
    try:
        read_attributes(attributes, entry.names, entry.classes)
    except InputError as error:
        return str(error)
    return None
