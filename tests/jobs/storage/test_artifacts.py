"""Artifacts: whole, by content, and hot while small; what is damaged is never read."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
import redis

from jobs.settings import Settings
from jobs.storage.artifacts import CHUNK_BYTES, Artifact, ArtifactsFull, ArtifactStore, ArtifactsUnavailable
from jobs.storage.files import RemoteFiles
from jobs.store.connection import connect

CONTENT = b"0123456789abcdef"


@pytest.fixture
def artifacts(settings: Settings, redis_client: redis.Redis) -> ArtifactStore:
    return ArtifactStore(settings.model_copy(update={"hot_artifact_bytes": 10}), redis_client)


@pytest.fixture
def bucket(settings: Settings, redis_client: redis.Redis, s3_url: str) -> ArtifactStore:
    return ArtifactStore(settings.model_copy(update={"hot_artifact_bytes": 10, "artifacts_url": s3_url}), redis_client)


@pytest.fixture(params=["artifacts", "bucket"])
def either(request: pytest.FixtureRequest, redis_client: redis.Redis) -> ArtifactStore:
    """A store in a folder, and one in a bucket."""
    store: ArtifactStore = request.getfixturevalue(request.param)
    return store


def files(settings: Settings) -> list[Path]:
    return [path for path in Path(settings.artifacts).rglob("*") if path.is_file()]


def flip(content: bytes, place: int | None = None) -> bytes:
    """The bytes with one of them changed."""
    place = len(content) // 2 if place is None else place
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


def damage(store: ArtifactStore, artifact: Artifact, change: Callable[[bytes], bytes] = flip) -> None:
    """Change the file of an artifact where it lies."""
    name = f"{artifact.folder}/{artifact.digest[:2]}/{artifact.digest}"
    root = store.files._root  # type: ignore[attr-defined]
    if store.is_local:
        path = Path(root, name)
        path.write_bytes(change(path.read_bytes()))
    else:
        system: fsspec.AbstractFileSystem = store.files._files  # type: ignore[attr-defined]
        system.pipe_file(f"{root}/{name}", change(system.cat_file(f"{root}/{name}")))


def test_what_was_put_is_read(either: ArtifactStore) -> None:
    artifact = either.put(CONTENT, "text/plain")
    assert either.read(artifact) == CONTENT
    assert either.read_range(artifact, 2, 5) == b"234"
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
    artifacts.put(CONTENT, "text/plain")
    assert not list(redis_client.scan_iter("tailprune:hot:*"))


def test_a_file_cut_short_does_not_exist(either: ArtifactStore) -> None:
    artifact = either.put(CONTENT, "text/plain")
    damage(either, artifact, lambda content: content[:6])
    assert not either.has_all([artifact])


def test_an_artifact_that_is_gone_is_reported_as_gone(artifacts: ArtifactStore, settings: Settings) -> None:
    artifact = artifacts.put(CONTENT, "text/plain")
    files(settings)[0].unlink()
    with pytest.raises(FileNotFoundError):
        artifacts.read(artifact)


def test_artifacts_are_stored_and_read_without_redis(settings: Settings) -> None:
    with connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as nowhere:
        artifacts = ArtifactStore(settings, nowhere)
        assert artifacts.read(artifacts.put(b"small", "text/plain")) == b"small"


def test_a_file_is_stored_as_its_bytes_are(either: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    put = either.put_file(tmp_path / "large", "application/octet-stream")
    assert put == either.put(b"x" * 100_000, "application/octet-stream")
    assert either.read(put) == b"x" * 100_000


# Damage


def test_a_damaged_file_is_never_read_and_is_deleted(either: ArtifactStore) -> None:
    artifact = either.put(CONTENT, "text/plain")
    readers: list[Callable[[], Any]] = [
        lambda: either.read(artifact),
        lambda: either.read_range(artifact, 0, 2),
        lambda: list(either.stream(artifact, 0, 2)),
    ]
    for read in readers:
        either.put(CONTENT, "text/plain")
        assert read()  # so that it was found to be right before
        damage(either, artifact)
        with pytest.raises(FileNotFoundError):
            read()
        assert either.find(artifact.digest, "results") is None


def test_damage_is_found_though_the_time_and_the_size_of_the_file_are_as_before(artifacts: ArtifactStore) -> None:
    artifact = artifacts.put(CONTENT, "text/plain")
    artifacts.read_range(artifact, 0, 2)
    path = Path(artifacts.files._root, "results", artifact.digest[:2], artifact.digest)  # type: ignore[attr-defined]
    before = path.stat()
    path.write_bytes(flip(CONTENT))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not artifacts.has_all([artifact])


def test_a_damaged_file_that_was_never_read_by_this_process_is_not_stored(
    artifacts: ArtifactStore, settings: Settings, redis_client: redis.Redis
) -> None:
    content = os.urandom(100)
    name = hashlib.sha256(content).hexdigest()
    path = Path(settings.artifacts, "results", name[:2], name)
    path.parent.mkdir(parents=True)
    path.write_bytes(flip(content))
    assert not artifacts.has_all([Artifact(digest=name, media_type="text/plain", size=100)])


def test_a_damaged_copy_in_redis_is_replaced_by_the_file(artifacts: ArtifactStore, redis_client: redis.Redis) -> None:
    artifact = artifacts.put(b"small", "text/plain")
    for damaged in (b"smalk", b"sm", b""):
        redis_client.set(f"tailprune:hot:{artifact.digest}", damaged)
        assert artifacts.read(artifact) == b"small"
        assert redis_client.get(f"tailprune:hot:{artifact.digest}") == b"small"


def test_putting_the_bytes_again_replaces_a_damaged_file(either: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(CONTENT)
    artifact = either.put(CONTENT, "text/plain")
    puts: list[Callable[[], Any]] = [
        lambda: either.put(CONTENT, "text/plain"),
        lambda: either.put_file(tmp_path / "same", "text/plain"),
    ]
    for put in puts:
        damage(either, artifact)
        put()
        assert either.read(artifact) == CONTENT


def test_a_file_that_is_put_again_is_young(artifacts: ArtifactStore, settings: Settings) -> None:
    artifacts.put(CONTENT, "text/plain")
    (path,) = files(settings)
    os.utime(path, (1, 1))
    artifacts.put(CONTENT, "text/plain")  # not known to be right any more: it is written
    assert path.stat().st_mtime > 1
    inode = path.stat().st_ino
    before = path.stat().st_mtime_ns
    artifacts.put(CONTENT, "text/plain")  # known to be right: only its time changes
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime_ns >= before


def test_a_file_that_was_written_while_it_was_found_damaged_stays(
    artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = artifacts.put(CONTENT, "text/plain")
    damage(artifacts, artifact)
    remove = artifacts.files.remove

    def written_first(*args: Any) -> bool:
        monkeypatch.undo()
        artifacts.put(CONTENT, "text/plain")
        return remove(*args)

    monkeypatch.setattr(artifacts.files, "remove", written_first)
    assert artifacts.read(artifact) == CONTENT
    assert artifacts.has_all([artifact])


def test_a_download_ends_where_the_file_is_damaged_meanwhile(
    artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.storage.artifacts.CHUNK_BYTES", 4)
    artifact = artifacts.put(CONTENT, "text/plain")
    chunks = artifacts.stream(artifact, 0, 16)
    assert next(chunks) == b"0123"
    damage(artifacts, artifact)
    with pytest.raises(FileNotFoundError):
        next(chunks)


def test_a_download_goes_on_where_the_same_file_is_written_meanwhile(
    either: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.storage.artifacts.CHUNK_BYTES", 4)
    artifact = either.put(CONTENT, "text/plain")
    chunks = either.stream(artifact, 2, 15)
    first = next(chunks)
    damage(either, artifact, lambda content: content)
    assert b"".join([first, *chunks]) == CONTENT[2:15]


def test_of_many_flipped_bytes_none_is_read(either: ArtifactStore, redis_client: redis.Redis) -> None:
    chance = random.Random(7)
    made = [(either.put(content, "text/plain"), content) for content in (chance.randbytes(9), chance.randbytes(300))]
    for round in range(80 if either.is_local else 8):
        artifact, content = made[round % 2]
        either.put(content, "text/plain")
        damage(either, artifact, lambda content: flip(content, chance.randrange(len(content))))
        hot = f"tailprune:hot:{artifact.digest}"
        if redis_client.exists(hot):
            redis_client.set(hot, flip(content, chance.randrange(len(content))))
        with pytest.raises(FileNotFoundError):
            either.read(artifact) if round % 3 else either.read_range(artifact, 0, 1)
        assert not either.has_all([artifact])


# Many at once


def test_many_files_are_looked_for_in_one_go(either: ArtifactStore) -> None:
    made = [either.put(f"content {number}".encode(), "text/plain") for number in range(70)]
    missing = Artifact(digest="0" * 64, media_type="text/plain", size=1)
    assert either.has_all(made)
    assert either.has_all([])
    assert not either.has_all([*made, missing])
    assert either.present([*made, missing]) == set(made)


def test_an_object_is_written_by_one_call_and_looked_for_by_one(
    bucket: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    system = bucket.files._files  # type: ignore[attr-defined]
    call = type(system)._call_s3

    async def counted(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(method)
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(type(system), "_call_s3", counted)
    for _ in range(2):
        artifact = bucket.put(CONTENT, "text/plain")
    assert calls == ["put_object"] * 2
    calls.clear()
    assert bucket.has_all([artifact])
    assert calls == ["head_object"]


# Where earlier versions put them


def test_a_file_of_an_earlier_version_is_found_and_checked(either: ArtifactStore) -> None:
    name = hashlib.sha256(CONTENT).hexdigest()
    artifact = Artifact(digest=name, media_type="text/plain", size=16)
    either.files.write(f"{name[:2]}/{name}", CONTENT)
    assert either.read(artifact) == CONTENT
    assert either.has_all([artifact])
    either.files.write(f"{name[:2]}/{name}", flip(CONTENT))
    with pytest.raises(FileNotFoundError):
        either.read_range(artifact, 0, 4)


def test_a_record_of_an_earlier_version_names_a_result() -> None:
    assert Artifact.model_validate({"digest": "0" * 64, "media_type": "image/png", "size": 3}).folder == "results"


def test_each_class_of_files_has_its_folder(artifacts: ArtifactStore, settings: Settings) -> None:
    for folder in ("results", "shards", "uploads", "models"):
        artifact = artifacts.put(CONTENT, "text/plain", folder)
        assert artifact.folder == folder
        assert Path(settings.artifacts, folder, artifact.digest[:2], artifact.digest).read_bytes() == CONTENT


# Placed


def test_an_artifact_on_this_disk_is_placed_without_a_copy(
    artifacts: ArtifactStore, settings: Settings, tmp_path: Path
) -> None:
    artifact = artifacts.put(CONTENT, "text/plain")
    place = tmp_path / "elsewhere" / "file.txt"
    for _ in range(2):
        artifacts.place(artifact, place)
        assert place.samefile(files(settings)[0])
    assert [path.name for path in place.parent.iterdir()] == ["file.txt"]


def test_an_artifact_of_an_object_store_is_placed_whole_or_not_at_all(bucket: ArtifactStore, tmp_path: Path) -> None:
    artifact, place = bucket.put(CONTENT, "text/plain"), tmp_path / "elsewhere" / "file.txt"
    bucket.place(artifact, place)
    assert place.read_bytes() == CONTENT
    place.unlink()
    damage(bucket, artifact)
    with pytest.raises(FileNotFoundError):
        bucket.place(artifact, place)
    assert list(place.parent.iterdir()) == []


def test_a_damaged_file_at_the_place_is_replaced(either: ArtifactStore, tmp_path: Path) -> None:
    artifact, place = either.put(CONTENT, "text/plain"), tmp_path / "file.txt"
    either.place(artifact, place)
    either.put(CONTENT, "text/plain")
    place.unlink()
    place.write_bytes(flip(CONTENT))
    assert not either.is_placed(artifact, place)
    either.place(artifact, place)
    assert place.read_bytes() == CONTENT


def test_a_damaged_file_at_the_place_is_deleted_where_the_artifact_is_gone(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    artifact, place = artifacts.put(CONTENT, "text/plain"), tmp_path / "file.txt"
    artifacts.place(artifact, place)
    damage(artifacts, artifact)  # both names of the one file
    with pytest.raises(FileNotFoundError):
        artifacts.place(artifact, place)
    assert not place.exists()
    assert artifacts.find(artifact.digest, "results") is None


def test_what_is_placed_stays_usable_where_the_artifact_is_gone(artifacts: ArtifactStore, tmp_path: Path) -> None:
    artifact, place = artifacts.put(CONTENT, "text/plain"), tmp_path / "file.txt"
    artifacts.place(artifact, place)
    Path(artifacts.files._root, "results", artifact.digest[:2], artifact.digest).unlink()  # type: ignore[attr-defined]
    artifacts.place(artifact, place)
    assert place.read_bytes() == CONTENT


# Unavailable


def test_a_full_disk_is_an_error_of_its_own_and_leaves_nothing_behind(
    artifacts: ArtifactStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ArtifactsFull, match="No space left on device"):
        artifacts.put(CONTENT, "text/plain")
    assert files(settings) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ETIMEDOUT])
def test_a_disk_that_cannot_be_read_is_unavailable_and_not_empty(
    artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    artifact = artifacts.put(CONTENT, "text/plain")

    def broken(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", broken)
    monkeypatch.setattr("jobs.storage.files.os.stat", broken)
    for call in (artifacts.read, lambda artifact: artifacts.has_all([artifact])):
        with pytest.raises(ArtifactsUnavailable):
            call(artifact)


def test_a_store_of_objects_that_does_not_answer_is_unavailable(bucket: ArtifactStore) -> None:
    options = {"config_kwargs": {"retries": {"max_attempts": 0}}, "skip_instance_cache": True}
    nowhere = fsspec.filesystem("s3", endpoint_url="http://127.0.0.1:1", **options)
    nowhere.retries = 1
    store = bucket
    store.files = RemoteFiles(nowhere, "bucket/folder")
    calls: list[Callable[[], Any]] = [
        lambda: store.put(CONTENT, "text/plain"),
        lambda: store.find("0" * 64, "results"),
        lambda: store.read(Artifact(digest="0" * 64, media_type="text/plain", size=1)),
    ]
    for call in calls:
        with pytest.raises(ArtifactsUnavailable):
            call()


def test_the_calls_of_a_store_are_made_by_its_retry(artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OSError(errno.EIO, "broken"), OSError(errno.ENOSPC, "full")]
    write = Path.write_bytes

    def write_bytes(path: Path, content: bytes) -> int:
        if failures:
            raise failures.pop()
        return write(path, content)

    def retry(call: Callable[[], Any]) -> Any:
        while True:
            try:
                return call()
            except ArtifactsUnavailable:
                continue

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    artifacts.retry = retry
    assert artifacts.read(artifacts.put(CONTENT, "text/plain")) == CONTENT


def test_a_large_file_is_streamed_in_chunks(either: ArtifactStore) -> None:
    content = os.urandom(CHUNK_BYTES + 10)
    chunks = list(either.stream(either.put(content, "image/png"), 0, len(content)))
    assert [len(chunk) for chunk in chunks] == [CHUNK_BYTES, 10]
    assert b"".join(chunks) == content
