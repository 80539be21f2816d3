"""What may be asked of a compacted model: samples as it is, and prunes where no mean stands beside its vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.batching import share_of
from jobs.problems import InvalidRequest
from jobs.registry.digests import Identity
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import ModelEntry, Registry
from jobs.requests.figure import FigureRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.study import StudyRequest
from jobs.settings import Settings
from tests.jobs.requests.test_compact import MADE
from tests.registry import write_evaluated_registry

UNPRUNABLE = (
    "scored-compact-0123456789abcdef was compacted with the mean in place of removed components, which a prune cannot "
    "take into account; prune shapes-sit, from which it was made"
)
GRID = {"thresholds": [0.1]}
SEARCH = {"measure": "drift", "budget": 0.1}


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return write_evaluated_registry(tmp_path / "models")


@pytest.fixture
def whole(registry: Path) -> ModelEntry:
    return Registry.read(registry).get("scored")


@pytest.fixture
def with_mean(whole: ModelEntry) -> ModelEntry:
    return whole.model_copy(update={"name": "scored-compact-0123456789abcdef", "compacted": MADE})


@pytest.fixture
def with_zeros(with_mean: ModelEntry) -> ModelEntry:
    return with_mean.model_copy(update={"compacted": MADE.model_copy(update={"fill": "zero", "time_columns": 0})})


@pytest.fixture
def with_directions(with_mean: ModelEntry) -> ModelEntry:
    return with_mean.model_copy(update={"compacted": MADE.model_copy(update={"by": "directions", "time_columns": 0})})


def sampled(entry: ModelEntry, **said: Any) -> PruneSampleRequest:
    return PruneSampleRequest.model_validate({"model": entry.name} | said).resolve(entry, Settings())


def scored(entry: ModelEntry, registry: Path, **said: Any) -> StudyRequest:
    request = StudyRequest.model_validate({"model": entry.name} | said)
    return request.resolve(entry, Settings(), None, EvaluationAssets.from_registry(Registry.read(registry)))


def refusal(error: pytest.ExceptionInfo[InvalidRequest]) -> list[str]:
    return [f"{fault.location}: {fault.message}" for fault in error.value.faults]


def test_a_compacted_model_is_sampled_as_it_is(with_mean: ModelEntry) -> None:
    request = sampled(with_mean, labels=[1, 2, 3])
    assert (request.threshold, request.keep, request.side, request.by, request.fill) == (None,) * 5
    assert request.compare is True
    share = share_of(request, Identity("weights", {}), 64)
    assert share is not None
    assert share.rows == 3


def test_another_model_is_not_sampled_without_a_prune(whole: ModelEntry) -> None:
    with pytest.raises(InvalidRequest) as error:
        sampled(whole)
    assert refusal(error) == [
        "body: give exactly one of threshold, threshold_by_step, remove_fraction, keep, keep_fraction"
    ]


@pytest.mark.parametrize("said", [{"threshold": 0.1}, {"keep": 8}])
def test_a_prune_is_refused_where_a_mean_stands_beside_the_vectors(
    with_mean: ModelEntry, with_zeros: ModelEntry, with_directions: ModelEntry, said: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as error:
        sampled(with_mean, **said)
    (field,) = said
    assert refusal(error) == [f"body.{field}: {UNPRUNABLE}"]
    for prunable in (with_zeros, with_directions):
        assert sampled(prunable, **said).has_rule


@pytest.mark.parametrize(
    ("said", "location"),
    [
        ({"side": "tail"}, "body.side"),
        ({"by": "variance"}, "body.by"),
        ({"fill": "zero"}, "body.fill"),
        ({"schedule": {"when": "last", "count": 3}}, "body.schedule"),
        ({"compare": False}, "body.compare"),
    ],
)
def test_what_says_how_to_prune_is_refused_where_nothing_is_pruned(
    with_zeros: ModelEntry, said: dict[str, Any], location: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        sampled(with_zeros, **said)
    assert [fault.location for fault in error.value.faults] == [location]


def test_a_compacted_model_is_scored_as_it_is(with_mean: ModelEntry, registry: Path) -> None:
    request = scored(with_mean, registry, measures=["drift"])
    assert (request.prunes, request.search) == (None, None)


def test_another_model_is_not_scored_without_something_to_try(whole: ModelEntry, registry: Path) -> None:
    with pytest.raises(InvalidRequest) as error:
        scored(whole, registry, measures=["drift"])
    assert refusal(error) == ["body: there is nothing to try; give prunes, a grid of them, or a search"]


def test_a_study_of_prunes_is_refused_where_a_mean_stands_beside_the_vectors(
    with_mean: ModelEntry, with_zeros: ModelEntry, registry: Path
) -> None:
    said: dict[str, Any] = {"prunes": [{"keep": 8}], "grid": GRID, "search": SEARCH, "measures": ["drift"]}
    with pytest.raises(InvalidRequest) as error:
        scored(with_mean, registry, **said)
    assert refusal(error) == [f"body.{name}: {UNPRUNABLE}" for name in ("prunes", "grid", "search")]
    assert len(scored(with_zeros, registry, **said).prunes or []) == 2


def test_so_is_the_figure_of_removal_and_no_other(with_mean: ModelEntry, with_zeros: ModelEntry) -> None:
    asked = FigureRequest(model=with_mean.name, figure="removal")
    with pytest.raises(InvalidRequest) as error:
        asked.resolve(with_mean, Settings())
    assert refusal(error) == [f"path.figure: {UNPRUNABLE}"]
    assert asked.resolve(with_zeros, Settings()).side == "tail"
    assert FigureRequest(model=with_mean.name, figure="cosine").resolve(with_mean, Settings())
