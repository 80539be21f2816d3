"""`tailprune compact`: have a running service make a smaller model, and show what that saved and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.results import CompactResult
from service.cli.client import Client
from service.cli.terminal import DEFAULT_URL, AsJson, Conditions, Url, compact_table, errors_shown, messages, output

__all__ = ["compact"]


def compact(
    model: Annotated[str, typer.Argument(help="A model of the registry, such as shapes-sit.")],
    keep: Annotated[int | None, typer.Option(help="Keep so many components, or directions.")] = None,
    by: Annotated[
        Literal["variance", "directions"] | None, typer.Option(help="What --keep goes by; variance unless said.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Remove what a prune at this magnitude removes of everything covered.")
    ] = None,
    side: Annotated[Literal["tail", "head"] | None, typer.Option(help="Cut below or above --threshold.")] = None,
    fill: Annotated[Literal["zero", "mean"] | None, typer.Option(help="What replaces the removed.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Cover the times of this sampler: ddim, euler, ...")] = None,
    steps: Annotated[int | None, typer.Option(help="... with so many steps.")] = None,
    shift: Annotated[float | None, typer.Option(help="... and this shift of times.")] = None,
    timestep: Annotated[
        list[float] | None, typer.Option(help="Cover this time, in place of a sampler's; repeatable.")
    ] = None,
    label: Annotated[list[int] | None, typer.Option(help="Cover this class; repeatable. All unless said.")] = None,
    conditions: Conditions = None,
    row: Annotated[list[int] | None, typer.Option(help="Cover this one of the conditions; repeatable.")] = None,
    guided: Annotated[
        bool | None, typer.Option("--guided/--unguided", help="Whether guided sampling is covered.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Folder to write checkpoint, card and picture into.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Make a smaller model, whose AdaLN reads less of the condition; the service then serves it by its own name."""
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
        "labels": label or None,
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
