"""Structured logs, the same in service and workers; each line has the bound values, such as job_id and request_id."""

from __future__ import annotations

import logging
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.types import EventDict, Processor

from jobs.settings import Settings

__all__ = ["configure_logging"]

STDOUT, STDERR = 1, 2
"""The descriptors of these files, to which libraries and the interpreter itself write too."""
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters, but for tabs and ends of lines, which the console quotes in values."""
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

PLAIN = re.compile(r"[^\s='\"\\]+")
"""Text that needs no quotes as the value of a line."""


def configure_logging(settings: Settings, *adopted: str) -> None:
    """Send the logs of structlog and of the standard library to stderr in one format, console or JSON lines.

    On a terminal the console's lines are columns in colour; elsewhere they are plain, which takes a third of the time.

    Where a file is set for them, all output of the process goes there.

    The loggers named in `adopted` lose the handlers that their library set, and log in this format too.
    """
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [_without_controls, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if settings.log_file is None and sys.stderr.isatty()
        else [structlog.processors.format_exc_info, _line]
    )
    structlog.configure(
        processors=PROCESSORS,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr) if settings.log_file is None else _FileOutput(settings.log_file)
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


def _without_controls(_: Any, __: str, event: EventDict) -> EventDict:
    """Escape what a terminal would obey: a line may quote what a client sent, such as a path."""
    return {name: CONTROLS.sub(_escaped, value) if isinstance(value, str) else value for name, value in event.items()}


def _line(_: Any, __: str, event: EventDict) -> str:
    """A line of a log that is no terminal's: time, level and event, the other values, and a traceback below."""
    traceback = event.pop("exception", "")
    text = f"{event.pop('timestamp')} [{event.pop('level')}] {event.pop('event')}"
    values = " ".join(f"{key}={_shown(value)}" for key, value in event.items())
    return CONTROLS.sub(_escaped, f"{text} {values}\n{traceback}".rstrip("\n"))


def _shown(value: object) -> str:
    return value if isinstance(value, str) and PLAIN.fullmatch(value) else repr(value)


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


class _FileOutput(logging.StreamHandler[TextIO]):
    """Makes a file the stdout and stderr of the process, with all its output, and opens it anew when it was moved away.

    So whoever moves it, `tailprune serve` or logrotate, loses no line. Where it cannot be opened, output goes where it
    went before.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(sys.stderr)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        with suppress(OSError):
            self._follow()
        super().emit(record)

    def _follow(self) -> None:
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._path), os.fstat(STDERR)):
                return
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        for output in (STDOUT, STDERR):
            os.dup2(file, output)
        os.close(file)
