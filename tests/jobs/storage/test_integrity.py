"""One byte changed somewhere, many times over: what is read is right or missing, never wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from jobs.registry.added import AddedStore
from jobs.registry.catalogue import Catalogue
from jobs.registry.compacted import CompactedStore
from jobs.registry.models import Registry
from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore
from jobs.storage.shards import ShardStore
from jobs.storage.upload_parsing import parse
from jobs.storage.uploads import ConditionStore, UnknownConditions
from tests.condition_files import VIDEO, arrays, npz
from tests.jobs.storage.test_retention import compacted_from

FLIPS = 500

Read = Callable[[], bytes | None]
Place = tuple[Path | str, bytes, Callable[[], object], Read]
"""A file, or the key of a copy in Redis; its bytes; what stores them; and what reads them, or None if they are gone."""


@pytest.fixture
def places(settings: Settings, redis_client: redis.Redis) -> list[Place]:
    """Where bytes are kept: a result, its copy in Redis, a shard, an upload, and the checkpoint that a worker loads."""
    settings = settings.model_copy(update={"hot_artifact_bytes": 100})
    artifacts, chance = ArtifactStore(settings, redis_client), random.Random(1)
    small, large, part, weights = (chance.randbytes(size) for size in (90, 5000, 300, 2000))
    shards, conditions = ShardStore(settings, redis_client, artifacts), ConditionStore(artifacts, redis_client)
    made = parse(npz(arrays(VIDEO)), settings)
    checkpoint = artifacts.put(weights, "application/octet-stream", "models")
    compacted = CompactedStore(redis_client)
    compacted.put("small", compacted_from(checkpoint))
    worker = Catalogue(
        Registry.read(settings.registry), AddedStore(redis_client), compacted, artifacts, settings, fetches=True
    )
    named = {content: artifacts.put(content, "image/png") for content in (small, large)}

    def read(content: bytes) -> Read:
        return lambda: _or_none(lambda: artifacts.read(named[content]))

    def part_of_large() -> bytes | None:
        found = _or_none(lambda: artifacts.read_range(named[large], 100, 200))
        return None if found is None else large[:100] + found + large[200:]

    def loaded() -> bytes | None:
        path = worker.get("small").local_checkpoint
        return None if path is None else path.read_bytes()

    def file(digest: str, folder: str) -> Path:
        return Path(settings.artifacts, folder, digest[:2], digest)

    def stores(content: bytes, folder: str) -> Callable[[], object]:
        return lambda: artifacts.put(content, "image/png", folder)  # type: ignore[arg-type]

    shards.put("key", part)
    shard = next(path for path in Path(settings.artifacts, "shards").rglob("*") if path.is_file())
    result, upload = file(named[large].digest, "results"), file(made.id, "uploads")
    placed = settings.data_dir / "compacted" / checkpoint.digest / "model.safetensors"
    return [
        (result, large, stores(large, "results"), read(large)),
        (result, large, stores(large, "results"), part_of_large),
        (f"tailprune:hot:{named[small].digest}", small, stores(small, "results"), read(small)),
        (shard, part, lambda: shards.put("key", part), lambda: shards.get("key")),
        (upload, made.content, lambda: conditions.put(made), lambda: _or_none(lambda: conditions.read(made.id))),
        (placed, weights, stores(weights, "models"), loaded),
    ]


def test_of_500_changed_bytes_none_is_served_or_computed_with(places: list[Place], redis_client: redis.Redis) -> None:
    chance, gone = random.Random(2), 0
    for flip in range(FLIPS):
        place, content, store, read = places[flip % len(places)]
        store()
        assert read() == content
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        if isinstance(place, str):
            redis_client.set(place, bytes(damaged))
        else:
            place.write_bytes(damaged)
        found = read()
        assert found in (None, content), f"flip {flip} of {place} was read"
        gone += found is None
    assert gone >= FLIPS // 2  # the copy in Redis is replaced by its file


def _or_none(read: Read) -> bytes | None:
    try:
        return read()
    except (FileNotFoundError, UnknownConditions):
        return None
