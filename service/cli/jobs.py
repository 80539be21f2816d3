"""`tailprune jobs`: list the jobs of a running service, look at one, follow it, cancel it, and save what it made."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.records import FINISHED, JobSummary
from service.cli.client import Client
from service.cli.options import Url
from service.cli.running import AnyJob, print_json, saved, waited_for
from service.cli.tables import sheets_of
from service.cli.terminal import ABSENT, Sheet, errors_shown, fail, line, say, show, show_facts
from tailprune_client import ProblemError
from tailprune_client.core import DEFAULT_URL

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
    with errors_shown(context), Client(url) as client:
        found = list(client.jobs(kind=kind, status=status, model=model, limit=limit))
        if as_json:
            print_json([job.model_dump(mode="json") for job in found])
            return
        if not found:
            say("no jobs")
            return
        columns: dict[str, list[str]] = {
            "id": [job.id for job in found],
            "status": [str(job.status) for job in found],
            "title": [job.title for job in found],  # has its kind and model
            "progress": [_done(job) for job in found],
            "created": [_time(job.created) for job in found],
        }
        shown = {heading: cells for heading, cells in columns.items() if any(cells)}
        expendable = [heading for heading in ("created", "progress") if heading in shown]
        show(Sheet(list(shown), list(zip(*shown.values(), strict=True)), borders=False, expendable=expendable))
        for job in found:
            if job.status == "failed":
                line(f"{job.id} failed: {_why(client, job)}")


@app.command("show")
def show_job(context: typer.Context, job_id: Id, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show a job: its request, its result or why it failed, and its files."""
    with errors_shown(context), Client(url) as client:
        if as_json:
            print_json(client.data("jobs", job_id))
            return
        job = client.job(job_id)
        line(f"job {job.id}")
        facts = {
            "kind": job.kind,
            "status": job.status,
            "title": job.title,
            "progress": _done(job),
            "created": _time(job.created),
            "started": job.started and _time(job.started),
            "finished": job.finished and _time(job.finished),
            "why": job.problem and job.problem.detail,
            "url": client.url_of(f"/jobs/{job.id}"),
        }
        show_facts(facts, indent="  ")
        line("request")
        show_facts(job.request.model_dump(mode="json"), indent="  ")
        if job.result is not None:
            show(*sheets_of(job.result))
        if job.artifacts:
            line("files")
            show_facts({name: file.url for name, file in job.artifacts.items()}, indent="  ")


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
    """Cancel jobs that have not finished. A running one stops at its next step, unless others asked for it too."""
    refused = 0
    with errors_shown(context), Client(url) as client:
        for job_id in job_ids:
            try:
                job = client.cancel(job_id)
            except ProblemError as error:
                refused += 1
                say(f"{job_id}: {error.detail}")
            else:
                goes_on = "goes on for others who asked for it" if job.goes_on else "stops at its next step"
                line(f"{job.id} {job.status if job.is_finished else goes_on}")
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
        wanted = list(dict.fromkeys(names)) if names else list(job.artifacts)
        _check_files(job, wanted)
        there = [str(path) for name in wanted if (path := to / Path(name).name).exists()]
        if there and not force:
            fail(f"{', '.join(there)}: already there; --force replaces, --to names another folder")
        for name in wanted:
            line(str(saved(job, name, to)))


def _check_files(job: AnyJob, wanted: list[str]) -> None:
    """Fail unless a job has these files, and at least one."""
    has = list(job.artifacts)
    if not has:
        way = "it has none" if job.is_finished else f"it is {job.status}, and has none yet"
        fail(f"job {job.id} has no files to save: {way}")
    if lacking := [name for name in wanted if name not in has]:
        some = ", ".join(has[:20]) + (", ..." if len(has) > 20 else "")
        fail(f"job {job.id} has no file {', '.join(lacking)}; it has {some}")


def _time(moment: datetime) -> str:
    """A time of the service in the local time zone, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _done(job: JobSummary | AnyJob) -> str:
    """How far a job is that has not finished."""
    if job.progress is None or job.status in FINISHED:
        return ""
    return f"{job.progress.done}/{job.progress.total} {job.progress.unit}"


def _why(client: Client, job: JobSummary) -> str:
    """Why a job of the list failed."""
    problem = job.problem or client.job(job.id).problem
    return ABSENT if problem is None else problem.detail or problem.title
