"""The kinds of jobs: found by their requests; what waits in which queue, and reads what."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from jobs.records import KINDS
from jobs.requests.base import Request
from jobs.requests.fields import FigureName

FIGURES_OF_VECTORS = sorted(set(get_args(FigureName)) - {"attribution", "error", "removal", "training"})
FIELDS: dict[str, Any] = {
    "prune-sample": {"threshold": 0.1},
    "removal": {"threshold": [0.1]},
    "figure": {"figure": "cosine"},
    "figure-transformer": {"figure": "rank"},
    "compact": {"keep": 1},
    "compact-transformer": {"rank": 1},
    "edit": {"source": [0], "target": [1]},
    "register": {"source": "a.pt"},
}


def asked(kind: str, **fields: Any) -> Request:
    name = "name" if kind == "register" else "model"
    return KINDS[kind](**{name: "a"}, **(FIELDS.get(kind, {}) | fields))


def test_every_kind_has_a_request_and_a_result() -> None:
    assert list(KINDS) == [
        "anatomy", "attribution", "compact", "compact-transformer", "cosine", "edit", "extract", "figure",
        "figure-transformer", "metrics", "metrics-transformer", "over-time", "over-time-transformer", "prune-sample",
        "register", "removal", "study",
    ]  # fmt: skip
    assert len({kind.result for kind in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize("kind", ["metrics", "extract", "over-time"])
def test_what_needs_the_condition_alone_is_quick(kind: str) -> None:
    assert (asked(kind).queue, asked(kind).reads) == ("metrics", "condition")


@pytest.mark.parametrize("figure", FIGURES_OF_VECTORS)
def test_figures_of_vectors_are_quick_and_show_names(figure: str) -> None:
    request = asked("figure", figure=figure)
    assert (request.queue, request.reads) == ("metrics", "named condition")


@pytest.mark.parametrize(("kind", "fields"), [("removal", {}), ("figure", {"figure": "error"})])
def test_what_is_of_modulations_is_quick_and_reads_adaln_besides(kind: str, fields: dict[str, Any]) -> None:
    request = asked(kind, **fields)
    assert (request.queue, request.reads) == ("metrics", "modulation")


def test_what_samples_waits_with_the_long_jobs_and_reads_the_whole_model() -> None:
    for request in (
        asked("prune-sample"),
        asked("edit"),
        asked("study"),
        asked("compact"),
        asked("compact-transformer"),
        asked("figure", figure="removal"),
    ):
        assert (request.queue, request.reads) == ("sampling", "model")


@pytest.mark.parametrize("kind", KINDS)
def test_no_job_waits_among_the_parts_of_studies(kind: str) -> None:
    assert asked(kind).queue != "shards"


def test_adding_a_model_is_quick_and_kept_with_what_is_cheap() -> None:
    request = asked("register")
    assert (request.queue, request.history, request.about) == ("metrics", "statistics", "a")


def test_the_figure_of_training_reads_no_checkpoint() -> None:
    request = asked("figure", figure="training")
    assert (request.queue, request.reads) == ("metrics", "training")
