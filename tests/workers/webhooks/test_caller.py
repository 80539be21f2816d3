"""The caller: what is due is called, what fails is tried again, and a host that hangs holds up no other."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

import pytest
import redis

from jobs.queue import BrokerUnavailable, JobQueue
from jobs.records import Job, JobSummary, WebhookView
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.subscriber import Webhook
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import LeaseStore
from jobs.webhooks.hosts import Address
from tests.workers.webhooks.receiver import Received, Receiver, receiver
from workers.webhooks.caller import MOST_OF_A_HOST, Caller

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Outbox(JobQueue):
    """A queue that keeps the calls that it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.gone = False

    def call(self, call_id: str, attempts: int) -> None:
        if self.gone:
            raise BrokerUnavailable("gone")
        self.calls.append((call_id, attempts))


class Bench:
    """A caller with a store, whose messages a test hands over itself."""

    def __init__(self, settings: Settings, client: redis.Redis, **changes: Any) -> None:
        defaults = {"webhook_secret": SECRET, "webhook_retry_seconds": "100,1000"}
        settings = settings.model_copy(update={**defaults, **changes})
        self.client = client
        self.queue = Outbox()
        self.store, self.leases = JobStore(client, settings, SilentQueue()), LeaseStore(client, settings)
        self.names: dict[str, str] = {}
        self.caller = Caller(settings, client, self.queue, self._resolve)

    def _resolve(self, host: str, port: int) -> list[Address]:
        return [ip_address(self.names.get(host, "127.0.0.1"))]

    def done(self, url: str, key: str = "key") -> Job:
        """A job that has succeeded, with a webhook."""
        request = PruneSampleRequest(model="shapes-sit", threshold=[0.1])
        job, _ = self.store.submit(request, key, webhook=Webhook(url, ("succeeded",)))
        if (claim := self.leases.claim(job.id, "worker")) is not None:
            assert self.leases.succeed(claim, {"seconds": {}}, {})
        return job

    def work(self) -> None:
        """Make all calls that are due, one after the other."""
        self.caller.send_due()
        while self.queue.calls:
            self.caller.make(*self.queue.calls.pop(0))

    def pass_time(self) -> None:
        """All pending calls are due, as if time had passed."""
        for call in self.client.zrange("tailprune:webhooks", 0, -1):
            self.client.zadd("tailprune:webhooks", {call: 0})

    def shown(self, job: Job) -> WebhookView:
        """How the call of a job stands."""
        (view,) = self.store.get(job.id).webhooks
        return view

    def pause(self) -> float:
        """In how many seconds the only pending call is due."""
        ((_, due),) = self.client.zrange("tailprune:webhooks", 0, -1, withscores=True)
        seconds, microseconds = self.client.time()
        return float(due) - seconds - microseconds / 1e6


class SilentQueue(JobQueue):
    """A queue of jobs that goes nowhere."""

    def __init__(self) -> None: ...

    def put(self, job_id: str, queue: Any) -> None: ...


@pytest.fixture
def there() -> Iterator[Receiver]:
    """A receiver."""
    with receiver() as running:
        yield running


@pytest.fixture
def bench(settings: Settings, redis_client: redis.Redis, there: Receiver) -> Bench:
    """A caller that may call the receiver, by its address and by the name `receiver`."""
    hosts = f"http://127.0.0.1:{there.port}, private:http://receiver:{there.port}, http://public:{there.port}"
    return Bench(settings, redis_client, webhook_hosts=hosts)


def statuses(*answers: tuple[int, dict[str, str]]) -> Callable[[Received], tuple[int, dict[str, str]]]:
    """These answers in turn, the last for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def test_a_call_has_the_job_as_lists_show_it_and_a_signature(bench: Bench, there: Receiver) -> None:
    job = bench.done(f"{there.url}/hook?token=secret")
    bench.work()
    (request,) = there.received
    content = request.content
    assert request.path == "/hook?token=secret"
    assert request.headers["content-type"] == "application/json"
    assert content.keys() == {"event", "job", "time", "delivery"}
    assert (content["event"], content["delivery"]) == ("succeeded", request.headers["webhook-id"])
    summary = JobSummary.model_validate(content["job"])
    assert (summary.id, summary.status, summary.links.self) == (job.id, "succeeded", f"/jobs/{job.id}")
    assert content["time"].endswith("Z")
    assert len(request.body) < 2000
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    digest = hmac.new(bytes(range(32)), signed, hashlib.sha256).digest()
    assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    view = bench.shown(job)
    assert (view.state, view.attempts, view.last_status, view.next_attempt) == ("delivered", 1, 204, None)


def test_a_failed_call_is_tried_again_after_growing_pauses_with_the_same_id(bench: Bench, there: Receiver) -> None:
    there.answer = statuses((500, {}), (503, {}), (200, {}))
    job = bench.done(there.url)
    bench.work()
    assert 80 <= bench.pause() <= 120
    assert bench.shown(job).last_status == 500
    bench.work()
    assert len(there.received) == 1, "it is not due"
    bench.pass_time()
    bench.work()
    assert 800 <= bench.pause() <= 1200
    bench.pass_time()
    bench.work()
    assert bench.shown(job).state == "delivered"
    assert len({request.headers["webhook-id"] for request in there.received}) == 1
    assert len({request.body for request in there.received}) == 1
    assert [request.content["event"] for request in there.received] == ["succeeded"] * 3


def test_after_the_last_try_a_call_has_failed(bench: Bench, there: Receiver) -> None:
    there.answer = statuses((500, {}))
    job = bench.done(there.url)
    for _ in range(5):
        bench.work()
        bench.pass_time()
    view = bench.shown(job)
    assert (view.state, view.attempts, view.last_fault) == ("failed", 3, "the answer was 500")
    assert len(there.received) == 3
    counted = {
        name: value for name, value in bench.store.telemetry.read().items() if name[0].startswith("tailprune_web")
    }
    assert counted["tailprune_webhook_calls", "succeeded", "failed"] == 1
    assert counted["tailprune_webhook_seconds", "5xx", "sum"] > 0


def test_a_receiver_that_is_gone_is_not_called_again(bench: Bench, there: Receiver) -> None:
    there.answer = statuses((410, {}))
    job = bench.done(there.url)
    bench.work()
    assert bench.shown(job).state == "failed"
    assert bench.store.pending_webhooks() == 0


@pytest.mark.parametrize(
    ("asked", "least", "most"), [("3000", 2900, 3000), ("1", 80, 120), ("9999999", 21_000, 21_600)]
)
def test_a_receiver_may_ask_to_be_left_alone_for_a_while(
    bench: Bench, there: Receiver, asked: str, least: float, most: float
) -> None:
    there.answer = statuses((429, {"Retry-After": asked}))
    bench.done(there.url)
    bench.work()
    assert least <= bench.pause() <= most


def test_a_dead_receiver_is_tried_again(bench: Bench, there: Receiver) -> None:
    bench.names["receiver"] = "127.0.0.9"
    job = bench.done(f"http://receiver:{there.port}/")
    bench.work()
    assert bench.shown(job).last_fault == "no connection: connection refused"
    bench.names["receiver"] = "127.0.0.1"
    bench.pass_time()
    bench.work()
    assert bench.shown(job).state == "delivered"


def test_a_name_that_became_private_is_not_called(bench: Bench, there: Receiver) -> None:
    job = bench.done(f"http://public:{there.port}/")
    bench.work()
    assert "has a private address" in (bench.shown(job).last_fault or "")
    assert there.received == []


def test_a_host_that_is_no_longer_named_is_not_called(
    bench: Bench, there: Receiver, settings: Settings, redis_client: redis.Redis
) -> None:
    job = bench.done(there.url)
    narrowed = Bench(settings, redis_client, webhook_hosts="hooks.example.com")
    narrowed.work()
    assert "not among the hosts" in (narrowed.shown(job).last_fault or "")
    assert there.received == []


def test_a_host_that_hangs_holds_up_no_other(bench: Bench, there: Receiver) -> None:
    over, begun = threading.Event(), threading.Semaphore(0)

    def answer(request: Received) -> tuple[int, dict[str, str]]:
        if request.headers["host"].startswith("receiver"):
            begun.release()
            over.wait(30)
        return 204, {}

    there.answer = answer
    hanging = [bench.done(f"http://receiver:{there.port}/{number}", f"hanging {number}") for number in range(12)]
    good = bench.done(there.url, "good")
    bench.caller.send_due()
    with ThreadPoolExecutor(MOST_OF_A_HOST + 1) as threads:
        try:
            tries = [threads.submit(bench.caller.make, *call) for call in bench.queue.calls]
            for _ in range(MOST_OF_A_HOST):
                assert begun.acquire(timeout=10)
            tries[-1].result(timeout=10)
            assert bench.shown(good).state == "delivered"
            assert sorted(bench.shown(job).attempts for job in hanging) == [0] * 8 + [1] * MOST_OF_A_HOST
        finally:
            over.set()


def test_what_is_due_waits_while_the_broker_does_not_answer(bench: Bench, there: Receiver) -> None:
    job = bench.done(there.url)
    bench.queue.gone = True
    bench.caller.send_due()
    bench.queue.gone = False
    bench.pass_time()
    bench.work()
    assert bench.shown(job).state == "delivered"


def test_a_call_whose_tries_all_ended_with_their_process_ends(bench: Bench, there: Receiver) -> None:
    job = bench.done(there.url)
    for _ in range(3):
        bench.caller.send_due()
        call, attempts = bench.queue.calls.pop()
        bench.caller._store.begin(call, attempts, 20)
        bench.pass_time()
    bench.work()
    view = bench.shown(job)
    assert (view.state, view.last_fault, there.received) == ("failed", "each try ended with its process", [])


def test_no_query_and_no_secret_is_logged(
    bench: Bench, there: Receiver, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    there.answer = statuses((500, {}), (200, {}))
    bench.done(f"{there.url}/hook?token=hidden")
    bench.work()
    bench.pass_time()
    bench.work()
    assert len(there.received) == 2
    logged = caplog.text + "".join(capsys.readouterr())
    assert "hidden" not in logged
    assert SECRET not in logged


def test_what_calls_webhooks_needs_no_torch_and_serves_their_queue_alone(run_python: Callable[[str], str]) -> None:
    code = "import sys; from workers.webhooks.app import app; print([*app.amqp.queues], 'torch' in sys.modules)"
    assert run_python(code) == "['webhooks'] False\n"
