"""`tailprune prune-sample`, `metrics`, `figure`, `extract` and `upload`: call a running service and show the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.records import JobView
from jobs.requests.fields import FigureName, Part
from jobs.results import ExtractResult, MetricsResult, PruneSampleResult
from service.cli.client import Client
from service.cli.terminal import (
    DEFAULT_URL,
    AsJson,
    Conditions,
    Url,
    class_labels,
    errors_shown,
    extract_table,
    messages,
    metrics_tables,
    output,
    prune_sample_table,
)

__all__ = ["extract", "figure", "metrics", "prune_sample", "upload"]

FORMATS = {".png": "image/png", ".svg": "image/svg+xml"}


def prune_sample(
    model: Annotated[str, typer.Argument(help="The name of a model, such as shapes-sit.")],
    threshold: Annotated[list[float] | None, typer.Option(help="Prune at this magnitude; repeatable.")] = None,
    keep: Annotated[list[int] | None, typer.Option(help="Keep this many components; repeatable.")] = None,
    side: Annotated[
        Literal["tail", "head"] | None,
        typer.Option(help="Remove the components below --threshold (tail, the default) or above it (head)."),
    ] = None,
    fill: Annotated[Literal["zero", "mean"] | None, typer.Option(help="What replaces removed components.")] = None,
    when: Annotated[
        Literal["every", "first", "last"], typer.Option(help="The sampling steps at which to prune.")
    ] = "every",
    count: Annotated[int | None, typer.Option(help="How many steps, with --when first or last.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="A class to sample, by number or name; repeatable."),
    ] = None,
    conditions: Conditions = None,
    row: Annotated[
        list[int] | None, typer.Option(help="The number of a condition to sample, from 0; repeatable.")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="How many samples of each label or condition.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    sampler: Annotated[str | None, typer.Option(help="ddim, ddpm or dpmpp; euler, heun, dopri5 or sde.")] = None,
    steps: Annotated[int | None, typer.Option(help="How many sampling steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="The guidance scale; 1 samples without guidance.")] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"] | None, typer.Option(help="The precision in which the network computes.")
    ] = None,
    compare: Annotated[bool, typer.Option(help="Also sample unpruned, and report the drift.")] = True,
    save: Annotated[
        Path | None, typer.Option(help="Folder in which to write the grid of pictures, and sounds.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Sample a model with pruned condition vectors; options default to the model's own settings."""
    body = {
        "model": model,
        "threshold": threshold or None,
        "keep": keep or None,
        "side": side,
        "fill": fill,
        "schedule": {"when": when, "count": count},
        "labels": class_labels(label),
        "conditions": conditions,
        "rows": row or None,
        "samples_per_label": samples,
        "seed": seed,
        "sampler": sampler,
        "steps": steps,
        "guidance_scale": guidance,
        "compare": compare,
        **({} if precision is None else {"precision": precision}),
    }
    with errors_shown(), Client(url, messages) as client:
        job = client.finished(client.prune_sample(body))
        result = job.result
        assert isinstance(result, PruneSampleResult)
        if as_json:
            typer.echo(result.model_dump_json(indent=2))
        else:
            output.print(prune_sample_table(result))
        if result.pictures.note is not None:
            messages.print(result.pictures.note)
        if save is not None:
            sounds = [sound.artifact for variant in result.variants for sound in variant.sounds]
            for name in (result.grid, *sounds):
                messages.print(f"written: {client.save(job, name, save)}")


def metrics(
    model: Annotated[str, typer.Argument(help="The name of a model, such as shapes-sit.")],
    part: Annotated[Part, typer.Option(help="The condition c, or its class part y or time part t.")] = "c",
    timestep: Annotated[
        float | None, typer.Option(help="The time at which c is measured; by default where sampling starts.")
    ] = None,
    conditions: Conditions = None,
    threshold: Annotated[
        list[float] | None, typer.Option(help="A magnitude at which to measure sparsity; repeatable.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show statistics of a model's condition vectors, over its classes or over uploaded conditions."""
    query = {"part": part, "timestep": timestep, "conditions": conditions, "threshold": threshold or None}
    with errors_shown(), Client(url, messages) as client:
        answer = client.metrics(model, {name: value for name, value in query.items() if value is not None})
        result = client.finished(answer).result if isinstance(answer, JobView) else answer
        assert isinstance(result, MetricsResult)
        if as_json:
            typer.echo(result.model_dump_json(indent=2))
        else:
            output.print(*metrics_tables(result), sep="\n")


def figure(
    model: Annotated[str, typer.Argument(help="The name of a model, such as shapes-sit.")],
    name: Annotated[FigureName, typer.Argument(help="The figure to draw.")],
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
    url: Url = DEFAULT_URL,
) -> None:
    """Draw a figure of a model: its condition vectors, what pruning does to its samples, or its training."""
    media_type = FORMATS.get(out.suffix.lower())
    if media_type is None:
        raise typer.BadParameter(f"{out} ends in neither of {', '.join(FORMATS)}", param_hint="--out")
    query = {
        "part": part,
        "timestep": timestep,
        "conditions": conditions,
        "classes": classes,
        "threshold": threshold or None,
        "side": side,
        "seed": seed,
    }
    with errors_shown(), Client(url, messages) as client:
        given = {name: value for name, value in query.items() if value is not None}
        content = client.figure(model, name, given, media_type)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(content)
        messages.print(f"written: {out}")


def extract(
    model: Annotated[str, typer.Argument(help="The name of a model, such as shapes-sit.")],
    timestep: Annotated[
        list[float] | None, typer.Option(help="A time of c and t; repeatable. By default where sampling starts.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="A class, by number or name; repeatable. All by default."),
    ] = None,
    conditions: Conditions = None,
    row: Annotated[
        list[int] | None, typer.Option(help="The number of a condition, from 0; repeatable. All by default.")
    ] = None,
    part: Annotated[list[str] | None, typer.Option(help="c, y or t; repeatable. All by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Safetensors file in which to write the vectors.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Extract the condition vectors of a model's classes, or of uploaded conditions, as tensors."""
    body = {
        "model": model,
        "timesteps": timestep or None,
        "labels": class_labels(label),
        "conditions": conditions,
        "rows": row or None,
        "parts": part or None,
    }
    with errors_shown(), Client(url, messages) as client:
        job = client.finished(client.extract(body))
        result = job.result
        assert isinstance(result, ExtractResult)
        if as_json:
            typer.echo(result.model_dump_json(indent=2))
        else:
            output.print(extract_table(result))
        if out is not None:
            messages.print(f"written: {client.save_as(job, result.artifact, out)}")
        else:
            messages.print(f"the file is at {job.links.artifacts[result.artifact]}; --out FILE writes it")


def upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A safetensors or npz file of conditions.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Upload conditions (pose, image and latents, or video), and print the id to give as --conditions."""
    with errors_shown(), Client(url, messages) as client:
        info = client.upload(file.read_bytes())
        shapes = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in info.inputs.items())
        messages.print(f"{info.count} conditions of {shapes}, for models of {info.family}")
        typer.echo(info.id)
