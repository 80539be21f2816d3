"""The tiers: `make check` runs the tests that start no process and are quick."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_a_process_in_a_test_without_the_marker_fails_it() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"without the marker `process` starts .*python"):
        subprocess.run([sys.executable, "-c", ""])


def test_the_marker_goes_with_the_fixture(processes: None, request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("process") is not None
    subprocess.run([sys.executable, "-c", ""], check=True)


def test_redis_requested_at_run_time_in_a_test_without_the_marker_fails_it(request: pytest.FixtureRequest) -> None:
    with pytest.raises(pytest.fail.Exception, match="without the marker `process` requests a Redis server"):
        request.getfixturevalue("redis_client")


def test_redis_marks_a_test(redis_url: str, request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("process") is not None
