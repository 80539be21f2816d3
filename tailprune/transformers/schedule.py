"""The condition vectors that a compaction covers: those of a schedule's steps, or of all times.

A pipeline in half precision rounds the time before the network embeds it, and where the network multiplies it with
1,000 the rounding moves it by up to two units of a thousand. So for weights in half precision every time is covered
twice: as the float32 number, and as that pipeline passes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.spec import InputError
from tailprune.transformers.classes import Part
from tailprune.transformers.ranks import condition
from tailprune.transformers.recognise import Model

__all__ = ["Covered", "cover", "plain_times"]

DISCRETE = 999
"""The last of the times of models that were trained at whole ones."""
MOST_ROWS = 8
"""Of tables with no more rows all are covered; longer ones are of classes."""


@dataclass(frozen=True)
class Covered:
    """What a compaction covers."""

    read: Tensor
    """SiLU(c), with shape (C, d), float64."""
    times: Tensor
    """The time of each, in the pipeline's unit."""


def plain_times(model: Model, steps: int) -> Tensor:
    """The times of the pipelines' plain schedule: sigmas from 1 to 1 / steps, evenly spaced, float32.

    Raises InputError for a model that is sampled at whole times, whose schedules are others.
    """
    number = model.cls.time.number
    assert number is not None, "the time is a number"
    if number.most == DISCRETE:
        raise InputError(f"{model.cls.models} has no plain schedule of sigmas: give the times of its scheduler")
    sigmas = torch.linspace(1, 1 / steps, steps, dtype=torch.float64).float()
    return (
        sigmas * 1000 / (1000 / number.most)
    )  # the scheduler makes them 0 to 1,000, and the pipeline scales them back


def cover(model: Model, times: Tensor, guidance: Sequence[float] | None = None) -> Covered:
    """The vectors of a model at these times.

    times: in the pipeline's unit, float32, in the order of the steps
    guidance: the scales of a model that takes one; the pipeline's default if None

    Raises InputError for a guidance that the model does not take, and for a model that takes a class.
    """
    guided = next((part for part in model.parts if part.what == "guidance"), None)
    if guidance is not None and guided is None:
        raise InputError(f"{model.source.path}: takes no guidance: leave it out")
    scales: Sequence[float | None] = [None] if guidance is None else list(guidance)
    if not scales:
        raise InputError("guidance is empty: give at least one scale")
    vectors, labels = [], []
    tables = [part for part in model.parts if part.number is None and _rows(model, part)]
    for dtype in _dtypes(model):
        at = _as_passed(times, dtype, model)
        for scale, rows in product(scales, _choices(model, tables)):
            numbers = {part.what: torch.cat([at[1:], at.new_zeros(1)]) for part in model.parts if part.scheduled}
            if scale is not None and guided is not None and guided.number is not None:
                numbers["guidance"] = torch.tensor([scale * (1000 if guided.number.factor == 1 else 1)], dtype=dtype)
            elif guided is not None and guided.number is not None:
                numbers["guidance"] = torch.tensor([guided.number.fixed], dtype=dtype)
            vectors.append(F.silu(condition(model, at, numbers, rows)))
            labels.append(times)
    return Covered(torch.cat(vectors), torch.cat(labels))


def _dtypes(model: Model) -> list[torch.dtype]:
    stored = {model.source.tensors[f"{name}.weight"].dtype for name in model.names}
    half = {"BF16": torch.bfloat16, "F16": torch.float16}
    return [torch.float32, *(half.get(name, torch.bfloat16) for name in sorted(stored - {"F32", "F64"}))]


def _as_passed(times: Tensor, dtype: torch.dtype, model: Model) -> Tensor:
    """Times as a pipeline in this precision passes them: rounded as 0 to 1,000, and again after they are scaled."""
    number = model.cls.time.number
    assert number is not None, "the time is a number"
    if dtype == torch.float32:
        return times
    scale = 1000 / number.most if number.most <= 1 else 1.0
    return (times * scale).to(dtype) / scale if scale != 1 else times.to(dtype)


def _rows(model: Model, part: Part) -> int:
    name = f"{part.layers[0].replace('*', '0')}.weight"
    if len(part.layers) > 1 or name not in model.source.tensors:
        return 0
    rows = model.source.shape(name)[0]
    if rows > MOST_ROWS:
        raise InputError(
            f"{model.source.path}: its condition has a {part.what} of {rows:,}: load it with tailprune.load, and see "
            "tailprune.compact"
        )
    return rows


def _choices(model: Model, tables: Sequence[Part]) -> Iterator[Mapping[str, int]]:
    for chosen in product(*(range(_rows(model, part)) for part in tables)):
        yield {part.what: row for part, row in zip(tables, chosen, strict=True)}
