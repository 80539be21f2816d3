"""The kinds of jobs: every request class in `jobs.requests` that names one. A new kind is a new file there."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Literal, Union

from pydantic import BaseModel

from jobs import requests
from jobs.requests.base import Request

__all__ = ["KINDS", "AnyRequest", "AnyResult", "Kind"]


def _subclasses(cls: type[Request]) -> Iterator[type[Request]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


for _module in pkgutil.iter_modules(requests.__path__, f"{requests.__name__}."):
    import_module(_module.name)

KINDS: dict[str, type[Request]] = dict(sorted((cls.kind, cls) for cls in _subclasses(Request) if "kind" in vars(cls)))
"""The request of each kind, as clients send it."""

if TYPE_CHECKING:
    Kind = str
    AnyRequest = Request
    AnyResult = BaseModel
else:
    Kind = Literal[tuple(KINDS)]
    AnyRequest = Union[tuple(KINDS.values())]  # noqa: UP007
    AnyResult = Union[tuple(cls.result for cls in KINDS.values())]  # noqa: UP007
