"""Studies over HTTP: by one worker and by three, killed half way, cancelled, extended, with a search."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.end_to_end.stack import Child, Stack, eventually, running

MEASURES = ["fid", "kid", "inception-score", "precision", "recall", "accuracy", "drift", "psnr"]
GRID = {"thresholds": [0.5, 1.0], "schedules": [{"when": "every"}, {"when": "last", "count": 2}]}
SHARDS = {
    "TAILPRUNE_SHARD_SAMPLES": "2", "TAILPRUNE_BATCH_SIZE": "8", "TAILPRUNE_HANDOVER_SECONDS": "1",
    "TAILPRUNE_LEASE_SECONDS": "4",
}  # fmt: skip
seeds = itertools.count(100)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with three workers, whose shards are small."""
    with running(tmp_path_factory.mktemp("studies"), workers=3, **SHARDS) as fleet:
        yield fleet


def post(stack: Stack, wait: float = 0, **body: Any) -> dict[str, Any]:
    said = {"model": "tiny", "grid": GRID, "measures": MEASURES, "samples_per_label": 2, **body}
    headers = {"Prefer": f"wait={wait:g}"} if wait else {}
    answer = stack.http.post("/studies", json=said, headers=headers)
    assert answer.is_success, answer.text
    return dict(answer.json())


def numbers(job: dict[str, Any]) -> Any:
    """What of a result may depend on nothing but the request."""
    return {name: job["result"][name] for name in ("variants", "measures", "search")}


def makers(stack: Stack, job_id: str) -> list[Child]:
    """The worker of each shard that was made of a study, as often as one was."""
    return [
        worker
        for worker in stack.workers
        for line in worker.text.splitlines()
        if "shard made" in line and job_id in line
    ]


def holder(stack: Stack, job_id: str) -> Child:
    with redis.Redis.from_url(stack.redis.url, decode_responses=True) as client:
        name = client.hget(f"tailprune:job:{job_id}", "worker")
    return stack.worker(name)


def test_one_worker_and_three_give_the_same_numbers(fleet: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    body = {"seed": next(seeds), "samples_per_label": 8, "steps": 40}
    together = fleet.finished(post(fleet, **body)["id"])
    assert together["status"] == "succeeded", together["problem"]
    assert len({worker.log for worker in makers(fleet, together["id"])}) == 3
    with running(tmp_path_factory.mktemp("alone"), workers=1, **SHARDS) as alone:
        single = alone.finished(post(alone, **body)["id"])
    assert numbers(single) == numbers(together)


def test_a_study_whose_worker_is_killed_is_finished_without_redoing_its_shards(fleet: Stack) -> None:
    body = {"seed": next(seeds), "samples_per_label": 12, "steps": 200, "measures": ["drift"]}
    job_id = post(fleet, **body)["id"]

    def is_half_done() -> bool:
        progress = fleet.job(job_id)["progress"]
        return progress is not None and progress["done"] > progress["total"] / 3

    eventually(is_half_done, "a part of the study is done")
    holder(fleet, job_id).kill()
    job = fleet.finished(job_id)
    assert job["status"] == "succeeded"
    assert job["result"]["shards"]["found"] > 0
    assert len(makers(fleet, job_id)) == 12 * 2  # that of the lost worker was not made yet
    fleet.start_worker(wait=False)


def test_more_samples_redo_nothing(fleet: Stack) -> None:
    body = {"seed": next(seeds)}
    first = fleet.finished(post(fleet, **body)["id"])
    second = fleet.finished(post(fleet, **body, samples_per_label=4)["id"])
    assert first["result"]["shards"] == {"total": 20, "done": 20, "made": 20, "found": 0}
    assert second["result"]["shards"] == {"total": 40, "done": 40, "made": 20, "found": 20}
    again = post(fleet, **body, samples_per_label=4)
    assert (again["id"], again["status"]) == (second["id"], "succeeded")


def test_a_cancelled_study_shows_what_it_had_and_goes_on_when_it_is_posted_again(fleet: Stack) -> None:
    body = {"seed": next(seeds), "samples_per_label": 12, "steps": 150, "measures": ["drift"]}
    job_id = post(fleet, **body)["id"]
    eventually(lambda: (fleet.job(job_id)["progress"] or {"done": 0})["done"] > 20, "some shards are there")
    assert fleet.http.delete(f"/jobs/{job_id}").is_success
    assert fleet.finished(job_id)["status"] == "cancelled"
    again = post(fleet, **body)
    assert again["id"] != job_id
    done = fleet.finished(again["id"], 120)
    assert done["status"] == "succeeded"
    assert done["result"]["shards"]["found"] > 0


def test_short_jobs_do_not_wait_for_the_shards_of_a_study(fleet: Stack) -> None:
    job_id = post(fleet, seed=next(seeds), samples_per_label=40, steps=400, measures=["drift"])["id"]
    fleet.await_progress(job_id)
    assert fleet.post(wait=60, seed=next(seeds)).json()["status"] == "succeeded"
    assert fleet.job(job_id)["status"] == "running"
    fleet.http.delete(f"/jobs/{job_id}")
    fleet.finished(job_id)


def test_exports_are_fetched(fleet: Stack, tmp_path: Path) -> None:
    job = post(fleet, wait=60, seed=next(seeds))
    exports = job["result"]["exports"]
    rows = list(csv.DictReader(io.StringIO(fleet.artifact(job, exports["table"]).decode())))
    assert [row["variant"] for row in rows] == [variant["name"] for variant in job["result"]["variants"]]
    assert float(rows[1]["drift"]) == job["result"]["variants"][1]["scores"]["drift"]["value"]
    assert fleet.artifact(job, exports["png"]).startswith(b"\x89PNG")
    assert b"| baseline" in fleet.artifact(job, exports["markdown"])


def test_a_search_over_http(fleet: Stack) -> None:
    search = {"measure": "drift", "budget": 0.1, "trials": 4}
    job = fleet.finished(post(fleet, seed=next(seeds), grid=None, search=search, measures=None)["id"])
    assert job["status"] == "succeeded", job["problem"]
    found = job["result"]["search"]
    assert found["threshold"] in {trial["threshold"] for trial in found["trials"] if trial["within"]}
    assert 1 <= len(found["trials"]) <= 6


def test_a_study_of_latents_has_its_drift(fleet: Stack) -> None:
    body = {"model": "tiny-dit", "grid": {"thresholds": [0.5]}, "measures": None, "sampler": "ddpm", "steps": 10}
    job = post(fleet, wait=60, seed=next(seeds), **body)
    assert [used["measure"] for used in job["result"]["measures"]] == ["drift"]
    assert job["result"]["variants"][1]["scores"]["drift"]["value"] > 0
