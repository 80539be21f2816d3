"""What is collected and what is kept: by what names it, by its age, and within limits."""

from __future__ import annotations

import json
import math
import os
import threading
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from jobs.records import new_id
from jobs.registry.compacted import Compacted, CompactedStore
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact, ArtifactStore, ArtifactsUnavailable
from jobs.storage.retention import Collector
from jobs.storage.shards import ShardStore
from jobs.storage.survey import Names
from jobs.storage.upload_parsing import parse
from jobs.storage.uploads import ConditionStore, UnknownConditions
from jobs.store.jobs import JobStore, UnknownJob
from tests.condition_files import TEXT, VIDEO, arrays, npz

DAY = 86_400.0
AT_ONCE = -5.0
"""A grace by which even a file that was just written is old enough."""


@pytest.fixture(params=["folder", "bucket"])
def settings(request: pytest.FixtureRequest, settings: Settings, redis_url: str) -> Settings:
    """Settings of a store in a folder, and of one in a bucket."""
    if request.param == "folder":
        return settings
    return settings.model_copy(update={"artifacts_url": request.getfixturevalue("s3_url")})


only_in_a_folder = pytest.mark.parametrize("settings", ["folder"], indirect=True)


@pytest.fixture
def artifacts(settings: Settings, redis_client: redis.Redis) -> ArtifactStore:
    return ArtifactStore(settings, redis_client)


@pytest.fixture
def collector(settings: Settings, store: JobStore, redis_client: redis.Redis) -> Callable[..., Collector]:
    """A collector with these limits."""

    def collector(grace: float = AT_ONCE, **limits: str) -> Collector:
        changed = settings.model_copy(update={"collect_grace_seconds": grace, **limits})
        return Collector(changed, redis_client, store)

    return collector


def write_job(
    client: redis.Redis, *files: Artifact, status: str = "succeeded", age: float = 0.0, **fields: str | bytes
) -> str:
    """Write the record of a job as earlier versions did, with its list of files; return its id."""
    job_id, moment = new_id(), f"{time.time() - age:.6f}"
    record: dict[str, Any] = {
        "id": job_id, "kind": "metrics", "key": f"key of {job_id}", "model": "shapes-sit", "status": status,
        "request": "{}", "created": moment, "started": moment,
        **({"finished": moment} if status not in ("queued", "running") else {}),
        **({"artifacts": json.dumps({each.digest: each.model_dump() for each in files})} if files else {}),
        **fields,
    }  # fmt: skip
    client.hset(f"tailprune:job:{job_id}", mapping=record)
    client.zadd("tailprune:jobs", {job_id: 0})
    if "finished" in record:
        client.zadd("tailprune:finished", {job_id: float(record["finished"])})
        client.set(f"tailprune:key:{record['key']}", job_id)
    return job_id


def outcome_of(artifacts: ArtifactStore, *files: Artifact) -> Artifact:
    """Store the document that lists the files of a job."""
    listed = {each.digest: each.model_dump(mode="json") for each in files}
    return artifacts.put(json.dumps({"result": {}, "artifacts": listed}).encode(), "application/json")


def compacted_from(checkpoint: Artifact) -> Compacted:
    return Compacted(
        model="shapes-sit", model_digest="0" * 64, by="directions", fill="mean", components=128, kept=24,
        time_columns=0, created=datetime.now(UTC), parameters=1000, checkpoint=checkpoint,
    )  # fmt: skip


def stored(artifacts: ArtifactStore) -> set[str]:
    """The names of all files but that of the store's id."""
    folders = artifacts.files.folders()
    return {name for folder in folders for name, _ in artifacts.files.files_in(folder)}


def name_of(artifact: Artifact) -> str:
    return f"{artifact.folder}/{artifact.digest[:2]}/{artifact.digest}"


# Named and unnamed


def test_only_files_that_nothing_names_are_deleted(
    collector: Callable[..., Collector], artifacts: ArtifactStore, settings: Settings, redis_client: redis.Redis
) -> None:
    inline, listed, of_shard, of_model, unnamed, old_shard, gone_model = (
        artifacts.put(f"file {number}".encode(), "text/plain", folder)
        for number, folder in enumerate(("results", "results", "shards", "models", "results", "shards", "models"))
    )
    write_job(redis_client, inline)
    outcome = outcome_of(artifacts, listed)
    write_job(redis_client, outcome=outcome.model_dump_json())
    ShardStore(settings, redis_client, artifacts).put("a", b"file 2")
    CompactedStore(redis_client).put("small", compacted_from(of_model))
    conditions = ConditionStore(artifacts, redis_client).put(parse(npz(arrays(VIDEO)), settings))
    report = collector().collect()
    kept = {name_of(each) for each in (inline, listed, outcome, of_shard, of_model)}
    assert stored(artifacts) == kept | {f"uploads/{conditions.id[:2]}/{conditions.id}"}
    deleted = {folder: each.deleted_files for folder, each in report.classes.items()}
    assert deleted == {"results": 1, "shards": 1, "uploads": 0, "models": 1}
    assert report.classes["results"].deleted_bytes == 6
    assert not any(redis_client.exists(f"tailprune:hot:{each.digest}") for each in (unnamed, old_shard, gone_model))


@only_in_a_folder
def test_a_file_without_a_name_is_kept_while_it_is_young(
    collector: Callable[..., Collector], artifacts: ArtifactStore, settings: Settings
) -> None:
    unnamed = artifacts.put(b"content", "text/plain")
    collector(grace=3600).collect()
    assert stored(artifacts) == {name_of(unnamed)}
    make_old(settings, unnamed)
    artifacts.put(b"content", "text/plain")  # put again, as by a job that will name it
    collector(grace=3600).collect()
    assert stored(artifacts) == {name_of(unnamed)}
    make_old(settings, unnamed)
    collector(grace=3600).collect()
    assert stored(artifacts) == set()


@only_in_a_folder
def test_what_a_running_job_may_have_written_is_kept_however_long_it_runs(
    collector: Callable[..., Collector], artifacts: ArtifactStore, settings: Settings, redis_client: redis.Redis
) -> None:
    before, since = artifacts.put(b"before", "text/plain"), artifacts.put(b"since", "text/plain")
    make_old(settings, before, 10 * DAY)
    make_old(settings, since, 2 * DAY)
    job_id = write_job(redis_client, status="running", age=3 * DAY)
    collector(grace=3600).collect()
    assert stored(artifacts) == {name_of(since)}
    redis_client.hset(f"tailprune:job:{job_id}", "status", "failed")
    collector(grace=3600).collect()
    assert stored(artifacts) == set()


@only_in_a_folder
def test_a_file_that_is_put_while_files_are_collected_stays(
    collector: Callable[..., Collector], artifacts: ArtifactStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = artifacts.put(b"kept", "text/plain"), artifacts.put(b"gone", "text/plain")
    for each in (kept, gone):
        make_old(settings, each)
    collecting = collector(grace=3600)
    read_names = collecting._read_names

    def put_meanwhile() -> Any:
        artifacts.put(b"kept", "text/plain")
        return read_names()

    monkeypatch.setattr(collecting, "_read_names", put_meanwhile)
    collecting.collect()
    assert stored(artifacts) == {name_of(kept)}


@only_in_a_folder
def test_a_file_that_is_put_right_as_it_is_deleted_stays(
    collector: Callable[..., Collector], artifacts: ArtifactStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = artifacts.put(b"kept", "text/plain")
    make_old(settings, kept)
    collecting = collector(grace=3600)
    remove = collecting._artifacts.files.remove

    def put_first(*args: Any) -> bool:
        artifacts.put(b"kept", "text/plain")
        return remove(*args)

    monkeypatch.setattr(collecting._artifacts.files, "remove", put_first)
    report = collecting.collect()
    assert report.classes["results"].deleted_files == 0
    assert artifacts.read_range(kept, 0, 4) == b"kept"


def test_the_document_of_a_finished_job_is_read_once(
    collector: Callable[..., Collector], artifacts: ArtifactStore, redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write_job(redis_client, outcome=outcome_of(artifacts).model_dump_json())
    reads: list[Artifact] = []
    read = ArtifactStore.read
    monkeypatch.setattr(ArtifactStore, "read", lambda store, each: [reads.append(each), read(store, each)][1])
    collecting = collector()
    for _ in range(3):
        collecting.collect()
    assert len(reads) == 1


def test_nothing_is_deleted_while_what_names_files_cannot_be_read(
    collector: Callable[..., Collector], artifacts: ArtifactStore, redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write_job(redis_client, outcome=outcome_of(artifacts, artifacts.put(b"named", "text/plain")).model_dump_json())
    artifacts.put(b"unnamed", "text/plain")
    before = stored(artifacts)

    def away(*_: Any) -> bytes:
        raise ArtifactsUnavailable("away")

    monkeypatch.setattr(ArtifactStore, "read", away)
    with pytest.raises(ArtifactsUnavailable):
        collector().collect()
    assert stored(artifacts) == before


@pytest.mark.parametrize("damaged", [{"artifacts": "{"}, {"artifacts": "[3]"}, {"outcome": "{}"}, {"request": b"\xff"}])
def test_a_record_that_cannot_be_read_stops_no_collection(
    collector: Callable[..., Collector], artifacts: ArtifactStore, redis_client: redis.Redis, damaged: dict[str, Any]
) -> None:
    write_job(redis_client, status="queued", **damaged)
    redis_client.set("tailprune:job:not-a-hash", "x")
    redis_client.zadd("tailprune:jobs", {"not-a-hash": 0})
    named = artifacts.put(b"named", "text/plain")
    write_job(redis_client, named)
    artifacts.put(b"unnamed", "text/plain")
    collector().collect()
    assert stored(artifacts) == {name_of(named)}


# Limits


def test_results_over_an_age_go_with_their_jobs(
    collector: Callable[..., Collector], store: JobStore, artifacts: ArtifactStore, redis_client: redis.Redis
) -> None:
    shared, own, recent = (artifacts.put(name, "text/plain") for name in (b"shared", b"own", b"recent"))
    old = write_job(redis_client, shared, own, age=40 * DAY)
    write_job(redis_client, shared, recent, age=20 * DAY)
    failed = write_job(redis_client, status="failed", age=31 * DAY)
    report = collector(keep_days="results=30").collect()
    assert report.jobs == 2
    assert stored(artifacts) == {name_of(shared), name_of(recent)}
    for job_id in (old, failed):
        with pytest.raises(UnknownJob):
            store.get(job_id)
    assert redis_client.zcard("tailprune:jobs") == redis_client.zcard("tailprune:finished") == 1
    assert not redis_client.exists(f"tailprune:key:key of {old}")


def test_of_results_over_a_size_the_oldest_go(
    collector: Callable[..., Collector], artifacts: ArtifactStore, redis_client: redis.Redis
) -> None:
    files = [artifacts.put(bytes([number]) * 100, "text/plain") for number in range(6)]
    for number, each in enumerate(files):
        write_job(redis_client, each, age=(10 - number) * DAY)
    report = collector(keep_bytes="results=350").collect()
    assert report.jobs == 3
    assert stored(artifacts) == {name_of(each) for each in files[3:]}
    assert collector(keep_bytes="results=350").collect().jobs == 0


@only_in_a_folder
def test_a_result_is_kept_for_the_grace_whatever_the_limit(
    collector: Callable[..., Collector], artifacts: ArtifactStore, redis_client: redis.Redis
) -> None:
    write_job(redis_client, artifacts.put(b"x" * 100, "text/plain"), age=60)
    assert collector(grace=3600, keep_bytes="10").collect().jobs == 0
    assert len(stored(artifacts)) == 1


def test_shards_over_a_limit_are_forgotten_the_least_recently_used_first(
    collector: Callable[..., Collector], artifacts: ArtifactStore, settings: Settings, redis_client: redis.Redis
) -> None:
    shards = ShardStore(settings, redis_client, artifacts)
    for number in range(4):
        shards.put(str(number), bytes([number]) * 100)
        redis_client.expire(f"tailprune:shard:{number}", round(settings.shard_ttl_seconds - (4 - number) * DAY))
    assert collector(keep_bytes="shards=250").collect().shards == 2
    assert shards.present(list("0123")) == {"2", "3"}  # which is a use of both
    assert len(stored(artifacts)) == 2
    redis_client.expire("tailprune:shard:2", round(settings.shard_ttl_seconds - 3 * DAY))
    assert collector(keep_days="shards=2").collect().shards == 1
    assert shards.get("2") is None
    assert shards.get("3") == bytes([3]) * 100


def test_uploads_over_a_limit_go_by_their_last_use_but_for_those_that_jobs_need(
    collector: Callable[..., Collector], artifacts: ArtifactStore, settings: Settings, redis_client: redis.Redis
) -> None:
    conditions = ConditionStore(artifacts, redis_client)
    queued, packed, unused = (conditions.put(parse(npz(arrays(VIDEO, count)), settings)).id for count in (1, 2, 3))
    texts = conditions.put(parse(npz(arrays(TEXT, 2)), settings)).id
    request = json.dumps({"conditions": packed, "more": "x" * 3000}).encode()
    redis_client.zadd("tailprune:conditions-used", dict.fromkeys((queued, packed, unused, texts), time.time() - 100))
    collecting = collector(keep_days=f"uploads={50 / DAY}")
    if settings.artifacts_url is None:
        for each in (queued, packed, unused, texts):
            make_old(settings, Artifact(digest=each, media_type="", size=0, folder="uploads"))
    else:  # the times of objects cannot be set
        collecting._days = {"uploads": -50 / DAY}
        redis_client.delete("tailprune:conditions-used")
    write_job(redis_client, status="queued", request=json.dumps({"conditions": queued}))
    write_job(redis_client, status="running", request=zlib.compress(request))
    write_job(redis_client, status="queued", request=json.dumps({"population": texts}))
    report = collecting.collect()
    assert report.classes["uploads"].deleted_files == 1
    assert conditions.has(queued)
    assert conditions.has(packed)
    assert conditions.has(texts)
    with pytest.raises(UnknownConditions):
        conditions.get(unused)


@only_in_a_folder
def test_an_upload_that_is_used_counts_as_young(
    collector: Callable[..., Collector], artifacts: ArtifactStore, settings: Settings, redis_client: redis.Redis
) -> None:
    conditions = ConditionStore(artifacts, redis_client)
    used, unused = (conditions.put(parse(npz(arrays(VIDEO, count)), settings)).id for count in (1, 2))
    for each in (used, unused):
        make_old(settings, Artifact(digest=each, media_type="", size=0, folder="uploads"), 40 * DAY)
        redis_client.zadd("tailprune:conditions-used", {each: time.time() - 40 * DAY})
        redis_client.sadd(f"tailprune:uploaders:{each}", "ana")
    conditions.get(used)
    collector(grace=3600, keep_days="30").collect()
    assert conditions.has(used)
    assert not conditions.has(unused)
    assert redis_client.keys("tailprune:uploaders:*") == [f"tailprune:uploaders:{used}".encode()]


def test_without_limits_nothing_that_is_named_goes(
    collector: Callable[..., Collector], artifacts: ArtifactStore, redis_client: redis.Redis
) -> None:
    named = artifacts.put(b"named", "text/plain")
    write_job(redis_client, named, age=10_000 * DAY)
    report = collector().collect()
    assert (report.jobs, report.classes["results"].deleted_files) == (0, 0)
    assert artifacts.has_all([named])


def test_a_dry_run_says_what_would_be_deleted_and_deletes_nothing(
    collector: Callable[..., Collector], artifacts: ArtifactStore, settings: Settings, redis_client: redis.Redis
) -> None:
    old, recent, unnamed = (artifacts.put(name, "text/plain") for name in (b"old", b"recent", b"unnamed"))
    write_job(redis_client, old, age=40 * DAY)
    write_job(redis_client, recent, age=DAY)
    ShardStore(settings, redis_client, artifacts).put("a", b"shard")
    before = stored(artifacts)
    planned = collector(keep_days="results=30").collect(dry_run=True)
    assert stored(artifacts) == before
    results = planned.classes["results"]
    assert (results.files, results.named_files, results.bytes, results.named_bytes) == (3, 2, 16, 9)
    assert (planned.jobs, results.deleted_files, results.deleted_bytes) == (1, 2, 10)
    done = collector(keep_days="results=30").collect()
    assert done == planned
    assert stored(artifacts) < before
    assert unnamed not in artifacts.present([unnamed])


# Files of earlier versions


def test_files_of_earlier_versions_move_to_the_folders_of_their_classes(
    collector: Callable[..., Collector], artifacts: ArtifactStore, settings: Settings, redis_client: redis.Redis
) -> None:
    result, shard = (artifacts.put(name, "text/plain") for name in (b"result", b"shard"))
    made = parse(npz(arrays(VIDEO)), settings)
    for each in (result, shard):
        artifacts.discard(each)
        artifacts.files.write(f"{each.digest[:2]}/{each.digest}", b"result" if each == result else b"shard")
    artifacts.files.write(f"{made.id[:2]}/{made.id}", made.content)
    artifacts.write_id("the store")
    write_job(redis_client, artifacts=json.dumps({"x": result.model_dump(exclude={"folder"})}))
    redis_client.set("tailprune:shard:a", shard.model_dump_json(exclude={"folder"}), ex=100)
    assert collector().collect(dry_run=True).unsorted == 3
    collector().collect()
    assert stored(artifacts) == {name_of(result), name_of(shard), f"uploads/{made.id[:2]}/{made.id}"}
    assert artifacts.read(result) == b"result"
    assert ShardStore(settings, redis_client, artifacts).get("a") == b"shard"
    assert ConditionStore(artifacts, redis_client).read(made.id) == made.content
    assert artifacts.read_id() == "the store"


@only_in_a_folder
def test_files_are_read_while_several_processes_move_them(
    collector: Callable[..., Collector], settings: Settings, redis_client: redis.Redis
) -> None:
    artifacts = ArtifactStore(settings.model_copy(update={"hot_artifact_bytes": 0}), redis_client)
    files = [artifacts.put(os.urandom(20), "text/plain") for _ in range(100)]
    write_job(redis_client, *files)
    for each in files:
        path = Path(settings.artifacts, each.digest[:2], each.digest)
        path.parent.mkdir(exist_ok=True)
        Path(settings.artifacts, name_of(each)).rename(path)
    moving = [threading.Thread(target=collector().collect) for _ in range(2)]
    for thread in moving:
        thread.start()
    while any(thread.is_alive() for thread in moving):
        for each in files:
            assert len(artifacts.read(each)) == 20
    assert stored(artifacts) == {name_of(each) for each in files}


@only_in_a_folder
def test_a_file_of_an_earlier_version_does_not_replace_one_that_was_written_since(
    collector: Callable[..., Collector], artifacts: ArtifactStore, redis_client: redis.Redis
) -> None:
    named = artifacts.put(b"named", "text/plain")
    write_job(redis_client, named)
    artifacts.files.write(f"{named.digest[:2]}/{named.digest}", b"damaged")
    collector().collect()
    assert artifacts.read_range(named, 0, 5) == b"named"
    assert stored(artifacts) == {name_of(named)}


# Leftovers


@only_in_a_folder
def test_what_was_left_by_processes_that_were_killed_is_deleted_after_a_day(
    collector: Callable[..., Collector], artifacts: ArtifactStore, settings: Settings, redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    checkpoint = artifacts.put(b"checkpoint", "application/octet-stream", "models")
    CompactedStore(redis_client).put("small", compacted_from(checkpoint))
    left = [
        Path(settings.artifacts, "incoming", "0" * 32),
        settings.data_dir / "compacted" / "tmpabc" / "model.safetensors",
        settings.data_dir / "compacted" / ("1" * 64) / "model.safetensors",
        settings.data_dir / "compacted" / checkpoint.digest / "0.model.safetensors",
    ]
    used = settings.data_dir / "compacted" / checkpoint.digest / "model.safetensors"
    note = settings.data_dir / "digests" / ("2" * 64)
    for path in (*left, used, note):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    collector().collect()
    assert all(path.exists() for path in left)
    later = time.time() + 2 * DAY
    monkeypatch.setattr("jobs.storage.retention.time.time", lambda: later)
    report = collector().collect()
    assert report.leftovers == 4
    assert not any(path.exists() for path in left)
    assert used.exists()
    assert note.exists()
    later += 40 * DAY
    collector().collect()
    assert used.exists()
    assert not note.exists()


# When


def test_one_process_collects_at_a_time_and_once_in_a_period(
    collector: Callable[..., Collector], artifacts: ArtifactStore, redis_client: redis.Redis
) -> None:
    artifacts.put(b"unnamed", "text/plain")
    with redis_client.lock("tailprune:collecting", timeout=30):
        collector().collect_if_due()
        assert len(stored(artifacts)) == 1
    collector().collect_if_due()
    assert stored(artifacts) == set()
    artifacts.put(b"unnamed", "text/plain")
    collector().collect_if_due()
    assert len(stored(artifacts)) == 1
    redis_client.delete("tailprune:collected")
    collector().collect_if_due()
    assert stored(artifacts) == set()


@only_in_a_folder
def test_a_collection_ends_where_its_process_stops(
    collector: Callable[..., Collector], artifacts: ArtifactStore
) -> None:
    artifacts.put(b"unnamed", "text/plain")
    collecting = collector()
    collecting.stop()
    collecting.collect()
    assert len(stored(artifacts)) == 1


def make_old(settings: Settings, artifact: Artifact, age: float = 30 * DAY) -> None:
    """Set the time of a file in a folder to a while ago."""
    moment = time.time() - age
    os.utime(Path(settings.artifacts, name_of(artifact)), (moment, moment))


def test_names_are_found_by_the_latest_use_among_many() -> None:
    names = Names()
    names.add(np.array([3, 7], np.uint64), 10.0)
    names.add(np.array([7, 2**64 - 1], np.uint64), 20.0)
    names.add(np.array([3], np.uint64), 5.0)
    times = names.times_of(np.array([0, 3, 7, 8, 2**64 - 1], np.uint64))
    assert times.tolist() == [-math.inf, 10.0, 20.0, -math.inf, 20.0]
