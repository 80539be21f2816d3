from __future__ import annotations

import pytest


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, none of which takes any time, without what is added at random."""
    made: list[float] = []
    monkeypatch.setattr("tailprune_client.drivers.time.sleep", made.append)
    monkeypatch.setattr("tailprune_client.core.random.random", lambda: 0.0)
    return made
