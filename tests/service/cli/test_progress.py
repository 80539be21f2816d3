"""How long a job will still take, and the lines that say how far it is."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence

import pytest
from rich.console import Console

from jobs.records import JobView
from service.cli.following import Update
from service.cli.progress import Pace, shown, words
from tests.service.cli.test_client import JOB


def update(at: float | None, done: int | None, status: str = "running", total: int = 100) -> Update:
    progress = None if done is None else {"done": done, "total": total, "unit": "steps"}
    return Update(JobView.model_validate(JOB | {"status": status, "progress": progress}), at)


def left_after(reports: Sequence[Update], since: float = 0.0) -> float | None:
    """The time left, so many seconds after the last of these reports."""
    pace = Pace()
    for report in reports:
        pace.note(report)
    return pace.left(pace._arrived + since)


def test_the_time_left_is_that_of_the_steps_to_come() -> None:
    assert left_after([update(0, 10), update(2, 20)]) == pytest.approx(16)
    assert left_after([update(0, 10), update(2, 20)], since=0.1) == pytest.approx(15.9)


def test_what_was_done_before_the_first_report_does_not_count() -> None:
    """Such as the parts of a study that an earlier one had left."""
    assert left_after([update(0, 90), update(5, 91)]) == pytest.approx(45)


def test_a_step_that_takes_longer_than_the_others_lengthens_the_time_left() -> None:
    reports = [update(0, 0), update(1, 1)]
    assert left_after(reports, since=19) == pytest.approx(99 * 10 - 19)


def test_only_the_last_minute_counts() -> None:
    slow = [update(float(step), step // 10) for step in range(0, 201, 10)]
    fast = [update(200 + second, 20 + second) for second in range(1, 71)]
    assert left_after([*slow, *fast]) == pytest.approx(10)


def test_another_attempt_begins_anew() -> None:
    reports = [update(0, 10), update(1, 50), update(2, None, "queued"), update(9, None), update(10, 0)]
    assert left_after(reports) is None
    assert left_after([*reports, update(12, 10)]) == pytest.approx(18)


@pytest.mark.parametrize(
    "reports", [[], [update(0, None)], [update(0, 5)], [update(0, 5), update(1, 5)], [update(0, 5), update(1, 100)]]
)
def test_there_is_no_time_left_to_tell_before_progress_and_at_the_end(reports: list[Update]) -> None:
    assert left_after(reports) is None


def test_times_are_told_as_precisely_as_they_matter() -> None:
    assert [words(seconds) for seconds in (0.4, 59, 80, 299.7, 3599, 11100)] == [
        "0 s", "59 s", "1 min 20 s", "5 min", "59 min", "3 h 5 min",
    ]  # fmt: skip


def lines_of(reports: Sequence[Update]) -> list[str]:
    console = Console(file=io.StringIO(), width=40)
    with shown(reports[0].job, console) as show:
        for report in reports:
            show(report)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_without_a_terminal_there_are_lines_unwrapped_at_the_start_each_tenth_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.cli.progress.LEAST_LINE_SECONDS", 0.0)
    steps = [update(step, 5 * step) for step in range(21)]
    lines = lines_of([update(None, None, "queued"), *steps, update(None, None, "succeeded")])
    assert lines[0] == f"job {'0' * 26}: extract waiting for a worker"
    assert [line.split()[1] for line in lines[1:-1]] == [f"{done}/100" for done in range(10, 101, 10)]
    assert "elapsed, about " in lines[1]
    assert lines[-1].startswith(f"job {'0' * 26}: extract succeeded after ")


def test_a_job_that_waits_is_told_to_wait_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.progress.LINE_SECONDS", 0.01)
    console = Console(file=io.StringIO(), width=40)
    assert isinstance(console.file, io.StringIO)
    with shown(update(None, None, "queued").job, console):
        deadline = time.monotonic() + 20
        while console.file.getvalue().count("waiting for a worker") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert console.file.getvalue().count("extract waiting for a worker, 0 s elapsed") >= 2


def test_of_a_job_that_had_finished_before_nothing_is_told() -> None:
    assert lines_of([update(None, None, "succeeded")]) == []
