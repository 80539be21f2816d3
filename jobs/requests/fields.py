"""The types of fields that requests share, and how their values are checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag

from tailprune.spec.prune import MOST_BLOCKS, MOST_STEPS, Block, StepThreshold, as_blocks, as_thresholds, plain

__all__ = [
    "CONDITIONS",
    "CONDITIONS_PATTERN",
    "MOST_STUDY_VARIANTS",
    "UNION_TAGS",
    "UNIQUE",
    "AnyFigureName",
    "Blocks",
    "Channels",
    "ColourRange",
    "ConditionsId",
    "ErrorRule",
    "FigureName",
    "MeasuredDrift",
    "OneOrMoreCounts",
    "OneOrMoreShares",
    "OneOrMoreThresholds",
    "Part",
    "Rows",
    "Seed",
    "Shares",
    "Threshold",
    "ThresholdByStep",
    "Thresholds",
    "Timesteps",
    "TransformerFigureName",
    "all_different",
    "as_list",
    "in_short",
    "number_or_word",
    "one_or_several",
    "or_else",
    "upload_in",
]

T = TypeVar("T")

UNIQUE: dict[str, JsonValue] = {"uniqueItems": True}
CONDITIONS = "The id of uploaded conditions, as `POST /conditions` returned it; for models that take no labels."
CONDITIONS_PATTERN = r"^[0-9a-f]{64}$"
UPLOADS = ("conditions", "population")
"""The fields that name an upload, of which a request has one at most."""
GREATEST_SEED = 2**63 - 1
MOST_STUDY_VARIANTS = 1024
"""The most prunes of one study that a limit can allow."""
MOST_LISTED = 4
"""The most numbers that the title of a job lists."""

UNION_TAGS = frozenset({"one", "several", "word"})
"""The names of the branches of unions, which pydantic puts into the locations of its errors."""


def all_different(values: list[T]) -> list[T]:
    """The values themselves. Raises ValueError if a value occurs twice."""
    repeated = sorted((value for value, times in Counter(values).items() if times > 1), key=str)
    if repeated:
        raise ValueError(f"{repeated[0]} is given more than once; give each value once")
    return values


def _with_threshold(thresholds: list[float | None]) -> list[float | None]:
    """The thresholds by step. Raises ValueError if no step has one."""
    return list(as_thresholds(thresholds))


def _in_order(blocks: list[int | Literal["final"]]) -> list[int | Literal["final"]]:
    """Blocks in the order in which they run."""
    return list(as_blocks(blocks))


def or_else(value: T | None, default: T) -> T:
    """The value, or the default if it is None."""
    return default if value is None else value


def upload_in(request: Mapping[str, Any]) -> str | None:
    """The id of the upload that a request names, by its fields; None if it names none."""
    return next((str(request[name]) for name in UPLOADS if request.get(name)), None)


def as_list(value: T | list[T]) -> list[T]:
    """The values of a field that takes one or several."""
    return value if isinstance(value, list) else [value]


def in_short(values: Sequence[float], what: str) -> str:
    """A few numbers as text, or how many there are and the least and the greatest. what: their name, in the plural."""
    if len(values) <= MOST_LISTED:
        return ", ".join(map(plain, values))
    return f"{len(values)} {what} from {plain(min(values))} to {plain(max(values))}"


def one_or_several(value: Any) -> str:
    """Which of a field's two forms a value is meant for: `one` or `several`."""
    return "several" if isinstance(value, list) else "one"


def number_or_word(value: Any) -> str:
    """Which of a field's two forms a value is meant for: a number, `one`, or a `word`."""
    return "word" if isinstance(value, str) else "one"


Part = Literal["c", "y", "t"]
ColourRange = Annotated[
    list[Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]], Field(min_length=2, max_length=2)
]
FigureName = Literal[
    "cosine", "histogram", "vectors", "variance", "sparsity", "tsne", "attribution", "error", "removal", "training"
]
"""The figures of systems."""
TransformerFigureName = Literal["rank"]
"""The figures of large transformers."""
AnyFigureName = Literal[FigureName, TransformerFigureName]
ErrorRule = Literal["|c|, zero", "|SiLU(c)|, zero", "deviation, mean", "variance, mean"]
"""The rules of the figure `error`: what the components that go are the least in, and what takes their place."""


class MeasuredDrift(BaseModel):
    """The drift of samples under a prune."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    rule: ErrorRule = Field(description="The rule of the prune.")
    removed: float = Field(ge=0, le=1, description="The share of components that it removes.")
    drift: float = Field(ge=0, description="|pruned - baseline| / |baseline|, over the samples.")


Seed = Annotated[int, Field(ge=0, le=GREATEST_SEED)]
Threshold = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Thresholds = Annotated[
    list[Threshold], Field(min_length=1, max_length=64, json_schema_extra=UNIQUE), AfterValidator(all_different)
]
Counts = Annotated[
    list[Count], Field(min_length=1, max_length=64, json_schema_extra=UNIQUE), AfterValidator(all_different)
]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Shares = Annotated[
    list[Share], Field(min_length=1, max_length=64, json_schema_extra=UNIQUE), AfterValidator(all_different)
]
OneOrMoreThresholds = Annotated[
    Annotated[Threshold, Tag("one")] | Annotated[Thresholds, Tag("several")], Discriminator(one_or_several)
]
OneOrMoreCounts = Annotated[
    Annotated[Count, Tag("one")] | Annotated[Counts, Tag("several")], Discriminator(one_or_several)
]
OneOrMoreShares = Annotated[
    Annotated[Share, Tag("one")] | Annotated[Shares, Tag("several")], Discriminator(one_or_several)
]
ThresholdByStep = Annotated[
    list[StepThreshold], Field(min_length=2, max_length=MOST_STEPS), AfterValidator(_with_threshold)
]
Blocks = Annotated[
    list[Block],
    Field(min_length=1, max_length=MOST_BLOCKS, json_schema_extra=UNIQUE),
    AfterValidator(all_different),
    AfterValidator(_in_order),
]
Channels = Annotated[
    Annotated[Count, Tag("one")] | Annotated[Literal["all"], Tag("word")], Discriminator(number_or_word)
]
Rows = Annotated[
    list[Annotated[int, Field(ge=0)]],
    Field(min_length=1, max_length=4096, json_schema_extra=UNIQUE),
    AfterValidator(all_different),
]
Timesteps = Annotated[
    list[float], Field(min_length=1, max_length=4096, json_schema_extra=UNIQUE), AfterValidator(all_different)
]
ConditionsId = Annotated[str, Field(pattern=CONDITIONS_PATTERN)]
