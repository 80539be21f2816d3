"""Shards: found by key while they are whole, and checked whenever they are used."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import redis

from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore
from jobs.storage.shards import ShardStore


@pytest.fixture
def shards(settings: Settings, redis_client: redis.Redis) -> ShardStore:
    settings = settings.model_copy(update={"hot_artifact_bytes": 0})
    return ShardStore(settings, redis_client, ArtifactStore(settings, redis_client))


def file_of(content: bytes, settings: Settings) -> Path:
    return next(Path(settings.artifacts, "shards").rglob(hashlib.sha256(content).hexdigest()))


def test_a_shard_is_found_by_its_key_until_it_expires(
    shards: ShardStore, settings: Settings, redis_client: redis.Redis
) -> None:
    shards.put("a", b"first")
    assert shards.get("a") == b"first"
    assert shards.get("b") is None
    assert 0 < redis_client.ttl("tailprune:shard:a") <= settings.shard_ttl_seconds


def test_a_damaged_shard_is_not_used_but_made_again(shards: ShardStore, settings: Settings) -> None:
    for damaged in (b"f1rst", b"fir", b""):
        shards.put("a", b"first")
        assert shards.present(["a"]) == {"a"}
        file_of(b"first", settings).write_bytes(damaged)
        assert shards.present(["a"]) == set()
        assert shards.get("a") is None
        shards.put("a", b"first")
        assert shards.get("a") == b"first"


def test_of_many_shards_those_that_are_stored_whole_are_present(shards: ShardStore, settings: Settings) -> None:
    for number in range(20):
        shards.put(str(number), os.urandom(9) + bytes([number]))
    for path in list(Path(settings.artifacts, "shards").rglob("*")):
        if path.is_file() and path.read_bytes()[-1] % 4 == 0:
            path.write_bytes(b"x" * 10)
    keys = list(map(str, range(22)))
    assert shards.present(keys) == {str(number) for number in range(20) if number % 4}
    assert shards.present([]) == set()


def test_a_note_that_cannot_be_read_is_that_of_no_shard(shards: ShardStore, redis_client: redis.Redis) -> None:
    redis_client.set("tailprune:shard:a", b'{"digest": 3}')
    assert shards.get("a") is None
    assert shards.present(["a"]) == set()


def test_a_note_of_an_earlier_version_names_its_file(
    shards: ShardStore, settings: Settings, redis_client: redis.Redis
) -> None:
    artifact = ArtifactStore(settings, redis_client).put(b"first", "application/octet-stream")
    path = Path(settings.artifacts, artifact.digest[:2], artifact.digest)
    path.parent.mkdir()
    Path(settings.artifacts, "results", artifact.digest[:2], artifact.digest).rename(path)
    redis_client.set("tailprune:shard:a", artifact.model_dump_json(exclude={"folder"}))
    assert shards.present(["a"]) == {"a"}
    assert shards.get("a") == b"first"
