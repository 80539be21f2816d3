"""`tailprune compact`: have a running service make a smaller model, and show its size and the drift of its samples."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.requests.compact import CompactRequest
from service.cli.options import (
    AsJson,
    Conditions,
    CoveredLabels,
    Model,
    NoWait,
    Save,
    Side,
    Url,
    WebhookEvents,
    WebhookUrl,
    body_of,
)  # fmt: skip
from service.cli.running import run
from tailprune.spec.compaction import CompactBy, CompactFill
from tailprune.spec.prune import Of
from tailprune_client.core import DEFAULT_URL

__all__ = ["compact"]


def compact(
    context: typer.Context,
    model: Model,
    keep: Annotated[int | None, typer.Option(help="Keep this many components, or directions.")] = None,
    by: Annotated[
        CompactBy | None,
        typer.Option(
            help="Keep components by variance (the default), those that predict the others best, or principal "
            "directions."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Remove the components that a prune at this magnitude removes in every covered vector."),
    ] = None,
    side: Side = None,
    of: Annotated[
        Of | None, typer.Option(help="With --threshold: magnitudes of c (the default), or of what the blocks read.")
    ] = None,
    fill: Annotated[
        CompactFill | None,
        typer.Option(
            help="What replaces removed components: zero (default of --threshold), the mean (of --keep), or refit, "
            "their prediction from the components kept."
        ),
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="Cover the times of this sampler: ddim, euler, ...")] = None,
    steps: Annotated[int | None, typer.Option(help="... with this many steps.")] = None,
    timestep_shift: Annotated[float | None, typer.Option(help="... and this timestep shift.")] = None,
    timesteps: Annotated[
        list[float] | None,
        typer.Option("--timestep", help="Cover this time, instead of a sampler's; repeatable."),
    ] = None,
    labels: CoveredLabels = None,
    conditions: Conditions = None,
    rows: Annotated[
        list[int] | None,
        typer.Option("--row", help="Cover the condition with this number, from 0; repeatable. All by default."),
    ] = None,
    guided: Annotated[
        bool | None, typer.Option("--guided/--unguided", help="Whether to cover guided sampling too.")
    ] = None,
    webhook: WebhookUrl = None,
    webhook_events: WebhookEvents = None,
    save: Save = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Make a smaller model whose AdaLN reads fewer components, and print the name by which it is then served."""
    run(context, "compact", body_of(context, CompactRequest))
