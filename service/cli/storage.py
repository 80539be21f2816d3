"""`tailprune storage`: what is stored, by class, and what a collection deletes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import redis
import typer
from pydantic import ValidationError

from jobs.settings import Settings, SettingsError, get_settings, limits_by_class
from jobs.startup import REASONS, NotYet, check_servers
from jobs.storage.artifacts import FOLDERS, ArtifactsError, ArtifactStore, ArtifactsUnavailable, Folder
from jobs.storage.retention import ClassReport, Collector, Report
from jobs.store.connection import connect
from jobs.store.jobs import JobStore
from service.cli.note import NOTE
from service.cli.terminal import ABSENT, Sheet, fail, line, show

__all__ = ["app"]

DAY = 86_400
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
CONTENTS = {
    "results": "what jobs made",
    "shards": "parts of jobs",
    "uploads": "conditions",
    "models": "compacted models",
}

app = typer.Typer(
    help="Show what is stored, and delete what is no longer needed.",
    invoke_without_command=True,
    rich_markup_mode=None,
)

DataDir = Annotated[
    Path | None,
    typer.Option(help="The data folder, as for serve; by default TAILPRUNE_DATA_DIR, or data.", show_default=False),
]


@app.callback()
def storage(context: typer.Context, data_dir: DataDir = None) -> None:
    """Show what is stored, by class: how much, how much of it is named by a job, and the limits.

    Talks to Redis and to the store of artifacts themselves, with the settings of the `tailprune serve` that runs on the
    data folder, or of the environment.
    """
    context.obj = data_dir
    if context.invoked_subcommand is None:
        with _collector(data_dir) as (collector, settings):
            report = collector.collect(dry_run=True)
            show(_sheet(report, settings))
            if report.unsorted:
                line(f"{report.unsorted} more files are where earlier versions put them; a collection sorts them")


@app.command(short_help="Delete what is no longer needed.")
def prune(
    context: typer.Context,
    data_dir: DataDir = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
) -> None:
    """Delete now what the workers delete every TAILPRUNE_COLLECT_SECONDS, and say what it was.

    That is what is over a limit, and files that no record names and that are older than
    TAILPRUNE_COLLECT_GRACE_SECONDS.
    """
    with _collector(data_dir or context.obj) as (collector, _):
        report = collector.collect(dry_run=dry_run)
    verb = "would delete" if dry_run else "deleted"
    for folder, each in report.classes.items():
        if each.deleted_files:
            line(f"{verb} {_count(each.deleted_files, 'file')} of {folder} ({_size(each.deleted_bytes)})")
    others = {"finished job": report.jobs, "shard": report.shards, "leftover": report.leftovers}
    for noun, count in others.items():
        if count:
            line(f"{verb} {_count(count, noun)}{' over a limit' if noun != 'leftover' else ''}")
    if not any((*others.values(), *(each.deleted_files for each in report.classes.values()))):
        line("nothing to delete")


@contextmanager
def _collector(data_dir: Path | None) -> Iterator[tuple[Collector, Settings]]:
    """A collector for the stack that uses a data folder, and its settings. Ends the command where there is none."""
    try:
        settings = _settings(data_dir)
        with connect(settings) as client:
            artifacts = ArtifactStore(settings, client)
            if artifacts.read_id() is None:
                fail(f"nothing is stored in {artifacts.location} yet; name the folder of the service with --data-dir")
            check_servers(settings, artifacts)
            yield Collector(settings, client, JobStore(client, settings)), settings
    except (*REASONS, NotYet, SettingsError, ArtifactsError, ArtifactsUnavailable) as error:
        fail(str(error))
    except redis.RedisError as error:
        fail(f"Redis: {error}")


def _settings(data_dir: Path | None) -> Settings:
    """The settings of the serve that runs on a data folder, or those of the environment where they name a Redis."""
    settings = get_settings()
    folder = Path(os.path.expanduser(data_dir or settings.data_dir)).resolve()
    settings = settings.model_copy(update={"data_dir": folder})
    try:
        noted = Settings.model_validate(json.loads((folder / NOTE).read_text()))
    except FileNotFoundError:
        if "redis_url" not in settings.model_fields_set:
            fail(
                f"no tailprune serve runs on {folder}, and REDIS_URL is not set: start one, name its folder with "
                "--data-dir, or set the variables of the service"
            )
        return settings
    except (OSError, ValueError, ValidationError) as error:
        fail(f"{folder / NOTE} cannot be read ({type(error).__name__}): it is of the user who runs tailprune serve")
    return noted.model_copy(update={"data_dir": folder})


def _sheet(report: Report, settings: Settings) -> Sheet:
    days, sizes = limits_by_class(settings.keep_days), limits_by_class(settings.keep_bytes)
    days.setdefault("shards", settings.shard_ttl_seconds / DAY)
    rows = [_row(folder, report.classes[folder], days.get(folder), sizes.get(folder)) for folder in FOLDERS]
    total = [sum(getattr(each, name) for each in report.classes.values()) for name in ("files", "bytes", "named_bytes")]
    rows.append(["all", f"{total[0]:,}", _size(total[1]), _size(total[1] - total[2]), "", ""])
    return Sheet(
        ["class", "files", "size", "unnamed", "oldest", "limit"],
        rows,
        title="Artifacts by class",
        caption="Unnamed files are those that no record names; they are deleted once they are an hour old.",
        expendable=["oldest"],
    )


def _row(folder: Folder, report: ClassReport, days: float | None, size: float | None) -> list[str]:
    limits = [*([f"{days:g} days"] if days else []), *([_size(size)] if size else [])]
    oldest = ABSENT if report.oldest is None else f"{datetime.fromtimestamp(report.oldest, UTC):%Y-%m-%d %H:%M}"
    unnamed = _size(report.bytes - report.named_bytes)
    name = f"{folder} ({CONTENTS[folder]})"
    return [name, f"{report.files:,}", _size(report.bytes), unnamed, oldest, ", ".join(limits) or ABSENT]


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _size(count: float) -> str:
    """A number of bytes in words: `1.5 GB`."""
    for unit in UNITS:
        if count < 1000 or unit == UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
