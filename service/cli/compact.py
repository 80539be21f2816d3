"""`tailprune compact`: have a running service make a smaller model, and show its size, and its drift or error."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from jobs.requests.compact import CompactRequest
from jobs.requests.compact_transformer import CompactTransformerRequest
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


def _resolution(text: str) -> list[int]:
    try:
        width, height = (int(side) for side in text.lower().split("x"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no width and height in pixels, such as 1024x768") from None
    return [width, height]


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
    steps: Annotated[
        list[int] | None,
        typer.Option(help="... with this many steps; repeatable for a large transformer, which covers all of them."),
    ] = None,
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
    scheduler: Annotated[
        Literal["own", "plain"] | None,
        typer.Option(
            help="Of a large transformer, as all that follow: whose times --steps are, those of its own scheduler (the "
            "default), or plain ones."
        ),
    ] = None,
    resolutions: Annotated[
        list[Any] | None,
        typer.Option(
            "--resolution",
            parser=_resolution,
            metavar="<WxH>",
            help="A width and height in pixels to cover, where they matter; repeatable.",
        ),
    ] = None,
    times: Annotated[
        list[float] | None,
        typer.Option("--time", help="Cover exactly this time, as the pipeline passes it; repeatable."),
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Cover all times by so many directions.")] = None,
    error: Annotated[
        float | None, typer.Option(help="Cover all times by as few directions as have at most this error.")
    ] = None,
    guidance: Annotated[
        list[float] | None, typer.Option(help="A guidance scale to cover; repeatable. The pipeline's by default.")
    ] = None,
    pooled: Annotated[
        Literal["zero", "mean"] | None,
        typer.Option(help="Take every pooled text for zeros, or for the mean of --population."),
    ] = None,
    population: Annotated[
        str | None, typer.Option(help="The id that `tailprune upload` printed, of pooled texts to cover.")
    ] = None,
    classes: Annotated[
        list[int] | None, typer.Option("--class", help="A class to cover, by number, of a DiT; repeatable.")
    ] = None,
    qkv: Annotated[
        Literal["stacked", "interleaved"] | None,
        typer.Option(
            help="The order of rows in qkv_proj of a MiniMax-H3 under its original names: stacked in single files for "
            "ComfyUI, interleaved in MiniMax's own shards."
        ),
    ] = None,
    webhook: WebhookUrl = None,
    webhook_events: WebhookEvents = None,
    save: Save = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Make a smaller model whose AdaLN reads fewer components, and print the name by which it is then served.

    Of a large transformer --save writes the smaller one, as the folder that it is.
    """
    body = body_of(context, CompactRequest) | body_of(context, CompactTransformerRequest)
    if len(body.get("steps", [])) == 1:
        [body["steps"]] = body["steps"]
    run(context, "compact", body)
