"""The libraries of the optional extras, asked for by the name of the extra where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["require"]


def require(extra: str, *libraries: str) -> None:
    """Raise ModuleNotFoundError, with the way to install them, if one of these libraries is missing.

    extra: the extra of this package that brings them, such as `figures`
    libraries: the names under which they are imported
    """
    missing = [name for name in libraries if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"this needs {' and '.join(missing)}, which the extra {extra} brings: pip install 'tailprune[{extra}]'",
            name=missing[0],
        )
