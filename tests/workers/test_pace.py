"""How long a job still takes, by the times at which it advanced."""

from __future__ import annotations

import pytest

from workers.pace import MOST_LOOKS, Pace


def noted(*progress: tuple[float, int], total: int = 100) -> Pace:
    """A pace that was told how many units were done at these times."""
    pace = Pace()
    for now, done in progress:
        pace.note(done, total, "steps", now)
    return pace


def test_equal_units_take_as_long_as_those_before() -> None:
    pace = noted(*((0.5 * done, done) for done in range(21)))
    assert pace.left(10.0) == pytest.approx(80 * 0.5)
    assert pace.left(10.2) == pytest.approx(80 * 0.5 - 0.2)


@pytest.mark.parametrize(
    "progress",
    [
        [],
        [(0.0, 0)],
        [(0.0, 0), (5.0, 1)],
        [(0.0, 0), (0.1, 1), (0.2, 2), (0.3, 3), (0.4, 4)],
    ],
)
def test_nothing_is_said_in_the_first_steps(progress: list[tuple[float, int]]) -> None:
    assert noted(*progress).left(progress[-1][0] if progress else 0.0) is None


def test_nothing_is_said_once_all_is_done() -> None:
    pace = noted(*((0.5 * done, done) for done in range(11)), total=10)
    assert pace.left(5.0) is None


def test_the_time_before_the_first_advance_and_what_was_found_done_do_not_count() -> None:
    pace = noted((0.0, 0), (100.0, 50), (101.0, 51), (102.0, 52), (103.0, 53))
    assert pace.left(103.0) == pytest.approx(47)


def test_jobs_of_few_units_are_estimated_from_the_second_on() -> None:
    assert noted((0.0, 0), (60.0, 1), (70.0, 2), total=4).left(70.0) == pytest.approx(20)


def test_what_is_overdue_takes_no_less_than_no_time() -> None:
    assert noted((0.0, 0), (60.0, 1), (70.0, 2), total=3).left(100.0) == 0


def test_another_attempt_and_another_unit_begin_anew() -> None:
    pace = noted(*((1.0 * done, done) for done in range(11)), (20.0, 0))
    assert pace.left(20.0) is None
    pace = noted(*((1.0 * done, done) for done in range(11)))
    pace.note(20, 100, "samples", 11.0)
    assert pace.left(11.0) is None


def test_pauses_between_parts_count() -> None:
    times, now = [], 0.0
    for done in range(301):  # 100 s of steps, then 50 s of decoding
        times.append((now, done))
        now += 51.0 if done % 100 == 99 else 1.0
    assert noted(*times, total=600).left(times[-1][0]) == pytest.approx(300 * 1.5, rel=0.25)


def test_a_job_that_became_slower_is_estimated_by_its_last_half() -> None:
    times = [(0.1 * done, done) for done in range(1001)]
    times += [(100.0 + 1.0 * n, 1000 + n) for n in range(1, 1001)]
    assert noted(*times, total=3000).left(1100.0) == pytest.approx(1000, rel=0.05)


def test_little_is_kept_of_many_looks() -> None:
    pace = noted(*((0.2 * done, done) for done in range(20_000)), total=40_000)
    assert len(pace._looks) <= MOST_LOOKS
    assert pace.left(0.2 * 19_999) == pytest.approx(0.2 * 20_001, rel=0.02)
