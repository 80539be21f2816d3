"""The handlers: one module for each kind of job. A new kind is a new module here that exports `handler`.

metrics             statistics of condition vectors
extract             condition vectors as tensors
figure              figures of condition vectors, of the training and of samples
attribution         which components and directions carry which attribute
removal_figure      the figure `removal`, for which samples are made
anatomy             what a large transformer's AdaLN takes
figure_transformer  figures of it
metrics_transformer statistics of its c over the times of a schedule
over_time_transformer  and at many times
register            a model that is added without a restart
prune_sample        samples under prunes, beside the baseline
edit                samples of a class moved towards another
compact             a compacted model
compact_comparison  its samples beside those of the whole model
compact_card        its card
compact_transformer a large transformer with a smaller AdaLN
study               samples under many prunes, scored
"""

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
