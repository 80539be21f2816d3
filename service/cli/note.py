"""The settings of a `tailprune serve`, in its data folder for the commands that look at it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.settings import Settings
from jobs.startup import StartError

__all__ = ["NOTE", "noted_settings"]

NOTE = "serve.json"
"""The file in a data folder with the settings of the `tailprune serve` that runs there."""


@contextmanager
def noted_settings(settings: Settings) -> Iterator[None]:
    """Note the settings of a `tailprune serve` in its data folder, for its user alone, as long as it runs."""
    note = settings.data_dir / NOTE
    try:
        handle, temporary = tempfile.mkstemp(dir=settings.data_dir)  # for its owner alone: URLs may have passwords
        with os.fdopen(handle, "w") as file:
            file.write(settings.model_dump_json(exclude_unset=True))
        os.replace(temporary, note)
    except OSError as error:
        raise StartError(f"{note} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
