from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
import redis

from jobs.requests.prune_sample import PruneSampleRequest
from jobs.settings import Settings
from jobs.store.heartbeats import WorkerRegistry
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from jobs.views import WorkerInfo
from tests.jobs.store.test_jobs import full, swept
from tests.redis_process import RedisProcess
from tests.workers.conftest import Silent, Submit
from workers.lease import Batch, Cancelled, Heartbeat, LeaseLost, Preempted, Run, Shutdown, TimeUp


@pytest.fixture
def batch(leases: LeaseStore, claim: Claim) -> Batch:
    """The claimed job by itself, with nothing that looks after it yet."""
    return Batch(leases, [claim], Shutdown(60))


def steps(batch: Batch, seconds: float = 5.0) -> int:
    """Takes steps until the batch's first run stops them; how many there were."""
    deadline, done = time.monotonic() + seconds, 0
    run = batch.runs[0]
    with batch:
        while time.monotonic() < deadline:
            done += 1
            run.step(done, 10_000, "steps")
            time.sleep(0.01)
    return done


def test_the_lease_is_kept_however_long_the_work_takes(leases: LeaseStore, batch: Batch) -> None:
    with batch:
        assert swept(leases) == []
        batch.runs[0].step(1, 2, "steps")


def test_progress_is_told_while_the_work_goes_on(store: JobStore, claim: Claim, batch: Batch) -> None:
    with batch:
        batch.runs[0].step(3, 10, "steps")
        deadline = time.monotonic() + 20
        while (progress := store.get(claim.job.id).progress) is None and time.monotonic() < deadline:
            time.sleep(0.02)
    assert progress is not None
    assert (progress.done, progress.total, progress.unit) == (3, 10, "steps")


def test_a_cancelled_job_stops_at_a_step(store: JobStore, claim: Claim, batch: Batch) -> None:
    store.cancel(claim.job.id)
    with pytest.raises(Cancelled):
        steps(batch)


def test_a_job_that_another_worker_has_stops_at_a_step(leases: LeaseStore, claim: Claim, batch: Batch) -> None:
    assert leases.release(claim)
    assert leases.claim(claim.job.id, "another") is not None
    with pytest.raises(LeaseLost):
        steps(batch)


def test_a_worker_that_stops_gives_its_job_some_time_and_then_hands_it_over(leases: LeaseStore, claim: Claim) -> None:
    shutdown = Shutdown(handover_seconds=0.5)
    batch = Batch(leases, [claim], shutdown)
    shutdown.begin()
    begun = time.monotonic()
    with pytest.raises(Preempted):
        steps(batch)
    assert time.monotonic() - begun >= 0.5


def test_work_goes_on_while_redis_is_gone(settings: Settings, own_redis: RedisProcess, queue: Silent) -> None:
    client = redis.Redis.from_url(own_redis.url)
    store, leases = JobStore(client, settings, queue), LeaseStore(client, settings, queue)
    job, _ = store.submit(PruneSampleRequest(model="tiny", threshold=[0.1]), "key")
    claim = leases.claim(job.id, "worker")
    assert claim is not None
    own_redis.stop()
    try:
        assert steps(Batch(leases, [claim], Shutdown(60)), seconds=1.0) > 10
    finally:
        client.close()


def test_a_job_handed_back_is_queued_again_and_counts_as_no_loss(
    store: JobStore, leases: LeaseStore, queue: Silent, submit: Submit
) -> None:
    job = submit(seed=1)
    for _ in range(2 * store.settings.max_attempts):
        claim = leases.claim(job.id, "worker")
        assert claim is not None
        assert leases.release(claim)
        assert store.get(job.id).status == "queued"
        assert not leases.release(claim)  # handed back already
    assert queue.sent == [job.id] * (1 + 2 * store.settings.max_attempts)
    assert leases.claim(job.id, "worker") is not None
    assert swept(leases) == [job.id]
    assert leases.claim(job.id, "another") is not None


def test_a_cancelled_job_that_is_handed_back_is_not_queued(
    store: JobStore, leases: LeaseStore, queue: Silent, claim: Claim
) -> None:
    store.cancel(claim.job.id)
    assert leases.release(claim)
    assert store.get(claim.job.id).status == "cancelled"


def test_each_job_of_a_batch_is_kept_told_of_and_stopped_by_itself(
    store: JobStore, leases: LeaseStore, submit: Submit
) -> None:
    claims = [claim for n in range(3) if (claim := leases.claim(submit(seed=n).id, "worker")) is not None]
    cancelled, *others = (claim.job.id for claim in claims)
    store.cancel(cancelled)
    with Batch(leases, claims, Shutdown(60)) as batch:
        for run in batch.runs:
            run.progress = (3, 10, "steps")
        assert swept(leases) == []
        stopped, *going = batch.runs
        with pytest.raises(Cancelled):
            stopped.check()
        for run in going:
            run.check()
        told = [store.get(job_id).progress for job_id in others]
    assert [progress.done for progress in told if progress is not None] == [3, 3]


def test_a_job_that_left_its_batch_is_renewed_no_longer(leases: LeaseStore, submit: Submit) -> None:
    claims = [claim for n in range(2) if (claim := leases.claim(submit(seed=n).id, "worker")) is not None]
    gone = claims[0].job.id
    with Batch(leases, claims, Shutdown(60)) as batch:
        batch.leave(batch.runs[0])
        assert swept(leases) == [gone]


def test_a_job_that_runs_for_too_long_stops_at_a_step_and_says_the_limit(
    settings: Settings, redis_client: redis.Redis, queue: Silent, submit: Submit
) -> None:
    leases = LeaseStore(redis_client, settings.model_copy(update={"max_job_seconds": 0.5}), queue)
    claim = leases.claim(submit().id, "worker")
    assert claim is not None
    with pytest.raises(TimeUp, match=r"more than the 0\.5 seconds .*MAX_JOB_SECONDS"):
        steps(Batch(leases, [claim], Shutdown(60)))


@pytest.mark.parametrize("ending", ["handed over", "lost"])
def test_the_time_of_all_attempts_of_a_job_counts(leases: LeaseStore, submit: Submit, ending: str) -> None:
    job = submit()
    for _ in range(2):
        claim = leases.claim(job.id, "worker")
        assert claim is not None
        claim.since -= 100
        if ending == "handed over":
            assert leases.release(claim)
        else:
            assert leases.renew(claim)
            assert swept(leases) == [job.id]
    last = leases.claim(job.id, "worker")
    assert last is not None
    assert last.seconds >= 200


def test_leases_are_renewed_soon_after_redis_takes_writes_again(
    leases: LeaseStore, claim: Claim, redis_client: redis.Redis
) -> None:
    other = LeaseStore(redis_client, leases.settings)
    other.sweep()
    with Batch(leases, [claim], Shutdown(60)) as batch:
        redis_client.config_set("min-replicas-to-write", 1)
        try:
            for _ in range(12):
                time.sleep(leases.settings.lease_seconds / 4)
                with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
                    other.sweep()
        finally:
            redis_client.config_set("min-replicas-to-write", 0)
        assert swept(other) == []
        batch.runs[0].check()


def test_the_oldest_jobs_are_deleted_by_a_heartbeat_though_redis_is_full(
    settings: Settings, redis_client: redis.Redis, store: JobStore, queue: Silent, submit: Submit
) -> None:
    store.cancel(submit().id)
    fewer = settings.model_copy(update={"job_history": 0, "sweep_seconds": 0.05})
    leases, workers = LeaseStore(redis_client, fewer, queue), WorkerRegistry(redis_client, 2)
    heartbeat = Heartbeat(leases, workers, WorkerInfo(name="worker", device="cpu"), lambda: None)
    with full(redis_client):
        heartbeat.start()
        deadline = time.monotonic() + 20
        while store.page().jobs and time.monotonic() < deadline:
            time.sleep(0.05)
        assert store.page().jobs == []
    heartbeat.stop()


def test_a_worker_whose_leases_are_looked_after_no_more_ends_itself(
    settings: Settings, redis_client: redis.Redis, queue: Silent, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, go_on = threading.Event(), threading.Event()
    reasons: list[str] = []

    def end(why: str) -> None:
        reasons.append(why)
        ended.set()

    monkeypatch.setattr("workers.lease.end_process", end)
    quick = settings.model_copy(update={"lease_seconds": 0.2, "sweep_seconds": 0.05})
    leases = LeaseStore(redis_client, quick, queue)
    monkeypatch.setattr(leases, "cancelled_of", lambda _: go_on.wait(30) and [])
    with Batch(leases, [claim], Shutdown(60)) as batch:
        workers = WorkerRegistry(redis_client, 2)
        heartbeat = Heartbeat(leases, workers, WorkerInfo(name="worker", device="cpu"), lambda: batch)
        heartbeat.start()
        assert ended.wait(20)
        go_on.set()
        heartbeat.stop()
    assert "renews leases has hung" in reasons[0]


def test_the_phase_and_the_time_that_is_left_are_told_with_the_progress(
    store: JobStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("workers.lease.time", SimpleNamespace(monotonic=lambda: now[0]))
    told = []
    for done, phase in [(0, "loading"), (0, "sampling"), (1, "sampling"), (2, "sampling"), (3, "sampling")]:
        run.phase = phase
        run.step(done, 10, "steps")
        run.claim.reported = -1.0  # as if it were long ago
        run.report()
        progress = store.get(run.job.id).progress
        assert progress is not None
        told.append((progress.done, progress.phase, progress.eta_seconds))
        now[0] += 2.0
    assert told == [
        (0, "loading", None), (0, "sampling", None), (1, "sampling", None), (2, "sampling", 16.0),
        (3, "sampling", 14.0),
    ]  # fmt: skip


def test_what_has_not_changed_is_not_told_again(run: Run, monkeypatch: pytest.MonkeyPatch, leases: LeaseStore) -> None:
    told = []
    monkeypatch.setattr(leases, "report", lambda *progress: told.append(progress[1:]))
    run.report()
    run.step(1, 10, "steps")
    for phase in ("sampling", "sampling", "decoding"):
        run.phase = phase
        run.report()
    assert told == [(1, 10, "steps", "sampling", None), (1, 10, "steps", "decoding", None)]
