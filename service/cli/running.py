"""A job from its request to what it made: posted, waited for, shown and saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from jobs.results import CompactResult, PruneSampleResult
from service.cli.client import Client
from service.cli.tables import files_of, sheets_of
from service.cli.terminal import errors_shown, line, say, show
from tailprune_client import Job, ProblemError

__all__ = ["print_json", "run", "saved", "started", "waited_for"]

AnyJob = Job[BaseModel]


def run(context: typer.Context, kind: str, body: dict[str, Any]) -> None:
    """Do what a command is for: post its request, wait for the job, show its result, and save what it made.

    context: that of the command, whose options say how: `url`, `no_wait`, `as_json` and `save`.
    kind: the kind of job.
    body: the request.
    """
    options = context.params
    folder, as_json = options["save"], bool(options["as_json"])
    if folder is not None and options["no_wait"]:
        raise typer.BadParameter(
            "needs the finished job; leave --no-wait out, or use `tailprune jobs save` later", param_hint="--save"
        )
    with errors_shown(context), Client(options["url"]) as client:
        job = client.submit(kind, body)
        if options["no_wait"]:
            started(client, job, as_json=as_json)
            return
        job = waited_for(client, job, as_json=as_json)
        if folder is not None:
            for name in files_of(job.result) if job.result else ():
                say(f"written: {saved(job, name, Path(folder))}")


def started(client: Client, job: AnyJob, *, as_json: bool) -> None:
    """Print the id of a job that is not waited for, or all of it as JSON, and where to look for more."""
    if as_json:
        print_json(client.data("jobs", job.id))
    else:
        line(job.id)
    show_it = client.command(f"jobs {'show' if job.is_finished else 'watch'} {job.id}")
    say(f"{job.kind} {job.status}: {show_it}, or {client.url_of(f'/jobs/{job.id}')}")


def waited_for(client: Client, job: AnyJob, *, as_json: bool) -> AnyJob:
    """Wait for a job, print its result as tables or all of the job as JSON, and return it.

    The JSON is printed of jobs that fail or are cancelled too, before this is raised.
    """
    try:
        job.wait()
    except ProblemError:
        if as_json:
            print_json(client.data("jobs", job.id))
        raise
    if as_json:
        print_json(client.data("jobs", job.id))
    else:
        _show_result(job)
    return job


def _show_result(job: AnyJob) -> None:
    result = job.result
    assert result is not None, "it succeeded"
    show(*sheets_of(result))
    if isinstance(result, CompactResult):
        line(result.compacted.name)
    if isinstance(result, PruneSampleResult) and result.pictures.note is not None:
        say(result.pictures.note)


def saved(job: AnyJob, name: str, folder: Path) -> Path:
    """Write an artifact of a job into a folder, which need not exist, and return its path."""
    return job.artifacts[name].save(folder / Path(name).name)


def print_json(data: Any) -> None:
    """Print data as JSON, in ASCII, which every encoding has."""
    line(json.dumps(data, indent=2))
