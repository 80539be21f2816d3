"""The calls of webhooks in the store: none is lost, none is made twice without need, and a job shows how they stand."""

from __future__ import annotations

import pytest
import redis

from jobs.problems import InvalidRequest, problem
from jobs.records import Job, JobWebhook
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.requests.subscriber import Webhook, WebhookEvent
from jobs.store import jobs as jobs_store
from jobs.store.jobs import JobStore, TooManyJobs
from jobs.store.leases import Claim, LeaseStore
from jobs.store.webhooks import MOST_WEBHOOKS, Call, WebhookStore

URL = "https://hooks.example.com/tailprune?token=secret"
END: tuple[WebhookEvent, ...] = ("succeeded", "failed", "cancelled")
LAPSE, LONGEST = 20.0, 3600.0


@pytest.fixture
def calls(redis_client: redis.Redis) -> WebhookStore:
    """The calls on the emptied test server."""
    return WebhookStore(redis_client)


def submit(
    store: JobStore, url: str = URL, *, events: tuple[WebhookEvent, ...] = END, key: str = "key", owner: str = ""
) -> Job:
    request = PruneSampleRequest(model="shapes-sit", threshold=[0.1])
    return store.submit(request, key, owner=owner, webhook=Webhook(url, events))[0]


def claimed(leases: LeaseStore, job: Job) -> Claim:
    claim = leases.claim(job.id, "worker")
    assert claim is not None
    return claim


def finish(leases: LeaseStore, job: Job) -> None:
    assert leases.succeed(claimed(leases, job), {"seconds": {}}, {})


def begun(calls: WebhookStore) -> list[Call]:
    """The calls that are due, each with a try begun."""
    found = [calls.begin(call, attempts, LAPSE) for call, attempts in calls.due(LAPSE, LONGEST)]
    return [call for call in found if call is not None]


def shown(store: JobStore, job: Job) -> list[JobWebhook]:
    return store.get(job.id).webhooks


def make_due(redis_client: redis.Redis) -> None:
    """All pending calls are due now, as if time had passed."""
    for call in redis_client.zrange("tailprune:webhooks", 0, -1):
        redis_client.zadd("tailprune:webhooks", {call: 0})


def test_a_job_that_ends_has_its_webhook_called_once(store: JobStore, leases: LeaseStore, calls: WebhookStore) -> None:
    job = submit(store)
    assert begun(calls) == []
    finish(leases, job)
    (call,) = begun(calls)
    assert (call.url, call.event, call.job_id, call.attempts) == (URL, "succeeded", job.id, 1)
    assert (call.job.id, call.job.status, call.job.title) == (job.id, "succeeded", job.title)
    assert begun(calls) == []


@pytest.mark.parametrize("end", ["failed", "cancelled", "cancelled in the queue"])
def test_every_end_of_a_job_is_told(store: JobStore, leases: LeaseStore, calls: WebhookStore, end: str) -> None:
    job = submit(store)
    if end == "failed":
        leases.fail(claimed(leases, job), problem("failed", "the samples diverged"))
    elif end == "cancelled":
        leases.cancelled(claimed(leases, job))
    else:
        store.cancel(job.id)
    (call,) = begun(calls)
    assert call.event == call.job.status == end.split()[0]
    assert (call.job.problem is not None) == (end == "failed")


def test_only_events_that_were_asked_for_are_told(store: JobStore, leases: LeaseStore, calls: WebhookStore) -> None:
    finish(leases, submit(store, events=("failed",)))
    assert begun(calls) == []
    assert calls.pending() == 0


def test_a_start_is_told_once_however_often_the_job_starts(
    store: JobStore, leases: LeaseStore, calls: WebhookStore
) -> None:
    job = submit(store, events=("started",))
    leases.release(claimed(leases, job))
    leases.release(claimed(leases, job))
    assert [call.event for call in begun(calls)] == ["started"]


def test_the_end_waits_until_the_start_was_tried(
    store: JobStore, leases: LeaseStore, calls: WebhookStore, redis_client: redis.Redis
) -> None:
    finish(leases, submit(store, events=("started", "succeeded")))
    (start,) = begun(calls)
    assert start.event == "started"
    make_due(redis_client)
    assert [call.event for call in begun(calls)] == ["started"], "its first try is still under way"
    calls.settle(start.id, 2, "again", pause=3000)
    make_due(redis_client)
    assert {call.event for call in begun(calls)} == {"started", "succeeded"}


def test_equal_requests_share_the_job_and_each_webhook_is_called(
    store: JobStore, leases: LeaseStore, calls: WebhookStore
) -> None:
    job = submit(store, "https://one.example.com/")
    assert submit(store, "https://two.example.com/").id == job.id
    finish(leases, job)
    assert {call.url for call in begun(calls)} == {"https://one.example.com/", "https://two.example.com/"}
    assert len({call.id for call in begun(calls)}) == 0


def test_the_same_webhook_twice_is_one_with_the_events_of_both(
    store: JobStore, leases: LeaseStore, calls: WebhookStore
) -> None:
    job = submit(store, events=("started",))
    submit(store, events=("succeeded",))
    finish(leases, job)
    assert [view.event for view in shown(store, job)] == ["started", "succeeded"]
    assert calls.pending() == 2


def test_the_same_url_of_two_owners_is_a_webhook_of_each(
    store: JobStore, leases: LeaseStore, calls: WebhookStore
) -> None:
    job = submit(store, events=("started",), owner="ana")
    submit(store, events=("succeeded",), owner="bob")
    assert {(view.owner, view.event) for view in shown(store, job)} == {("ana", "started"), ("bob", "succeeded")}
    finish(leases, job)
    assert calls.pending() == 2


def test_of_the_webhooks_of_a_job_each_owner_sees_the_own(store: JobStore) -> None:
    submit(store, "https://ana.example.com/", owner="ana")
    job = store.get(submit(store, "https://bob.example.com/", owner="bob").id)
    assert {view["url"] for view in job.public(viewer="ana")["webhooks"]} == {"https://ana.example.com/"}
    assert job.public(viewer="carol")["webhooks"] == []
    assert len(job.public()["webhooks"]) == 2 * len(END)
    assert "owner" not in job.public()["webhooks"][0]


def test_who_leaves_a_job_that_goes_on_for_others_is_not_called_for_it(
    store: JobStore, leases: LeaseStore, calls: WebhookStore
) -> None:
    job = submit(store, "https://ana.example.com/", owner="ana")
    submit(store, "https://bob.example.com/", owner="bob")
    left, goes_on = store.withdraw(job.id, "ana")
    assert goes_on
    assert {view.owner for view in left.webhooks} == {"bob"}
    finish(leases, job)
    assert [call.url for call in begun(calls)] == ["https://bob.example.com/"]


def test_what_happened_before_an_owner_left_is_still_told(
    store: JobStore, leases: LeaseStore, calls: WebhookStore, redis_client: redis.Redis
) -> None:
    job = submit(store, events=("started", "succeeded"), owner="ana")
    submit(store, "https://bob.example.com/", owner="bob")
    claim = claimed(leases, job)
    store.withdraw(job.id, "ana")
    (start,) = begun(calls)
    assert (start.url, start.event) == (URL, "started")
    calls.settle(start.id, start.attempts, "delivered", status=204)
    assert redis_client.keys("tailprune:webhook:*") == []
    assert leases.succeed(claim, {"seconds": {}}, {})
    assert [call.url for call in begun(calls)] == ["https://bob.example.com/"]


def test_who_left_and_asks_again_is_called_again(store: JobStore, leases: LeaseStore, calls: WebhookStore) -> None:
    job = submit(store, owner="ana")
    submit(store, "https://bob.example.com/", owner="bob")
    store.withdraw(job.id, "ana")
    submit(store, owner="ana")
    finish(leases, job)
    assert {call.url for call in begun(calls)} == {URL, "https://bob.example.com/"}


def test_the_last_who_leaves_is_told_that_the_job_was_cancelled(store: JobStore, calls: WebhookStore) -> None:
    job = submit(store, "https://ana.example.com/", owner="ana")
    submit(store, "https://bob.example.com/", owner="bob")
    store.withdraw(job.id, "ana")
    store.withdraw(job.id, "bob")
    assert [(call.url, call.event) for call in begun(calls)] == [("https://bob.example.com/", "cancelled")]


def test_a_job_that_is_done_is_told_at_once(store: JobStore, leases: LeaseStore, calls: WebhookStore) -> None:
    job = submit(store, "https://one.example.com/")
    finish(leases, job)
    begun(calls)
    assert submit(store, "https://two.example.com/").id == job.id
    (call,) = begun(calls)
    assert (call.url, call.event) == ("https://two.example.com/", "succeeded")


def test_a_job_that_runs_tells_who_comes_late_that_it_started(
    store: JobStore, leases: LeaseStore, calls: WebhookStore
) -> None:
    job = submit(store, "https://one.example.com/")
    claimed(leases, job)
    submit(store, "https://two.example.com/", events=("started",))
    assert [call.url for call in begun(calls)] == ["https://two.example.com/"]


def test_who_asks_again_for_a_job_that_is_done_is_called_again_under_another_id(
    store: JobStore, leases: LeaseStore, calls: WebhookStore
) -> None:
    job = submit(store)
    finish(leases, job)
    (first,) = begun(calls)
    submit(store)
    assert begun(calls) == [], "the first call is still pending, and will tell"
    calls.settle(first.id, first.attempts, "delivered", status=204)
    submit(store)
    (second,) = begun(calls)
    assert (second.url, second.event) == (first.url, first.event)
    assert second.id != first.id
    assert [view.state for view in shown(store, job)] == ["pending"]


def test_no_more_than_so_many_webhooks_wait_for_a_job(store: JobStore) -> None:
    job = submit(store, "https://0.example.com/")
    for number in range(1, MOST_WEBHOOKS):
        submit(store, f"https://{number}.example.com/")
    with pytest.raises(InvalidRequest, match=f"{MOST_WEBHOOKS} webhooks wait to hear of job {job.id}"):
        submit(store, "https://late.example.com/")
    submit(store, "https://0.example.com/", events=("started",))


def test_webhooks_of_a_finished_job_that_were_called_make_room(
    store: JobStore, leases: LeaseStore, calls: WebhookStore, redis_client: redis.Redis
) -> None:
    finish(leases, submit(store))
    for number in range(2 * MOST_WEBHOOKS):
        submit(store, f"https://{number}.example.com/")
        for call in begun(calls):
            calls.settle(call.id, call.attempts, "delivered", status=200)
    assert calls.pending() == 0
    assert len(redis_client.keys("tailprune:webhook:*")) == MOST_WEBHOOKS


def test_a_try_that_is_not_heard_of_is_due_again_and_late_messages_do_nothing(
    store: JobStore, leases: LeaseStore, calls: WebhookStore, redis_client: redis.Redis
) -> None:
    finish(leases, submit(store))
    (message,) = calls.due(LAPSE, LONGEST)
    first = calls.begin(*message, LAPSE)
    assert first is not None
    assert calls.begin(*message, LAPSE) is None, "a message that came twice"
    make_due(redis_client)
    (second,) = begun(calls)
    assert (second.id, second.attempts) == (first.id, 2)
    assert not calls.settle(first.id, first.attempts, "delivered", status=200)
    assert calls.settle(second.id, second.attempts, "delivered", status=200)
    assert not calls.settle(second.id, second.attempts, "failed"), "it is over"


def test_a_job_shows_its_webhooks_without_their_queries(
    store: JobStore, leases: LeaseStore, calls: WebhookStore
) -> None:
    job = submit(store, events=("started", "succeeded"))
    states = [(view.event, view.state, view.attempts, view.next_attempt) for view in shown(store, job)]
    assert states == [("started", "waiting", 0, None), ("succeeded", "waiting", 0, None)]
    finish(leases, job)
    (call,) = begun(calls)
    calls.settle(call.id, call.attempts, "again", pause=60, status=503, fault="the answer was 503")
    started, succeeded = shown(store, job)
    assert (started.state, started.attempts, started.last_status) == ("pending", 1, 503)
    assert started.last_fault == "the answer was 503"
    assert started.next_attempt is not None
    assert succeeded.state == "pending"
    assert "secret" not in str(store.get(job.id).public())
    assert "webhook" not in store.get(job.id).request


def test_a_try_that_was_not_made_does_not_count(store: JobStore, leases: LeaseStore, calls: WebhookStore) -> None:
    job = submit(store)
    finish(leases, job)
    (call,) = begun(calls)
    calls.settle(call.id, call.attempts, "busy", pause=1)
    assert [view.attempts for view in shown(store, job)] == [0]


def test_calls_of_a_deleted_job_are_still_made_and_then_nothing_is_left(
    store: JobStore, leases: LeaseStore, calls: WebhookStore, redis_client: redis.Redis
) -> None:
    job = submit(store, events=("started", "succeeded"))
    finish(leases, job)
    (start,) = begun(calls)
    calls.settle(start.id, start.attempts, "delivered", status=200)
    store.purge(job.id)
    make_due(redis_client)
    (call,) = begun(calls)
    assert (call.event, call.job.id) == ("succeeded", job.id)
    calls.settle(call.id, call.attempts, "failed", status=410)
    assert redis_client.keys("tailprune:webhook*") == []
    assert redis_client.keys("tailprune:job:*:webhooks") == []


def test_a_clock_that_was_set_back_delays_no_call(
    store: JobStore, leases: LeaseStore, calls: WebhookStore, redis_client: redis.Redis
) -> None:
    finish(leases, submit(store))
    (message,) = calls.due(LAPSE, LONGEST)
    redis_client.zadd("tailprune:webhooks", {message[0]: 1e11})
    assert calls.due(LAPSE, LONGEST) == [message]


def test_a_damaged_record_of_a_call_ends_it_alone(
    store: JobStore, leases: LeaseStore, calls: WebhookStore, redis_client: redis.Redis
) -> None:
    jobs = [submit(store, key=key) for key in ("a", "b", "c")]
    for job in jobs:
        finish(leases, job)
    first, second, _ = redis_client.zrange("tailprune:webhooks", 0, -1)
    redis_client.hset(b"tailprune:webhook:" + first, "head", "{")
    redis_client.delete(b"tailprune:webhook:" + second)
    assert len(begun(calls)) == 1
    assert calls.pending() == 1


def test_webhooks_of_a_record_that_is_no_hash_stop_nothing(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    job = submit(store)
    redis_client.set(f"tailprune:job:{job.id}:webhooks", "damaged")
    finish(leases, job)
    assert store.page().jobs[0].status == "succeeded"


def test_a_job_of_an_idempotency_key_tells_even_that_it_failed(
    store: JobStore, leases: LeaseStore, calls: WebhookStore
) -> None:
    request = PruneSampleRequest(model="shapes-sit", threshold=[0.1])
    job, _ = store.submit(request, "key", idempotency_key="mine")
    leases.fail(claimed(leases, job), problem("failed", "the samples diverged"))
    store.submit(request, "key", idempotency_key="mine", webhook=Webhook(URL, END))
    assert [(call.job_id, call.event) for call in begun(calls)] == [(job.id, "failed")]


def test_no_more_webhooks_are_taken_while_very_many_calls_are_pending(
    store: JobStore, leases: LeaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_store, "MOST_PENDING", 2)
    for key in ("a", "b"):
        finish(leases, submit(store, key=key))
    with pytest.raises(TooManyJobs, match="2 calls of webhooks wait for receivers"):
        submit(store, key="c")
    request = PruneSampleRequest(model="shapes-sit", threshold=[0.1])
    assert store.submit(request, "c")[1] == "created", "one without a webhook is taken"


def test_a_call_that_ended_no_longer_holds_its_url(
    store: JobStore, leases: LeaseStore, calls: WebhookStore, redis_client: redis.Redis
) -> None:
    finish(leases, submit(store))
    (call,) = begun(calls)
    calls.settle(call.id, call.attempts, "delivered", status=200)
    assert not {b"url", b"head"} & redis_client.hgetall(f"tailprune:webhook:{call.id}").keys()
