"""One module a kind of job, with its handler. A new kind is a new module here."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from workers.handler import BatchHandler, Handler

__all__ = ["HANDLERS"]

HANDLERS: dict[str, Handler | BatchHandler] = {}
"""The handler of each kind of job."""

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    _handler: Handler | BatchHandler | None = getattr(import_module(_module.name), "handler", None)
    if _handler is not None:
        HANDLERS[_handler.request.kind] = _handler
