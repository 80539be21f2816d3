"""What jobs made is no part of their records, and a job whose outcome is gone is made anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from jobs.records import Made
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact, ArtifactStore
from jobs.store.jobs import JobStore, ResultGone
from jobs.store.leases import LeaseStore
from jobs.store.outcomes import OutcomeStore
from tests.jobs.store.test_jobs import REQUEST, claim, submit


def damage(store: JobStore, client: redis.Redis, settings: Settings, job_id: str, content: bytes | None) -> None:
    """Replaces the document of a job's outcome, or deletes it, wherever a copy is."""
    artifact = Artifact.model_validate_json(client.hget(f"tailprune:job:{job_id}", "outcome") or "")
    file = next(Path(settings.artifacts).rglob(artifact.digest))
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    client.delete(f"tailprune:hot:{artifact.digest}")


def fresh(store: JobStore, client: redis.Redis) -> JobStore:
    """The store as another process has it, which has read nothing yet."""
    return JobStore(client, store.settings)


def test_a_record_stays_small_however_much_its_job_made(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    job = submit(store)
    file = Artifact(digest="0" * 64, media_type="image/png", size=1)
    artifacts = {f"{n}.png": file for n in range(4352)}
    result = {"images": [{"artifact": name} for name in artifacts]}
    assert leases.succeed(claim(leases, job), result, artifacts)
    record = redis_client.hgetall(f"tailprune:job:{job.id}")
    assert sum(map(len, (*record, *record.values()))) < 2000
    read = store.get(job.id)
    assert (read.result, read.artifacts) == (result, artifacts)


def test_what_was_read_is_kept_in_memory_up_to_a_bound(
    settings: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.store.outcomes.MOST_BYTES", 15_000)
    outcomes = OutcomeStore(ArtifactStore(settings, redis_client))
    stored = [outcomes.put(Made({"n": str(n) * 1000}, {})) for n in range(4)]
    reads: list[str] = []
    read = ArtifactStore.read

    def counted(self: ArtifactStore, artifact: Artifact) -> bytes:
        reads.append(artifact.digest)
        return read(self, artifact)

    monkeypatch.setattr(ArtifactStore, "read", counted)
    for _ in range(2):
        assert outcomes.get(stored[0]).result == {"n": "0" * 1000}
    assert reads == [stored[0].digest]
    for artifact in stored[1:]:
        outcomes.get(artifact)
    outcomes.get(stored[0])
    assert reads.count(stored[0].digest) == 2


@pytest.mark.parametrize("content", [None, b"", b'{"result": {}', b"[]", b'{"result": 1, "artifacts": {}}', b"\xff"])
def test_a_job_whose_outcome_is_gone_or_damaged_says_so_and_is_made_anew(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis, settings: Settings, content: bytes | None
) -> None:
    job = submit(store)
    leases.succeed(claim(leases, job), {"x": 1}, {})
    damage(store, redis_client, settings, job.id, content)
    store = fresh(store, redis_client)
    with pytest.raises(ResultGone, match="post its request again"):
        store.get(job.id)
    again, outcome = store.submit(REQUEST, "key")
    assert (again.id != job.id, outcome) == (True, "created")
    assert submit(store).id == again.id


def test_an_outcome_that_is_gone_does_not_change_what_lists_show(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis, settings: Settings
) -> None:
    job = submit(store)
    leases.succeed(claim(leases, job), {"x": 1}, {})
    damage(store, redis_client, settings, job.id, None)
    assert [(found.id, found.status) for found in fresh(store, redis_client).page().jobs] == [(job.id, "succeeded")]


def test_the_preliminary_result_of_a_job_is_in_its_record_until_it_ends(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    job = submit(store)
    held = claim(leases, job)
    for so_far in ([1.0], [0.5] * 64_000):  # the removed shares of 64 prunes at 1000 steps
        leases.publish(held, {"removed": so_far}, {})
        assert store.get(job.id).result == {"removed": so_far}
    assert redis_client.hstrlen(f"tailprune:job:{job.id}", "result") < 10_000
    leases.cancelled(held)
    assert store.get(job.id).result is None
    assert not redis_client.hexists(f"tailprune:job:{job.id}", "result")


class Earlier:
    """Writes records as the version before did."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def put(self, job_id: str, status: str, **fields: Any) -> None:
        request = {"model": "shapes-sit", "threshold": [0.1], "side": "tail", "fill": "zero"}
        record = {
            "id": job_id, "kind": "prune-sample", "queue": "sampling", "key": f"key of {job_id}", "model": "shapes-sit",
            "request": json.dumps(request), "created": "1700000000.5", "attempts": 0, "status": status,
        }  # fmt: skip
        self.client.hset(f"tailprune:job:{job_id}", mapping=record | fields)
        self.client.set(f"tailprune:key:key of {job_id}", job_id)
        self.client.zadd("tailprune:jobs", {job_id: 0})
        self.client.xadd(f"tailprune:job:{job_id}:events", {"event": "status", "data": json.dumps({"status": status})})


def test_the_records_of_the_version_before_are_taken_over(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    earlier = Earlier(redis_client)
    file = {"digest": "0" * 64, "media_type": "image/png", "size": 1}
    done, waiting, lost = (f"01j{'0' * 22}{n}" for n in range(3))
    earlier.put(done, "succeeded", finished="1700000001", result='{"x": 1}', artifacts=json.dumps({"grid.png": file}))
    redis_client.zadd("tailprune:finished", {done: 1700000001})
    earlier.put(waiting, "queued")
    redis_client.zadd("tailprune:queued", {waiting: 1700000000})
    earlier.put(lost, "running", attempts=1, worker="lost", started="1700000000")
    redis_client.zadd("tailprune:leases", {lost: 1700000010})

    assert [job.id for job in store.page(status="succeeded", kind="prune-sample", model="shapes-sit").jobs] == [done]
    assert store.page().jobs[0].title == "prune-sample of shapes-sit at 0.1"
    read = store.get(done)
    assert (read.result, read.artifacts["grid.png"].size) == ({"x": 1}, 1)
    assert store.under_way() == (1, 1)
    assert leases.sweep() == [waiting]  # its message may be lost: it waited for long
    assert leases.succeed(claim(leases, store.get(waiting)), {"y": 2}, {})
    assert store.get(waiting).result == {"y": 2}
    assert [job.id for job in store.page(status="running").jobs] == [lost]
    small = LeaseStore(redis_client, leases.settings.model_copy(update={"job_history": 1}))
    small.sweep()
    assert {job.id for job in store.page().jobs} == {waiting, lost}
