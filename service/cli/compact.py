"""`tailprune compact`: have a running service make a smaller model, and show its size and the drift of its samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.results import CompactResult
from service.cli.client import Client
from service.cli.terminal import (
    DEFAULT_URL,
    AsJson,
    Conditions,
    Url,
    class_labels,
    compact_table,
    errors_shown,
    messages,
    output,
)

__all__ = ["compact"]


def compact(
    model: Annotated[str, typer.Argument(help="The name of a model, such as shapes-sit.")],
    keep: Annotated[int | None, typer.Option(help="Keep this many components, or directions.")] = None,
    by: Annotated[
        Literal["variance", "directions"] | None,
        typer.Option(help="Keep components by variance (the default), or principal directions."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Remove the components that a prune at this magnitude removes in every covered vector."),
    ] = None,
    side: Annotated[
        Literal["tail", "head"] | None,
        typer.Option(help="Remove the components below --threshold (tail, the default) or above it (head)."),
    ] = None,
    fill: Annotated[Literal["zero", "mean"] | None, typer.Option(help="What replaces removed components.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Cover the times of this sampler: ddim, euler, ...")] = None,
    steps: Annotated[int | None, typer.Option(help="... with this many steps.")] = None,
    shift: Annotated[float | None, typer.Option(help="... and this timestep shift.")] = None,
    timestep: Annotated[
        list[float] | None, typer.Option(help="Cover this time, instead of a sampler's; repeatable.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Cover this class, by number or name; repeatable. All by default."),
    ] = None,
    conditions: Conditions = None,
    row: Annotated[
        list[int] | None, typer.Option(help="Cover the condition with this number, from 0; repeatable. All by default.")
    ] = None,
    guided: Annotated[
        bool | None, typer.Option("--guided/--unguided", help="Whether to cover guided sampling too.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Folder in which to write the checkpoint, its card and the picture.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Make a smaller model whose AdaLN reads fewer components, and print the name by which it is then served."""
    body = {
        "model": model,
        "keep": keep,
        "by": by,
        "threshold": threshold,
        "side": side,
        "fill": fill,
        "sampler": sampler,
        "steps": steps,
        "timestep_shift": shift,
        "timesteps": timestep or None,
        "labels": class_labels(label),
        "conditions": conditions,
        "rows": row or None,
        "guided": guided,
    }
    with errors_shown(), Client(url, messages) as client:
        job = client.finished(client.compact(body))
        result = job.result
        assert isinstance(result, CompactResult)
        if as_json:
            typer.echo(result.model_dump_json(indent=2))
        else:
            output.print(compact_table(result))
            typer.echo(result.compacted.name)
        if save is not None:
            for name in (result.checkpoint, result.card, result.samples):
                messages.print(f"written: {client.save(job, name, save)}")
