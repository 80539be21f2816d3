"""The store: one job a key, one worker a job, finished once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import redis

from jobs.problems import problem
from jobs.queue import BrokerUnavailable, JobQueue
from jobs.records import Job, Progress
from jobs.requests.base import Queue
from jobs.requests.figure import FigureRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.settings import Settings
from jobs.store.jobs import IdempotencyConflict, JobFinished, JobStore, UnknownJob
from jobs.store.leases import Claim, LeaseStore
from tests.redis_process import RedisProcess

REQUEST = PruneSampleRequest(model="shapes-sit", threshold=[0.1])


class Outbox(JobQueue):
    """A queue that keeps what it is given; `gone` makes it fail."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.queues: list[Queue] = []
        self.gone = False

    def put(self, job_id: str, queue: Queue) -> None:
        if self.gone:
            raise BrokerUnavailable("gone")
        self.sent.append(job_id)
        self.queues.append(queue)

    def depth(self, queue: Queue) -> int:
        return len(self.sent)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def quick(settings: Settings, redis_client: redis.Redis, outbox: Outbox) -> JobStore:
    """A store whose leases lapse at once unless renewed, and that looks for late jobs at once."""
    fast = settings.model_copy(update={"lease_seconds": 0.1, "requeue_seconds": 0.2})
    return JobStore(redis_client, fast, outbox)


@pytest.fixture
def quick_leases(quick: JobStore, redis_client: redis.Redis, outbox: Outbox) -> LeaseStore:
    """The same jobs, for whoever does them."""
    return LeaseStore(redis_client, quick.settings, outbox)


def submit(store: JobStore, key: str = "key") -> Job:
    return store.submit(REQUEST, key)[0]


def claim(leases: LeaseStore, job: Job, worker: str = "worker") -> Claim:
    claimed = leases.claim(job.id, worker)
    assert claimed is not None
    return claimed


def lapse(store: JobStore) -> None:
    """Waits until a lease that nobody renews has lapsed by the clock of Redis."""
    time.sleep(store.settings.lease_seconds + 0.05)


def swept(leases: LeaseStore) -> list[str]:
    """What sweeps find that look for longer than a lease lasts."""
    found = leases.sweep()
    for _ in range(4):
        time.sleep(0.6 * leases.settings.lease_seconds)
        found += leases.sweep()
    return found


@contextlib.contextmanager
def gone_after(calls: int, client: redis.Redis) -> Iterator[None]:
    """Redis that answers so many calls and no more."""
    answer, left = client.execute_command, iter(range(calls))

    def execute(*arguments: Any, **options: Any) -> Any:
        if next(left, None) is None:
            raise redis.ConnectionError("gone")
        return answer(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "execute_command", execute)
        yield


@contextlib.contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    """Redis with no memory left."""
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextlib.contextmanager
def replica(client: redis.Redis) -> Iterator[None]:
    """Redis as the replica of a server that is gone."""
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")


def test_a_key_asked_for_by_many_threads_at_once_is_one_job_on_the_queue_once(
    settings: Settings, redis_client: redis.Redis, outbox: Outbox
) -> None:
    store = JobStore(redis_client, settings, outbox)
    together = threading.Barrier(20)

    def ask(_: int) -> tuple[str, str]:
        together.wait()
        job, outcome = store.submit(REQUEST, "key")
        return job.id, outcome

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert sorted(outcome for _, outcome in answers) == ["created"] + ["joined"] * 19
    assert outbox.sent == [answers[0][0]]


def test_a_job_goes_to_the_queue_that_its_request_needs_and_to_the_first_when_it_comes_back(
    quick: JobStore, quick_leases: LeaseStore, outbox: Outbox
) -> None:
    wanted = {"cosine": "metrics", "removal": "sampling"}
    for figure in wanted:
        job, _ = quick.submit(FigureRequest(model="shapes-sit", figure=figure), figure)
        claim(quick_leases, job)
    assert outbox.queues == ["metrics", "sampling"]
    swept(quick_leases)  # their workers were lost
    for job_id in outbox.sent[2:]:
        quick_leases.release(claim(quick_leases, quick.get(job_id)))  # their workers stop
    assert outbox.queues[2:] == ["returned"] * 4
    assert sorted(outbox.sent) == sorted(3 * outbox.sent[:2])
    assert quick.under_way() == (2, 0)


def test_a_queued_job_is_claimed_by_one_of_many_workers(store: JobStore, leases: LeaseStore) -> None:
    job = submit(store)
    with ThreadPoolExecutor(10) as pool:
        claims = list(pool.map(lambda n: leases.claim(job.id, f"worker-{n}"), range(10)))
    assert sum(claimed is not None for claimed in claims) == 1


def test_a_finished_job_answers_later_requests_of_its_key(store: JobStore, leases: LeaseStore) -> None:
    job = submit(store)
    assert leases.succeed(claim(leases, job), {"x": 1}, {})
    again, outcome = store.submit(REQUEST, "key")
    assert (again.id, outcome, again.result) == (job.id, "cached", {"x": 1})


def test_a_job_whose_artifact_is_gone_is_made_anew(store: JobStore, leases: LeaseStore, settings: Settings) -> None:
    job = submit(store)
    artifact = store.artifacts.put(b"picture", "image/png")
    leases.succeed(claim(leases, job), {}, {"grid.png": artifact})
    next(Path(settings.artifacts).rglob(artifact.digest)).unlink()
    again, outcome = store.submit(REQUEST, "key")
    assert outcome == "created"
    assert again.id != job.id
    assert submit(store).id == again.id


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_job_that_did_not_succeed_answers_no_later_request(store: JobStore, leases: LeaseStore, end: str) -> None:
    job = submit(store)
    held = claim(leases, job)
    assert leases.fail(held, problem("failed", "no")) if end == "failed" else leases.cancelled(held)
    assert store.get(job.id).status == end
    assert submit(store).id != job.id


def test_a_job_being_cancelled_answers_no_later_request(store: JobStore, leases: LeaseStore) -> None:
    job = submit(store)
    claim(leases, job)
    store.cancel(job.id)
    assert submit(store).id != job.id


def test_an_idempotency_key_names_its_job_whatever_became_of_it(store: JobStore) -> None:
    job, _ = store.submit(REQUEST, "key", idempotency_key="mine", fingerprint="f")
    store.cancel(job.id)
    again, outcome = store.submit(REQUEST, "key", idempotency_key="mine", fingerprint="f")
    assert (again.id, outcome) == (job.id, "cached")


def test_an_idempotency_key_with_another_request_is_refused(store: JobStore) -> None:
    store.submit(REQUEST, "key", idempotency_key="mine", fingerprint="f")
    with pytest.raises(IdempotencyConflict, match="new key"):
        store.submit(REQUEST, "other", idempotency_key="mine", fingerprint="g")


def test_an_unknown_job_is_reported_as_unknown(store: JobStore, leases: LeaseStore) -> None:
    for look in (store.get, store.cancel):
        with pytest.raises(UnknownJob, match="no job has the id 'nothing'"):
            look("nothing")
    assert leases.claim("nothing", "worker") is None


def test_a_queued_job_is_cancelled_at_once_and_never_claimed(store: JobStore, leases: LeaseStore) -> None:
    job = submit(store)
    assert store.cancel(job.id).status == "cancelled"
    assert leases.claim(job.id, "worker") is None
    assert store.under_way() == (0, 0)


def test_a_running_job_is_asked_to_stop(store: JobStore, leases: LeaseStore) -> None:
    job = submit(store)
    held = claim(leases, job)
    assert leases.cancelled_of([held]) == []
    assert store.cancel(job.id).status == "running"
    assert leases.cancelled_of([held]) == [held]
    assert leases.cancelled(held)
    assert store.get(job.id).status == "cancelled"


def test_a_job_whose_lease_lapsed_is_cancelled_at_once(quick: JobStore, quick_leases: LeaseStore) -> None:
    job = submit(quick)
    late = claim(quick_leases, job, "lost")
    lapse(quick)
    assert quick.cancel(job.id).status == "cancelled"
    assert not quick_leases.succeed(late, {}, {})
    assert quick.get(job.id).status == "cancelled"


def test_a_job_whose_lease_is_missing_is_cancelled_at_once(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    job = submit(store)
    claim(leases, job)
    redis_client.zrem("tailprune:leases", job.id)
    assert store.cancel(job.id).status == "cancelled"


def test_a_finished_job_cannot_be_cancelled(store: JobStore, leases: LeaseStore) -> None:
    job = submit(store)
    leases.succeed(claim(leases, job), {}, {})
    with pytest.raises(JobFinished, match="already succeeded"):
        store.cancel(job.id)


def test_a_held_job_is_not_claimed_by_another(store: JobStore, leases: LeaseStore) -> None:
    job = submit(store)
    claim(leases, job)
    assert leases.claim(job.id, "other") is None


def test_a_claim_brings_the_record_though_redis_is_gone_right_after(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    claim(leases, submit(store, "earlier"))  # Redis has the script now
    job = submit(store)
    with gone_after(1, redis_client):
        held = claim(leases, job)
    assert held.token == 1
    assert held.job == store.get(job.id)
    assert held.job.status == "running"


def test_a_renewed_lease_is_kept(quick: JobStore, quick_leases: LeaseStore) -> None:
    job = submit(quick)
    held = claim(quick_leases, job)
    for _ in range(4):
        time.sleep(0.05)
        assert quick_leases.renew(held)
    assert quick_leases.sweep() == []
    assert quick.get(job.id).status == "running"


def test_a_lapsed_job_goes_back_to_its_queue_and_to_another_worker(
    quick: JobStore, quick_leases: LeaseStore, outbox: Outbox
) -> None:
    job = submit(quick)
    claim(quick_leases, job, "lost")
    assert swept(quick_leases) == [job.id]
    assert outbox.sent == [job.id, job.id]
    assert quick.get(job.id).status == "queued"
    assert claim(quick_leases, job, "other").token == 2


def test_a_redelivered_job_is_not_claimed_before_a_sweep_found_its_worker_lost(
    quick: JobStore, quick_leases: LeaseStore
) -> None:
    job = submit(quick)
    claim(quick_leases, job, "lost")
    lapse(quick)
    assert quick_leases.claim(job.id, "other") is None


def test_a_running_job_whose_lease_is_missing_is_queued_again(
    quick: JobStore, quick_leases: LeaseStore, redis_client: redis.Redis
) -> None:
    job = submit(quick)
    claim(quick_leases, job)
    redis_client.delete("tailprune:leases")
    assert swept(quick_leases) == [job.id]


def test_sweeps_at_once_share_out_what_they_find(
    quick: JobStore, quick_leases: LeaseStore, redis_client: redis.Redis, outbox: Outbox
) -> None:
    jobs = [submit(quick, f"key-{n}") for n in range(5)]
    for job in jobs:
        claim(quick_leases, job, "lost")
    workers = [LeaseStore(redis_client, quick.settings, outbox) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = [job_id for ids in pool.map(swept, workers) for job_id in ids]
    assert sorted(found) == sorted(job.id for job in jobs)


def test_a_job_that_lost_its_last_worker_fails_and_says_why(quick: JobStore, quick_leases: LeaseStore) -> None:
    job = submit(quick)
    for attempt in range(quick.settings.max_attempts):
        claim(quick_leases, job, f"lost-{attempt}")
        swept(quick_leases)
    ended = quick.get(job.id)
    assert ended.status == "failed"
    assert ended.problem is not None
    assert ended.problem.type.endswith("worker-lost")
    assert "3 workers were lost" in ended.problem.detail
    assert quick_leases.claim(job.id, "late") is None


def test_a_cancelled_job_whose_worker_is_lost_ends_as_cancelled(quick: JobStore, quick_leases: LeaseStore) -> None:
    job = submit(quick)
    claim(quick_leases, job, "lost")
    quick.cancel(job.id)
    assert quick_leases.claim(job.id, "other") is None
    swept(quick_leases)
    assert quick.get(job.id).status == "cancelled"


def test_a_worker_that_lost_its_job_writes_nothing_more(quick: JobStore, quick_leases: LeaseStore) -> None:
    job = submit(quick)
    old = claim(quick_leases, job, "old")
    swept(quick_leases)
    new = claim(quick_leases, job, "new")
    assert not quick_leases.renew(old)
    quick_leases.report(old, 1, 1, "steps")
    assert not quick_leases.succeed(old, {"from": "old"}, {})
    assert not quick_leases.fail(old, problem("failed", "no"))
    assert quick.get(job.id).progress is None
    assert quick_leases.succeed(new, {"from": "new"}, {})
    assert quick.get(job.id).result == {"from": "new"}


def test_a_result_written_twice_by_its_worker_is_written_once(store: JobStore, leases: LeaseStore) -> None:
    job = submit(store)
    held = claim(leases, job)
    assert leases.succeed(held, {"x": 1}, {})
    assert leases.succeed(held, {"x": 1}, {})
    assert sum(count for name, count in store.telemetry.read().items() if name[0] == "tailprune_jobs") == 1


def test_a_job_whose_message_was_lost_is_sent_again(quick: JobStore, quick_leases: LeaseStore, outbox: Outbox) -> None:
    outbox.gone = True
    with pytest.raises(BrokerUnavailable):
        submit(quick)
    outbox.gone = False
    assert quick_leases.sweep() == []
    time.sleep(quick.settings.requeue_seconds)
    (job_id,) = quick_leases.sweep()
    assert outbox.sent == [job_id]


def test_a_job_whose_message_was_lost_is_sent_again_though_others_wait(
    quick: JobStore, quick_leases: LeaseStore, redis_client: redis.Redis, outbox: Outbox
) -> None:
    lost, waiting = submit(quick, "lost"), submit(quick, "waiting")
    outbox.sent.remove(lost.id)  # so its queue is never empty
    second, _ = redis_client.time()
    long = 10 * quick.settings.requeue_seconds
    redis_client.zadd("tailprune:queued:sampling", {lost.id: second - long - 2, waiting.id: second - long / 2})
    assert quick_leases.sweep() == [lost.id]
    assert outbox.sent == [waiting.id, lost.id]
    assert quick_leases.sweep() == []


def test_what_waits_for_long_is_sent_again_in_portions(
    quick: JobStore, quick_leases: LeaseStore, redis_client: redis.Redis, outbox: Outbox
) -> None:
    jobs = [submit(quick, f"key-{n}").id for n in range(150)]
    redis_client.zadd("tailprune:queued:sampling", dict.fromkeys(jobs, 0))
    assert [len(quick_leases.sweep()), len(quick_leases.sweep()), len(quick_leases.sweep())] == [100, 50, 0]


def test_a_full_broker_loses_no_job_that_is_put_back(
    quick: JobStore, quick_leases: LeaseStore, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(quick)

    def refuse(*_: object) -> None:
        raise redis.OutOfMemoryError("command not allowed")

    held = claim(quick_leases, job)
    monkeypatch.setattr(outbox, "put", refuse)
    assert quick_leases.release(held)
    claim(quick_leases, job, "lost")
    assert swept(quick_leases) == [job.id]
    assert quick.get(job.id).status == "queued"


def test_progress_is_written_at_most_five_times_a_second_and_at_the_end(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    job = submit(store)
    held = claim(leases, job)
    for done in range(1, 101):
        leases.report(held, done, 100, "steps")
    progress = store.get(job.id).progress
    assert progress is not None
    assert progress.done == 100
    assert redis_client.xlen(f"tailprune:job:{job.id}:events") <= 2 + 3


def test_nothing_that_a_job_needs_expires(store: JobStore, leases: LeaseStore, redis_client: redis.Redis) -> None:
    for key in ("done", "running", "queued"):
        submit(store, key)
    done, running, _ = reversed(store.page().jobs)
    leases.succeed(claim(leases, done), {}, {"a.txt": store.artifacts.put(b"hot", "text/plain")})
    claim(leases, running)
    expiring = {key.decode().split(":")[1] for key in redis_client.scan_iter() if redis_client.ttl(key) >= 0}
    assert expiring == {"hot"}


def test_pages_follow_one_another_newest_first(store: JobStore) -> None:
    ids = []
    for n in range(5):
        ids.append(submit(store, f"key-{n}").id)
        time.sleep(0.002)  # ids sort by the millisecond
    first = store.page(limit=2)
    second = store.page(limit=2, cursor=first.next_cursor)
    third = store.page(limit=2, cursor=second.next_cursor)
    assert [job.id for page in (first, second, third) for job in page.jobs] == ids[::-1]
    assert third.next_cursor is None


def test_a_page_that_is_exactly_full_is_the_last(store: JobStore) -> None:
    submit(store)
    assert store.page(limit=1).next_cursor is None


def test_pages_are_filled_with_what_is_looked_for(store: JobStore) -> None:
    cancelled = [submit(store, f"key-{n}").id for n in range(6)][::2]
    for job_id in cancelled:
        store.cancel(job_id)
    assert {job.id for job in store.page(status="cancelled", limit=3).jobs} == set(cancelled)
    assert store.page(kind="metrics").jobs == []
    assert store.page(model="other").jobs == []


def test_the_oldest_finished_jobs_are_deleted_and_leave_nothing(
    settings: Settings, redis_client: redis.Redis, outbox: Outbox
) -> None:
    store = JobStore(redis_client, settings, outbox)
    leases = LeaseStore(redis_client, settings.model_copy(update={"job_history": 2}), outbox)
    ids = []
    for n in range(4):
        job = submit(store, f"key-{n}")
        store.cancel(job.id)
        ids.append(job.id)
    leases.sweep()
    assert {job.id for job in store.page().jobs} == set(ids[2:])
    assert not [key for key in redis_client.scan_iter() if any(gone in key.decode() for gone in ids[:2])]


@pytest.mark.parametrize("refusing", [full, replica])
def test_a_result_waits_for_a_redis_that_takes_no_writes(
    store: JobStore,
    leases: LeaseStore,
    redis_client: redis.Redis,
    refusing: Callable[[redis.Redis], AbstractContextManager[None]],
) -> None:
    job = submit(store)
    held = claim(leases, job)
    with contextlib.ExitStack() as stack:
        stack.enter_context(refusing(redis_client))
        over = threading.Timer(0.5, stack.pop_all().close)
        over.start()
    try:
        assert leases.succeed(held, {"x": 1}, {})
    finally:
        over.join()
    assert store.get(job.id).result == {"x": 1}


def test_a_result_waits_for_a_disk_or_for_replicas(
    store: JobStore, leases: LeaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = claim(leases, submit(store))
    write, failures = (
        leases._scripts["finish"],
        iter(["MISCONF Errors writing to the AOF file", "NOREPLICAS Not enough", None]),
    )

    def finish(**arguments: Any) -> Any:
        if reason := next(failures):
            raise redis.ResponseError(reason)
        return write(**arguments)

    monkeypatch.setitem(leases._scripts, "finish", finish)
    assert leases.succeed(held, {}, {})


def test_a_write_that_is_wrong_is_not_tried_again(
    store: JobStore, leases: LeaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = claim(leases, submit(store))

    def wrong(**_: Any) -> None:
        raise redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")

    monkeypatch.setitem(leases._scripts, "finish", wrong)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        leases.succeed(held, {}, {})


def test_a_lease_is_renewed_though_redis_is_full(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    job = submit(store)
    held = claim(leases, job)
    redis_client.zadd("tailprune:leases", {job.id: 1})
    with full(redis_client):
        assert leases.renew(held)
    assert redis_client.zscore("tailprune:leases", job.id) > time.time()


def test_the_oldest_finished_jobs_are_deleted_though_redis_is_full(
    settings: Settings, redis_client: redis.Redis, outbox: Outbox
) -> None:
    store = JobStore(redis_client, settings, outbox)
    leases = LeaseStore(redis_client, settings.model_copy(update={"job_history": 0}), outbox)
    store.cancel(submit(store).id)
    with full(redis_client):
        leases.sweep()
    assert store.page().jobs == []


def test_a_job_survives_a_restart_of_redis_and_its_worker_finishes_it(
    settings: Settings, own_redis: RedisProcess, outbox: Outbox
) -> None:
    fast = settings.model_copy(update={"redis_url": own_redis.url, "lease_seconds": 1.0})
    with redis.Redis.from_url(own_redis.url) as client:
        store, leases = JobStore(client, fast, outbox), LeaseStore(client, fast, outbox)
        job = submit(store)
        held = claim(leases, job)
        own_redis.stop()
        assert leases.cancelled_of([held]) == []
        leases.report(held, 1, 2, "steps")
        later = threading.Timer(1.2, own_redis.start)
        later.start()
        assert leases.succeed(held, {"x": 1}, {})
        later.join()
        assert store.get(job.id).result == {"x": 1}


def test_a_result_that_is_not_json_is_refused_before_it_is_written(store: JobStore, leases: LeaseStore) -> None:
    job = submit(store)
    held = claim(leases, job)
    with pytest.raises(ValueError, match="not JSON compliant"):
        leases.succeed(held, {"x": float("nan")}, {})
    assert store.get(job.id).status == "running"


def test_a_store_without_all_of_its_scripts_does_not_start(
    settings: Settings, redis_client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lua").mkdir()
    (tmp_path / "lua" / "common.lua").touch()
    monkeypatch.setattr("jobs.store.scripts.files", lambda _: tmp_path)
    with pytest.raises(RuntimeError, match=r"not .*'submit'"):
        JobStore(redis_client, settings)


def positions(store: JobStore, jobs: list[Job]) -> list[int | None]:
    """The places of jobs in their queues, which lists say as looks at single jobs do."""
    listed = {job.id: job.queue_position for job in store.page(limit=200).jobs}
    found = [store.get(job.id).queue_position for job in jobs]
    assert [listed[job.id] for job in jobs] == found
    return found


def test_a_queued_job_has_its_place_in_its_queue(store: JobStore, leases: LeaseStore) -> None:
    jobs = [submit(store, f"key-{n}") for n in range(3)]
    short = store.submit(FigureRequest(model="shapes-sit", figure="cosine"), "short")[0]
    assert [job.queue_position for job in (*jobs, short)] == [1, 2, 3, 1]
    assert positions(store, [*jobs, short]) == [1, 2, 3, 1]
    held = claim(leases, jobs[0])
    store.cancel(jobs[1].id)
    assert positions(store, [*jobs, short]) == [None, None, 1, 1]
    leases.succeed(held, {}, {})
    assert positions(store, [*jobs, short]) == [None, None, 1, 1]


def test_jobs_that_came_back_are_before_those_of_every_queue(store: JobStore, leases: LeaseStore) -> None:
    jobs = [submit(store, f"key-{n}") for n in range(4)]
    short = store.submit(FigureRequest(model="shapes-sit", figure="cosine"), "short")[0]
    second, first = claim(leases, jobs[1]), claim(leases, jobs[3])
    leases.release(first)
    leases.release(second)
    assert positions(store, [*jobs, short]) == [3, 2, 4, 1, 3]


def test_a_job_whose_message_is_sent_again_keeps_its_place(
    quick: JobStore, quick_leases: LeaseStore, redis_client: redis.Redis
) -> None:
    jobs = [submit(quick, f"key-{n}") for n in range(3)]
    second, _ = redis_client.time()
    redis_client.zadd("tailprune:queued:sampling", {jobs[0].id: second - 3600})
    assert quick_leases.sweep() == [jobs[0].id]
    assert positions(quick, jobs) == [1, 2, 3]


def test_jobs_that_an_earlier_version_queued_or_took_have_their_places(
    settings: Settings, redis_client: redis.Redis
) -> None:
    store = JobStore(redis_client, settings)
    jobs = []
    for n in range(3):
        jobs.append(submit(store, f"key-{n}"))
        time.sleep(0.002)  # ids sort by the millisecond
    redis_client.delete("tailprune:order:sampling", "tailprune:order")
    assert positions(JobStore(redis_client, settings), jobs) == [1, 2, 3]
    redis_client.zrem("tailprune:queued:sampling", jobs[0].id)
    redis_client.hset(f"tailprune:job:{jobs[0].id}", "status", "running")
    assert positions(JobStore(redis_client, settings), jobs) == [None, 1, 2]


def test_a_list_has_the_thresholds_at_which_each_job_prunes(store: JobStore, redis_client: redis.Redis) -> None:
    pruned = submit(store)
    kept = store.submit(PruneSampleRequest(model="shapes-sit", keep=[3]), "kept")[0]
    earlier = submit(store, "earlier")
    redis_client.hdel(f"tailprune:job:{earlier.id}", "thresholds")
    found = {job.id: job.thresholds for job in store.page().jobs}
    assert found == {pruned.id: [0.1], kept.id: None, earlier.id: None}
    assert store.get(pruned.id).thresholds == [0.1]


def test_a_finished_job_is_in_no_phase_and_no_time_is_left(store: JobStore, leases: LeaseStore) -> None:
    job = submit(store)
    held = claim(leases, job)
    leases.report(held, 1, 2, "steps", "sampling", 3.5)
    running = store.get(job.id).progress
    assert running is not None
    assert (running.phase, running.eta_seconds) == ("sampling", 3.5)
    leases.cancelled(held)
    assert store.get(job.id).progress == Progress(done=1, total=2, unit="steps")
