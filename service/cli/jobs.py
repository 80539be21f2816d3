"""`tailprune jobs`: list the jobs of a running service, look at one, follow it, cancel it, and save what it made."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer

from jobs.records import FINISHED, JobView
from service.cli.api import DEFAULT_URL, ClientError
from service.cli.client import Client
from service.cli.options import Url
from service.cli.running import print_json, waited_for
from service.cli.tables import sheets_of
from service.cli.terminal import ABSENT, Sheet, errors_shown, line, say, show, show_facts

__all__ = ["app"]

app = typer.Typer(
    help="List the jobs of a running service; show, watch or cancel one, or save its files.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Id = Annotated[str, typer.Argument(metavar="ID", help="The id of the job.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, as the service sent it.")]


@app.command("list")
def list_jobs(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind, such as study.")] = None,
    status: Annotated[
        Literal["queued", "running", "succeeded", "failed", "cancelled"] | None,
        typer.Option(help="Only jobs with this status."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most jobs to list, the newest first.")] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List jobs, newest first, and why those that failed did."""
    filters = {"kind": kind, "status": status, "model": model}
    with errors_shown(context), Client(url) as client:
        found = list(client.jobs({name: value for name, value in filters.items() if value is not None}, limit))
        if as_json:
            print_json(found)
            return
        if not found:
            say("no jobs")
            return
        columns = {
            "id": [job["id"] for job in found],
            "status": [job["status"] for job in found],
            "title": [job["title"] for job in found],  # has its kind and model
            "progress": [_done(job) for job in found],
            "created": [_time(job["created"]) for job in found],
        }
        shown = {heading: cells for heading, cells in columns.items() if any(cells)}
        expendable = [heading for heading in ("created", "progress") if heading in shown]
        show(Sheet(list(shown), list(zip(*shown.values(), strict=True)), borders=False, expendable=expendable))
        for job in found:
            if job["status"] == "failed":
                line(f"{job['id']} failed: {_why(client, job)}")


@app.command("show")
def show_job(context: typer.Context, job_id: Id, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show a job: its request, its result or why it failed, and its files."""
    with errors_shown(context), Client(url) as client:
        data = client.job_data(job_id)
        if as_json:
            print_json(data)
            return
        job = client.job(job_id)
        line(f"job {job.id}")
        facts = {
            "kind": job.kind,
            "status": job.status,
            "title": data.get("title"),
            "progress": _done(data),
            **{name: data[name] and _time(data[name]) for name in ("created", "started", "finished")},
            "why": job.problem and job.problem.detail,
            "url": client.url_of(f"/jobs/{job.id}"),
        }
        show_facts(facts, indent="  ")
        line("request")
        show_facts(data["request"], indent="  ")
        if job.result is not None:
            show(*sheets_of(job.result))
        if job.links.artifacts:
            line("files")
            base = f"/jobs/{job.id}/artifacts"
            show_facts({name: client.url_of(f"{base}/{quote(name)}") for name in job.links.artifacts}, indent="  ")


@app.command()
def watch(context: typer.Context, job_id: Id, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Follow a job until it has finished, and show its result.

    The exit status is 0 if it succeeded, 1 if it failed, and 3 if it was cancelled. Ctrl-C leaves the job running.
    """
    with errors_shown(context), Client(url) as client:
        waited_for(client, client.job(job_id), as_json=as_json)


@app.command()
def cancel(
    context: typer.Context,
    job_ids: Annotated[list[str], typer.Argument(metavar="ID", help="The ids of the jobs.", show_default=False)],
    url: Url = DEFAULT_URL,
) -> None:
    """Cancel jobs that have not finished. A running one stops at its next step."""
    refused = 0
    with errors_shown(context), Client(url) as client:
        for job_id in job_ids:
            try:
                job = client.cancel(job_id)
            except ClientError as error:
                if error.problem is None:
                    raise
                refused += 1
                say(f"{job_id}: {error.problem.detail}")
            else:
                line(f"{job.id} {job.status if job.status in FINISHED else 'stops at its next step'}")
    if refused:
        raise typer.Exit(1)


@app.command()
def save(
    context: typer.Context,
    job_id: Id,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="The names of the files; all by default.", show_default=False),
    ] = None,
    to: Annotated[Path, typer.Option(help="The folder in which to write them.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there already.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Save the files that a job made, each checked against its digest."""
    with errors_shown(context), Client(url) as client:
        job = client.job(job_id)
        wanted = list(dict.fromkeys(names)) if names else list(job.links.artifacts)
        _check_files(job, wanted)
        there = [str(path) for name in wanted if (path := to / Path(name).name).exists()]
        if there and not force:
            raise ClientError(f"{', '.join(there)}: already there; --force replaces, --to names another folder")
        for name in wanted:
            line(str(client.save(job, name, to)))


def _check_files(job: JobView, wanted: list[str]) -> None:
    """Raise ClientError unless a job has these files, and at least one."""
    has = list(job.links.artifacts)
    if not has:
        way = "it has none" if job.status in FINISHED else f"it is {job.status}, and has none yet"
        raise ClientError(f"job {job.id} has no files to save: {way}")
    if lacking := [name for name in wanted if name not in has]:
        some = ", ".join(has[:20]) + (", ..." if len(has) > 20 else "")
        raise ClientError(f"job {job.id} has no file {', '.join(lacking)}; it has {some}")


def _time(stamp: str) -> str:
    """A time of the service in the local time zone, to the second."""
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _done(job: dict[str, Any]) -> str:
    """How far a job is that has not finished."""
    progress = job["progress"]
    if progress is None or job["finished"] is not None:
        return ""
    return f"{progress['done']}/{progress['total']} {progress['unit']}"


def _why(client: Client, job: dict[str, Any]) -> str:
    """Why a job of the list failed."""
    problem = job.get("problem") or client.job_data(job["id"])["problem"] or {}
    return str(problem.get("detail") or problem.get("title") or ABSENT)
