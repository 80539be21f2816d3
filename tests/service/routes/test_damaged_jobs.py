"""Records that cannot be read: each costs its own row, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from fastapi.testclient import TestClient

from jobs.problems import problem
from jobs.records import Job
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from service.app import create_app
from tests.jobs.store.test_jobs import swept
from tests.service.conftest import REQUEST
from tests.service.results import finish

FIELDS = {
    "queued": [
        "id", "kind", "queue", "key", "model", "title", "request", "created", "attempts", "status", "group", "rows",
    ],
    "running": [
        "id", "kind", "queue", "key", "model", "title", "request", "created", "attempts", "status", "group", "rows",
        "worker", "started", "progress", "ran",
    ],
    "succeeded": [
        "id", "kind", "key", "model", "title", "request", "created", "attempts", "status", "started", "finished",
        "progress", "outcome",
    ],
    "failed": ["kind", "model", "status", "finished", "problem"],
}  # fmt: skip
DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "cut": lambda value: value[: len(value) // 2],
    "of another type": lambda value: b"[7]",
    "no text": lambda value: b"\xff\x00" + value,
    "infinite": lambda value: b"1e999",
    "missing": lambda value: None,
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings whose leases expire soon."""
    return settings.model_copy(update={"lease_seconds": 0.05})


def post(client: TestClient, seed: int) -> str:
    return str(client.post("/prune-sample", json=REQUEST | {"seed": seed}).json()["id"])


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("state", FIELDS)
def test_a_damaged_field_costs_one_job_and_nothing_else(
    client: TestClient, store: JobStore, leases: LeaseStore, redis_client: redis.Redis, state: str, damage: str
) -> None:
    """A job for each field, and all of them there at once."""
    other = post(client, 1000)
    jobs = {}
    for seed, field in enumerate(FIELDS[state]):
        jobs[field] = post(client, seed)
        if state != "queued":
            held = leases.claim(jobs[field], "worker")
            assert held is not None
            leases.report(held, 1, 2, "steps")
            leases.renew(held)
            if state == "succeeded":
                finish(store, leases, held)
            elif state == "failed":
                leases.fail(held, problem("failed", "no"))
    assert len(client.get("/jobs?limit=200").json()["jobs"]) == len(jobs) + 1
    for field, job_id in jobs.items():
        key = f"tailprune:job:{job_id}"
        value = redis_client.hget(key, field)
        assert value is not None, field
        damaged = DAMAGES[damage](value if isinstance(value, bytes) else value.encode())
        redis_client.hdel(key, field) if damaged is None else redis_client.hset(key, field, damaged)

    listed = client.get("/jobs?limit=200")
    assert listed.status_code == 200
    assert other in {job["id"] for job in listed.json()["jobs"]}
    for seed, (field, job_id) in enumerate(jobs.items()):
        for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/artifacts/grid.png"):
            assert client.get(path).status_code in (200, 404, 410), field
        again = client.post("/prune-sample", json=REQUEST | {"seed": seed})
        assert again.status_code in (200, 202), field
        assert client.get(f"/jobs/{again.json()['id']}").status_code == 200, field

    for job_id in jobs.values():
        held = leases.claim(job_id, "another")
        if held is not None:
            leases.succeed(held, {}, {})
    swept(leases)
    for field, job_id in jobs.items():
        stopped = client.delete(f"/jobs/{job_id}")
        assert stopped.status_code in (200, 404, 409, 410), f"{field}: {stopped.text}"
        assert client.delete(f"/jobs/{job_id}?purge=true").status_code in (204, 404), field
        assert client.get(f"/jobs/{job_id}").status_code == 404, field
        named = [name for name in redis_client.scan_iter("tailprune:*") if names(redis_client, name, job_id)]
        # The index of a kind or model that the record no longer names is left, and lists pass over it.
        left = (b"tailprune:jobs:kind:", b"tailprune:jobs:model:", b"tailprune:group:")
        assert all(name.startswith(left) for name in named), (field, named)
    assert client.get("/jobs?kind=prune-sample&model=shapes-sit").status_code == 200
    assert client.get(f"/jobs/{other}").json()["status"] == "queued"


def names(client: redis.Redis, key: bytes, job_id: str) -> bool:
    """Whether a set or a sorted set has a job."""
    kind = client.type(key)
    if kind == b"zset":
        return client.zscore(key, job_id) is not None
    return kind == b"set" and bool(client.sismember(key.decode(), job_id))


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_job_under_way_whose_status_is_damaged_ends_as_failed_and_says_why(
    client: TestClient, leases: LeaseStore, redis_client: redis.Redis, state: str
) -> None:
    job_id = post(client, 1)
    if state == "running":
        leases.claim(job_id, "worker")
    redis_client.hset(f"tailprune:job:{job_id}", "status", "ru")
    if state == "queued":
        redis_client.zadd("tailprune:queued:sampling", {job_id: 1})
    swept(leases)
    job = client.get(f"/jobs/{job_id}").json()
    assert (job["status"], job["problem"]["type"]) == ("failed", "urn:tailprune:problem:record-unreadable")


def test_a_queued_job_whose_request_is_damaged_is_failed_by_the_worker_that_takes_it(
    client: TestClient, store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    job_id = post(client, 1)
    redis_client.hset(f"tailprune:job:{job_id}", "request", "{")
    answer = client.get(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()["type"]) == (410, "urn:tailprune:problem:record-unreadable")
    assert leases.claim(job_id, "worker") is None
    (found,) = store.page().jobs
    assert found.status == "failed"
    assert found.problem is not None
    assert "post its request again" in found.problem.detail


def test_damaged_progress_is_shown_as_none(client: TestClient, redis_client: redis.Redis) -> None:
    job_id = post(client, 1)
    redis_client.hset(f"tailprune:job:{job_id}", "progress", '{"done": 1, "tot')
    assert client.get(f"/jobs/{job_id}").json()["progress"] is None
    assert [job["progress"] for job in client.get("/jobs").json()["jobs"]] == [None]


def test_a_key_that_holds_no_record_at_all_stops_nothing(
    client: TestClient, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    queued, running, other = (post(client, seed) for seed in range(3))
    leases.claim(running, "worker")
    for job_id in (queued, running):
        redis_client.set(f"tailprune:job:{job_id}", "no hash")
    assert [job["id"] for job in client.get("/jobs").json()["jobs"]] == [other]
    assert client.get(f"/jobs/{queued}").status_code == 410
    assert client.post("/prune-sample", json=REQUEST | {"seed": 0}).status_code == 202
    redis_client.zadd("tailprune:queued:sampling", {queued: 1})
    swept(leases)
    assert client.get(f"/jobs/{running}").status_code == 404
    assert client.get(f"/jobs/{queued}").status_code == 404


def test_statistics_whose_outcome_is_gone_are_made_anew_at_once(
    client: TestClient, store: JobStore, redis_client: redis.Redis, settings: Settings, worker: None
) -> None:
    def ask() -> int:
        return client.get("/metrics/shapes-sit?part=y", headers={"Prefer": "wait=10"}).status_code

    assert ask() == 200
    (job,) = store.page().jobs
    artifact = Artifact.model_validate_json(redis_client.hget(f"tailprune:job:{job.id}", "outcome") or "")
    next(Path(settings.artifacts).rglob(artifact.digest)).unlink()
    redis_client.delete(f"tailprune:hot:{artifact.digest}")
    client.app.state.app.answers.clear()  # type: ignore[attr-defined]
    client.app.state.app.store._outcomes._kept.clear()  # type: ignore[attr-defined]
    gone = client.get(f"/jobs/{job.id}")
    assert (gone.status_code, gone.json()["type"]) == (410, "urn:tailprune:problem:result-gone")
    assert ask() == 200
    assert len(store.page().jobs) == 2


def test_a_finished_job_is_deleted_and_one_under_way_is_not(
    client: TestClient, claim: Callable[[str], Claim], done: Callable[[str], Job]
) -> None:
    job_id, running = post(client, 1), post(client, 2)
    claim(running)
    for unfinished in (job_id, running):
        refused = client.delete(f"/jobs/{unfinished}?purge=true")
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:tailprune:problem:job-unfinished")
    done(job_id)
    answer = client.delete(f"/jobs/{job_id}?purge=true")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(f"/jobs/{job_id}").status_code == 404
    assert client.delete(f"/jobs/{job_id}?purge=true").status_code == 404


def test_lists_have_no_links_of_files(client: TestClient, done: Callable[[str], Job]) -> None:
    job = done(post(client, 1))
    (found,) = client.get("/jobs").json()["jobs"]
    assert found["links"] == {"self": f"/jobs/{job.id}", "events": f"/jobs/{job.id}/events"}


def test_full_queues_are_answered_429_with_the_time_to_wait(
    client: TestClient, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = client.app.state.app  # type: ignore[attr-defined]
    monkeypatch.setattr(state.store, "settings", state.settings.model_copy(update={"max_queued_jobs": 1}))
    post(client, 1)
    begun = time.monotonic()
    answers = [
        client.post("/prune-sample", json=REQUEST | {"seed": 2}),
        client.get("/metrics/shapes-sit?part=y"),
        client.get("/metrics/shapes-sit/figures/cosine"),
    ]
    assert time.monotonic() - begun < 5, "a request that is refused waits for no job"
    for answer in answers:
        assert (answer.status_code, answer.json()["type"]) == (429, "urn:tailprune:problem:too-many-jobs")
        assert int(answer.headers["Retry-After"]) > 0
    assert client.post("/prune-sample", json=REQUEST | {"seed": 1}).status_code == 202


@pytest.mark.parametrize(("address", "owner"), [("127.0.0.1", ""), ("::1", ""), ("198.51.100.7", "198.51.100.7")])
def test_jobs_of_clients_elsewhere_are_counted_by_their_address(
    settings: Settings, store: JobStore, redis_client: redis.Redis, address: str, owner: str
) -> None:
    with TestClient(create_app(settings.model_copy(update={"open": True})), client=(address, 50_000)) as client:
        job_id = post(client, 1)
    assert (redis_client.hget(f"tailprune:job:{job_id}", "owner") or b"") == owner.encode()
