"""`GET /metrics/{model}/over-time` and `/removal`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from jobs.records import Job
from tests.service.results import OVER_TIME, REMOVAL
from tests.service.routes.test_metrics import NOW

OVER = "/metrics/shapes-sit/over-time"
PATH = "/metrics/shapes-sit/removal"


@pytest.mark.usefixtures("worker")
def test_both_are_waited_for_by_themselves(client: TestClient) -> None:
    assert client.get(OVER).json() == OVER_TIME
    assert client.get(f"{PATH}?threshold=0.1").json() == REMOVAL


@pytest.mark.parametrize("path", [OVER, f"{PATH}?threshold=0.1"])
def test_both_are_jobs_until_they_are_there_and_are_not_sent_again(
    client: TestClient, done: Callable[[str], Job], path: str
) -> None:
    first = client.get(path, headers=NOW)
    assert first.status_code == 202
    done(first.json()["id"])
    answer = client.get(path)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")
    again = client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_points_and_thresholds_over_time_are_as_asked_for(client: TestClient) -> None:
    request = client.get(f"{OVER}?points=7&threshold=0.1&threshold=0.2", headers=NOW).json()["request"]
    assert request == {"model": "shapes-sit", "conditions": None, "points": 7, "thresholds": [0.1, 0.2]}
    for wrong in ("points=0", "points=1001", "points=x"):
        answer = client.get(f"{OVER}?{wrong}")
        assert [fault["location"] for fault in answer.json()["errors"]] == ["query.points"]


def test_a_prune_is_resolved_as_in_a_request_for_samples(client: TestClient) -> None:
    query = "threshold=0.1&threshold=0.2&side=head&fill=mean&when=last&count=3&label=class%202&label=5&steps=20"
    answer = client.get(f"{PATH}?{query}", headers=NOW).json()
    body = {
        "model": "shapes-sit", "threshold": [0.1, 0.2], "side": "head", "fill": "mean", "labels": ["class 2", 5],
        "schedule": {"when": "last", "count": 3}, "steps": 20,
    }  # fmt: skip
    sampled = client.post("/prune-sample", json=body).json()["request"]
    same = set(answer["request"]) - {"guidance_scale"}
    assert {name: answer["request"][name] for name in same} == {name: sampled[name] for name in same}
    assert answer["thresholds"] == [0.1, 0.2]


def test_steps_thresholds_by_step_and_blocks_are_those_of_a_request_for_samples(client: TestClient) -> None:
    query = "threshold_by_step=0.1&threshold_by_step=none&threshold_by_step=0.3&steps=3&block=1&block=final&block=0"
    asked = client.get(f"{PATH}?{query}", headers=NOW).json()["request"]
    assert asked["threshold_by_step"] == [0.1, None, 0.3]
    assert asked["blocks"] == [0, 1, "final"]
    asked = client.get(f"{PATH}?threshold=0.1&when=at&step=3&step=0", headers=NOW).json()["request"]
    assert asked["schedule"] == {"when": "at", "count": None, "steps": [0, 3]}


def test_more_prunes_are_measured_than_are_sampled_at_once(client: TestClient) -> None:
    query = "&".join(f"threshold={number / 100}" for number in range(64))
    assert client.get(f"{PATH}?{query}", headers=NOW).status_code == 202


def test_all_classes_are_measured_by_default_and_guidance_does_not_matter(client: TestClient) -> None:
    plain = client.get(f"{PATH}?threshold=0.1", headers=NOW).json()
    assert plain["request"]["labels"] == list(range(100))
    guided = client.get(f"{PATH}?threshold=0.1&guidance_scale=4", headers=NOW).json()
    assert (guided["id"], guided["request"]["guidance_scale"]) == (plain["id"], None)


@pytest.mark.parametrize(
    ("query", "location", "message"),
    [
        ("", "query.threshold", "give exactly one of threshold, threshold_by_step, remove_fraction, keep"),
        ("threshold=0.1&keep=3", "query.threshold", "give exactly one of threshold, threshold_by_step"),
        ("keep=3&side=tail", "query.keep", "side 'tail' goes with threshold"),
        ("keep=500", "query.keep.0", "more than the 128 components"),
        ("threshold=-1", "query.threshold.0", "greater than or equal to 0"),
        ("threshold=0.1&when=last", "query.count", "'last' needs count"),
        ("threshold=0.1&count=3", "query.count", "count 3 has no meaning with 'every'"),
        ("threshold=0.1&when=first&count=51", "query.count", "more than the 50 steps"),
        ("threshold=0.1&sampler=dopri5&when=first", "query.when", "dopri5 chooses its own steps"),
        ("threshold=0.1&when=at", "query.step", "'at' needs steps"),
        ("threshold=0.1&step=3", "query.step", "steps have no meaning with 'every'"),
        ("threshold=0.1&when=at&step=50", "query.step", "step 50 is outside 0 to 49"),
        ("threshold=0.1&when=at&step=-1", "query.step.0", "greater than or equal to 0"),
        ("threshold_by_step=0.1&threshold_by_step=0.2", "query.threshold_by_step", "2 thresholds for 50 steps"),
        ("threshold_by_step=0.1&threshold_by_step=null", "query.threshold_by_step.1", "'none'"),
        ("threshold_by_step=none&threshold_by_step=none&steps=2", "query.threshold_by_step", "no step has a threshold"),
        ("threshold=0.1&block=last", "query.block.0", "'final'"),
        ("threshold=0.1&block=0&block=0", "query.block", "0 is given more than once"),
        ("threshold=0.1&sampler=ddim", "query.sampler", "does not fit shapes-sit"),
        ("threshold=0.1&row=3", "query.row", "shapes-sit takes labels; leave rows out"),
        ("threshold=0.1&label=100", "query.label.0", "outside 0 to 99"),
        ("threshold=0.1&steps=1001", "query.steps", "more than the 1000 allowed"),
    ],
)
def test_what_is_wrong_is_said_of_the_parameter(client: TestClient, query: str, location: str, message: str) -> None:
    answer = client.get(f"{PATH}?{query}", headers=NOW)
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["location"] == location
    assert message in fault["message"]
