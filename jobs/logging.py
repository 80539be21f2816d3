"""Structured logs, the same in service and workers; each line has the bound values, such as job_id and request_id."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.types import Processor

from jobs.settings import Settings

__all__ = ["configure_logging"]

SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
PROCESSORS: list[Processor] = [
    structlog.stdlib.filter_by_level,
    *SHARED,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]
"""One list, which a logger keeps from its first use on: it also holds for loggers from before another configuration."""


def configure_logging(settings: Settings, *adopted: str) -> None:
    """Send the logs of structlog and of the standard library to stderr in one format, console or JSON lines.

    The loggers named in `adopted` lose the handlers that their library set, and log in this format too.
    """
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=PROCESSORS,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for name in adopted:
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
