"""`tailprune study`: have a running service score a model under many prunes, and show the scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jobs.study_results import StudyResult
from service.cli.client import Client
from service.cli.terminal import (
    DEFAULT_URL,
    AsJson,
    Conditions,
    Url,
    class_labels,
    errors_shown,
    messages,
    output,
    study_tables,
)

__all__ = ["study"]

SCHEDULE = re.compile(r"(every|first|last)(?::([1-9]\d{0,8}))?")


def study(
    model: Annotated[str | None, typer.Argument(help="The name of a model, such as shapes-repa.")] = None,
    threshold: Annotated[list[float] | None, typer.Option(help="Prune at this magnitude; repeatable.")] = None,
    side: Annotated[
        list[str] | None, typer.Option(help="Remove what is below --threshold (tail) or above it (head); repeatable.")
    ] = None,
    schedule: Annotated[
        list[str] | None, typer.Option(help="The steps at which to prune: every, first, first:3, last:10; repeatable.")
    ] = None,
    fill: Annotated[
        list[str] | None, typer.Option(help="What replaces removed components: zero or mean; repeatable.")
    ] = None,
    keep: Annotated[list[int] | None, typer.Option(help="Keep this many components; repeatable.")] = None,
    search: Annotated[
        Literal["drift", "accuracy", "fid"] | None,
        typer.Option(help="Search for the largest tail threshold within --budget, by this measure."),
    ] = None,
    budget: Annotated[float | None, typer.Option(help="How much worse the measure of --search may become.")] = None,
    trials: Annotated[int | None, typer.Option(help="How many thresholds --search tries.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="A class, by number or name; repeatable. All by default."),
    ] = None,
    conditions: Conditions = None,
    row: Annotated[
        list[int] | None, typer.Option(help="The number of a condition, from 0; repeatable. All by default.")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="How many samples of each label or condition.")] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="A measure of quality, such as fid; repeatable. By default all that the model has."),
    ] = None,
    extractor: Annotated[
        str | None, typer.Option(help="The extractor of features: shapes-classifier, inception or clip.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="The registered set of images to compare with.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the noise.")] = None,
    sampler: Annotated[str | None, typer.Option(help="ddim, ddpm or dpmpp; euler, heun, dopri5 or sde.")] = None,
    steps: Annotated[int | None, typer.Option(help="How many sampling steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="The guidance scale; 1 samples without guidance.")] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"] | None, typer.Option(help="The precision in which the network computes.")
    ] = None,
    body: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="A JSON file with the whole request, instead of the options above."
        ),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Folder in which to write the tables and figures.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Sample a model under many prunes, and score the samples against the unpruned ones."""
    when = [_schedule(text) for text in schedule or []]
    fields: dict[str, Any] = {
        "model": model,
        "grid": _grid(threshold, side, when, fill),
        "prunes": _kept(keep, when, fill),
        "search": _search(search, budget, trials, when, fill),
        "labels": class_labels(label),
        "conditions": conditions,
        "rows": row or None,
        "samples_per_label": samples,
        "measures": measure or None,
        "extractor": extractor,
        "reference": reference,
        "seed": seed,
        "sampler": sampler,
        "steps": steps,
        "guidance_scale": guidance,
        "precision": precision,
    }
    request = {name: value for name, value in fields.items() if value is not None}
    if body is not None:
        if request or side or when or fill:
            raise typer.BadParameter("holds the whole request: leave the other options out", param_hint="--body")
        request = _read(body)
    elif model is None:
        raise typer.BadParameter("name a model, or give a whole request with --body", param_hint="MODEL")
    with errors_shown(), Client(url, messages) as client:
        job = client.finished(client.study(request))
        result = job.result
        assert isinstance(result, StudyResult)
        if as_json:
            typer.echo(result.model_dump_json(indent=2))
        else:
            output.print(*study_tables(result), sep="\n")
        exports = result.exports
        if save is not None and exports is not None:
            for name in (exports.document, exports.table, exports.markdown, exports.png, exports.svg):
                if name is not None:
                    messages.print(f"written: {client.save(job, name, save)}")


def _schedule(text: str) -> dict[str, Any]:
    """The schedule of a request for `every`, `first`, `first:3` or `last:10`."""
    match = SCHEDULE.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is none of every, first, first:3, last:10", param_hint="--schedule")
    when, count = match.groups()
    return {"when": when} if count is None else {"when": when, "count": int(count)}


def _grid(
    thresholds: list[float] | None, sides: list[str] | None, schedules: list[dict[str, Any]], fills: list[str] | None
) -> dict[str, Any] | None:
    """The grid of all combinations of the options that go with --threshold; None without a threshold."""
    if not thresholds:
        if sides:
            raise typer.BadParameter("goes with --threshold", param_hint="--side")
        return None
    axes = {"thresholds": thresholds, "sides": sides, "schedules": schedules, "fills": fills}
    return {name: values for name, values in axes.items() if values}


def _kept(
    counts: list[int] | None, schedules: list[dict[str, Any]], fills: list[str] | None
) -> list[dict[str, Any]] | None:
    """The prunes of --keep, one for each count, schedule and fill."""
    by_schedule = [{"schedule": schedule} for schedule in schedules] or [{}]
    by_fill: list[dict[str, Any]] = [{"fill": fill} for fill in fills or []] or [{}]
    ways = [when | what for when in by_schedule for what in by_fill]
    return [{"keep": count, **way} for count in counts or [] for way in ways] or None


def _search(
    measure: str | None,
    budget: float | None,
    trials: int | None,
    schedules: list[dict[str, Any]],
    fills: list[str] | None,
) -> dict[str, Any] | None:
    if measure is None:
        for name, value in (("--budget", budget), ("--trials", trials)):
            if value is not None:
                raise typer.BadParameter("goes with --search", param_hint=name)
        return None
    if budget is None:
        raise typer.BadParameter("needs --budget, how much worse the measure may get", param_hint="--search")
    for name, values in (("--schedule", schedules), ("--fill", fills or [])):
        if len(values) > 1:
            raise typer.BadParameter("a search takes only one; use --body for other requests", param_hint=name)
    fields = {
        "measure": measure,
        "budget": budget,
        "trials": trials,
        "schedule": schedules[0] if schedules else None,
        "fill": fills[0] if fills else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _read(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_bytes())
    except ValueError as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}", param_hint="--body") from error
    if not isinstance(read, dict):
        raise typer.BadParameter(f"{path} holds no JSON object", param_hint="--body")
    return read
