"""The condition vectors that a compaction covers: those of a schedule's steps, or of all times.

A pipeline in half precision rounds the time before the network embeds it, and where the network multiplies it with
1,000 the rounding moves it by up to two units of a thousand. So for weights in half precision every time is covered
twice: as the float32 number, and as that pipeline passes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tailprune.arguments import as_whole
from tailprune.extras import require
from tailprune.spec import InputError, MissingFileError
from tailprune.spec.layouts import SCHEDULER, SCHEDULER_CONFIG
from tailprune.spec.transformers import Number, Part
from tailprune.transformers.population import vector_part
from tailprune.transformers.ranks import condition
from tailprune.transformers.recognise import Model

__all__ = ["Covered", "choices", "cover", "plain_times", "quadratic_sigmas", "scaled", "scheduled_times"]

MOST_ROWS = 8
"""Of tables with no more rows all are covered, but of the classes, which are chosen."""
THRESHOLD = 0.025
"""How far the linear half of Mochi's schedule goes."""


@dataclass(frozen=True)
class Covered:
    """What a compaction covers."""

    read: Tensor
    """SiLU(c), with shape (C, d), float64."""
    times: Tensor
    """The time of each, in the pipeline's unit."""


def plain_times(model: Model, steps: int) -> Tensor:
    """The times of the pipelines' plain schedule: sigmas from 1 to 1 / steps, evenly spaced, float32.

    Where the time rises they are what is left to 1. Of a pipeline that gives its scheduler whole times it is those,
    from the largest to 1.

    Raises InputError for a model whose schedules are others.
    """
    number = model.cls.time.number
    assert number is not None, "the time is a number"
    if model.cls.gives == "times":
        return torch.from_numpy(np.linspace(number.most, 1.0, steps).astype(np.int64)).float()
    if not model.cls.has_plain_schedule:
        raise InputError(f"{model.cls.models} has no plain schedule of sigmas: give its scheduler")
    sigmas = torch.linspace(1, 1 / steps, steps, dtype=torch.float64).float()
    if model.cls.rises:
        return number.most * (1 - sigmas)
    return (
        sigmas * 1000 / (1000 / number.most)
    )  # the scheduler makes them 0 to 1,000, and the pipeline scales them back


def scheduled_times(
    model: Model, steps: int, scheduler: str | os.PathLike[str], resolutions: Sequence[tuple[int, int]] = ()
) -> list[Tensor]:
    """The times of a scheduler of diffusers, as the model's pipeline passes them: a schedule for each resolution.

    scheduler: a folder with `scheduler_config.json`, or with `scheduler/`
    resolutions: widths and heights in pixels, for a scheduler that shifts the times by them; none for any other

    Raises FileNotFoundError for a missing configuration, InputError for resolutions that are missing or not needed, and
    for a scheduler that diffusers does not have.
    """
    require("decoders", "diffusers")
    import diffusers

    if model.cls.gives == "times":
        raise InputError(f"the pipeline of {model.cls.models} gives its scheduler the times: leave the scheduler out")
    if model.cls.rises:
        as_whole("steps", steps, least=2)

    folder = next(
        (at for at in (Path(scheduler), Path(scheduler) / SCHEDULER) if (at / SCHEDULER_CONFIG).is_file()), None
    )
    if folder is None:
        raise MissingFileError(f"{scheduler} has no {SCHEDULER_CONFIG}: give the folder of the model's scheduler")
    name = json.loads((folder / SCHEDULER_CONFIG).read_text()).get("_class_name")
    cls = getattr(diffusers, name, None) if isinstance(name, str) and name.endswith("Scheduler") else None
    if cls is None:
        raise InputError(f"{folder}: diffusers has no scheduler {name!r}")
    shifts = bool(cls.from_pretrained(folder).config.get("use_dynamic_shifting"))
    pixels = model.cls.token_pixels
    if shifts and pixels is None:
        raise InputError(f"{folder}: shifts times in a way that is not known for {model.cls.models}: give the times")
    if shifts and not resolutions:
        raise InputError(f"{folder}: shifts the times by the resolution: give one or more, such as 1024x1024")
    if not shifts and resolutions:
        raise InputError(f"{folder}: has the same times for every resolution: leave resolutions out")
    number = model.cls.time.number
    assert number is not None, "the time is a number"
    found = []
    sizes: Sequence[tuple[int, int] | None] = list(resolutions) or [None]
    for size in sizes:
        made = cls.from_pretrained(folder)
        how: dict[str, Any] = {"num_inference_steps": steps}
        if model.cls.gives == "quadratic sigmas":
            how = {"sigmas": quadratic_sigmas(steps)}
        elif model.cls.gives == "sigmas" and not made.config.get("use_flow_sigmas"):
            how = {"sigmas": np.linspace(1.0, 1 / steps, steps)}
        if size is not None and pixels is not None:
            how["mu"] = _shift((size[0] // pixels) * (size[1] // pixels), made.config)
        made.set_timesteps(**how)
        times = made.timesteps.float()
        scales_back = number.most <= 1 and not model.cls.rises  # MiniMax-H3's own scheduler has them from 0 to 1
        found.append(times / (1000 / number.most) if scales_back else times)
    return found


def quadratic_sigmas(steps: int) -> NDArray[np.float64]:
    """Mochi's sigmas: 1 - e i / n up to step n, half of them, and from there a parabola with the same slope, down to 0.

    steps: N, at least 2; step N itself, whose sigma is 0, is left out

    Raises InputError for fewer steps. Source: `linear_quadratic_schedule` of genmoai/mochi.
    """
    half = as_whole("steps", steps, least=2) // 2
    place = np.arange(steps)
    curve = (1 - THRESHOLD * steps / half) / (steps - half) ** 2
    sigmas: NDArray[np.float64] = 1 - THRESHOLD * place / half - curve * np.maximum(place - half, 0) ** 2
    return sigmas


def _shift(tokens: int, config: Mapping[str, Any]) -> float:
    """mu, as the pipelines' `calculate_shift` has it: linear in the number of tokens."""
    least, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (high - low) / (most - least)
    return tokens * slope + (low - slope * least)


def cover(
    model: Model, times: Tensor, guidance: Sequence[float] | None = None, vectors: Tensor | None = None
) -> Covered:
    """The vectors of a model at these times.

    times: in the pipeline's unit, float32, in the order of the steps
    guidance: the scales of a model that takes one
    vectors: the parts of c that pooled texts, sizes or classes make, with shape (K, d); by default that of zeros

    All times of one vector are followed by those of the next.
    """
    guided = next((part for part in model.parts if part.what == "guidance"), None)
    scales: Sequence[float | None] = guidance or [None]
    given = vector_part(model)
    known = {} if vectors is None or given is None else {given.what: vectors.new_zeros(1, vectors.shape[1])}
    read, labels = [], []
    for dtype in _dtypes(model):
        at = _as_passed(times, dtype, model)
        for scale, rows in product(scales, choices(model)):
            numbers = {part.what: torch.cat([at[1:], at.new_zeros(1)]) for part in model.parts if part.scheduled}
            if scale is not None and guided is not None and guided.number is not None:
                numbers["guidance"] = torch.tensor([scale * scaled(guided.number)], dtype=dtype)
            c = condition(model, at, numbers, rows, known)
            read.append(F.silu(c if vectors is None else (c + vectors[:, None]).flatten(0, 1)))
            labels.append(times.repeat(1 if vectors is None else len(vectors)))
    return Covered(torch.cat(read), torch.cat(labels))


def scaled(number: Number) -> float:
    """What the pipeline multiplies a scale of the guidance with before it passes it."""
    return 1000.0 if number.factor == 1 else 1.0


def _dtypes(model: Model) -> list[torch.dtype]:
    stored = {model.source.tensors[f"{name}.weight"].dtype for name in model.names}
    half = {"BF16": torch.bfloat16, "F16": torch.float16}
    types = [torch.float32, *(half.get(name, torch.bfloat16) for name in sorted(stored - {"F32", "F64"}))]
    return list(dict.fromkeys(types))


def _as_passed(times: Tensor, dtype: torch.dtype, model: Model) -> Tensor:
    """Times as a pipeline in this precision passes them: rounded as 0 to 1,000, and again after they are scaled."""
    number = model.cls.time.number
    assert number is not None, "the time is a number"
    if dtype == torch.float32:
        return times
    scale = 1000 / number.most if number.most <= 1 else 1.0
    return (times * scale).to(dtype) / scale if scale != 1 else times.to(dtype)


def _rows(model: Model, part: Part) -> int:
    rows = model.source.shape(f"{part.layers[0].replace('*', '0')}.weight")[0]
    if rows > MOST_ROWS:
        raise InputError(
            f"{model.source.path}: its table of {part.what} has {rows:,} rows, and up to {MOST_ROWS} are covered"
        )
    return rows


def choices(model: Model) -> list[dict[str, int]]:
    """The rows of the tables of a model that are covered together, but of the classes, which are chosen."""
    tables = [part for part in model.parts if len(part.layers) == 1 and part != vector_part(model)]
    return [
        {part.what: row for part, row in zip(tables, chosen, strict=True)}
        for chosen in product(*(range(_rows(model, part)) for part in tables))
    ]
