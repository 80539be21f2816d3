"""Logs are lines that carry what is bound."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from jobs.logging import configure_logging
from jobs.settings import Settings


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Puts the root logger back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level


def test_lines_of_both_kinds_of_logger_carry_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_format="json"))
    with structlog.contextvars.bound_contextvars(job_id="a-job"):
        structlog.get_logger("ours").info("said", steps=3)
        logging.getLogger("theirs").warning("said too")
    ours, theirs = map(json.loads, capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["job_id"], ours["steps"], ours["level"]) == ("said", "a-job", 3, "info")
    assert (theirs["event"], theirs["job_id"], theirs["logger"]) == ("said too", "a-job", "theirs")


def test_a_logger_that_is_adopted_logs_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("adopted")
    logger.handlers, logger.propagate = [logging.StreamHandler()], False
    configure_logging(Settings(log_format="json"), "adopted")
    logger.warning("said")
    assert json.loads(capsys.readouterr().err)["event"] == "said"
