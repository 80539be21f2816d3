"""The records of jobs: ids, titles, and results that an earlier version of the code wrote."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from jobs.records import ID_PATTERN, JOBS, KINDS, Job, new_id
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.folders import ModelFolders
from jobs.registry.models import Registry
from jobs.requests.base import ModelRequest, TransformerRequest
from jobs.requests.register import RegisterRequest
from jobs.settings import Settings
from tests.registry import write_registry
from tests.service import results


def test_ids_sort_by_the_time_of_their_making() -> None:
    ids = []
    for _ in range(20):
        ids.append(new_id())
        time.sleep(0.002)
    assert ids == sorted(ids)


def test_ids_differ_and_match_their_pattern() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(ID_PATTERN, i) for i in ids)


def record(kind: str, request: dict[str, Any], result: dict[str, Any] | None = None) -> Job:
    """The record of a job as Redis has it."""
    fields = {"id": new_id(), "kind": kind, "key": "k", "model": "shapes-sit", "status": "succeeded", "created": "1"}
    return Job.from_hash(fields | {"request": json.dumps(request), "result": json.dumps(result)})


def resolved(folder: Path, kind: str, **body: Any) -> dict[str, Any]:
    """A request of the model shapes-sit with every default filled in."""
    registry = Registry.read(write_registry(folder))
    assets = EvaluationAssets.from_registry(registry)
    request = KINDS[kind].model_validate({**({} if kind == "register" else {"model": "shapes-sit"}), **body})
    if isinstance(request, RegisterRequest):
        return request.resolve(ModelFolders((), folder), assets).model_dump()
    if isinstance(request, TransformerRequest):
        return request.model_dump()
    assert isinstance(request, ModelRequest)
    return request.resolve(registry.get("shapes-sit"), Settings(), None, assets).model_dump()


STUDY: dict[str, Any] = {"measures": ["drift"], "labels": [0]}
GRID: dict[str, Any] = {"thresholds": [0.1, 0.2], "schedules": [{"when": "every"}, {"when": "last", "count": 2}]}
HALVES = "half=" + ",".join(["low"] * 50 + ["high"] * 50)
TITLES: list[tuple[str, dict[str, Any], str]] = [
    ("prune-sample", {"threshold": 0.05}, "prune-sample of shapes-sit at 0.05"),
    ("prune-sample", {"threshold": [0.05, 0.1]}, "prune-sample of shapes-sit at 0.05, 0.1"),
    (
        "prune-sample",
        {"threshold": [0.1, 0.2, 0.3, 0.4, 0.5]},
        "prune-sample of shapes-sit at 5 thresholds from 0.1 to 0.5",
    ),
    (
        "prune-sample",
        {"threshold": 0.8, "side": "head", "schedule": {"when": "first", "count": 2}},
        "prune-sample of shapes-sit at head 0.8, first 2 steps",
    ),
    ("prune-sample", {"keep": 24}, "prune-sample of shapes-sit with 24 components kept"),
    ("study", STUDY | {"prunes": [{"threshold": 0.1}]}, "study of shapes-sit: 1 prune"),
    (
        "study",
        STUDY | {"grid": GRID, "search": {"measure": "drift", "budget": 0.1}},
        "study of shapes-sit: 4 prunes and a search by drift",
    ),
    ("compact", {"keep": 24, "by": "directions"}, "compact of shapes-sit to 24 directions"),
    ("compact", {"keep": 24}, "compact of shapes-sit to 24 components"),
    ("compact", {"threshold": 0.02}, "compact of shapes-sit at 0.02"),
    ("compact-transformer", {"steps": 28}, "compact-transformer of shapes-sit for 28 steps"),
    ("compact-transformer", {"times": [1.0, 0.5]}, "compact-transformer of shapes-sit for 2 times"),
    ("compact-transformer", {"rank": 64}, "compact-transformer of shapes-sit to 64 directions"),
    ("compact-transformer", {"error": 0.001}, "compact-transformer of shapes-sit within 0.001"),
    ("extract", {}, "extract of shapes-sit: c, y, t at time 0"),
    ("extract", {"parts": ["y"]}, "extract of shapes-sit: y"),
    ("metrics", {"timestep": 0.5}, "metrics of shapes-sit: c at time 0.5"),
    ("metrics", {"part": "y"}, "metrics of shapes-sit: y"),
    ("cosine", {}, "cosine of shapes-sit: c at time 0"),
    ("cosine", {"part": "t", "order": "likeness"}, "cosine of shapes-sit: t"),
    ("over-time", {}, "over-time of shapes-sit: c at 50 times"),
    ("removal", {"threshold": [0.1, 0.2]}, "removal of shapes-sit at 0.1, 0.2"),
    (
        "removal",
        {"keep": [24], "schedule": {"when": "last", "count": 2}},
        "removal of shapes-sit with 24 components kept, last 2 steps",
    ),
    ("edit", {"source": [3], "target": [7]}, "edit of shapes-sit from 3 to 7 at 5 strengths from 0 to 1"),
    (
        "edit",
        {"source": [3], "target": [7], "strength": 1, "directions": 8, "schedule": {"when": "first", "count": 2}},
        "edit of shapes-sit from 3 to 7 at strength 1, with 8 directions, first 2 steps",
    ),
    ("attribution", {"attributes": [HALVES]}, "attribution of shapes-sit"),
    ("anatomy", {}, "anatomy of shapes-sit"),
    ("metrics-transformer", {}, "metrics of shapes-sit: c at 50 steps"),
    ("metrics-transformer", {"part": "y"}, "metrics of shapes-sit: y"),
    ("over-time-transformer", {"points": 1}, "over-time of shapes-sit: c at 1 time"),
    ("figure-transformer", {"figure": "rank"}, "rank figure of shapes-sit"),
    ("figure", {"figure": "cosine"}, "cosine figure of shapes-sit: c at time 0"),
    ("figure", {"figure": "removal", "side": "head", "thresholds": [0.8]}, "removal figure of shapes-sit at head 0.8"),
    ("figure", {"figure": "training"}, "training figure of shapes-sit"),
    ("register", {"name": "mine", "source": "hf://owner/repo/mine.pt"}, "register mine"),
]


@pytest.mark.parametrize(("kind", "body", "title"), TITLES)
def test_a_job_says_what_it_is_of(tmp_path: Path, kind: str, body: dict[str, Any], title: str) -> None:
    job = record(kind, resolved(tmp_path, kind, **body))
    assert job.title == job.public()["title"] == job.summary()["title"] == title


def test_every_kind_of_job_has_titles() -> None:
    assert {kind for kind, _, _ in TITLES} == set(KINDS)


BODIES: dict[str, dict[str, Any]] = {kind: body for kind, body, _ in reversed(TITLES)}
MADE: dict[str, dict[str, Any]] = {
    "prune-sample": results.PRUNE_SAMPLE,
    "study": results.STUDY,
    "compact": results.COMPACT,
    "extract": results.EXTRACT,
    "metrics": results.METRICS,
    "figure": results.FIGURE,
}
FIELDS = {
    "prune-sample": "digest",
    "study": "digest",
    "compact": "digest",
    "extract": "condition_digest",
    "metrics": "condition_digest",
    "figure": "condition_digest",
}
EARLIER = {"name": "shapes-sit", "digest": "d"}
"""The model of a result before its digests were told apart."""


@pytest.mark.parametrize("kind", sorted(MADE))
def test_the_digest_in_a_result_of_an_earlier_version_is_named_after_what_it_is_of(tmp_path: Path, kind: str) -> None:
    job = record(kind, resolved(tmp_path, kind, **BODIES[kind]), MADE[kind] | {"model": EARLIER})
    view = JOBS[kind].model_validate(job.public())
    digests = view.model_dump()["result"]["model"]
    assert {name: value for name, value in digests.items() if value is not None} == {
        "name": "shapes-sit",
        FIELDS[kind]: "d",
    }


def test_the_digests_in_a_result_of_this_version_are_left_as_they_are(tmp_path: Path) -> None:
    used = EARLIER | {"condition_digest": None, "modulation_digest": None, "training_digest": None}
    job = record(
        "prune-sample", resolved(tmp_path, "prune-sample", threshold=0.1), results.PRUNE_SAMPLE | {"model": used}
    )
    assert job.public()["result"]["model"] == used


def test_a_job_whose_request_is_no_longer_valid_is_still_shown() -> None:
    request = {"model": "shapes-sit", "figure": "cosine", "of_old": True}
    shown = record("figure", request, results.FIGURE | {"model": EARLIER}).public()
    assert (shown["title"], shown["request"]) == ("figure of shapes-sit", request)
    assert shown["result"]["model"]["condition_digest"] == "d"
    assert shown["result"]["model"]["digest"] is None
