"""What the commands that ask a service share: their consoles, options, and how errors are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from service.cli.client import ClientError

__all__ = ["DEFAULT_URL", "AsJson", "Conditions", "Url", "messages", "output", "told_plainly"]

Url = Annotated[str, typer.Option(envvar="TAILPRUNE_URL", help="Where the service is.")]
Conditions = Annotated[
    str | None, typer.Option(help="What `tailprune upload` printed, for a model that takes conditions.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON rather than as a table.")]
DEFAULT_URL = "http://127.0.0.1:8000"
INTERRUPTED = 130

output = Console()
messages = Console(stderr=True, highlight=False)


@contextmanager
def told_plainly() -> Iterator[None]:
    """Errors as one red line and an exit status, without a traceback."""
    try:
        yield
    except ClientError as error:
        messages.print(f"[red]tailprune:[/red] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
