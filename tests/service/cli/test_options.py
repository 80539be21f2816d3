"""The options of the commands: all fields of the requests have one, and faults are reported of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from jobs.problems import Fault, problem
from jobs.records import KINDS
from jobs.requests.study import Grid, Search
from service.cli import app
from service.cli.faults import explained, option_of, options_of

COMMANDS = {kind: kind for kind in KINDS}
IN_ONE = {"grid": Grid, "search": Search}
"""Fields that are objects, for which a command has an option for each of their fields."""
QUERIES = {"thresholds": "threshold"}
"""Fields of GET requests, by the query parameters that set them."""
WITHOUT = {
    "prunes.threshold": "--threshold makes a grid of one",
    "prunes.side": "goes with threshold",
    "prunes.by": "has one value, the default",
}
"""Fields without an option of their own, and why."""


def context_of(name: str) -> typer.Context:
    """The context of a command, as if it were called."""
    command = typer.main.get_command(app).commands[name]
    return typer.Context(command, info_name=name)


def fields_of(request: type[BaseModel]) -> Iterator[str]:
    for name in request.model_fields:
        if name in IN_ONE:
            yield from (f"{name}.{inner}" for inner in IN_ONE[name].model_fields)
        elif name == "schedule":
            yield from ("schedule.when", "schedule.count")
        elif name == "prunes":
            yield from (f"prunes.{inner}" for inner in ("threshold", "side", "keep", "by", "fill", "schedule"))
        else:
            yield QUERIES.get(name, name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_request_has_an_option(kind: str) -> None:
    options = options_of(context_of(COMMANDS[kind]))
    lacking = {name for name in fields_of(KINDS[kind]) if option_of(f"body.{name}", options) is None}
    assert lacking <= WITHOUT.keys()


@pytest.mark.parametrize(
    ("command", "location", "message", "line"),
    [
        ("prune-sample", "body.labels.0", "label 9 is outside 0 to 3", "--label: label 9 is outside 0 to 3"),
        (
            "prune-sample",
            "body",
            "give exactly one of threshold and keep",
            "give exactly one of --threshold and --keep",
        ),
        ("prune-sample", "body.schedule", "count 3 has no meaning", "--count 3 has no meaning"),
        ("prune-sample", "body.rows", "it takes labels; leave rows out", "--row: it takes labels; leave --row out"),
        ("prune-sample", "body.samples_per_label", "4 labels x 9 samples", "--samples: 4 labels x 9 samples"),
        (
            "prune-sample",
            "body.guided_channels",
            "guided_channels 7 is more than the 3 channels",
            "--guided-channels: --guided-channels 7 is more than the 3 channels",
        ),
        (
            "prune-sample",
            "body.conditions",
            "upload them with POST /conditions",
            "--conditions: upload them with `tail",
        ),
        ("prune-sample", "body.model", "too long", "model: too long"),
        ("study", "body.grid.schedules.1.count", "count 30 is more", "--schedule: count 30 is more"),
        ("study", "body.prunes.0.keep", "keep 99 is more", "--keep: keep 99 is more"),
        ("study", "body.search.fill", "it has one", "--fill: it has one"),
        ("study", "body", "give prunes, a grid of them, or a search", "give --threshold, --keep or --search"),
        ("figure", "query.threshold", "too many", "--threshold: too many"),
        ("figure", "path.figure", "cannot be pruned", "figure: cannot be pruned"),
        ("compact", "body.timestep_shift", "too small", "--timestep-shift: too small"),
        ("metrics", "header.prefer", "is not a number", "header.prefer: is not a number"),
        ("extract", "body.new_field", "is required", "body.new_field: is required"),
    ],
)
def test_what_is_wrong_is_said_of_the_option(command: str, location: str, message: str, line: str) -> None:
    found = problem("invalid-request", "one thing is wrong", [Fault(location=location, message=message)])
    title, said = explained(found, context_of(command)).splitlines()
    assert title == "The request is not valid:"
    assert said.strip().startswith(line)


def test_what_is_wrong_with_a_request_in_a_file_is_said_of_its_fields() -> None:
    context = context_of("study")
    context.params["body"] = "request.json"
    fault: dict[str, Any] = {"location": "body.labels.0", "message": "leave labels out"}
    found = problem("invalid-request", "one thing is wrong", [Fault(**fault)])
    assert explained(found, context).endswith("  body.labels.0: leave labels out")
