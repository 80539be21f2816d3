"""What a process of the service checks before it begins: its folders, its servers, and that its artifacts are theirs.

Redis has the records of jobs, and the store of artifacts their files: they belong together. The store has an id, a
random one in a file, which is the same wherever the store is mounted; Redis has that id too, and where they differ a
process does not start. Neither is a lock: two processes that start at once write the same id, since Redis decides.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import cast

import redis
from pydantic import BaseModel

from jobs.registry.document import RegistryError
from jobs.requests.base import QUEUES
from jobs.settings import Settings, SettingsError
from jobs.storage.artifacts import ID_FILE, ArtifactsError, ArtifactStore
from jobs.store.connection import NoServer, connect_once, fault_of
from jobs.store.scripts import PREFIX
from jobs.urls import REDIS, check_redis, masked
from tailprune.spec import InputError

__all__ = ["REASONS", "NotYet", "StartError", "await_servers", "check_folder", "check_servers", "ending_on_reasons"]

STORE_KEY = f"{PREFIX}artifacts-store"
SETTLE_SECONDS = 3.0
"""How long the id of a store may take to be seen on another machine."""
RETRY_SECONDS = 1.0
REPEAT_SECONDS = 60.0
TICK_SECONDS = 0.1
BROKER_SECONDS = 2.0


class StartError(Exception):
    """A process cannot start, and trying again does not help; the message says why, and what to do."""


class NotYet(Exception):
    """A server that a process needs cannot be used now; the message says which, and why."""


REASONS = (StartError, SettingsError, RegistryError, ArtifactsError, NoServer, InputError)
"""Errors whose message is all that whoever starts a process has to read."""


class _Mark(BaseModel):
    """In Redis: the id of the store that belongs to it, and where that was when it was first used."""

    id: str
    location: str


@contextmanager
def ending_on_reasons() -> Iterator[None]:
    """End the process where it cannot start, with the reason on stderr and the exit status EX_CONFIG (78)."""
    try:
        yield
    except REASONS as error:
        print(f"tailprune: {error}", file=sys.stderr, flush=True)
        raise SystemExit(os.EX_CONFIG) from None


def check_folder(folder: Path, setting: str) -> None:
    """Make a folder unless it exists, and see that files can be made in it. Raises StartError naming the setting.

    A full disk is no error here: the service answers what it can, and recovers when there is space.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # what jobs made is for its user's eyes
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT):
            raise StartError(
                f"the folder {folder} cannot be used: {error.strerror}; name another one with {setting}"
            ) from error


def check_servers(settings: Settings, artifacts: ArtifactStore) -> None:
    """See that Redis and the broker answer, and that this store of artifacts belongs to this Redis.

    Each is tried once. Raises NotYet where waiting may help, else StartError.
    """
    with _explained("Redis", settings.redis_url), connect_once(settings.redis_url) as client:
        client.ping()
        with _store_errors(artifacts):
            _claim_store(settings, client, artifacts)
        client.eval("return 1", 0)
        if settings.broker_url is None:
            _check_queues(client)
    broker = settings.broker_url
    if broker is None:
        return
    if broker.partition("://")[0] in REDIS and ";" not in broker:
        with _explained("the broker", broker), connect_once(check_redis(broker)) as client:
            _check_queues(client)
        return
    from jobs.queue import make_celery  # Celery: slow to import, and only needed here

    try:
        with make_celery(settings).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
    except Exception as error:  # the driver's own
        raise NotYet(f"the broker at {masked(broker)}: {masked(str(error)) or type(error).__name__}") from error


def await_servers(
    settings: Settings,
    artifacts: ArtifactStore,
    say: Callable[[str], object],
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Wait until `check_servers` succeeds. Raises StartError.

    say: called with what is waited for, when that changes and once a minute.
    stopped: ends the wait when it turns true.
    """
    said, again = "", 0.0
    while not stopped():
        try:
            check_servers(settings, artifacts)
            return
        except NotYet as error:
            if str(error) != said or time.monotonic() >= again:
                said, again = str(error), time.monotonic() + REPEAT_SECONDS
                say(said)
        retry = time.monotonic() + RETRY_SECONDS
        while not stopped() and time.monotonic() < retry:
            time.sleep(TICK_SECONDS)


@contextmanager
def _explained(what: str, url: str) -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        reason, lasting = fault_of(error, url)
        raise (StartError if lasting else NotYet)(f"{what} at {masked(url)}: {reason}") from error


def _check_queues(client: redis.Redis) -> None:
    """See that Celery may use its keys and channels here: a user may have rights to some only."""
    client.exists(*QUEUES, "unacked", "unacked_index", "_kombu.binding.sampling")
    client.publish(f"/{client.get_connection_kwargs().get('db') or 0}.celery.start", "")  # nobody listens there


def _claim_store(settings: Settings, client: redis.Redis, artifacts: ArtifactStore) -> None:
    """See that this store belongs to this Redis; where neither belongs to another yet, from now on they do."""
    stored = artifacts.read_id()
    own = _Mark(id=stored or uuid.uuid4().hex, location=artifacts.location)
    is_first = client.set(STORE_KEY, own.model_dump_json(), nx=True)
    mark = own if is_first else _Mark.model_validate_json(cast(bytes, client.get(STORE_KEY)))
    settled = time.monotonic() + SETTLE_SECONDS
    while stored is None and mark.location != artifacts.location and time.monotonic() < settled:
        time.sleep(TICK_SECONDS)
        stored = artifacts.read_id()
    if stored is None and mark.location == artifacts.location:  # a new store, or one that was emptied
        try:
            artifacts.write_id(mark.id)
        except Exception:
            if is_first:
                client.delete(STORE_KEY)
            raise
    elif stored != mark.id:
        raise StartError(
            f"Redis at {masked(settings.redis_url)} has the jobs of another store of artifacts, {mark.location}; this "
            f"one is {artifacts.location}. Use the TAILPRUNE_DATA_DIR or TAILPRUNE_ARTIFACTS_URL of the processes that "
            "began there, or another Redis, or another database (the number at the end of REDIS_URL). If this store "
            f"takes the place of the other, write {mark.id} into its file {ID_FILE}"
        )


@contextmanager
def _store_errors(artifacts: ArtifactStore) -> Iterator[None]:
    """Explain errors of the store; those of a folder do not pass by themselves, those of a bucket may."""
    try:
        yield
    except (redis.RedisError, StartError):
        raise
    except Exception as error:  # an object store has errors of its own
        text = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        kind = StartError if artifacts.is_local else NotYet
        raise kind(f"the artifacts in {artifacts.location} cannot be used: {masked(text)}") from error
