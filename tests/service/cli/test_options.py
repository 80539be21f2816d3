"""The options of the commands: all fields of the requests have one, and faults are reported of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from jobs.problems import Fault, problem
from jobs.records import KINDS
from jobs.requests.sampled import ModulationFields
from jobs.requests.study import Grid, Search
from jobs.requests.subscriber import Subscriber
from service.cli import app
from service.cli.faults import explained, option_of, options_of
from service.cli.options import body_of, label

OVER_HTTP_ALONE = {
    "anatomy", "cosine", "metrics-transformer", "over-time", "over-time-transformer", "removal",
}  # fmt: skip
"""Kinds of jobs without a command."""
OTHER_NAMES = {"register": "models add", "figure-transformer": "figure", "compact-transformer": "compact"}
COMMANDS = {kind: OTHER_NAMES.get(kind, kind) for kind in KINDS if kind not in OVER_HTTP_ALONE}
IN_ONE = {"grid": Grid, "search": Search, "modulation": ModulationFields}
"""Fields that are objects, for which a command has an option for each of their fields."""
QUERIES = {"thresholds": "threshold", "attributes": "attribute"}
"""Fields of GET requests, by the query parameters that set them."""
WITHOUT = {
    "prunes.threshold": "--threshold makes a grid of one",
    "prunes.side": "goes with threshold",
    "prunes.remove_fraction": "--remove-fraction makes a grid of one",
    "measured": "taken from the study that --study names",
}
"""Fields without an option of their own, and why."""


def context_of(name: str) -> typer.Context:
    """The context of a command, as if it were called."""
    command = typer.main.get_command(app)
    for word in name.split():
        command = command.commands[word]
    return typer.Context(command, info_name=name)


def fields_of(request: type[BaseModel]) -> Iterator[str]:
    for name in request.model_fields:
        if name in IN_ONE:
            yield from (f"{name}.{inner}" for inner in IN_ONE[name].model_fields)
        elif name == "schedule":
            yield from ("schedule.when", "schedule.count", "schedule.steps")
        elif name == "prunes":
            yield from (f"prunes.{inner}" for inner in ("threshold", "side", "keep", "by", "fill", "schedule"))
        else:
            yield QUERIES.get(name, name)


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_field_of_a_request_has_an_option(kind: str) -> None:
    options = options_of(context_of(COMMANDS[kind]))
    lacking = {name for name in fields_of(KINDS[kind]) if option_of(f"body.{name}", options) is None}
    assert lacking <= WITHOUT.keys()


def test_steps_thresholds_by_step_and_blocks_are_read_as_they_are_written() -> None:
    command = typer.main.get_command(app).commands["prune-sample"]  # type: ignore[attr-defined]
    given = ["tiny", "--threshold-by-step", "0.1, none,2", "--block", "1", "--block", "final"]
    body = body_of(command.make_context("prune-sample", given), KINDS["prune-sample"])
    assert body == {"model": "tiny", "threshold_by_step": [0.1, None, 2], "blocks": [1, "final"]}
    for wrong, message in (
        (["--block", "last"], "neither the number of a block"),
        (["--threshold-by-step", "1,x"], "no list"),
    ):
        with pytest.raises(typer.BadParameter, match=message):
            command.make_context("prune-sample", ["tiny", *wrong])


def test_resolutions_are_written_as_width_and_height() -> None:
    command = typer.main.get_command(app).commands["compact"]  # type: ignore[attr-defined]
    given = ["flux", "--steps", "28", "--resolution", "1024x768", "--resolution", "64X32", "--time", "0.5"]
    body = body_of(command.make_context("compact", given), KINDS["compact-transformer"])
    assert body == {"model": "flux", "steps": [28], "resolutions": [[1024, 768], [64, 32]], "times": [0.5]}
    for wrong in ("1024", "1024x", "axb", "1x2x3"):
        with pytest.raises(typer.BadParameter, match="no width and height"):
            command.make_context("compact", ["flux", "--resolution", wrong])


@pytest.mark.parametrize("command", ["prune-sample", "edit", "study", "compact", "extract"])
def test_every_command_that_starts_a_job_of_a_model_takes_a_webhook(command: str) -> None:
    context = context_of(command)
    given = {"webhook": "https://hooks.example.com/7", "webhook_events": ["started", "failed"]}
    context.params.update(given)
    assert body_of(context, KINDS[command]) == given
    options = options_of(context)
    assert {name: options[name] for name in Subscriber.model_fields} == {
        "webhook": "--webhook",
        "webhook_events": "--webhook-event",
    }


@pytest.mark.parametrize(
    ("command", "location", "message", "line"),
    [
        ("prune-sample", "body.labels.0", "label 9 is outside 0 to 3", "--label: label 9 is outside 0 to 3"),
        (
            "prune-sample",
            "body",
            "give exactly one of threshold, threshold_by_step, remove_fraction, keep and keep_fraction",
            "give exactly one of --threshold, --threshold-by-step, --remove-fraction, --keep and --keep-fraction",
        ),
        ("prune-sample", "body.schedule", "count 3 has no meaning", "--count 3 has no meaning"),
        ("prune-sample", "body.schedule.steps", "step 9 is outside 0 to 3", "--step: step 9 is outside 0 to 3"),
        ("prune-sample", "body.blocks.1", "block 9 is outside", "--block: block 9 is outside"),
        ("prune-sample", "body.threshold_by_step", "there are 2 thresholds", "--threshold-by-step: there are 2"),
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
        (
            "prune-sample",
            "body.labels.1",
            "GET /models/tiny lists the names",
            "--label: `tailprune models show tiny",
        ),
        ("compact", "body", "leave fill out, or use by 'variance'", "leave --fill out, or use --by 'variance'"),
        ("upload", "body", "the body is neither this nor that; send another", "the file is neither this nor that"),
        (
            "extract",
            "body",
            "webhook_events has no meaning without webhook: name the URL to call",
            "--webhook-event has no meaning without --webhook: name the URL to call",
        ),
        ("compact", "body.resolutions.0.1", "too small", "--resolution: too small"),
        (
            "compact",
            "body.population",
            "the mean of pooled texts needs texts: upload them with POST /conditions, and give the id that it returns",
            "--population: the mean of pooled texts needs texts: upload them with `tailprune upload`",
        ),
        ("compact", "body.webhook", "is not among the hosts", "--webhook: is not among the hosts"),
        ("study", "body.grid.schedules.1.count", "count 30 is more", "--schedule: count 30 is more"),
        ("study", "body.prunes.0.keep", "keep 99 is more", "--keep: keep 99 is more"),
        ("study", "body.search.fill", "it has one", "--fill: it has one"),
        ("study", "body", "give prunes, a grid of them, or a search", "give --threshold, --keep or --search"),
        ("figure", "query.threshold", "too many", "--threshold: too many"),
        ("figure", "path.figure", "cannot be pruned", "figure: cannot be pruned"),
        ("compact", "body.timestep_shift", "too small", "--timestep-shift: too small"),
        (
            "prune-sample",
            "body.schedule",
            "step 3 is given more than once; give each step once",
            "--when, --count, --step: step 3 is given more than once",
        ),
        (
            "prune-sample",
            "body.threshold_by_step",
            "no step has a threshold: give a number for each step, and null for those that are not pruned",
            "--threshold-by-step: no step has a threshold: give a number for each step, and none for those",
        ),
        (
            "prune-sample",
            "body.guidance_scale",
            "it needs text and null conditions, or null conditions",
            "--guidance: it needs text and null conditions, or null conditions",
        ),
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


def test_what_is_wrong_with_a_value_that_sets_several_fields_is_said_once() -> None:
    faults = [Fault(location=f"body.prunes.{place}.schedule.count", message="too many") for place in range(3)]
    found = problem("invalid-request", "3 things are wrong", faults)
    assert explained(found, context_of("study")).splitlines()[1:] == ["  --schedule: too many"]


def test_a_problem_that_is_not_of_a_field_names_commands_in_place_of_calls() -> None:
    found = problem("unknown-conditions", "upload their file with POST /conditions, which returns the id")
    said = "No such conditions: upload their file with `tailprune upload`, which prints the id"
    assert explained(found, context_of("extract")) == said


@pytest.mark.parametrize(("text", "meant"), [("3", 3), ("-3", -3), ("red circle", "red circle"), ("3D", "3D")])
def test_a_label_is_a_number_or_a_name(text: str, meant: int | str) -> None:
    assert label(text) == meant
