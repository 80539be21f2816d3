"""The condition vectors of a large transformer over times, and the parts that they are the sum of.

    c = y + t

as in the systems: t is what the time makes, with that of the next step where a model takes it, and y the sum of all
other parts: the guidance, the size of the picture, a class, a pooled text.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tailprune.arguments import as_whole
from tailprune.checkpoints.files import CheckpointError
from tailprune.spec import InputError
from tailprune.spec.transformers import MOST_COVERED, Part
from tailprune.transformers.plans import classes_in_words, scales_of
from tailprune.transformers.population import PooledTexts, parts_of_texts, read_population, vector_part
from tailprune.transformers.ranks import Unmeasured, summands
from tailprune.transformers.recognise import Model, recognise
from tailprune.transformers.schedule import plain_times, scale_as_passed, scheduled_times
from tailprune.transformers.sizes_and_classes import classes_of, parts_of_classes, parts_of_sizes, sizes_of
from tailprune.transformers.source import open_source

__all__ = ["ConditionVectors", "Summand", "condition_vectors"]


@dataclass(frozen=True)
class Summand:
    """The vectors of one part of c."""

    what: str
    covers: str
    """Of which values the vectors are, in words."""
    runs: bool
    """Whether it changes with the time."""
    vectors: Tensor
    """With shape (T, d) if it changes with the time, (K, d) otherwise, float64."""


@dataclass(frozen=True)
class ConditionVectors:
    """Condition vectors at T times, for each of N combinations of the other parts."""

    times: Tensor
    """As the pipeline passes them, with shape (T,), from noise to data."""
    fraction: Tensor
    """How much of sampling is done at each, from 0 at the time of noise to 1 at that of data, with shape (T,)."""
    parts: tuple[Summand, ...]

    @property
    def t(self) -> Tensor:
        """What the time makes, with shape (T, d), float32."""
        return _sum([part.vectors for part in self.parts if part.runs])

    @property
    def y(self) -> Tensor | None:
        """The sum of the other parts, each with each, with shape (N, d), float32; None for a model without others."""
        others = [part.vectors for part in self.parts if not part.runs]
        if not others:
            return None
        found = others[0]
        for other in others[1:]:
            found = (found[:, None] + other).flatten(0, 1)
        return found.float()

    @property
    def c(self) -> Tensor:
        """c at all times, for each row of y, with shape (N T, d), float32."""
        return self.t if self.y is None else (self.y[:, None] + self.t).flatten(0, 1)


@torch.no_grad()
def condition_vectors(
    source: str | os.PathLike[str],
    *,
    steps: int | None = None,
    points: int | None = None,
    scheduler: str | os.PathLike[str] | None = None,
    resolutions: Sequence[tuple[int, int]] = (),
    guidance: Sequence[float] | None = None,
    classes: Sequence[int] | None = None,
    population: str | os.PathLike[str] | None = None,
) -> ConditionVectors:
    """The condition vectors of a large transformer at the times of a schedule, or at evenly spaced times.

    source: a folder in diffusers' layout, or a safetensors file
    steps: the times of so many steps
    points: instead, so many times, evenly spaced from noise to data; rounded where a model's times are whole
    scheduler: with steps, the folder of the scheduler that makes the times; by default they are plain, as in `compact`
    resolutions: widths and heights in pixels, where the scheduler shifts its times by them, of which all count, or the
        model takes sizes, each of which is a vector of that part
    guidance: the scales of a model that takes one, each a vector of that part; by default the pipeline's
    classes: the classes of a model that takes one, each a vector of that part; by default the one that stands for none
    population: a safetensors file with pooled texts, with shape (K, width), of a model that takes one, each a vector of
        that part; by default one of zeros

    Of other tables the last row counts. A model that takes the time of the next step too takes that of the next of
    these times, and 0 after the last.

    Raises FileNotFoundError for a missing source, InputError for not exactly one of steps and points, options that the
    model does not take or that it lacks, or more than MOST_COVERED vectors, CheckpointError for files that are not what
    they say, or whose condition cannot be computed.
    """
    if (steps is None) == (points is None):
        raise InputError("give one of steps and points")
    opened = open_source(source)
    model = recognise(opened)
    if not opened.has_values:
        raise InputError(f"{opened.path}: only its headers are at hand: fetch the weights first")
    scales, sizes = scales_of(model, guidance), sizes_of(model, resolutions)
    rows = None if classes is None else (classes_of(model, classes) or [])[:-1]
    texts = None if population is None else read_population(population, model)
    if resolutions and sizes is None and scheduler is None:
        raise InputError("resolutions belong to a scheduler: give scheduler")
    if points is not None:
        if scheduler is not None:
            raise InputError("a scheduler belongs to steps: give steps")
        schedules = [_even_times(model, points)]
    else:
        count = as_whole("steps", steps, least=1, most=MOST_COVERED)
        schedules = (
            [plain_times(model, count)]
            if scheduler is None
            else scheduled_times(model, count, scheduler, () if sizes is not None else resolutions)
        )
    times = torch.cat(schedules)
    others = (scales, sizes, rows, None if texts is None else texts.vectors)
    count = len(times) * math.prod(len(each) for each in others if each is not None)
    if count > MOST_COVERED:
        raise InputError(
            f"{len(times):,} times make {count:,} vectors, and at most {MOST_COVERED:,} are made: give fewer"
        )
    numbers = {
        part.what: torch.cat([torch.cat([each[1:], each.new_zeros(1)]) for each in schedules])
        for part in model.parts
        if part.scheduled
    }
    if scales is not None:
        part = next(part for part in model.parts if part.what == "guidance")
        assert part.number is not None, "the guidance is a number"
        numbers["guidance"] = scale_as_passed(part.number, scales, torch.float32)
    try:
        known = {} if sizes is None else {"sizes": parts_of_sizes(model, sizes)}
        known |= {} if rows is None else {"class": parts_of_classes(model, rows)}
        known |= {} if texts is None else {"pooled text": parts_of_texts(model, texts)}
        found = summands(model, times, numbers, known=known)
    except Unmeasured as why:
        raise CheckpointError(f"{opened.path}: {why}") from why
    opened.check_unchanged()
    number = model.cls.time.number
    assert number is not None, "the time is a number"
    done = times / number.most
    covers = _given_in_words(scales, sizes, rows, texts)
    return ConditionVectors(
        times,
        done if model.cls.rises else 1 - done,
        tuple(
            Summand(
                part.what,
                covers.get(part.what) or _covers(model, part, times),
                part.is_time or part.scheduled,
                found[part.what],
            )
            for part in model.parts
        ),
    )


def _even_times(model: Model, points: int) -> Tensor:
    number = model.cls.time.number
    assert number is not None, "the time is a number"
    first, last = (0, number.most) if model.cls.rises else (number.most, 0)
    times = torch.linspace(first, last, as_whole("points", points, least=1, most=MOST_COVERED))
    return times.round() if model.cls.whole_times else times


def _sum(vectors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(vectors)).sum(0).float()


def _given_in_words(
    scales: Sequence[float] | None,
    sizes: Sequence[tuple[int, int]] | None,
    classes: Sequence[int] | None,
    texts: PooledTexts | None,
) -> dict[str, str]:
    """Of which values the vectors of the parts are whose values were given, by what they are."""
    words = {}
    if scales is not None:
        words["guidance"] = f"scale{'s' if len(scales) > 1 else ''} {', '.join(f'{scale:g}' for scale in scales)}"
    if sizes is not None:
        words["sizes"] = f"pictures of {', '.join(f'{wide}x{high}' for wide, high in sizes)}, not cropped"
    if classes is not None:
        words["class"] = classes_in_words(classes)
    if texts is not None:
        words["pooled text"] = f"{len(texts.vectors):,} pooled text{'s' if len(texts.vectors) > 1 else ''}"
    return words


def _covers(model: Model, part: Part, times: Tensor) -> str:
    """Of which values the vectors of a part are that none were given of, in words."""
    if part.is_time:
        return f"{len(times):,} times from {times[0]:g} to {times[-1]:g}"
    if part.scheduled:
        return "of each time the next, and 0 after the last"
    if part.number is not None:
        return f"the pipeline's {part.number.fixed:g}"
    if part == vector_part(model):
        return "none, as a row of its own" if part.what == "class" else "none, as zeros"
    return "the last row of its table"
