"""Statistics over time, against those of each time."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.results import MetricsResult, OverTimeResult
from tests.tiny_model import TINY_DIT
from tests.workers.handlers.test_removal import done

__all__ = ["done"]


def test_each_time_is_as_it_is_measured_by_itself(done: Any) -> None:
    found = OverTimeResult.model_validate(done("over-time", points=3, thresholds=[0.1, 0.5]))
    assert (found.timesteps, found.fraction) == ([0.0, 0.5, 1.0], [0.0, 0.5, 1.0])
    for place, time in enumerate(found.timesteps):
        at = MetricsResult.model_validate(done("metrics", timestep=time, thresholds=[0.1, 0.5]))
        assert at.cosine is not None
        assert found.cosine is not None
        close = {"rel": 1e-5, "abs": 1e-5}  # as describe_over_time promises
        assert found.cosine.mean[place] == pytest.approx(at.cosine.mean, **close)
        assert found.cosine.min[place] == pytest.approx(at.cosine.min, **close)
        assert found.cosine.max[place] == pytest.approx(at.cosine.max, **close)
        for name in ("npr", "pr", "norm"):
            assert getattr(found, name)[place] == pytest.approx(getattr(at, name), **close)
        assert [each.fraction[place] for each in found.removed] == [each.fraction for each in at.sparsity]
        assert (found.count, found.dim) == (at.count, at.dim)
    for each in found.removed:
        assert each.mean == pytest.approx(sum(each.fraction) / 3)


def test_times_are_whole_where_those_of_the_model_are(done: Any) -> None:
    found = OverTimeResult.model_validate(done("over-time", model=TINY_DIT, points=4))
    assert found.timesteps == [999, 666, 333, 0]
    assert found.fraction == [0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1]


def test_a_single_time_is_where_sampling_starts(done: Any) -> None:
    found = OverTimeResult.model_validate(done("over-time", points=1))
    assert (found.timesteps, len(found.npr)) == ([0.0], 1)
