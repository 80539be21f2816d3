"""Webhooks with Redis, workers and service as processes: signed, tried again, and never lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.documents.examples import blocks_of
from tests.end_to_end.stack import Stack, eventually, running
from tests.test_house import ROOT
from tests.tiny_model import NAME
from tests.workers.webhooks.receiver import Received, Receiver, receiver

ALL = ["started", "succeeded", "failed", "cancelled"]


@pytest.fixture(scope="module")
def there() -> Iterator[Receiver]:
    """A receiver that outlives the stack."""
    with receiver() as running_:
        yield running_


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, there: Receiver) -> Iterator[Stack]:
    """Redis, a worker, the service and a caller, which may call the receiver, and names that it does not have."""
    hosts = f"http://127.0.0.1:{there.port}, http://localhost:{there.port}"
    settings = {"TAILPRUNE_WEBHOOK_HOSTS": hosts, "TAILPRUNE_WEBHOOK_RETRY_SECONDS": "0.2,0.2,0.4,0.4,0.8,0.8,1.6,1.6"}
    with running(tmp_path_factory.mktemp("webhooks"), **settings) as stack:
        stack.start_caller()
        yield stack


@pytest.fixture(autouse=True)
def friendly(there: Receiver) -> None:
    """The receiver takes everything, until a test has it do otherwise, and has heard nothing."""
    there.answer = lambda _: (204, {})
    there.received.clear()


def receive(secret: str, headers: dict[str, str], body: bytes) -> Any:
    """The content of a call, by the receiver that the documentation shows."""
    (block,) = [block for block in blocks_of(ROOT / "docs" / "webhooks.md") if block.language == "python"]
    names: dict[str, Any] = {}
    exec(block.text, names)
    return names["verified"](secret, headers, body)


def secret_of(stack: Stack) -> str:
    """What the caller of a stack signs with."""
    return (stack.folder / "data" / "webhook.secret").read_text().strip()


def view(stack: Stack, job: dict[str, Any], event: str = "succeeded") -> dict[str, Any]:
    """How the call for an event of a job stands."""
    (found,) = [each for each in stack.job(job["id"])["webhooks"] if each["event"] == event]
    return dict(found)


def delivered(stack: Stack, job: dict[str, Any], event: str = "succeeded", seconds: float = 30.0) -> None:
    """Returns when a call was delivered."""
    eventually(lambda: view(stack, job, event)["state"] == "delivered", f"{event} is delivered", seconds)


def test_a_job_tells_that_it_started_and_how_it_ended(stack: Stack, there: Receiver) -> None:
    job = stack.post(seed=1, webhook=f"{there.url}/a?token=0f1e2d3c", webhook_events=ALL).json()
    stack.finished(job["id"])
    delivered(stack, job)
    assert there.events("/a") == ["started", "succeeded"]
    for request in there.received:
        assert receive(secret_of(stack), request.headers, request.body) == request.content
        with pytest.raises(ValueError, match="not that of the service"):
            receive(secret_of(stack), request.headers, request.body + b" ")
        with pytest.raises(ValueError, match="not that of the service"):
            receive("whsec_" + "A" * 32, request.headers, request.body)
    content = there.received[-1].content
    assert content["job"].keys() == httpx.get(f"{stack.url}/jobs", trust_env=False).json()["jobs"][0].keys()
    assert content["job"]["links"]["self"] == f"/jobs/{job['id']}"
    shown = stack.http.get(f"/jobs/{job['id']}").text
    assert "0f1e2d3c" not in shown
    assert "0f1e2d3c" not in "".join(child.text for child in (stack.service, *stack.workers, *stack.callers) if child)


def test_equal_requests_are_one_job_and_each_is_told(stack: Stack, there: Receiver) -> None:
    first = stack.post(seed=2, webhook=f"{there.url}/b1").json()
    second = stack.post(seed=2, webhook=f"{there.url}/b2").json()
    plain = stack.post(wait=60, seed=2).json()
    assert first["id"] == second["id"] == plain["id"]
    eventually(lambda: there.events("/b1") == there.events("/b2") == ["succeeded"], "both are told")
    late = stack.post(seed=2, webhook=f"{there.url}/b3").json()
    assert late["status"] == "succeeded"
    eventually(lambda: there.events("/b3") == ["succeeded"], "who comes late is told")


def test_errors_of_the_receiver_are_followed_by_another_try(stack: Stack, there: Receiver) -> None:
    answers = [(500, {}), (302, {"Location": f"{there.url}/elsewhere"}), (503, {"Retry-After": "1"}), (200, {})]
    there.answer = lambda _: answers.pop(0)
    job = stack.post(seed=3, webhook=f"{there.url}/c").json()
    delivered(stack, job)
    assert view(stack, job)["attempts"] == 4
    assert [request.path for request in there.received] == ["/c"] * 4
    assert len({request.headers["webhook-id"] for request in there.received}) == 1


def test_a_name_that_resolves_to_this_machine_is_not_called(stack: Stack, there: Receiver) -> None:
    job = stack.post(seed=4, webhook=f"http://localhost:{there.port}/d").json()
    eventually(lambda: view(stack, job)["state"] == "failed", "it fails for good")
    assert "localhost has a private address" in view(stack, job)["last_fault"]
    assert there.received == []


def test_a_receiver_that_hangs_holds_up_neither_jobs_nor_others(stack: Stack, there: Receiver) -> None:
    over = threading.Event()

    def answer(request: Received) -> tuple[int, dict[str, str]]:
        if request.path == "/hanging":
            over.wait(60)
        return 204, {}

    there.answer = answer
    try:
        stack.post(wait=60, seed=5, webhook=f"{there.url}/hanging")
        eventually(lambda: there.events("/hanging") == ["succeeded"], "it is called, and hangs")
        other = stack.post(wait=60, seed=6, webhook=f"{there.url}/e").json()
        assert other["status"] == "succeeded"
        delivered(stack, other)
    finally:
        over.set()


def test_hosts_that_are_not_named_are_refused_with_what_to_do(stack: Stack) -> None:
    answer = stack.http.post(
        "/prune-sample", json={"model": NAME, "threshold": 0.5, "webhook": "https://evil.org/?x=y"}
    )
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["location"] == "body.webhook"
    assert "TAILPRUNE_WEBHOOK_HOSTS" in fault["message"]


def test_calls_are_counted(stack: Stack) -> None:
    series = stack.series()
    assert series['tailprune_webhook_calls_total{event="succeeded",outcome="delivered"}'] >= 5
    assert series['tailprune_webhook_calls_total{event="succeeded",outcome="failed"}'] >= 1
    assert series['tailprune_webhook_seconds_count{answer="2xx"}'] >= 5
    eventually(lambda: stack.series()["tailprune_webhook_callers"] == 1, "the caller is counted")
    assert "tailprune_webhooks_pending" in series


def test_no_call_is_lost_where_processes_are_killed(stack: Stack, there: Receiver) -> None:
    """The worker dies as soon as the outcome is written, the caller in the middle of a call, and Redis restarts."""
    (caller,) = stack.callers
    caller.kill()
    stack.callers.clear()
    job = stack.post(wait=60, seed=7, webhook=f"{there.url}/f", webhook_events=ALL).json()
    (worker,) = stack.workers
    worker.kill()
    stack.workers.clear()
    assert view(stack, job)["state"] == "pending"
    stack.redis.stop()
    stack.redis.start()
    eventually(stack.is_ready, "the service has Redis again")

    over, begun = threading.Event(), threading.Event()

    def hang(_: Received) -> tuple[int, dict[str, str]]:
        begun.set()
        over.wait(60)
        return 500, {}

    there.answer = hang
    caller = stack.start_caller()
    assert begun.wait(30)
    caller.kill()
    over.set()
    stack.callers.clear()
    there.answer = lambda _: (204, {})
    stack.start_caller()
    delivered(stack, job, seconds=60)
    delivered(stack, job, "started")
    ids = {request.headers["webhook-id"] for request in there.received if request.path == "/f"}
    assert len(ids) == 2


def test_without_the_setting_webhooks_are_off(stack: Stack, tmp_path: Path) -> None:
    with stack.another_service(TAILPRUNE_WEBHOOK_HOSTS="") as url:
        body = {"model": NAME, "threshold": 0.5, "webhook": "https://hooks.example.com/"}
        answer = httpx.post(f"{url}/prune-sample", json=body, trust_env=False)
        assert answer.status_code == 422
        assert "webhooks are off" in answer.json()["errors"][0]["message"]
