"""How long a job will still take, and the lines that say how far it is."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Sequence

import pytest
from rich.console import Console

from jobs.records import JobView
from service.cli.progress import Pace, shown, words
from tailprune_client.following import Update
from tests.tailprune_client.stand_in import JOB


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
    reports = [update(0, 5), update(1, 10), update(3, 20)]
    assert left_after(reports) == pytest.approx(16)
    assert left_after(reports, since=0.1) == pytest.approx(15.9)


@pytest.mark.parametrize("begin", [[], [update(0, 0)], [update(0, 0), update(0, 0)]])
def test_what_was_found_already_done_does_not_count(begin: list[Update]) -> None:
    """Such as the parts of a study that an earlier one had left."""
    reports = [*begin, update(0, 89), update(5, 90), update(10, 91)]
    assert left_after(reports) == pytest.approx(45)


def test_the_first_step_which_has_to_load_the_model_does_not_count() -> None:
    assert left_after([update(0, 0), update(30, 1), update(31, 2)]) == pytest.approx(98)


def test_a_step_that_takes_longer_than_the_others_lengthens_the_time_left() -> None:
    reports = [update(0, 0), update(1, 1), update(2, 2)]
    assert left_after(reports, since=19) == pytest.approx(98 * 10 - 19)


def test_only_the_last_minute_counts() -> None:
    slow = [update(float(step), step // 10) for step in range(0, 201, 10)]
    fast = [update(200 + second, 20 + second) for second in range(1, 71)]
    assert left_after([*slow, *fast]) == pytest.approx(10)


def test_another_attempt_begins_anew() -> None:
    reports = [update(0, 10), update(1, 50), update(2, None, "queued"), update(9, None), update(10, 0)]
    assert left_after(reports) is None
    assert left_after([*reports, update(11, 5), update(12, 10)]) == pytest.approx(18)


@pytest.mark.parametrize(
    "reports",
    [[], [update(0, None)], [update(0, 5)], [update(0, 5), update(1, 5)], [update(0, 5), update(1, 6), update(2, 100)]],
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


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [36, 40, 60, 75, 76, 80, 120, 200])
def test_a_bar_fits_its_terminal_and_tells_how_much_is_done_and_the_time_left(width: int, encoding: str) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
    console = Console(file=file, width=width, height=20, force_terminal=True, color_system=None, _environ={})
    job = update(0, 0).job.model_copy(update={"kind": "prune-sample"})
    with shown(job, console) as show:
        for second, done in enumerate(range(10)):
            report = update(40.0 * second, done, total=100)
            show(Update(job.model_copy(update={"progress": report.job.progress}), report.at))
    file.flush()
    shown_lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw.getvalue().decode(encoding)))
    last = next(line.rstrip() for line in reversed(shown_lines) if line.strip())
    assert len(last) <= width
    assert "9/100 steps" in last
    assert "about 1 h 0 min left" in last


def test_a_terminal_that_cannot_redraw_a_line_is_given_lines() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, _environ={"TERM": "dumb"})
    with shown(update(0, 1).job, console) as show:
        show(update(1, None, "succeeded"))
    assert isinstance(console.file, io.StringIO)
    assert "extract running\n" in console.file.getvalue()
