"""`tailprune prune-sample`, `metrics`, `figure`, `extract` and `upload`: ask a running service, show its answer."""

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
    model: Annotated[str, typer.Argument(help="A model of the registry, such as shapes-sit.")],
    threshold: Annotated[list[float] | None, typer.Option(help="Prune by this magnitude; repeatable.")] = None,
    keep: Annotated[list[int] | None, typer.Option(help="Keep so many components; repeatable.")] = None,
    side: Annotated[Literal["tail", "head"] | None, typer.Option(help="Cut below or above --threshold.")] = None,
    fill: Annotated[Literal["zero", "mean"] | None, typer.Option(help="What replaces the removed.")] = None,
    when: Annotated[Literal["every", "first", "last"], typer.Option(help="The steps to prune at.")] = "every",
    count: Annotated[int | None, typer.Option(help="How many first or last steps.")] = None,
    label: Annotated[list[int] | None, typer.Option(help="A class to sample; repeatable.")] = None,
    conditions: Conditions = None,
    row: Annotated[list[int] | None, typer.Option(help="Which of the conditions to sample; repeatable.")] = None,
    samples: Annotated[int | None, typer.Option(help="Samples of each label or condition.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same noise.")] = 0,
    sampler: Annotated[str | None, typer.Option(help="ddim, ddpm, dpmpp; euler, heun, dopri5, sde.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; 1 is unguided.")] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"] | None, typer.Option(help="What the network computes in.")
    ] = None,
    compare: Annotated[bool, typer.Option(help="Sample unpruned too, and report the drift.")] = True,
    save: Annotated[Path | None, typer.Option(help="Folder to write the grid picture, and sounds, into.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Sample a model with pruned condition vectors; what is not said is the model's own choice."""
    body = {
        "model": model,
        "threshold": threshold or None,
        "keep": keep or None,
        "side": side,
        "fill": fill,
        "schedule": {"when": when, "count": count},
        "labels": label or None,
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
    model: Annotated[str, typer.Argument(help="A model of the registry, such as shapes-sit.")],
    part: Annotated[Part, typer.Option(help="The sum c, its class part or its time part.")] = "c",
    timestep: Annotated[float | None, typer.Option(help="The time at which c is measured.")] = None,
    conditions: Conditions = None,
    threshold: Annotated[list[float] | None, typer.Option(help="Measure sparsity here; repeatable.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Measure a model's condition vectors, over its classes or over uploaded conditions."""
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
    model: Annotated[str, typer.Argument(help="A model of the registry, such as shapes-sit.")],
    name: Annotated[FigureName, typer.Argument(help="Which figure.")],
    out: Annotated[Path, typer.Option(help="File to write it into: .png or .svg.")],
    part: Annotated[Part | None, typer.Option(help="The sum c, its class part or its time part.")] = None,
    timestep: Annotated[float | None, typer.Option(help="The time of c.")] = None,
    conditions: Conditions = None,
    classes: Annotated[int | None, typer.Option(help="How many classes or conditions to draw.")] = None,
    threshold: Annotated[
        list[float] | None, typer.Option(help="Prune at, or mark, this magnitude; repeatable.")
    ] = None,
    side: Annotated[Literal["tail", "head"] | None, typer.Option(help="What `removal` prunes.")] = None,
    seed: Annotated[int | None, typer.Option(help="Picks the classes; of the samples and of t-SNE.")] = None,
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
        said = {name: value for name, value in query.items() if value is not None}
        content = client.figure(model, name, said, media_type)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(content)
        messages.print(f"written: {out}")


def extract(
    model: Annotated[str, typer.Argument(help="A model of the registry, such as shapes-sit.")],
    timestep: Annotated[list[float] | None, typer.Option(help="A time of c and t; repeatable.")] = None,
    label: Annotated[list[int] | None, typer.Option(help="A class; repeatable. All unless said.")] = None,
    conditions: Conditions = None,
    row: Annotated[list[int] | None, typer.Option(help="Which of the conditions; repeatable.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="c, y or t; repeatable. All unless said.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write the vectors into, as safetensors.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Extract a model's condition vectors as tensors, of its classes or of uploaded conditions."""
    body = {
        "model": model,
        "timesteps": timestep or None,
        "labels": label or None,
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
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Conditions, as safetensors or npz.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Upload conditions of pose, image and latents, or of video; prints their id, for --conditions."""
    with errors_shown(), Client(url, messages) as client:
        info = client.upload(file.read_bytes())
        shapes = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in info.inputs.items())
        messages.print(f"{info.count} conditions of {shapes}, for models of {info.family}")
        typer.echo(info.id)
