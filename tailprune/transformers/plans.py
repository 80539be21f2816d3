"""What a compaction is asked for, checked against the model, and what it covers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tailprune.arguments import as_number, as_numbers, as_tensor, as_whole
from tailprune.checkpoints.files import CheckpointError
from tailprune.spec import InputError
from tailprune.spec.layouts import CONFIG
from tailprune.spec.transformers import MOST_COVERED
from tailprune.transformers.population import PooledTexts, some_texts, texts_covered, vector_part
from tailprune.transformers.ranks import TIMES, sampled_rows
from tailprune.transformers.recognise import Model
from tailprune.transformers.schedule import (
    Covered,
    check_times,
    choices,
    cover,
    further_times,
    plain_times,
    scaled,
    scheduled_times,
)
from tailprune.transformers.sizes_and_classes import classes_of, parts_of_classes, parts_of_sizes, sizes_of

__all__ = ["checked_plan", "classes_in_words", "covered_by", "plan_of", "scales_of", "text_error", "words_of"]

LARGEST = 1e9
"""More than any time or scale that a folder may state."""
LEAST_TIMES = 16
"""Of many texts or classes, each is covered at so many times, where all times are asked for."""
FEW = 16
"""Texts, and times, at which it is measured what it changes that all texts count as one; of texts and of guidance
scales, those at which errors between the covered times are measured."""
BETWEEN = 32
"""Vectors between the covered ones at which errors are measured."""


def plan_of(
    model: Model,
    steps: int | Sequence[int] | None,
    scheduler: str | os.PathLike[str] | None,
    resolutions: Sequence[tuple[int, int]],
    times: Tensor | None,
    rank: int | None,
    error: float | None,
    guidance: Sequence[float] | None,
    pooled: str | None,
    population: PooledTexts | None,
    classes: Sequence[int] | None,
) -> dict[str, Any]:
    """What is to be done, as JSON can hold it. Parameters and errors as in `compact`."""
    path = model.source.path
    if sum(each is not None for each in (steps, times, rank, error)) != 1:
        raise InputError("give one of steps, times, rank and error")
    sizes = sizes_of(model, resolutions)
    if steps is None and (scheduler is not None or (resolutions and sizes is None)):
        raise InputError("a scheduler and resolutions belong to steps: give steps")
    if resolutions and scheduler is None and sizes is None:
        raise InputError("resolutions belong to a scheduler: give scheduler")
    if not model.source.has_values:
        raise InputError(f"{path}: only its headers are at hand: fetch the weights first")
    if not model.source.config:
        raise InputError(f"{path}: needs a {CONFIG} beside it: give a folder in diffusers' layout")
    if "quantization_config" in model.source.config:
        raise InputError(f"{path}: is quantised: give the weights before they were, and quantise the result")
    if pooled not in (None, "zero", "mean"):
        raise InputError(f"pooled must be 'zero' or 'mean', not {pooled!r}")
    if pooled == "mean" and population is None:
        raise InputError("the mean of pooled texts needs texts: give a population")
    part = vector_part(model)
    texts = part is not None and part.what == "pooled text"
    if texts and pooled is None and population is None:
        raise InputError(
            f"{path}: its condition depends on a pooled text: with pooled='zero' it takes each for zeros; or give a "
            "population of texts, to cover them or with pooled='mean' to take each for their mean"
        )
    if pooled is not None and not texts:
        raise InputError(f"{path}: takes no pooled text: leave pooled out")
    if (rank is not None or error is not None) and any(part.scheduled for part in model.parts):
        raise InputError(f"{path}: its condition depends on the next step's time too: give steps or times")
    plan: dict[str, Any] = {"guidance": scales_of(model, guidance), "pooled": pooled, "population": None}
    if sizes is not None:
        plan["sizes"] = sizes
    if (rows := classes_of(model, classes)) is not None:
        plan["classes"] = rows
    if population is not None:
        plan["population"] = {"texts": len(population.vectors), "sha256": population.digest}
    if steps is not None:
        numbers = list(steps) if isinstance(steps, Sequence) else [steps]
        plan["steps"] = [as_whole("steps", number, least=1, most=10_000) for number in numbers]
        if not numbers:
            raise InputError("steps are empty: give at least one number")
        _check_count(sum(plan["steps"]) * max(1, len(resolutions) if scheduler else 1), "the times")
        schedules: list[Tensor] = []
        for number in plan["steps"]:
            if scheduler is None:
                schedules.append(plain_times(model, number))
                continue
            more, plan["lacks"] = further_times(model, number, scheduler)
            schedules += [*scheduled_times(model, number, scheduler, resolutions), *more]
        plan["times"] = [schedule.tolist() for schedule in schedules]
        plan["scheduled"] = " and ".join(f"{width}x{height}" for width, height in resolutions) if scheduler else None
    elif times is not None:
        given = as_tensor("times", times).float().reshape(-1)
        check_times(model, given, "times")
        plan["times"] = [given.tolist()]
    elif rank is not None:
        plan["rank"] = as_whole("rank", rank, least=1, most=model.width)
    else:
        plan["error"] = as_number("error", error, above=0)
    return plan


def checked_plan(model: Model, said: Any) -> dict[str, Any]:
    """A plan that a folder states.

    Raises CheckpointError for one that `plan_of` does not make of this model, KeyError for one that lacks something.
    """

    def numbers(values: Any) -> bool:
        return isinstance(values, list) and all(type(each) in (int, float) and abs(each) < LARGEST for each in values)

    guidance, pooled, population = said["guidance"], said["pooled"], said["population"]
    times, sizes, classes = said.get("times", []), said.get("sizes", []), said.get("classes", [])
    part = vector_part(model)
    fits = (
        isinstance(times, list)
        and all(numbers(schedule) and schedule for schedule in times)
        and (bool(times) == ("rank" not in said and "error" not in said))
        and (guidance is None or (numbers(guidance) and bool(guidance)))
        and pooled in (None, "zero", "mean")
        and (pooled is None or (part is not None and part.what == "pooled text"))
        and (pooled != "mean" or population is not None)
        and (population is None or isinstance(population["sha256"], str))
        and isinstance(sizes, list)
        and all(numbers(sides) and len(sides) == 2 for sides in sizes)
        and (numbers(classes) or not classes)
        and sum(map(len, times)) <= MOST_COVERED
    )
    if not fits:
        raise CheckpointError(f"what was done to {model.source.path} is not stated as compact states it")
    return dict(said)


def scales_of(model: Model, guidance: Sequence[float] | None) -> list[float] | None:
    """The scales of the guidance that are covered, the pipeline's default if none are given; None if it takes none."""
    part = next((part for part in model.parts if part.what == "guidance"), None)
    if part is None or part.number is None:
        if guidance is not None:
            raise InputError(f"{model.source.path}: takes no guidance: leave it out")
        return None
    if guidance is None:
        assert part.number.fixed is not None, "the guidance has a default"
        return [part.number.fixed / scaled(part.number)]
    if not (scales := as_numbers("guidance", guidance)):
        raise InputError("guidance is empty: give at least one scale")
    return scales


def _vectors(model: Model, plan: Mapping[str, Any], population: PooledTexts | None) -> Tensor | None:
    """The parts of c that the covered texts, sizes or classes make, with shape (K, d); None for a text of zeros."""
    part = vector_part(model)
    if part is not None and part.what == "sizes":
        return parts_of_sizes(model, plan["sizes"])
    if part is not None and part.what == "class":
        return parts_of_classes(model, plan["classes"])
    return texts_covered(model, plan["pooled"], population)


def covered_by(model: Model, plan: Mapping[str, Any], population: PooledTexts | None) -> tuple[Covered, Tensor | None]:
    """What a plan covers, and SiLU(c) at times halfway between, if it is known there.

    Raises InputError for more than can be held.
    """
    number = model.cls.time.number
    assert number is not None, "the time is a number"
    vectors = _vectors(model, plan, population)
    count, scales = 1 if vectors is None else len(vectors), plan["guidance"]
    schedules = [torch.tensor(each) for each in plan.get("times", [])]
    at_a_time = count * len(scales or [None]) * len(choices(model))
    what = f"{count:,} texts, sizes or classes with {len(scales or [None]):,} guidance scales"
    if len(choices(model)) > 1:
        what += f" and {len(choices(model))} rows of tables"
    _check_count(at_a_time, what)
    if schedules:
        _check_count(at_a_time * sum(map(len, schedules)), f"{sum(map(len, schedules)):,} times of {what}")
        parts = [cover(model, _with_zero(model, each), scales, vectors) for each in schedules]
        covered = Covered(torch.cat([each.read for each in parts]), torch.cat([each.times for each in parts]))
    else:
        times = torch.linspace(0, number.most, min(TIMES, max(LEAST_TIMES, MOST_COVERED // at_a_time)))
        covered = cover(model, times, scales, vectors)
    at = covered.times.unique()
    halfway = (at[1:] + at[:-1]) / 2
    if not len(halfway) or any(part.scheduled for part in model.parts):
        return covered, None
    chosen = halfway[torch.linspace(0, len(halfway) - 1, min(BETWEEN, len(halfway))).long()]
    some = None if vectors is None else vectors[torch.linspace(0, count - 1, min(FEW, count)).long()]
    if scales:
        scales = [scales[place] for place in torch.linspace(0, len(scales) - 1, min(FEW, len(scales))).long().tolist()]
    found = cover(model, chosen, scales, some).read
    return covered, found if len(found) <= BETWEEN else found[torch.linspace(0, len(found) - 1, BETWEEN).long()]


def _check_count(count: int, what: str) -> None:
    """Raise InputError for more than can be held."""
    if count > MOST_COVERED:
        raise InputError(f"{what} are {count:,} vectors, and at most {MOST_COVERED:,} are covered: give fewer")


def text_error(model: Model, plan: Mapping[str, Any], population: PooledTexts | None, times: Tensor) -> float | None:
    """What it changes in the modulations that all texts count as one; None where they do not, or none are known.

    It is relative to the part of the modulations that depends on c, over some texts of the population and some of these
    times, of rows that are drawn.
    """
    if population is None or plan["pooled"] is None:
        return None
    some = times.unique()
    some = some[torch.linspace(0, len(some) - 1, min(FEW, len(some))).long()]
    own = cover(model, some, plan["guidance"], some_texts(model, population, FEW)).read
    one = cover(model, some, plan["guidance"], texts_covered(model, plan["pooled"], population)).read
    weights, shares = sampled_rows(model)
    of_own, of_one = ((read.float() @ weights.T) * shares for read in (own, one))
    by_text = of_own.reshape(-1, len(of_own) // len(of_one), len(some), len(weights))
    wrong = by_text - of_one.reshape(-1, 1, len(some), len(weights))
    return math.sqrt(wrong.double().square().sum().item() / of_own.double().square().sum().item())


def classes_in_words(rows: Sequence[int]) -> str:
    """Which classes these are; of many, how many."""
    if len(rows) > FEW:
        return f"{len(rows):,} classes"
    return f"class{'es' if len(rows) > 1 else ''} {', '.join(map(str, rows))}"


def _with_zero(model: Model, times: Tensor) -> Tensor:
    """The times, and 0 where the model reads that as well."""
    config = model.source.config
    reads_zero = config.get("zero_cond_t") is True or config.get("image_condition_type") == "token_replace"
    return torch.cat([times, times.new_zeros(1)]) if reads_zero else times


def words_of(plan: Mapping[str, Any]) -> str:
    if "steps" in plan:
        whose = "plain schedules" if plan["scheduled"] is None else "scheduler's times"
        text = f"the {whose} of {' and '.join(map(str, plan['steps']))} step{'' if plan['steps'] == [1] else 's'}"
        if plan["scheduled"]:
            text += f" at {plan['scheduled']}"
        if plan.get("lacks"):
            text += f", without those of its {plan['lacks']}"
    elif "times" in plan:
        count = len(plan["times"][0])
        text = f"{count} given time{'' if count == 1 else 's'}"
    else:
        text = "all times"
    if plan["guidance"]:
        text += f", guidance {' and '.join(f'{scale:g}' for scale in plan['guidance'])}"
    if "sizes" in plan:
        return f"{text}, pictures of {' and '.join(f'{wide}x{high}' for wide, high in plan['sizes'])}, not cropped"
    if "classes" in plan:
        *rows, _ = plan["classes"]
        return f"{text}, {classes_in_words(rows)} and none"
    if plan["pooled"] == "zero":
        return f"{text}, no pooled text"
    if plan["population"] is None:
        return text
    texts = plan["population"]["texts"]
    covered = f"{texts:,} pooled text{'' if texts == 1 else 's'}"
    return f"{text}, every pooled text as the mean of {covered}" if plan["pooled"] == "mean" else f"{text}, {covered}"
