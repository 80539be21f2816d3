"""`python -m documentation.settings > docs/settings.md`: every setting, as a page."""

from __future__ import annotations

import sys
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from jobs.settings import Settings

__all__ = ["settings_page"]

HEAD = """\
# Settings

Every setting of the service and its workers. All processes of one deployment share the same environment: each setting
is the environment variable of its name, and one that is empty counts as not set. Sizes are in bytes, times in seconds,
and `~` in a path is the home folder. `tailprune serve` names variables that begin with `TAILPRUNE_` and are no setting.

Where a description names another setting in lower case, such as `data_dir`, its variable is `TAILPRUNE_DATA_DIR`.

"""
TAIL = """
Three variables are of the command line, the client and the library: `TAILPRUNE_URL` is where [commands](commands.md)
and the client find the service, `TAILPRUNE_KEY` is the [key](security.md#keys) that they send it, and with
`TAILPRUNE_OFFLINE=1`, `tailprune models` and `tailprune.load` fetch nothing from the hub. Service and workers never
fetch.

The page is written from `jobs/settings.py`, by `make settings`.
"""
UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
PLAIN = ("redis_url", "broker_url")
"""Settings whose variable has no prefix in the page, though it may have one."""


def settings_page() -> str:
    """The page, as Markdown."""
    rows = [
        f"| `{_variable(name)}` | {_default(name, field)} | {_described(field)} |"
        for name, field in Settings.model_fields.items()
    ]
    return HEAD + "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n" + TAIL


def _variable(name: str) -> str:
    return name.upper() if name in PLAIN else f"TAILPRUNE_{name.upper()}"


def _default(name: str, field: FieldInfo) -> str:
    value: Any = field.default
    if value is PydanticUndefined or value is None or value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if name.endswith("_bytes") and isinstance(value, int):
        unit, size = next(each for each in UNITS if value >= each[1])
        return f"`{value}` ({value / size:g} {unit})"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _described(field: FieldInfo) -> str:
    assert field.description, "every setting has a description"
    return field.description


if __name__ == "__main__":
    sys.stdout.write(settings_page())
