"""What bounds the queues, the jobs and their records."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from jobs.problems import problem
from jobs.requests.metrics import MetricsRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.study import StudyRequest
from jobs.settings import Settings
from jobs.store.jobs import JobStore, JobUnfinished, TooManyJobs, UnknownJob
from jobs.store.leases import LeaseStore
from tailprune.spec.prune import PruneSpec, Schedule
from tests.jobs.store.test_jobs import REQUEST, Outbox, claim, submit

RECORDS = 10_000
MEMORY_BYTES = 256 * 2**20


@pytest.fixture
def small(settings: Settings, redis_client: redis.Redis) -> JobStore:
    """A store in which four jobs may wait, three of them of one owner."""
    limits = {"max_queued_jobs": 4, "max_queued_share": 0.75}
    return JobStore(redis_client, settings.model_copy(update=limits), Outbox())


def test_no_more_jobs_wait_than_may_however_many_ask_at_once(small: JobStore) -> None:
    together = threading.Barrier(20)

    def ask(n: int) -> bool:
        together.wait()
        try:
            return bool(small.submit(REQUEST, f"key-{n}"))
        except TooManyJobs:
            return False

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(ask, range(20))) == 4
    assert small.under_way() == (4, 0)


def test_full_queues_still_answer_what_is_there_and_take_more_once_a_job_has_left(
    small: JobStore, leases: LeaseStore
) -> None:
    jobs = [submit(small, f"key-{n}") for n in range(4)]
    with pytest.raises(TooManyJobs, match="4 jobs are waiting"):
        submit(small, "one more")
    assert small.submit(REQUEST, "key-0")[1] == "joined"
    small.cancel(jobs[0].id)
    submit(small, "one more")
    claim(leases, jobs[1])
    submit(small, "and another")
    leases.succeed(claim(leases, jobs[2]), {}, {})
    assert small.submit(REQUEST, "key-2")[1] == "cached"


def test_one_owner_has_no_more_than_its_share_of_the_queues(small: JobStore, leases: LeaseStore) -> None:
    jobs = [small.submit(REQUEST, f"key-{n}", owner="198.51.100.7")[0] for n in range(3)]
    with pytest.raises(TooManyJobs, match="as many of your jobs"):
        small.submit(REQUEST, "one more", owner="198.51.100.7")
    small.submit(REQUEST, "of another", owner="198.51.100.8")
    held = claim(leases, jobs[0])
    small.submit(REQUEST, "one more", owner="198.51.100.7")
    leases.release(held)  # it waits again, and counts again
    small.cancel(jobs[1].id)
    with pytest.raises(TooManyJobs):
        small.submit(REQUEST, "too many", owner="198.51.100.7")


def test_jobs_of_statistics_push_out_nothing_else(
    settings: Settings, redis_client: redis.Redis, store: JobStore
) -> None:
    fewer = settings.model_copy(update={"job_history": 2, "statistics_history": 3})
    leases = LeaseStore(redis_client, fewer, Outbox())
    made = [submit(store, f"key-{n}").id for n in range(2)]
    asked = [store.submit(MetricsRequest(model="shapes-sit"), f"metrics-{n}")[0].id for n in range(5)]
    for job_id in made + asked:
        store.cancel(job_id)
    leases.sweep()
    assert {job.id for job in store.page().jobs} == {*made, *asked[2:]}


def test_a_finished_job_is_deleted_with_all_that_names_it(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    job = submit(store)
    with pytest.raises(JobUnfinished, match="cancel it first"):
        store.purge(job.id)
    held = claim(leases, job)
    with pytest.raises(JobUnfinished):
        store.purge(job.id)
    leases.succeed(held, {}, {})
    store.purge(job.id)
    left = [key.decode() for key in redis_client.scan_iter() if redis_client.type(key) in (b"zset", b"set")]
    assert left == []
    assert not [key for key in redis_client.scan_iter() if job.id in key.decode() or key == b"tailprune:key:key"]
    for look in (store.get, store.purge):
        with pytest.raises(UnknownJob):
            look(job.id)
    assert submit(store).id != job.id


def test_a_list_asks_redis_as_little_among_many_jobs_as_among_few(store: JobStore, redis_client: redis.Redis) -> None:
    def commands() -> int:
        stats = redis_client.info("commandstats")
        return sum(entry["calls"] for name, entry in stats.items() if name not in ("cmdstat_info", "cmdstat_zcard"))

    def asked() -> int:
        before = commands()
        assert store.page(status="failed").jobs == []
        assert store.page(kind="metrics", status="queued").jobs == []
        return commands() - before

    submit(store)
    asked()
    few = asked()
    for n in range(200):
        submit(store, f"key-{n}")
    assert asked() == few


def test_a_next_cursor_leads_to_a_page_with_jobs(store: JobStore) -> None:
    ids = []
    for n in range(6):
        ids.append(submit(store, f"key-{n}").id)
        time.sleep(0.002)
    for job_id in ids[3:5]:
        store.cancel(job_id)
    page = store.page(status="cancelled", limit=2)
    assert ([job.id for job in page.jobs], page.next_cursor) == (ids[4:2:-1], None)
    first = store.page(status="cancelled", limit=1)
    assert [job.id for job in store.page(status="cancelled", limit=1, cursor=first.next_cursor).jobs] == [ids[3]]


@pytest.mark.slow
def test_ten_thousand_finished_jobs_at_the_limits_fit_in_a_quarter_of_a_gibibyte(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    numbers = random.Random(0)

    def schedule() -> Schedule:
        return Schedule("last", numbers.randrange(1, 1000))

    def request(n: int) -> PruneSampleRequest | StudyRequest:
        seed, thresholds = numbers.randrange(2**63), [numbers.random() for _ in range(64)]
        if n % 2:
            labels = numbers.sample(range(1000), 256)
            return PruneSampleRequest(
                model="shapes-sit", threshold=thresholds[:16], labels=labels, seed=seed, schedule=schedule()
            )
        prunes = [PruneSpec(threshold=value, schedule=schedule()).resolved() for value in thresholds]
        labels = numbers.sample(range(4096), 4096)
        return StudyRequest(model="shapes-sit", prunes=prunes, labels=labels, seed=seed)

    def used() -> int:
        hot = sum(redis_client.memory_usage(key) or 0 for key in redis_client.scan_iter("tailprune:hot:*"))
        return int(redis_client.info("memory")["used_memory"]) - hot  # hot copies are evicted where memory is short

    count = 300
    before = used()
    for n in range(count):
        job, _ = store.submit(request(n), f"{n:064}", idempotency_key=f"{n}", fingerprint="f" * 64, owner="192.0.2.7")
        held = claim(leases, job)
        for done in range(60):
            held.reported = -1.0
            leases.report(held, done, 100_000, "samples")
        if n % 10 == 9:
            leases.fail(held, problem("failed", "why " * 100))
        else:
            leases.succeed(held, {"n": n}, {})
    assert (used() - before) / count * RECORDS < MEMORY_BYTES
