from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest

Children = Callable[[], list[psutil.Process]]


@pytest.fixture
def children(processes: None) -> Children:
    """The living processes that this test has started."""
    before = set(psutil.Process().children())

    def children() -> list[psutil.Process]:
        since = [process for process in psutil.Process().children() if process not in before]
        return [process for process in since if process.status() != psutil.STATUS_ZOMBIE]

    return children
