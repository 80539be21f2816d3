"""`tailprune study`: have a running service score a model under many prunes, and show the scores."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jobs.requests.study import StudyRequest
from jobs.study_results import SearchMeasure
from service.cli.options import (
    AsJson,
    Conditions,
    CoveredLabels,
    Diffusion,
    GuidanceInterval,
    GuidancePower,
    GuidanceScale,
    GuidedChannels,
    LastStep,
    ModulationMinus,
    ModulationPlus,
    ModulationWeight,
    NoWait,
    Rows,
    Sampler,
    SamplesPerLabel,
    Save,
    Steps,
    TimestepShift,
    Url,
    WebhookEvents,
    WebhookUrl,
    body_of,
)  # fmt: skip
from service.cli.running import run
from tailprune_client.core import DEFAULT_URL

__all__ = ["study"]

SCHEDULE = re.compile(r"(every(?!:)|first|last(?=:))(?::([1-9]\d{0,8}))?|at:(\d{1,8}(?:,\d{1,8})*)")


def study(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(help="The name of a model, such as shapes-repa.", show_default=False)
    ] = None,
    grid_thresholds: Annotated[
        list[float] | None, typer.Option("--threshold", help="Prune at this magnitude; repeatable.")
    ] = None,
    grid_sides: Annotated[
        list[str] | None,
        typer.Option("--side", help="Remove what is below --threshold (tail) or above it (head); repeatable."),
    ] = None,
    grid_schedules: Annotated[
        list[str] | None,
        typer.Option(
            "--schedule",
            help="The steps at which to prune: every, first:3, last:10 or at:0,3,7; repeatable.",
        ),
    ] = None,
    grid_fills: Annotated[
        list[str] | None,
        typer.Option("--fill", help="What replaces removed components: zero or mean; repeatable."),
    ] = None,
    grid_remove_fractions: Annotated[
        list[float] | None,
        typer.Option("--remove-fraction", help="Remove this share of the components; repeatable."),
    ] = None,
    grid_of: Annotated[
        list[str] | None,
        typer.Option("--of", help="Whose magnitudes count: those of c, or of what is read, SiLU(c); repeatable."),
    ] = None,
    prunes_keep: Annotated[
        list[int] | None, typer.Option("--keep", help="Keep this many components; repeatable.")
    ] = None,
    prunes_keep_fraction: Annotated[
        list[float] | None, typer.Option("--keep-fraction", help="Keep this share of the components; repeatable.")
    ] = None,
    prunes_by: Annotated[
        list[str] | None,
        typer.Option("--by", help="How --keep ranks components: variance, magnitude or deviation; repeatable."),
    ] = None,
    search_measure: Annotated[
        SearchMeasure | None,
        typer.Option(
            "--search",
            help="Search for the largest tail threshold within --budget, by this measure; by modulation-error nothing "
            "is sampled.",
        ),
    ] = None,
    search_budget: Annotated[
        float | None, typer.Option("--budget", help="How much worse the measure of --search may become.")
    ] = None,
    search_trials: Annotated[
        int | None, typer.Option("--trials", help="n finds the share removed to 1 / 2^n, by about n trials at most.")
    ] = None,
    labels: CoveredLabels = None,
    conditions: Conditions = None,
    rows: Rows = None,
    samples_per_label: SamplesPerLabel = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measure", help="A measure of quality, such as fid; repeatable. By default all that the model has."
        ),
    ] = None,
    extractor: Annotated[
        str | None, typer.Option(help="The extractor of features: shapes-classifier, inception or clip.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="The registered set of images to compare with.")] = None,
    targets: Annotated[
        str | None,
        typer.Option(help="The registered set whose image n belongs to label n, for PSNR, SSIM and LPIPS."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the noise; 0 by default.")] = None,
    sampler: Sampler = None,
    steps: Steps = None,
    guidance_scale: GuidanceScale = None,
    guidance_interval: GuidanceInterval = None,
    guidance_power: GuidancePower = None,
    guided_channels: GuidedChannels = None,
    modulation_weight: ModulationWeight = None,
    modulation_plus: ModulationPlus = None,
    modulation_minus: ModulationMinus = None,
    timestep_shift: TimestepShift = None,
    diffusion: Diffusion = None,
    last_step: LastStep = None,
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(help="The precision in which the network computes; float32 by default."),
    ] = None,
    webhook: WebhookUrl = None,
    webhook_events: WebhookEvents = None,
    body: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="A JSON file with the whole request, instead of the options above."
        ),
    ] = None,
    save: Save = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Sample a model under many prunes, and score the samples against the unpruned ones."""
    when = [_schedule(text) for text in grid_schedules or []]
    tried = {
        "grid": _grid(grid_thresholds, grid_remove_fractions, grid_sides, grid_of, when, grid_fills),
        "prunes": _kept(prunes_keep, prunes_keep_fraction, prunes_by, grid_of, when, grid_fills),
        "search": _search(search_measure, search_budget, search_trials, grid_of, when, grid_fills),
    }
    request = body_of(context, StudyRequest) | {name: value for name, value in tried.items() if value is not None}
    if body is not None:
        if request or grid_sides or grid_of or prunes_by or when or grid_fills:
            raise typer.BadParameter("holds the whole request: leave the other options out", param_hint="--body")
        request = _read(body)
    elif model is None:
        raise typer.BadParameter("name a model, or give a whole request with --body", param_hint="MODEL")
    run(context, "study", request)


def _schedule(text: str) -> dict[str, Any]:
    """The schedule of a request for `every`, `first`, `first:3`, `last:10` or `at:0,3,7`."""
    match = SCHEDULE.fullmatch(text)
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is none of every, first, first:3, last:10, at:0,3,7", param_hint="--schedule"
        )
    when, count, steps = match.groups()
    if steps is not None:
        return {"when": "at", "steps": [int(step) for step in steps.split(",")]}
    return {"when": when} if count is None else {"when": when, "count": int(count)}


def _grid(
    thresholds: list[float] | None,
    fractions: list[float] | None,
    sides: Sequence[str] | None,
    of: Sequence[str] | None,
    schedules: list[dict[str, Any]],
    fills: Sequence[str] | None,
) -> dict[str, Any] | None:
    """The grid of all combinations of the options that go with --threshold and --remove-fraction; None without."""
    if not thresholds and not fractions:
        if sides:
            raise typer.BadParameter("goes with --threshold and --remove-fraction", param_hint="--side")
        return None
    axes = {
        "thresholds": thresholds,
        "remove_fractions": fractions,
        "sides": sides,
        "of": of,
        "schedules": schedules,
        "fills": fills,
    }
    return {name: values for name, values in axes.items() if values}


def _kept(
    counts: list[int] | None,
    fractions: list[float] | None,
    ranked_by: Sequence[str] | None,
    of: Sequence[str] | None,
    schedules: list[dict[str, Any]],
    fills: Sequence[str] | None,
) -> list[dict[str, Any]] | None:
    """The prunes of --keep and --keep-fraction, one for each number or share, ranking, schedule and fill."""
    numbers: list[dict[str, Any]] = [{"keep": count} for count in counts or []]
    numbers += [{"keep_fraction": fraction} for fraction in fractions or []]
    if ranked_by and not numbers:
        raise typer.BadParameter("goes with --keep and --keep-fraction", param_hint="--by")
    rankings = [
        {"by": by, "of": each} for by in ranked_by or [] for each in (of if of and by == "magnitude" else [None])
    ]
    axes = (
        numbers,
        rankings or [{}],
        [{"schedule": schedule} for schedule in schedules] or [{}],
        [{"fill": fill} for fill in fills or []] or [{}],
    )
    ways = (number | ranking | when | fill for number, ranking, when, fill in itertools.product(*axes))
    return [{name: value for name, value in way.items() if value is not None} for way in ways] or None


def _search(
    measure: str | None,
    budget: float | None,
    trials: int | None,
    of: Sequence[str] | None,
    schedules: list[dict[str, Any]],
    fills: Sequence[str] | None,
) -> dict[str, Any] | None:
    if measure is None:
        for name, value in (("--budget", budget), ("--trials", trials)):
            if value is not None:
                raise typer.BadParameter("goes with --search", param_hint=name)
        return None
    if budget is None:
        raise typer.BadParameter("needs --budget, how much worse the measure may get", param_hint="--search")
    for name, values in (("--schedule", schedules), ("--of", of or []), ("--fill", fills or [])):
        if len(values) > 1:
            raise typer.BadParameter("a search takes only one; use --body for other requests", param_hint=name)
    fields = {
        "measure": measure,
        "budget": budget,
        "trials": trials,
        "of": of[0] if of else None,
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
