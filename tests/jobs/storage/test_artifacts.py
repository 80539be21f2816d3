"""Artifacts: whole, by content, and hot while small."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore
from jobs.store.connection import connect


@pytest.fixture
def artifacts(settings: Settings, redis_client: redis.Redis) -> ArtifactStore:
    return ArtifactStore(settings.model_copy(update={"hot_artifact_bytes": 10}), redis_client)


def files(settings: Settings) -> list[Path]:
    return [path for path in Path(settings.artifacts).rglob("*") if path.is_file()]


def test_what_was_put_is_read(artifacts: ArtifactStore) -> None:
    artifact = artifacts.put(b"0123456789abcdef", "text/plain")
    assert artifacts.read(artifact) == b"0123456789abcdef"
    assert artifacts.read_range(artifact, 2, 5) == b"234"
    assert (artifact.size, artifact.media_type) == (16, "text/plain")


def test_the_same_bytes_put_by_many_at_once_are_one_whole_file(artifacts: ArtifactStore, settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        put = list(pool.map(lambda _: artifacts.put(b"x" * 100_000, "image/png"), range(16)))
    assert len(set(put)) == 1
    assert [path.stat().st_size for path in files(settings)] == [100_000]


def test_small_artifacts_are_hot_and_expire_from_redis(
    artifacts: ArtifactStore, settings: Settings, redis_client: redis.Redis
) -> None:
    artifact = artifacts.put(b"small", "text/plain")
    (key,) = redis_client.scan_iter("tailprune:hot:*")
    assert 0 < redis_client.ttl(key) <= settings.cache_ttl_seconds
    files(settings)[0].unlink()
    assert artifacts.read(artifact) == b"small"


def test_large_artifacts_stay_out_of_redis(artifacts: ArtifactStore, redis_client: redis.Redis) -> None:
    artifacts.put(b"larger than ten", "text/plain")
    assert not list(redis_client.scan_iter("tailprune:hot:*"))


def test_a_file_cut_short_does_not_exist(artifacts: ArtifactStore, settings: Settings) -> None:
    artifact = artifacts.put(b"larger than ten", "text/plain")
    files(settings)[0].write_bytes(b"larger")
    assert not artifacts.exists(artifact)


def test_an_artifact_that_is_gone_is_reported_as_gone(artifacts: ArtifactStore, settings: Settings) -> None:
    artifact = artifacts.put(b"larger than ten", "text/plain")
    files(settings)[0].unlink()
    with pytest.raises(FileNotFoundError):
        artifacts.read(artifact)


def test_artifacts_are_stored_and_read_without_redis(settings: Settings) -> None:
    with connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as nowhere:
        artifacts = ArtifactStore(settings, nowhere)
        assert artifacts.read(artifacts.put(b"small", "text/plain")) == b"small"


def test_a_file_is_stored_as_its_bytes_are(artifacts: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    put = artifacts.put_file(tmp_path / "large", "application/octet-stream")
    assert put == artifacts.put(b"x" * 100_000, "application/octet-stream")
    assert artifacts.read(put) == b"x" * 100_000


def test_an_artifact_on_this_disk_is_placed_without_a_copy(
    artifacts: ArtifactStore, settings: Settings, tmp_path: Path
) -> None:
    artifact = artifacts.put(b"0123456789abcdef", "text/plain")
    place = tmp_path / "elsewhere" / "file.txt"
    for _ in range(2):
        artifacts.place(artifact, place)
        assert place.samefile(files(settings)[0])
    assert [path.name for path in place.parent.iterdir()] == ["file.txt"]


def test_an_artifact_of_an_object_store_is_placed_whole_or_not_at_all(
    settings: Settings, redis_client: redis.Redis, tmp_path: Path
) -> None:
    remote = settings.model_copy(update={"artifacts_url": "memory://placed"})
    artifacts = ArtifactStore(remote, redis_client)
    artifact, place = artifacts.put(b"0123456789abcdef", "text/plain"), tmp_path / "elsewhere" / "file.txt"
    artifacts.place(artifact, place)
    assert place.read_bytes() == b"0123456789abcdef"
    place.unlink()
    damaged = artifact.model_copy(update={"digest": artifact.digest[::-1]})
    artifacts._files.pipe_file(artifacts._path(damaged.digest), b"something else")
    with pytest.raises(OSError, match="was not copied completely"):
        artifacts.place(damaged, place)
    assert list(place.parent.iterdir()) == []


def test_an_artifact_that_is_gone_cannot_be_placed(
    artifacts: ArtifactStore, settings: Settings, tmp_path: Path
) -> None:
    artifact = artifacts.put(b"larger than ten", "text/plain")
    files(settings)[0].unlink()
    with pytest.raises(FileNotFoundError):
        artifacts.place(artifact, tmp_path / "file.txt")
