"""The tiers: `make check` runs the tests that start no process and are quick; `make test` all, in several processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import APART, HERE, SLOW_FIRST, Distribution
from tests.documents.test_examples import DOCUMENTS


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


def test_what_is_put_first_or_apart_is_there() -> None:
    documents = {document.name for document in DOCUMENTS}
    for name in (*SLOW_FIRST, *APART):
        file, _, test = name.partition("::")
        assert (HERE / file).exists(), name
        assert not test or test.partition("[")[2].rstrip("]") in documents, name


def test_the_tests_of_a_file_go_to_one_process_and_documents_may_go_to_several() -> None:
    scope = Distribution.__new__(Distribution)._split_scope
    first, second = "tests/pages/test_jobs.py::test_one", "tests/pages/test_jobs.py::test_other[a]"
    assert scope(first) == scope(second)
    first, second = (f"tests/{APART[0]}::test_examples[{name}]" for name in ("http.md", "python.md"))
    assert scope(first) != scope(second)
