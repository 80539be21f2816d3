"""`/jobs`: look, list, cancel, follow."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from fastapi.testclient import TestClient

from jobs.problems import problem
from jobs.records import Job, JobSummary, JobView
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from tests.service.conftest import REQUEST
from tests.service.results import finish

CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")


def post(client: TestClient, **fields: Any) -> str:
    return str(client.post("/prune-sample", json=REQUEST | fields).json()["id"])


def events(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Id, name and data of each event of a stream."""
    fields = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return [(f["id"], f["event"], json.loads(f["data"])) for f in fields if "event" in f]


def test_a_job_is_looked_at_in_every_state(
    client: TestClient, store: JobStore, leases: LeaseStore, claim: Callable[[str], Claim]
) -> None:
    job_id = post(client)
    path = f"/jobs/{job_id}"
    assert client.get(path).json()["status"] == "queued"
    held = claim(job_id)
    leases.report(held, 3, 50, "steps", "sampling", 12.5)
    running = client.get(path).json()
    progress = {"done": 3, "total": 50, "unit": "steps", "phase": "sampling", "eta_seconds": 12.5}
    assert (running["status"], running["progress"]) == ("running", progress)
    finish(store, leases, held)
    done = client.get(path).json()
    assert done["status"] == "succeeded"
    assert done["links"]["artifacts"]["grid.png"] == f"{path}/artifacts/grid.png"
    assert CREATED.fullmatch(done["created"])
    JobView.model_validate(done)


def test_a_failed_job_carries_its_problem(
    client: TestClient, leases: LeaseStore, claim: Callable[[str], Claim]
) -> None:
    job_id = post(client)
    leases.fail(claim(job_id), problem("failed", "the samples hold NaN"))
    job = client.get(f"/jobs/{job_id}").json()
    assert (job["status"], job["result"]) == ("failed", None)
    assert job["problem"]["detail"] == "the samples hold NaN"


def test_a_list_has_thresholds_and_places_in_queues(client: TestClient, claim: Callable[[str], Claim]) -> None:
    ids = [post(client, threshold=[0.1, 0.2]), post(client, threshold=None, keep=3), post(client, seed=1)]
    assert [client.get(f"/jobs/{job_id}").json()["queue_position"] for job_id in ids] == [1, 2, 3]
    claim(ids[0])
    found = {job["id"]: (job["thresholds"], job["queue_position"]) for job in client.get("/jobs").json()["jobs"]}
    assert found == dict(zip(ids, [([0.1, 0.2], None), (None, 1), ([0.1], 2)], strict=True))


def test_a_list_is_walked_by_its_cursor(client: TestClient) -> None:
    ids = []
    for seed in range(5):
        ids.append(post(client, seed=seed))
        time.sleep(0.002)  # ids sort by the millisecond
    found, cursor = [], None
    while True:
        page = client.get("/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        found += [JobSummary.model_validate(job).id for job in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == ids[::-1]


def test_a_list_holds_what_was_asked_for(client: TestClient) -> None:
    queued, cancelled = post(client), post(client, seed=1)
    client.delete(f"/jobs/{cancelled}")

    def ids(**params: str) -> list[str]:
        return [job["id"] for job in client.get("/jobs", params=params).json()["jobs"]]

    assert ids(status="cancelled") == [cancelled]
    assert ids(status="queued", kind="prune-sample", model="shapes-sit") == [queued]
    assert ids(kind="metrics") == []


def test_a_list_of_several_kinds_is_walked_newest_first_and_has_no_other(client: TestClient) -> None:
    posts = {
        "/prune-sample": lambda n: REQUEST | {"seed": n},
        "/compact": lambda n: {"model": REQUEST["model"], "keep": 8 + n},
        "/extract": lambda n: {"model": REQUEST["model"], "labels": [n]},
    }
    made: list[str] = []
    for n in range(2):
        for path, body in posts.items():
            made.append(client.post(path, json=body(n)).raise_for_status().json()["id"])
            time.sleep(0.002)  # ids sort by the millisecond
    wanted = [job_id for place, job_id in enumerate(made) if place % 3 != 2][::-1]
    kinds = {"kind": ["prune-sample", "compact"]}
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/jobs", params={"limit": 3, **kinds, **cursor}).json()
        found += [job["id"] for job in page["jobs"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == wanted
    cancelled = made[0]
    client.delete(f"/jobs/{cancelled}")
    answer = client.get("/jobs", params={"status": "cancelled", **kinds}).json()
    assert [job["id"] for job in answer["jobs"]] == [cancelled]


def test_a_list_says_what_each_job_is_of_and_why_it_failed(
    client: TestClient, leases: LeaseStore, claim: Callable[[str], Claim]
) -> None:
    failed = post(client, threshold=0.25)
    leases.fail(claim(failed), problem("failed", "the samples hold NaN"))
    time.sleep(0.002)
    client.get("/metrics/shapes-sit", params={"part": "y"}, headers={"Prefer": "wait=0"})
    client.get("/metrics/shapes-sit/figures/tsne", headers={"Prefer": "wait=0"})
    found = {job["title"]: job["problem"] for job in client.get("/jobs").json()["jobs"]}
    assert found == {
        "tsne figure of shapes-sit: c at time 0": None,
        "metrics of shapes-sit: y": None,
        "prune-sample of shapes-sit at 0.25": client.get(f"/jobs/{failed}").json()["problem"],
    }
    assert found["prune-sample of shapes-sit at 0.25"]["detail"] == "the samples hold NaN"


@pytest.mark.parametrize(("field", "value"), [("kind", "of-a-newer-version"), ("status", "r"), ("created", None)])
def test_a_job_that_this_version_cannot_read_is_left_out_of_the_list(
    client: TestClient, redis_client: redis.Redis, field: str, value: str | None
) -> None:
    first, unreadable, last = (post(client, seed=seed) for seed in range(3))
    if value is None:
        redis_client.hdel(f"tailprune:job:{unreadable}", field)
    else:
        redis_client.hset(f"tailprune:job:{unreadable}", field, value)
    answer = client.get("/jobs")
    assert answer.status_code == 200
    assert {job["id"] for job in answer.json()["jobs"]} == {first, last}


def test_a_queued_job_is_cancelled_at_once(client: TestClient, leases: LeaseStore) -> None:
    job_id = post(client)
    answer = client.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert leases.claim(job_id, "worker") is None


def test_a_running_job_is_asked_to_stop(client: TestClient, leases: LeaseStore, claim: Callable[[str], Claim]) -> None:
    job_id = post(client)
    held = claim(job_id)
    answer = client.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    assert leases.cancelled_of([held]) == [held]
    leases.cancelled(held)
    assert client.get(f"/jobs/{job_id}").json()["status"] == "cancelled"


def test_a_job_whose_worker_is_lost_is_cancelled_at_once(
    client: TestClient, redis_client: redis.Redis, claim: Callable[[str], Claim]
) -> None:
    job_id = post(client)
    claim(job_id)
    redis_client.zadd("tailprune:leases", {job_id: 1})
    answer = client.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


def test_a_finished_job_cannot_be_cancelled(client: TestClient, done: Callable[[str], Job]) -> None:
    job = done(post(client))
    answer = client.delete(f"/jobs/{job.id}")
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:tailprune:problem:job-finished"


def test_events_tell_a_job_to_its_end(client: TestClient, done: Callable[[str], Job]) -> None:
    job = done(post(client))
    answer = client.get(f"/jobs/{job.id}/events")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    told = events(answer.text)
    assert [data.get("status") or data["done"] for _, _, data in told] == ["queued", "running", 2, "succeeded"]


def test_events_go_on_after_the_last_one_seen(client: TestClient, done: Callable[[str], Job]) -> None:
    job = done(post(client))
    path = f"/jobs/{job.id}/events"
    told = events(client.get(path).text)
    for seen in range(len(told)):
        rest = client.get(path, headers={"Last-Event-ID": told[seen][0]})
        assert events(rest.text) == told[seen + 1 :] if rest.text.strip() else seen == len(told) - 1
        assert rest.text.startswith(f"id: {told[seen][0]}\n\n") or rest.status_code == 204


def test_events_come_while_the_job_runs(
    client: TestClient, store: JobStore, leases: LeaseStore, claim: Callable[[str], Claim]
) -> None:
    job_id = post(client)

    def work() -> None:
        time.sleep(0.3)
        finish(store, leases, claim(job_id))

    worker = threading.Thread(target=work)
    worker.start()
    told = events(client.get(f"/jobs/{job_id}/events").text)
    worker.join()
    assert told[-1][2] == {"status": "succeeded"}


def test_a_finished_job_of_which_all_was_seen_answers_204_at_once(
    client: TestClient, done: Callable[[str], Job]
) -> None:
    job = done(post(client))
    path = f"/jobs/{job.id}/events"
    *_, before, last = [event_id for event_id, _, _ in events(client.get(path).text)]
    began = time.monotonic()
    for seen in (last, "99999999999999-0"):
        answer = client.get(path, headers={"Last-Event-ID": seen})
        assert (answer.status_code, answer.content) == (204, b"")
    assert time.monotonic() - began < 1
    for seen in ("0-0", before):
        assert client.get(path, headers={"Last-Event-ID": seen}).status_code == 200
