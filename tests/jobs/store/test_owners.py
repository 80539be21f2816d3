"""Whose a job is: those who asked for it, each of whom takes only the own part back."""

from __future__ import annotations

import pytest
import redis

from jobs.requests.prune_sample import PruneSampleRequest
from jobs.settings import Settings
from jobs.store.jobs import IdempotencyConflict, JobOfOthers, JobStore, TooManyJobs
from jobs.store.leases import LeaseStore

REQUEST = PruneSampleRequest(model="shapes-sit", threshold=[0.1])


def asked(store: JobStore, owner: str, key: str = "key", **options: str) -> str:
    """The id of the job that an owner asks for."""
    return store.submit(REQUEST, key, owner=owner, **options)[0].id


def cancelled(store: JobStore, job_id: str, owner: str) -> str:
    """The status of a job once an owner has cancelled it."""
    job, goes_on = store.withdraw(job_id, owner)
    assert goes_on == (job.status != "cancelled")
    return job.status


def test_a_job_is_cancelled_once_all_who_asked_for_it_have_cancelled_it(store: JobStore) -> None:
    job_id = asked(store, "ana")
    assert asked(store, "bob") == asked(store, "ana") == job_id
    assert cancelled(store, job_id, "ana") == "queued"
    with pytest.raises(JobOfOthers):
        store.withdraw(job_id, "ana")
    assert cancelled(store, job_id, "bob") == "cancelled"


def test_whoever_cancelled_may_ask_again(store: JobStore) -> None:
    job_id = asked(store, "ana")
    asked(store, "bob")
    store.withdraw(job_id, "ana")
    assert asked(store, "ana") == job_id
    assert cancelled(store, job_id, "bob") == "queued"
    assert cancelled(store, job_id, "ana") == "cancelled"


def test_who_did_not_ask_cancels_nothing_and_nobody_in_particular_cancels_for_all(store: JobStore) -> None:
    job_id = asked(store, "ana")
    asked(store, "bob")
    with pytest.raises(JobOfOthers):
        store.withdraw(job_id, "carol")
    assert store.cancel(job_id).status == "cancelled"


def test_a_job_of_nobody_is_no_key_s(store: JobStore) -> None:
    job_id = asked(store, "")
    with pytest.raises(JobOfOthers):
        store.withdraw(job_id, "ana")


def test_a_running_job_goes_on_for_others(store: JobStore, leases: LeaseStore) -> None:
    job_id = asked(store, "ana")
    asked(store, "bob")
    claim = leases.claim(job_id, "worker")
    assert claim is not None
    assert cancelled(store, job_id, "ana") == "running"
    assert leases.cancelled_of([claim]) == []
    store.withdraw(job_id, "bob")
    assert leases.cancelled_of([claim]) == [claim]


def test_the_share_of_the_queues_goes_over_to_those_who_still_want_the_job(
    settings: Settings, redis_client: redis.Redis
) -> None:
    small = JobStore(redis_client, settings.model_copy(update={"max_queued_jobs": 4, "max_queued_share": 0.25}))
    job_id = asked(small, "ana")
    assert asked(small, "bob") == job_id
    with pytest.raises(TooManyJobs):
        asked(small, "ana", "another")
    small.withdraw(job_id, "ana")
    asked(small, "ana", "another")
    with pytest.raises(TooManyJobs):
        asked(small, "bob", "a third")
    small.withdraw(job_id, "bob")
    asked(small, "bob", "a third")


def test_an_idempotency_key_is_its_owner_s(store: JobStore) -> None:
    first = asked(store, "ana", "one", idempotency_key="mine", fingerprint="1")
    assert asked(store, "bob", "two", idempotency_key="mine", fingerprint="2") != first
    assert asked(store, "ana", "one", idempotency_key="mine", fingerprint="1") == first
    with pytest.raises(IdempotencyConflict):
        asked(store, "ana", "two", idempotency_key="mine", fingerprint="2")
    store.withdraw(first, "ana")
    assert asked(store, "ana", "one", idempotency_key="mine", fingerprint="1") == first, "whatever its status"


def test_a_damaged_list_of_those_who_asked_is_none(store: JobStore, redis_client: redis.Redis) -> None:
    job_id = asked(store, "ana")
    redis_client.hset(f"tailprune:job:{job_id}", "askers", "{no json")
    with pytest.raises(JobOfOthers):
        store.withdraw(job_id, "ana")
    asked(store, "ana")
    assert cancelled(store, job_id, "ana") == "cancelled"
