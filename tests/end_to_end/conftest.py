from collections.abc import Iterator

import pytest

from tests.end_to_end.stack import Stack, running


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with one worker, for tests that leave it as they found it."""
    with running(tmp_path_factory.mktemp("stack")) as stack:
        yield stack
