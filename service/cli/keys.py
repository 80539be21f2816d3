"""`tailprune keys`: make, list and remove the keys of the service that runs here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from jobs.settings import SettingsError, get_settings
from jobs.startup import StartError
from service.cli.terminal import Sheet, fail, line, say, show
from service.keys import NAME_PATTERN, KeyFile, KeyScope

__all__ = ["app"]

app = typer.Typer(
    help="Make, list and remove keys: once there is one, the service answers nobody without.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="Whose key it is: letters, digits and . _ @ -, at most 64.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="The data folder, as for serve; by default TAILPRUNE_DATA_DIR, or data. TAILPRUNE_KEYS may name a file.",
        show_default=False,
    ),
]


@app.command(short_help="Make a key, and print it once.")
def add(
    name: Name,
    scope: Annotated[
        KeyScope,
        typer.Option(
            help="What it may do: read looks; submit also makes jobs and uploads, and takes its own back; "
            "admin does everything."
        ),
    ],
    data_dir: DataDir = None,
) -> None:
    """Make a key, and print it. It is shown this once: the file has only its hash.

    A running service takes it within a second. Commands and the client read it from TAILPRUNE_KEY.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise typer.BadParameter("begins with a letter or digit, and has only these and . _ @ -", param_hint="NAME")
    with _file(data_dir) as file:
        try:
            secret = file.add(name, scope)
        except KeyError:
            fail(f"there is a key {name!r} already: remove it first, or take another name")
        line(secret)
        say(f"this is the key of {name!r}, and is not shown again; {file.path} has its hash")


@app.command("list", short_help="List the keys.")
def list_keys(data_dir: DataDir = None) -> None:
    """List the names and scopes of all keys."""
    with _file(data_dir) as file:
        keys = file.read()
        if not keys:
            say(f"there are no keys in {file.path}: the service answers this machine alone")
            return
        rows = [[name, key.scope, f"{key.created:%Y-%m-%d %H:%M}"] for name, key in keys.items()]
        show(Sheet(["name", "scope", "made"], rows, title="Keys"))


@app.command(short_help="Remove a key.")
def remove(name: Name, data_dir: DataDir = None) -> None:
    """Remove a key. A running service refuses it within a second; what is under way with it ends as usual."""
    with _file(data_dir) as file:
        try:
            file.remove(name)
        except KeyError:
            fail(f"there is no key {name!r} in {file.path}; `tailprune keys list` shows those that there are")
        say(f"removed the key of {name!r}")
        if not file.read():
            say("there are no more keys: the service is open to this machine again, and answers no other")


@contextmanager
def _file(data_dir: Path | None) -> Iterator[KeyFile]:
    """The file of keys of the settings. Ends the command where it cannot be used."""
    try:
        settings = get_settings()
        folder = (settings.data_dir if data_dir is None else data_dir.expanduser()).resolve()
        yield KeyFile(settings.model_copy(update={"data_dir": folder}).keys_file)
    except (StartError, SettingsError) as error:
        fail(str(error))
