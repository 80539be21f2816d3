"""Logs are lines that carry what is bound."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

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


def test_what_a_client_sent_cannot_command_the_terminal_that_shows_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_format="console"))
    sent = "/\x1b]0;owned\x07\x9b2J\u202eforged\r"
    structlog.get_logger("ours").info("request", path=sent)
    logging.getLogger("theirs").warning("asked for %s", sent)
    written = capsys.readouterr().err
    assert written.count("forged") == 2
    assert all(character.isprintable() or character == "\n" for character in written)


def test_a_logger_that_is_adopted_logs_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("adopted")
    logger.handlers, logger.propagate = [logging.StreamHandler()], False
    configure_logging(Settings(log_format="json"), "adopted")
    logger.warning("said")
    assert json.loads(capsys.readouterr().err)["event"] == "said"


def test_all_output_goes_to_the_file_and_to_a_new_one_where_it_was_moved_away(
    run_python: Callable[[str], str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    code = f"""
import os, structlog
from pathlib import Path
from jobs.logging import configure_logging
from jobs.settings import Settings
log = Path({str(log)!r})
configure_logging(Settings(log_file=log))
say = structlog.get_logger("one").info
say("first")
os.write(1, b"printed")
log.rename({str(tmp_path / "moved")!r})
os.write(2, b"still there")
say("second")
os.write(1, b"printed too")
"""
    assert run_python(code) == ""
    moved, new = (tmp_path / "moved").read_text(), log.read_text()
    assert all(text in moved for text in ("first", "printed", "still there"))
    assert all(text in new for text in ("second", "printed too"))


def test_output_goes_where_it_went_before_where_the_file_cannot_be_opened(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    configure_logging(Settings(log_file=tmp_path / "no-such-folder" / "log"))
    logging.getLogger("theirs").warning("said")
    assert "said" in capsys.readouterr().err
