"""The condition vectors that a compaction covers: those of a schedule's steps, or of all times.

A pipeline in half precision rounds the time before the network embeds it, and where the network multiplies it with
1,000 the rounding moves it by up to two units of a thousand. So for weights in half precision every time is covered
twice: as the float32 number, and as that pipeline passes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.extras import require
from tailprune.spec import InputError, MissingFileError
from tailprune.transformers.classes import Number, Part
from tailprune.transformers.population import text_part
from tailprune.transformers.ranks import condition
from tailprune.transformers.recognise import Model

__all__ = ["Covered", "cover", "plain_times", "scaled", "scheduled_times"]

SCHEDULER = "scheduler_config.json"
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
        raise InputError(f"{model.cls.models} has no plain schedule of sigmas: give its scheduler")
    sigmas = torch.linspace(1, 1 / steps, steps, dtype=torch.float64).float()
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
    import numpy as np

    folder = next((at for at in (Path(scheduler), Path(scheduler) / "scheduler") if (at / SCHEDULER).is_file()), None)
    if folder is None:
        raise MissingFileError(f"{scheduler} has no {SCHEDULER}: give the folder of the model's scheduler")
    name = json.loads((folder / SCHEDULER).read_text()).get("_class_name")
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
        if model.cls.gives_sigmas and not made.config.get("use_flow_sigmas"):
            how = {"sigmas": np.linspace(1.0, 1 / steps, steps)}
        if size is not None and pixels is not None:
            how["mu"] = _shift((size[0] // pixels) * (size[1] // pixels), made.config)
        made.set_timesteps(**how)
        times = made.timesteps.float()
        found.append(times / (1000 / number.most) if number.most <= 1 else times)
    return found


def _shift(tokens: int, config: Mapping[str, Any]) -> float:
    """mu, as the pipelines' `calculate_shift` has it: linear in the number of tokens."""
    least, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (high - low) / (most - least)
    return tokens * slope + (low - slope * least)


def cover(model: Model, times: Tensor, guidance: Sequence[float] | None = None, texts: Tensor | None = None) -> Covered:
    """The vectors of a model at these times.

    times: in the pipeline's unit, float32, in the order of the steps
    guidance: the scales of a model that takes one
    texts: the parts of c that pooled texts make, with shape (K, d); by default that of zeros

    All times of one text are followed by those of the next. Raises InputError for a model that takes a class.
    """
    guided = next((part for part in model.parts if part.what == "guidance"), None)
    scales: Sequence[float | None] = guidance or [None]
    text = text_part(model)
    known = {} if texts is None or text is None else {text.what: texts.new_zeros(1, texts.shape[1])}
    vectors, labels = [], []
    tables = [part for part in model.parts if part.number is None and _rows(model, part)]
    for dtype in _dtypes(model):
        at = _as_passed(times, dtype, model)
        for scale, rows in product(scales, _choices(model, tables)):
            numbers = {part.what: torch.cat([at[1:], at.new_zeros(1)]) for part in model.parts if part.scheduled}
            if scale is not None and guided is not None and guided.number is not None:
                numbers["guidance"] = torch.tensor([scale * scaled(guided.number)], dtype=dtype)
            c = condition(model, at, numbers, rows, known)
            vectors.append(F.silu(c if texts is None else (c + texts[:, None]).flatten(0, 1)))
            labels.append(times.repeat(1 if texts is None else len(texts)))
    return Covered(torch.cat(vectors), torch.cat(labels))


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
