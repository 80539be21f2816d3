"""Jobs that can share a batch: which they are, and where those that wait are found."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from jobs.batching import Share, share_of
from jobs.records import Job
from jobs.registry.digests import Identity
from jobs.registry.models import Registry
from jobs.requests.metrics import MetricsRequest
from jobs.requests.prune_sample import PruneSampleRequest
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from jobs.store.leases import Claim, LeaseStore
from tests.jobs.store.test_jobs import REQUEST, Outbox, claim, gone_after, swept

GROUP = "shared"
IDENTITY = Identity("weights", {"num_heads": 2})


def share(settings: Settings, rows: int = 64, identity: Identity = IDENTITY, **body: Any) -> Share | None:
    """That of a request for this model."""
    entry = Registry.read(settings.registry).get("shapes-sit")
    asked = PruneSampleRequest.model_validate({"model": "shapes-sit", "threshold": 0.1, "labels": [0]} | body)
    return share_of(asked.resolve(entry, settings), identity, rows)


@pytest.mark.parametrize(
    "own",
    [
        {"labels": [5, 6]},
        {"seed": 7},
        {"samples_per_label": 3},
        {"threshold": [0.2, 0.3], "side": "head"},
        {"schedule": {"when": "last", "count": 2}},
        {"threshold": None, "keep": 8},
        {"compare": False},
    ],
)
def test_jobs_that_differ_in_this_share_a_batch(settings: Settings, own: dict[str, Any]) -> None:
    one, other = share(settings), share(settings, **own)
    assert one is not None
    assert other is not None
    assert one.group == other.group


@pytest.mark.parametrize(
    "other",
    [
        {"sampler": "heun"},
        {"steps": 7},
        {"guidance_scale": 1.5},
        {"guidance_interval": [0.1, 0.5]},
        {"guidance_power": 2},
        {"guided_channels": 1},
        {"timestep_shift": 0.5},
        {"precision": "bfloat16"},
        {"identity": Identity("other weights", {"num_heads": 2})},
        {"identity": Identity("weights", {"num_heads": 4})},
    ],
)
def test_jobs_that_differ_in_this_share_no_batch(settings: Settings, other: dict[str, Any]) -> None:
    one, apart = share(settings), share(settings, **other)
    assert one is not None
    assert apart is not None
    assert one.group != apart.group


def test_the_form_of_an_sde_keeps_jobs_apart(settings: Settings) -> None:
    forms: list[dict[str, Any]] = [{}, {"diffusion": "linear"}, {"last_step": "tweedie"}]
    assert len({share(settings, sampler="sde", **form) for form in forms}) == 3


def test_jobs_of_the_same_conditions_share_a_batch() -> None:
    groups = []
    for conditions, row in (("a" * 64, 0), ("a" * 64, 1), ("b" * 64, 0)):
        asked = PruneSampleRequest(model="x-mdpt-s-256", threshold=[0.1], conditions=conditions, rows=[row])
        found = share_of(asked, IDENTITY, 64)
        assert found is not None
        groups.append(found.group)
    assert groups[0] == groups[1] != groups[2]


def test_the_rows_of_a_job_are_its_samples_under_all_variants(settings: Settings) -> None:
    found = share(settings, labels=[0, 1], samples_per_label=3, threshold=[0.1, 0.2])
    assert found is not None
    assert found.rows == 2 * 3 * 3
    alone = share(settings, compare=False)
    assert alone is not None
    assert alone.rows == 1


def test_a_job_without_prunes_has_the_rows_of_its_baseline() -> None:
    found = share_of(PruneSampleRequest(model="compacted", labels=[0, 1]), IDENTITY, 64)
    assert found is not None
    assert found.rows == 2


def test_a_job_that_fills_a_batch_goes_by_itself(settings: Settings) -> None:
    assert share(settings, rows=2) is None
    assert share(settings, rows=3) is not None


def test_samples_with_steps_of_their_own_go_by_themselves(settings: Settings) -> None:
    assert share(settings, sampler="dopri5") is None


def test_jobs_that_make_no_samples_share_nothing(settings: Settings) -> None:
    entry = Registry.read(settings.registry).get("shapes-sit")
    assert share_of(MetricsRequest(model="shapes-sit").resolve(entry, settings), IDENTITY, 64) is None


# What waits


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def store(settings: Settings, redis_client: redis.Redis, outbox: Outbox) -> JobStore:
    """A store whose leases lapse soon unless renewed."""
    while redis_client.info("server")["uptime_in_seconds"] == 0:
        time.sleep(0.05)  # a server that just came up is given time before leases are swept
    return JobStore(redis_client, settings.model_copy(update={"lease_seconds": 0.3}), outbox)


@pytest.fixture
def leases(store: JobStore, redis_client: redis.Redis, outbox: Outbox) -> LeaseStore:
    """The same jobs, for whoever does them."""
    return LeaseStore(redis_client, store.settings, outbox)


def submit(store: JobStore, key: str, rows: int = 2, group: str = GROUP) -> Job:
    job, _ = store.submit(REQUEST, key, share=Share(group, rows))
    time.sleep(0.002)  # ids sort by the millisecond
    return job


def several(store: JobStore, count: int) -> list[Job]:
    return [submit(store, f"key-{n}") for n in range(count)]


def waiting(client: redis.Redis) -> set[str]:
    """The jobs that can be found by those that they could share a batch with."""
    return {member.decode() for member in client.zrange(f"tailprune:group:{GROUP}", 0, -1)}


def ids(claims: list[Claim]) -> list[str]:
    return [claim.job.id for claim in claims]


def test_a_held_job_brings_those_that_can_share_its_batch(store: JobStore, leases: LeaseStore) -> None:
    first, *others = several(store, 4)
    submit(store, "apart", group="other")
    store.submit(REQUEST, "alone")
    held = claim(leases, first)
    companions = leases.claim_companions(held, 64, 1)
    assert ids(companions) == [job.id for job in others]
    assert {store.get(job.id).status for job in (first, *others)} == {"running"}
    assert [(each.worker, each.token) for each in companions] == [("worker", 1)] * 3
    assert all(leases.claim(job.id, "late") is None for job in others)
    assert leases.claim_companions(held, 64, 1) == []


def test_the_oldest_that_fit_come_first(store: JobStore, leases: LeaseStore) -> None:
    first = submit(store, "first", rows=4)
    large, small, smaller, last = (submit(store, f"key-{rows}", rows) for rows in (7, 3, 2, 1))
    assert ids(leases.claim_companions(claim(leases, first), 10, 1)) == [small.id, smaller.id, last.id]
    assert store.get(large.id).status == "queued"


def test_what_waits_is_shared_out_among_the_workers(store: JobStore, leases: LeaseStore) -> None:
    jobs = several(store, 9)
    taken = []
    for worker in ("one", "two", "three"):
        left = [job for job in jobs if store.get(job.id).status == "queued"]
        taken.append(1 + len(leases.claim_companions(claim(leases, left[0], worker), 64, 3)))
    assert taken == [3, 2, 2]


def test_a_job_that_shares_nothing_brings_none(store: JobStore, leases: LeaseStore) -> None:
    several(store, 2)
    alone, _ = store.submit(REQUEST, "alone")
    assert leases.claim_companions(claim(leases, alone), 64, 1) == []


@pytest.mark.parametrize("end", ["claimed", "cancelled"])
def test_a_job_that_no_longer_waits_is_no_longer_found(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis, end: str
) -> None:
    first, other = several(store, 2)
    assert waiting(redis_client) == {first.id, other.id}
    if end == "claimed":
        claim(leases, other)
    else:
        store.cancel(other.id)
    assert waiting(redis_client) == {first.id}


def test_a_job_handed_back_can_share_a_batch_again(store: JobStore, leases: LeaseStore) -> None:
    first, other = several(store, 2)
    held = claim(leases, first)
    (companion,) = leases.claim_companions(held, 64, 1)
    assert leases.release(held)
    assert leases.release(companion)
    again = claim(leases, other, "another")
    assert ids(leases.claim_companions(again, 64, 1)) == [first.id]


def test_jobs_share_a_batch_again_after_one_lost_worker_and_go_by_themselves_after_two(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis, outbox: Outbox
) -> None:
    first, other = several(store, 2)
    for worker in ("lost", "lost too"):
        assert ids(leases.claim_companions(claim(leases, first, worker), 64, 1)) == [other.id]
        del outbox.sent[:]
        assert sorted(swept(leases)) == sorted(outbox.sent) == sorted([first.id, other.id])
    assert waiting(redis_client) == set()
    several_new = [submit(store, f"new-{n}") for n in range(2)]
    assert leases.claim_companions(claim(leases, first, "another"), 64, 1) == []
    assert ids(leases.claim_companions(claim(leases, several_new[0]), 64, 1)) == [several_new[1].id]


def test_without_redis_no_companions_are_found(
    store: JobStore, leases: LeaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = several(store, 2)
    held = claim(leases, first)

    def gone(**_: object) -> None:
        raise redis.ConnectionError("gone")

    monkeypatch.setitem(leases._scripts, "companions", gone)
    assert leases.claim_companions(held, 64, 1) == []


def test_companions_claimed_before_redis_went_are_kept(
    store: JobStore, leases: LeaseStore, redis_client: redis.Redis
) -> None:
    leases.claim_companions(claim(leases, submit(store, "earlier", group="other")), 64, 1)  # Redis has the scripts now
    first, *others = several(store, 4)
    held = claim(leases, first)
    with gone_after(1 + 2, redis_client):  # the search and two claims
        companions = leases.claim_companions(held, 64, 1)
    assert ids(companions) == [job.id for job in others[:2]]
    assert [store.get(job.id).status for job in others] == ["running", "running", "queued"]
