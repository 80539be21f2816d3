from __future__ import annotations

import time

import pytest
import redis

from jobs.requests.prune_sample import PruneSampleRequest
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from tests.redis_process import RedisProcess
from tests.workers.conftest import Silent, Submit
from workers.lease import Batch, Cancelled, LeaseLost, Preempted, Shutdown


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


def test_the_lease_is_kept_however_long_the_work_takes(
    store: JobStore, leases: LeaseStore, claim: Claim, batch: Batch
) -> None:
    with batch:
        time.sleep(2 * store.settings.lease_seconds)
        assert leases.claim(claim.job.id, "another") is None
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
    lost = leases.claim(job.id, "worker")
    assert lost is not None
    time.sleep(store.settings.lease_seconds + 0.1)
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
        time.sleep(2 * store.settings.lease_seconds)
        stopped, *going = batch.runs
        with pytest.raises(Cancelled):
            stopped.check()
        for run in going:
            run.check()
        assert all(leases.claim(job_id, "another") is None for job_id in others)
        told = [store.get(job_id).progress for job_id in others]
    assert [progress.done for progress in told if progress is not None] == [3, 3]


def test_a_job_that_left_its_batch_is_renewed_no_longer(store: JobStore, leases: LeaseStore, submit: Submit) -> None:
    claims = [claim for n in range(2) if (claim := leases.claim(submit(seed=n).id, "worker")) is not None]
    gone, kept = (claim.job.id for claim in claims)
    with Batch(leases, claims, Shutdown(60)) as batch:
        batch.leave(batch.runs[0])
        time.sleep(2 * store.settings.lease_seconds)
        assert leases.claim(kept, "another") is None
        assert leases.claim(gone, "another") is not None
