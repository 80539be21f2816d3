"""The command `tailprune`.

commands      prune-sample, edit, metrics, attribution, figure, extract and upload
study         study
compact       compact
jobs          jobs: list, show, watch, cancel and save
models        models: list, show, add, fetch and remove
serve         serve
note          the settings of serve, in its data folder
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

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

__all__ = ["COMMANDS", "INTERRUPTED", "app"]

INTERRUPTED = 130
"""The exit status of a command that was ended by Ctrl-C."""


class Home(NamedTuple):
    """Where a command is."""

    module: str
    """In this package."""
    name: str
    """Of its function there, or of its group of commands."""
    help: str
    """What the list of commands says of it."""


COMMANDS = {
    "serve": Home("serve", "serve", "Run Redis, workers and the service."),
    "prune-sample": Home("commands", "prune_sample", "Sample a model, pruned and unpruned."),
    "edit": Home("commands", "edit", "Move a class towards another."),
    "study": Home("study", "study", "Score a model under many prunes."),
    "compact": Home("compact", "compact", "Make a smaller model."),
    "metrics": Home("commands", "metrics", "Show statistics of condition vectors."),
    "attribution": Home("commands", "attribution", "Show what carries which attribute."),
    "figure": Home("commands", "figure", "Draw a figure of a model."),
    "extract": Home("commands", "extract", "Extract a model's condition vectors."),
    "upload": Home("commands", "upload", "Upload conditions."),
    "jobs": Home("jobs", "app", "Look at jobs, cancel them, save files."),
    "models": Home("models", "app", "List, show, add and fetch models."),
    "keys": Home("keys", "app", "Make, list and remove keys of the service."),
    "storage": Home("storage", "app", "Show what is stored, delete what is not needed."),
    "webhooks": Home("webhooks", "app", "Show what webhooks are signed with."),
}
"""All commands, in the order in which they are listed."""


@lru_cache
def _command(name: str) -> Any:
    """A command or a group of them, with its options, from its module."""
    home = COMMANDS[name]
    try:
        found = getattr(import_module(f"{__name__}.{home.module}"), home.name)
    except KeyboardInterrupt:  # Typer would end with 1
        sys.exit(INTERRUPTED)
    holder = typer.Typer(rich_markup_mode=None, callback=lambda: None)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name, short_help=home.help)
    else:
        holder.command(name, short_help=home.help)(found)
    return typer.main.get_group(holder).commands[name]


class _Commands(Mapping[str, Any]):
    """The commands by name; the module of each is imported when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Commands(TyperGroup):
    """The group of all commands, none of which fails over a character that cannot be written.

    Only what is called is imported: all commands together take seconds, which `serve` and `--help` have no use for.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _Commands()  # type: ignore[assignment]

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command that the arguments name."""
        if sys.stdout is None:  # the caller has closed it
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open while the process runs
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what pydantic says of a wrong value goes without its own preface."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands, in order."""
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, home.help) for name, home in COMMANDS.items()])


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
        from importlib.metadata import version  # slow to import, and only needed here

        print(f"tailprune {version('tailprune')}")
        raise typer.Exit


@app.callback()
def tailprune(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure, prune and sample the condition vectors of diffusion transformers."""
