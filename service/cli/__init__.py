"""The command `tailprune`.

commands      prune-sample, edit, metrics, attribution, figure, extract and upload
study         study
compact       compact
jobs          jobs: list, show, watch, cancel and save
models        models: list, show, add, fetch and remove
serve         serve
keys          keys: add, list and remove
webhooks      webhooks secret
storage       storage, and storage prune
supervisor    keeps the processes of serve running
client        a running service: its client (tailprune_client), which tells what is waited for
progress      the progress of a job, and the time that is left
running       a job from its request to what it made
options       the options that commands share
faults        what is wrong with a request, by the options of the command
tables        results as tables
terminal      prints tables, messages and errors
"""

from importlib.metadata import version
from typing import Annotated

import typer

from service.cli import commands, compact, jobs, keys, models, serve, storage, study, webhooks
from service.cli.terminal import Commands, line

__all__ = ["app"]

app = typer.Typer(
    name="tailprune",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich's cuts names of options in narrow terminals
)


def _print_version(asked: bool) -> None:
    if asked:
        line(f"tailprune {version('tailprune')}")
        raise typer.Exit


@app.callback()
def tailprune(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure, prune and sample the condition vectors of diffusion transformers."""


app.command(short_help="Run Redis, workers and the service.")(serve.serve)
app.command(short_help="Sample a model, pruned and unpruned.")(commands.prune_sample)
app.command(short_help="Move a class towards another.")(commands.edit)
app.command(short_help="Score a model under many prunes.")(study.study)
app.command(short_help="Make a smaller model.")(compact.compact)
app.command(short_help="Show statistics of condition vectors.")(commands.metrics)
app.command(short_help="Show what carries which attribute.")(commands.attribution)
app.command(short_help="Draw a figure of a model.")(commands.figure)
app.command(short_help="Extract a model's condition vectors.")(commands.extract)
app.command(short_help="Upload conditions.")(commands.upload)
app.add_typer(jobs.app, name="jobs", short_help="Look at jobs, cancel them, save files.")
app.add_typer(models.app, name="models", short_help="List, show, add and fetch models.")
app.add_typer(keys.app, name="keys", short_help="Make, list and remove keys of the service.")
app.add_typer(storage.app, name="storage", short_help="Show what is stored, delete what is not needed.")
app.add_typer(webhooks.app, name="webhooks", short_help="Show what webhooks are signed with.")
