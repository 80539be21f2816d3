"""`tailprune prune-sample`, `edit`, `metrics`, `attribution`, `figure`, `extract` and `upload`.

Each calls a running service and shows the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jobs.requests.edit import EditRequest
from jobs.requests.extract import ExtractRequest
from jobs.requests.fields import AnyFigureName, Part
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.results import ExtractResult
from service.cli.client import Client
from service.cli.options import (
    AsJson,
    Blocks,
    Conditions,
    CoveredLabels,
    Diffusion,
    Fill,
    GuidanceInterval,
    GuidancePower,
    GuidanceScale,
    GuidedChannels,
    LastStep,
    Model,
    ModulationMinus,
    ModulationPlus,
    ModulationWeight,
    NoWait,
    Rows,
    SampledLabels,
    Sampler,
    SamplesPerLabel,
    Save,
    Side,
    Steps,
    ThresholdByStep,
    TimestepShift,
    Url,
    WebhookEvents,
    WebhookUrl,
    body_of,
    label,
)  # fmt: skip
from service.cli.running import print_json, run, started, waited_for
from service.cli.tables import sheets_of
from service.cli.terminal import errors_shown, line, say, show
from tailprune.spec.prune import By, Of, When
from tailprune_client.core import DEFAULT_URL
from tailprune_client.fields import FigureFields

__all__ = ["attribution", "edit", "extract", "figure", "metrics", "prune_sample", "upload"]

FORMATS: dict[str, Literal["png", "svg"]] = {".png": "png", ".svg": "svg"}


def prune_sample(
    context: typer.Context,
    model: Model,
    threshold: Annotated[list[float] | None, typer.Option(help="Prune at this magnitude; repeatable.")] = None,
    threshold_by_step: ThresholdByStep = None,
    remove_fraction: Annotated[
        list[float] | None, typer.Option(help="Remove this share of the components; repeatable.")
    ] = None,
    keep: Annotated[list[int] | None, typer.Option(help="Keep this many components; repeatable.")] = None,
    keep_fraction: Annotated[
        list[float] | None, typer.Option(help="Keep this share of the components; repeatable.")
    ] = None,
    by: Annotated[
        By | None,
        typer.Option(
            help="How --keep ranks components: by their variance (the default), magnitude, or deviation from the mean."
        ),
    ] = None,
    of: Annotated[
        Of | None, typer.Option(help="Whose magnitudes count: those of c (the default), or of what is read, SiLU(c).")
    ] = None,
    side: Side = None,
    fill: Fill = None,
    schedule_when: Annotated[
        When | None,
        typer.Option("--when", help="The sampling steps at which to prune; every by default."),
    ] = None,
    schedule_count: Annotated[
        int | None, typer.Option("--count", help="How many steps, with --when first or last.")
    ] = None,
    schedule_steps: Annotated[
        list[int] | None,
        typer.Option("--step", help="With --when at: a step at which to prune, counted from 0; repeatable."),
    ] = None,
    blocks: Blocks = None,
    labels: SampledLabels = None,
    conditions: Conditions = None,
    rows: Rows = None,
    samples_per_label: SamplesPerLabel = None,
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
        Literal["float32", "bfloat16", "auto"] | None,
        typer.Option(help="The precision in which the network computes; float32 by default."),
    ] = None,
    compare: Annotated[
        bool | None,
        typer.Option("--compare/--no-compare", help="Also sample unpruned, and report the drift; the default."),
    ] = None,
    webhook: WebhookUrl = None,
    webhook_events: WebhookEvents = None,
    save: Save = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Sample a model with pruned condition vectors; options default to the model's own settings."""
    run(context, "prune-sample", body_of(context, PruneSampleRequest))


def edit(
    context: typer.Context,
    model: Model,
    source: Annotated[
        list[Any],
        typer.Option(
            parser=label, metavar="<int|name>", help="A class to lead away from, by number or name; repeatable."
        ),
    ],
    target: Annotated[
        list[Any],
        typer.Option(parser=label, metavar="<int|name>", help="A class to lead towards; repeatable."),
    ],
    strength: Annotated[
        list[float] | None,
        typer.Option(help="How far, 1 the whole way; repeatable. 0, 0.25, 0.5, 0.75 and 1 by default."),
    ] = None,
    components: Annotated[
        int | None, typer.Option(help="Move this many components, those that matter most; all by default.")
    ] = None,
    directions: Annotated[
        int | None, typer.Option(help="Move along this many principal directions of the classes instead.")
    ] = None,
    schedule_when: Annotated[
        Literal["every", "first", "last", "at"] | None,
        typer.Option("--when", help="The sampling steps at which to edit; every by default."),
    ] = None,
    schedule_count: Annotated[
        int | None, typer.Option("--count", help="How many steps, with --when first or last.")
    ] = None,
    schedule_steps: Annotated[
        list[int] | None,
        typer.Option("--step", help="With --when at: a step at which to edit, counted from 0; repeatable."),
    ] = None,
    labels: SampledLabels = None,
    conditions: Conditions = None,
    rows: Rows = None,
    samples_per_label: SamplesPerLabel = None,
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
        Literal["float32", "bfloat16", "auto"] | None,
        typer.Option(help="The precision in which the network computes; float32 by default."),
    ] = None,
    webhook: WebhookUrl = None,
    webhook_events: WebhookEvents = None,
    save: Save = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Sample a model with its condition moved from some classes towards others, a row for each strength.

    The classes that are sampled are those of --source, unless --label gives others.
    """
    run(context, "edit", body_of(context, EditRequest))


def attribution(
    context: typer.Context,
    model: Model,
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            help="What to call a word of the class names, or an attribute with the value of every class, "
            "colour=red,red,blue; repeatable."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show which components and directions of a model's condition carry which attribute of its classes."""
    with errors_shown(context), Client(url) as client:
        result = client.attribution(model, attribute=attribute)
        if as_json:
            print_json(result.model_dump(mode="json"))
        else:
            show(*sheets_of(result))


def metrics(
    context: typer.Context,
    model: Model,
    part: Annotated[Part, typer.Option(help="The condition c, or its class part y or time part t.")] = "c",
    timestep: Annotated[
        float | None, typer.Option(help="The time at which c is measured; by default where sampling starts.")
    ] = None,
    conditions: Conditions = None,
    threshold: Annotated[
        list[float] | None, typer.Option(help="A magnitude at which to measure sparsity; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the statistics as JSON instead of tables.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show statistics of a model's condition vectors, over its classes or over uploaded conditions."""
    with errors_shown(context), Client(url) as client:
        result = client.metrics(model, part=part, timestep=timestep, conditions=conditions, threshold=threshold)
        if as_json:
            print_json(result.model_dump(mode="json"))
        else:
            show(*sheets_of(result))


def figure(
    context: typer.Context,
    model: Model,
    figure: Annotated[AnyFigureName, typer.Argument(help="The figure to draw.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File to write, ending in .png or .svg.")],
    part: Annotated[Part | None, typer.Option(help="The condition c, or its class part y or time part t.")] = None,
    timestep: Annotated[float | None, typer.Option(help="The time of c; by default where sampling starts.")] = None,
    conditions: Conditions = None,
    classes: Annotated[int | None, typer.Option(help="How many classes or conditions to draw.")] = None,
    threshold: Annotated[
        list[float] | None, typer.Option(help="A magnitude to prune at, or to mark; repeatable.")
    ] = None,
    side: Annotated[Literal["tail", "head"] | None, typer.Option(help="Of removal: which components to prune.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the choice of classes, of samples and of t-SNE.")] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="Of attribution: as in `tailprune attribution`; repeatable."),
    ] = None,
    range: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Of cosine: the cosines at the two ends of the colours; the same for figures to compare."),
    ] = None,
    study: Annotated[str | None, typer.Option(help="Of error: the id of a study, whose drifts are marked.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Draw a figure of a model: its condition vectors, what pruning changes, its training, its rank."""
    form = FORMATS.get(out.suffix.lower())
    if form is None:
        raise typer.BadParameter(f"{out} ends in neither of {', '.join(FORMATS)}", param_hint="--out")
    options: FigureFields = {
        "part": part, "timestep": timestep, "conditions": conditions, "classes": classes, "threshold": threshold,
        "side": side, "seed": seed, "range": range, "study": study, "attribute": attribute,
    }  # fmt: skip
    with errors_shown(context), Client(url) as client:
        say(f"written: {client.figure(model, figure, format=form, **options).save(out)}")


def extract(
    context: typer.Context,
    model: Model,
    timesteps: Annotated[
        list[float] | None,
        typer.Option("--timestep", help="A time of c and t; repeatable. By default where sampling starts."),
    ] = None,
    labels: CoveredLabels = None,
    conditions: Conditions = None,
    rows: Rows = None,
    parts: Annotated[list[str] | None, typer.Option("--part", help="c, y or t; repeatable. All by default.")] = None,
    webhook: WebhookUrl = None,
    webhook_events: WebhookEvents = None,
    out: Annotated[Path | None, typer.Option(help="Safetensors file in which to write the vectors.")] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Extract the condition vectors of a model's classes, or of uploaded conditions, as tensors."""
    if out is not None and no_wait:
        raise typer.BadParameter("needs the finished job; leave --no-wait out", param_hint="--out")
    with errors_shown(context), Client(url) as client:
        job = client.submit("extract", body_of(context, ExtractRequest))
        if no_wait:
            started(client, job, as_json=as_json)
            return
        job = waited_for(client, job, as_json=as_json)
        result = job.result
        assert isinstance(result, ExtractResult)
        if out is not None:
            say(f"written: {job.artifacts[result.artifact].save(out)}")
        else:
            save = client.command(f"jobs save {job.id}")
            say(f"the vectors are in {result.artifact} of job {job.id}: --out FILE writes them, and so does {save}")


def upload(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="A safetensors or npz file of conditions, or of pooled texts."
        ),
    ],
    url: Url = DEFAULT_URL,
) -> None:
    """Upload conditions (pose, image and latents, or video), and print the id to give as --conditions.

    Pooled texts of a large transformer (pooled) are uploaded so too, for --population of tailprune compact.
    """
    with errors_shown(context), Client(url) as client:
        info = client.upload(file)
        shapes = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in info.inputs.items())
        say(f"{info.count} conditions of {shapes}, for models of {info.family}")
        line(info.id)
