"""`tailprune webhooks`: the secret that webhooks are signed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.settings import SettingsError, get_settings
from jobs.webhooks.secret import read_secrets
from service.cli.terminal import fail, line

__all__ = ["app"]

app = typer.Typer(help="Show what webhooks are signed with.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def webhooks() -> None:
    """Show what webhooks are signed with."""


@app.command()
def secret(
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The data folder of the service; by default TAILPRUNE_DATA_DIR, or data."),
    ] = None,
) -> None:
    """Print the secret that receivers check signatures with; it is made if there is none yet.

    It is that of TAILPRUNE_WEBHOOK_SECRET, of several the first, or else the one in the data folder.
    """
    try:
        settings = get_settings()
        line(read_secrets(settings.webhook_secret, (data_dir or settings.data_dir).expanduser())[0])
    except (SettingsError, ValueError, OSError) as error:
        fail(str(error))
