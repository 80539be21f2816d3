"""The condition vectors that a compaction covers: those of a schedule's steps, or of all times.

A pipeline in half precision rounds the time before the network embeds it, and where the network multiplies it with
1,000 the rounding moves it by up to two units of a thousand. So for weights in half precision every time is covered
twice: as the float32 number, and as that pipeline passes it.
"""

from __future__ import annotations

import inspect
import math
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

from tailprune.arguments import as_number, as_whole
from tailprune.extras import require
from tailprune.spec import InputError, MissingFileError
from tailprune.spec.layouts import SCHEDULER, SCHEDULER_CONFIG
from tailprune.spec.transformers import Number, Part
from tailprune.transformers.population import vector_part
from tailprune.transformers.ranks import condition
from tailprune.transformers.recognise import Model
from tailprune.transformers.source import read_json

__all__ = [
    "Covered",
    "check_times",
    "choices",
    "cover",
    "further_times",
    "plain_times",
    "quadratic_sigmas",
    "scale_as_passed",
    "scaled",
    "scheduled_times",
]

MOST_ROWS = 8
"""Of tables with no more rows all are covered, but of the classes, which are chosen."""
THRESHOLD = 0.025
"""How far the linear half of Mochi's schedule goes."""
ROOT_TOKENS = 256
"""The tokens of a picture of 256 x 256 pixels, which Qwen-Image-Layered's shift is relative to."""
SLACK = 1e-6
"""How much, relatively, rounding may move a time beyond the largest."""


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
    for a scheduler that diffusers does not have, or that makes no such times.
    """
    if model.cls.gives == "times":
        raise InputError(f"the pipeline of {model.cls.models} gives its scheduler the times: leave the scheduler out")
    if model.cls.rises:
        as_whole("steps", steps, least=2)
    folder = _scheduler_folder(scheduler)
    config, pixels = _scheduler_config(folder), model.cls.token_pixels
    shifts = bool(config.get("use_dynamic_shifting"))
    if shifts and pixels is None:
        raise InputError(f"{folder}: shifts times in a way that is not known for {model.cls.models}: give the times")
    if shifts and not resolutions:
        raise InputError(f"{folder}: shifts the times by the resolution: give one or more, such as 1024x1024")
    if not shifts and resolutions:
        raise InputError(f"{folder}: has the same times for every resolution: leave resolutions out")
    how: dict[str, Any] = {"num_inference_steps": steps}
    if model.cls.gives == "quadratic sigmas":
        how = {"sigmas": quadratic_sigmas(steps)}
    elif model.cls.gives == "sigmas" and not (model.cls.own_flow_sigmas and config.get("use_flow_sigmas")):
        how = {"sigmas": np.linspace(1.0, 1 / steps, steps)}
    if pixels is None or not resolutions:
        return [_times_made(model, folder, how)]
    by_root = any(part.what == model.cls.shifts_by_root for part in model.parts)
    found = []
    for sides in resolutions:
        wide, high = (as_whole("a side", side, least=pixels) for side in sides)
        tokens = (wide // pixels) * (high // pixels)
        mu = math.sqrt(tokens / ROOT_TOKENS) if by_root else _shift(folder, tokens, config)
        found.append(_times_made(model, folder, how | {"mu": mu}))
    return found


def further_times(model: Model, steps: int, scheduler: str | os.PathLike[str]) -> tuple[list[Tensor], str | None]:
    """What the model's pipeline passes at these steps besides the times of its first scheduler.

    Returns the times, and the folder of a second scheduler that the pipeline runs but does not lie beside the first.

    Raises errors as `scheduled_times`.
    """
    name = model.cls.second_scheduler
    if name is None:
        return [], None
    second = _scheduler_folder(scheduler).absolute().parent / name
    pinned = torch.tensor(model.cls.pinned)
    if not (second / SCHEDULER_CONFIG).is_file():
        return [pinned], name
    return [_times_made(model, second, {"num_inference_steps": steps}), pinned], None


def _scheduler_folder(scheduler: str | os.PathLike[str]) -> Path:
    folders = Path(scheduler), Path(scheduler) / SCHEDULER
    folder = next((folder for folder in folders if (folder / SCHEDULER_CONFIG).is_file()), None)
    if folder is None:
        raise MissingFileError(f"{scheduler} has no {SCHEDULER_CONFIG}: give the folder of the model's scheduler")
    return folder


def _scheduler_config(folder: Path) -> Mapping[str, Any]:
    """What a scheduler's configuration says, and the defaults of its class. Raises InputError as `scheduled_times`."""
    return dict(_made(folder).config)


def _made(folder: Path) -> Any:
    require("decoders", "diffusers")
    import diffusers

    name = read_json(folder / SCHEDULER_CONFIG).get("_class_name")
    cls = getattr(diffusers, name, None) if isinstance(name, str) and name.endswith("Scheduler") else None
    if cls is None:
        raise InputError(f"{folder}: diffusers has no scheduler {name!r}")
    try:
        return cls.from_pretrained(folder)
    except Exception as error:  # whatever diffusers makes of a configuration that is wrong
        raise InputError(f"{folder}: diffusers makes no {name} of it ({_first_line(error)})") from error


def _times_made(model: Model, folder: Path, how: Mapping[str, Any]) -> Tensor:
    """The times of a scheduler, as the pipeline passes them. how: what the pipeline gives it"""
    made, number = _made(folder), model.cls.time.number
    assert number is not None, "the time is a number"
    name = type(made).__name__
    if unknown := [each for each in how if each not in inspect.signature(made.set_timesteps).parameters]:
        raise InputError(
            f"{folder}: the pipeline of {model.cls.models} gives its scheduler {' and '.join(unknown)}, which a {name} "
            "does not take"
        )
    try:
        made.set_timesteps(**how)
    except Exception as error:  # whatever diffusers says of steps, or of a configuration, that do not fit
        raise InputError(f"{folder}: the {name} makes no times of these steps ({_first_line(error)})") from error
    times = made.timesteps.float()
    scales_back = number.most <= 1 and not model.cls.rises  # MiniMax-H3's own scheduler has them from 0 to 1
    times = times / (1000 / number.most) if scales_back else times
    check_times(model, times, f"{folder}: the times of these steps")
    return times


def check_times(model: Model, times: Tensor, what: str) -> None:
    """Raise InputError for times that the pipeline does not pass."""
    number = model.cls.time.number
    assert number is not None, "the time is a number"
    if not times.numel() or not torch.isfinite(times).all():
        raise InputError(f"{what} are empty or not finite")
    least, most = float(times.min()), float(times.max())
    if least < 0 or most > number.most * (1 + SLACK):
        raise InputError(
            f"{what} are {least:g} to {most:g}, and the pipeline of {model.cls.models} passes 0 to {number.most:g}"
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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


def _shift(folder: Path, tokens: int, config: Mapping[str, Any]) -> float:
    """mu, as the pipelines' `calculate_shift` has it: linear in the number of tokens."""
    fields = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
    least, most, low, high = (
        as_number(f"{folder}: {key}", config.get(key, default)) for key, default in fields.items()
    )
    if least == most:
        raise InputError(f"{folder}: base_image_seq_len and max_image_seq_len are both {least:g}")
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
                numbers["guidance"] = scale_as_passed(guided.number, [scale], dtype)
            c = condition(model, at, numbers, rows, known)
            read.append(F.silu(c if vectors is None else (c + vectors[:, None]).flatten(0, 1)))
            labels.append(times.repeat(1 if vectors is None else len(vectors)))
    return Covered(torch.cat(read), torch.cat(labels))


def scaled(number: Number) -> float:
    """What the pipeline multiplies a scale of the guidance with before it passes it."""
    return 1000.0 if number.factor == 1 else 1.0


def scale_as_passed(number: Number, scales: Sequence[float], dtype: torch.dtype) -> Tensor:
    """Scales of the guidance as a pipeline in this precision passes them: rounded before they are multiplied.

    Raises InputError for those that the precision does not hold, here or where the network multiplies them.
    """
    passed = torch.tensor(scales, dtype=dtype) * scaled(number)
    if not torch.isfinite(passed * number.factor).all():
        said = " and ".join(f"{scale:g}" for scale in scales)
        raise InputError(f"guidance {said} times 1,000 is more than {str(dtype).removeprefix('torch.')} holds")
    return passed


def _dtypes(model: Model) -> list[torch.dtype]:
    """Those in which a pipeline may pass times, by the types of the weights."""
    stored = {tensor.dtype for tensor in model.source.tensors.values()}
    half = {"BF16": torch.bfloat16, "F16": torch.float16, "F8_E4M3": torch.bfloat16, "F8_E5M2": torch.bfloat16}
    return list(dict.fromkeys([torch.float32, *(half[name] for name in sorted(stored & half.keys()))]))


def _as_passed(times: Tensor, dtype: torch.dtype, model: Model) -> Tensor:
    """Times as a pipeline in this precision passes them: rounded as 0 to 1,000, and again after they are scaled."""
    number = model.cls.time.number
    assert number is not None, "the time is a number"
    if dtype == torch.float32:
        return times
    if model.cls.scales_first:
        return times.to(dtype)
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
