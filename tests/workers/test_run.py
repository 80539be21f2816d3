from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from jobs.settings import Settings
from jobs.store import Claim, JobStore
from tests.redis_process import RedisProcess
from tests.workers.conftest import Silent, Submit
from workers.run import Cancelled, HandedOver, LeaseLost, Run, Shutdown


def steps(run: Run, seconds: float = 5.0) -> int:
    """Takes steps until the run stops them; how many there were."""
    deadline, done = time.monotonic() + seconds, 0
    with run:
        while time.monotonic() < deadline:
            done += 1
            run.step(done, 10_000, "steps")
            time.sleep(0.01)
    return done


def test_the_lease_is_kept_however_long_the_work_takes(store: JobStore, claim: Claim, run: Run) -> None:
    with run:
        time.sleep(2 * store.settings.lease_seconds)
        assert store.claim(claim.job.id, "another") is None
        run.step(1, 2, "steps")


def test_progress_is_told_while_the_work_goes_on(store: JobStore, claim: Claim, run: Run) -> None:
    with run:
        run.step(3, 10, "steps")
        deadline = time.monotonic() + 20
        while (progress := store.get(claim.job.id).progress) is None and time.monotonic() < deadline:
            time.sleep(0.02)
    assert progress is not None
    assert (progress.done, progress.total, progress.unit) == (3, 10, "steps")


def test_a_cancelled_job_stops_at_a_step(store: JobStore, claim: Claim, run: Run) -> None:
    store.cancel(claim.job.id)
    with pytest.raises(Cancelled):
        steps(run)


def test_a_job_that_another_worker_has_stops_at_a_step(store: JobStore, claim: Claim, run: Run) -> None:
    assert store.release(claim)
    assert store.claim(claim.job.id, "another") is not None
    with pytest.raises(LeaseLost):
        steps(run)


def test_a_worker_that_stops_gives_its_job_some_time_and_then_hands_it_over(store: JobStore, claim: Claim) -> None:
    shutdown = Shutdown(handover_seconds=0.5)
    run = Run(store, claim, shutdown)
    shutdown.begin()
    begun = time.monotonic()
    with pytest.raises(HandedOver):
        steps(run)
    assert time.monotonic() - begun >= 0.5


def test_work_goes_on_while_redis_is_gone(settings: Settings, tmp_path: Path, queue: Silent) -> None:
    (tmp_path / "redis").mkdir()
    server = RedisProcess(tmp_path / "redis")
    server.start()
    client = redis.Redis.from_url(server.url)
    store = JobStore(client, settings, queue)
    job, _ = store.submit("prune-sample", {"model": "tiny", "threshold": [0.1]}, "key")
    claim = store.claim(job.id, "worker")
    assert claim is not None
    server.stop()
    try:
        assert steps(Run(store, claim, Shutdown(60)), seconds=1.0) > 10
    finally:
        client.close()


def test_a_job_handed_back_is_queued_again_and_counts_as_no_loss(
    store: JobStore, queue: Silent, submit: Submit
) -> None:
    job = submit(seed=1)
    for _ in range(2 * store.settings.max_attempts):
        claim = store.claim(job.id, "worker")
        assert claim is not None
        assert store.release(claim)
        assert store.get(job.id).status == "queued"
        assert not store.release(claim)  # handed back already
    assert queue.sent == [job.id] * (1 + 2 * store.settings.max_attempts)
    lost = store.claim(job.id, "worker")
    assert lost is not None
    time.sleep(store.settings.lease_seconds + 0.1)
    assert store.claim(job.id, "another") is not None


def test_a_cancelled_job_that_is_handed_back_is_not_queued(store: JobStore, queue: Silent, claim: Claim) -> None:
    store.cancel(claim.job.id)
    assert store.release(claim)
    assert store.get(claim.job.id).status == "cancelled"
