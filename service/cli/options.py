"""The options that several commands have, and the request that a command's options make.

The parameters of a command are named as the fields of its request; fields of an object, as `schedule.when`, with the
name of the object before: `schedule_when`. So each option is sent as the field that its parameter names
(`body_of`), and what is wrong with a field is reported of its option (`service.cli.faults`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jobs.requests.base import Request
from jobs.requests.subscriber import Subscriber
from tailprune.spec.prune import FINAL
from tailprune_client.core import URL_VARIABLE

__all__ = [
    "AsJson", "Blocks", "Conditions", "CoveredLabels", "Diffusion", "Fill", "GuidanceInterval", "GuidancePower",
    "GuidanceScale", "GuidedChannels", "LastStep", "Model", "ModulationMinus", "ModulationPlus", "ModulationWeight",
    "NoWait", "Rows", "SampledLabels", "Sampler", "SamplesPerLabel", "Save", "Side", "Steps", "ThresholdByStep",
    "TimestepShift", "Url", "WebhookEvents", "WebhookUrl", "body_of", "label",
]  # fmt: skip


OBJECTS = {"schedule": ("when", "count", "steps"), "modulation": ("weight", "plus", "minus")}
"""The fields that are objects, with their own fields, each of which is an option."""


def body_of(context: typer.Context, request: type[Request]) -> dict[str, Any]:
    """The fields of a request, and of its webhook, that the options of a command give; others are the service's."""
    given = {name: context.params.get(name) for name in (*request.model_fields, *Subscriber.model_fields)}
    for name, fields in OBJECTS.items():
        own = {field: context.params.get(f"{name}_{field}") for field in fields}
        if name in request.model_fields and given[name] is None:
            given[name] = {field: value for field, value in own.items() if value not in (None, ())} or None
    return {name: _plain(value) for name, value in given.items() if value is not None and value != [] and value != ()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def label(text: str) -> int | str:
    """A class label: a number, or the name of a class, which does not consist of digits alone."""
    return int(text) if text.removeprefix("-").isdecimal() else text


def _block(text: str) -> int | str:
    if text == FINAL or text.isdecimal():
        return int(text) if text.isdecimal() else text
    raise typer.BadParameter(f"{text!r} is neither the number of a block, counted from 0, nor {FINAL}")


def _by_step(text: str) -> list[float | None]:
    try:
        return [None if part.strip() == "none" else float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers, with none for some: 0.1,none,0.02") from None


def _channels(text: str) -> int | str:
    if text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number of channels nor all") from None


# About the service

Url = Annotated[str, typer.Option(envvar=URL_VARIABLE, help="The address of the service.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the whole job as JSON instead of tables: id, links, request, result.")
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Print the id of the job and return at once; `tailprune jobs` has the rest.")
]

# What is sampled

Model = Annotated[str, typer.Argument(help="The name of a model, such as shapes-sit.", show_default=False)]
SampledLabels = Annotated[
    list[Any] | None,
    typer.Option(
        "--label", parser=label, metavar="<int|name>", help="A class to sample, by number or name; repeatable."
    ),
]
CoveredLabels = Annotated[
    list[Any] | None,
    typer.Option(
        "--label", parser=label, metavar="<int|name>", help="A class, by number or name; repeatable. All by default."
    ),
]
Conditions = Annotated[
    str | None, typer.Option(help="The id that `tailprune upload` printed, for models that take conditions.")
]
Rows = Annotated[
    list[int] | None, typer.Option("--row", help="The number of a condition, from 0; repeatable. All by default.")
]
SamplesPerLabel = Annotated[int | None, typer.Option("--samples", help="How many samples of each label or condition.")]

# How it is pruned

Side = Annotated[
    Literal["tail", "head"] | None,
    typer.Option(help="Remove the components below the threshold (tail, the default) or above it (head)."),
]
ThresholdByStep = Annotated[
    Any,
    typer.Option(
        parser=_by_step,
        metavar="<number|none,...>",
        help="A threshold for each step, the step at pure noise first; none where not to prune.",
    ),
]
Blocks = Annotated[
    list[Any] | None,
    typer.Option(
        "--block",
        parser=_block,
        metavar="<int|final>",
        help="A block that sees the pruned vectors, from 0, or the final layer; repeatable. All by default.",
    ),
]
Fill = Annotated[
    Literal["zero", "mean"] | None,
    typer.Option(help="What replaces removed components: zero (default of --threshold), or the mean (of --keep)."),
]

# How it is sampled: the model's own settings by default

Sampler = Annotated[str | None, typer.Option(help="ddim, ddpm or dpmpp; euler, heun, dopri5 or sde.")]
Steps = Annotated[int | None, typer.Option(help="How many sampling steps.")]
GuidanceScale = Annotated[
    float | None, typer.Option("--guidance", help="The guidance scale; 1 samples without guidance.")
]
GuidanceInterval = Annotated[
    tuple[float, float] | None,
    typer.Option(help="Guide only between these two times, the lower first, in the model's own time."),
]
GuidancePower = Annotated[
    float | None, typer.Option(help="The exponent of the power-cosine schedule of the guidance scale.")
]
GuidedChannels = Annotated[
    Any, typer.Option(parser=_channels, metavar="<int|all>", help="How many latent channels to guide, or all.")
]
ModulationWeight = Annotated[
    float | None,
    typer.Option("--modulation", help="Modulation guidance: move c by this times c+ - c-; 0 (none) by default."),
]
ModulationPlus = Annotated[
    Any,
    typer.Option(parser=label, metavar="<int|name>", help="The class of c+; by default each sample's own condition."),
]
ModulationMinus = Annotated[
    Any, typer.Option(parser=label, metavar="<int|name>", help="The class of c-; by default the null condition.")
]
TimestepShift = Annotated[
    float | None, typer.Option(help="The timestep shift of the samplers euler and heun; 1 is none.")
]
Diffusion = Annotated[
    Literal["sigma", "linear"] | None,
    typer.Option(help="The diffusion coefficient of the sampler sde: sigma (the default) or linear."),
]
LastStep = Annotated[
    Literal["mean", "tweedie"] | None,
    typer.Option(help="How the sampler sde takes its last step: mean (the default) or tweedie."),
]

# Who is told

WebhookUrl = Annotated[
    str | None,
    typer.Option("--webhook", metavar="URL", help="A URL that the service calls when the job ends: docs/webhooks.md."),
]
WebhookEvents = Annotated[
    list[str] | None,
    typer.Option(
        "--webhook-event",
        help="Call --webhook for this: started, succeeded, failed, cancelled; repeatable. All but started by default.",
    ),
]

# What is written

Save = Annotated[Path | None, typer.Option(file_okay=False, help="Folder in which to write what the job made.")]
