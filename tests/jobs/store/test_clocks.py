"""The clock of Redis may be set at any time, by an hour: no job is lost by it, and none that is lost stays so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from jobs.settings import Settings
from jobs.store.heartbeats import WorkerRegistry
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from jobs.views import WorkerInfo
from tests.jobs.store.test_jobs import REQUEST, Outbox, claim, submit
from tests.redis_process import RedisProcess
from tests.service.server import eventually

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
JUMPS = {"10 minutes back": -600, "an hour back": -3600, "an hour forward": 3600}
LEASE = 1.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed (the package faketime of Debian)"),
]


class Clock:
    """The clock of a server that runs under libfaketime."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: int) -> None:
        """Sets it by so many seconds from the true time."""
        self._file.write_text(f"{seconds:+d}\n")
        time.sleep(0.2)  # the server looks at its clock ten times a second


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def client(processes: None, clock: Clock, tmp_path: Path) -> Iterator[redis.Redis]:
    (tmp_path / "redis").mkdir()
    server = RedisProcess(tmp_path / "redis", clock.environment)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        yield client
    server.kill()  # libfaketime can hang a server that shuts down


@pytest.fixture
def store(settings: Settings, client: redis.Redis) -> JobStore:
    fast = settings.model_copy(update={"lease_seconds": LEASE, "requeue_seconds": 0.5})
    return JobStore(client, fast, Outbox())


@pytest.fixture
def leases(store: JobStore, client: redis.Redis) -> LeaseStore:
    return LeaseStore(client, store.settings, Outbox())


def sweeps(leases: LeaseStore, seconds: float) -> list[str]:
    """What sweeps find in so many seconds."""
    found, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        found += leases.sweep()
        time.sleep(0.1)
    return found


def found_by_sweeps(leases: LeaseStore) -> list[str]:
    """What the first sweep finds that finds something, and the one after it."""
    found: list[str] = []

    def look() -> bool:
        found.extend(leases.sweep())
        return bool(found)

    eventually(look, "a sweep finds something")
    return found + leases.sweep()


class Holder:
    """A worker that renews its lease until it is lost."""

    def __init__(self, leases: LeaseStore, held: Claim) -> None:
        self._leases, self._held = leases, held
        self._is_lost = threading.Event()
        self._thread = threading.Thread(target=self._renew)
        self._thread.start()

    def _renew(self) -> None:
        while not self._is_lost.wait(LEASE / 4):
            assert self._leases.renew(self._held)

    def kill(self) -> None:
        self._is_lost.set()
        self._thread.join()


def test_the_clock_of_the_server_is_set_and_the_others_are_not(clock: Clock, client: redis.Redis) -> None:
    before, _ = client.time()
    clock.set(-3600)
    after, _ = client.time()
    assert -3605 < after - before < -3590


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_job_keeps_its_worker_though_the_clock_is_set(
    store: JobStore, leases: LeaseStore, clock: Clock, jump: int
) -> None:
    job = submit(store)
    held = claim(leases, job)
    holder = Holder(leases, held)
    try:
        assert sweeps(leases, LEASE) == []
        clock.set(jump)
        assert sweeps(leases, 3 * LEASE) == []
    finally:
        holder.kill()
    assert leases.succeed(held, {"x": 1}, {})


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
@pytest.mark.parametrize("order", ["the clock is set first", "the worker is lost first"])
def test_a_lost_job_is_found_though_the_clock_is_set(
    store: JobStore, leases: LeaseStore, clock: Clock, jump: int, order: str
) -> None:
    job = submit(store)
    holder = Holder(leases, claim(leases, job))
    sweeps(leases, LEASE / 2)
    if order == "the clock is set first":
        clock.set(jump)
        sweeps(leases, LEASE)
        holder.kill()
    else:
        holder.kill()
        clock.set(jump)
    assert found_by_sweeps(leases) == [job.id]
    assert store.get(job.id).status == "queued"


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_job_whose_message_was_lost_is_sent_again_though_the_clock_is_set(
    store: JobStore, leases: LeaseStore, clock: Clock, jump: int
) -> None:
    job = submit(store)
    clock.set(jump)
    assert found_by_sweeps(leases) == [job.id]


def test_the_job_that_finished_last_is_deleted_last_though_the_clock_was_set_back(
    store: JobStore, client: redis.Redis, clock: Clock
) -> None:
    jobs = [submit(store, f"key-{n}").id for n in range(3)]
    store.cancel(jobs[0])
    store.cancel(jobs[1])
    clock.set(-3600)
    store.cancel(jobs[2])
    LeaseStore(client, store.settings.model_copy(update={"job_history": 1}), Outbox()).sweep()
    assert [job.id for job in store.page().jobs] == [jobs[2]]


def test_a_cancelled_job_ends_though_its_worker_was_lost_and_the_clock_set_back(
    store: JobStore, leases: LeaseStore, clock: Clock
) -> None:
    job = submit(store)
    claim(leases, job)
    store.cancel(job.id)
    clock.set(-3600)

    def is_finished() -> bool:
        leases.sweep()
        return store.get(job.id).is_finished

    eventually(is_finished, "it ends")
    assert store.get(job.id).status == "cancelled"


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_workers_that_beat_are_alive_and_others_are_not_though_the_clock_is_set(
    client: redis.Redis, clock: Clock, jump: int
) -> None:
    workers = WorkerRegistry(client, 2)
    here, gone = WorkerInfo(name="here", device="cpu"), WorkerInfo(name="gone", device="cpu")
    workers.beat(here)
    workers.beat(gone)
    clock.set(jump)
    workers.beat(here)
    assert workers.alive() == [here]


def test_a_repeated_request_finds_its_job_though_the_clock_is_set(store: JobStore, clock: Clock) -> None:
    job, _ = store.submit(REQUEST, "key", idempotency_key="mine", fingerprint="f")
    store.cancel(job.id)
    for jump in JUMPS.values():
        clock.set(jump)
        assert store.submit(REQUEST, "key", idempotency_key="mine", fingerprint="f")[0].id == job.id


def test_a_job_that_started_before_it_was_made_by_the_clock_waited_for_no_time(
    store: JobStore, leases: LeaseStore, clock: Clock
) -> None:
    job = submit(store)
    clock.set(-3600)
    assert claim(leases, job).job.queue_seconds == 0.0
