"""`tailprune serve`: Redis, the workers and the service in one command, for one machine."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EACCES, EADDRINUSE
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Annotated, Any
from urllib.parse import urlsplit

import redis
import typer
from rich.console import Console
from rich.markup import escape

from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import Registry
from jobs.settings import Settings, get_settings, listed, unknown_variables
from jobs.startup import REASONS, StartError, await_servers, check_folder
from jobs.storage.artifacts import ArtifactStore
from jobs.store.connection import connect, server_command
from service.addresses import is_loopback
from service.cli.note import noted_settings
from service.cli.supervisor import ChildFailed, Death, Program, Supervisor
from service.keys import KeyFile

__all__ = ["serve"]

LOOPBACK = "127.0.0.1"
TEND_SECONDS = 0.2
LOOK_SECONDS = 0.05
"""How often it is looked whether what comes up is ready."""
DEATHS_BEFORE_READY = 2
"""How often a program may die while the stack comes up; later it is restarted however often it dies."""
LOCK_SECONDS = 10.0
"""How long the Redis of a `serve` that was just killed may take to release the data folder."""
GRACE_SECONDS = 30.0
LEAST_FREE_BYTES = 2**20
"""Redis and the logs are written to the data folder from the start."""
REQUESTS_GRACE_SECONDS = 5
ANSWER_SECONDS = 2.0
REDIS = "redis"

messages = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def _private() -> Iterator[None]:
    """Meanwhile files and folders that are made, here and by children, are for their user alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@_private()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 picks a free one.")] = 8000,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="The folder of artifacts, logs and the file of Redis; by default TAILPRUNE_DATA_DIR, or data."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="How many workers to run: one for each GPU, or one on a CPU.")
    ] = 1,
    root_path: Annotated[
        str | None,
        typer.Option(
            help="The prefix under which a proxy publishes the service, such as /tailprune; by default "
            "TAILPRUNE_ROOT_PATH, or none."
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Write logs to the terminal instead of files.")] = False,
) -> None:
    """Run Redis, the workers and the service together; Ctrl-C stops them all.

    Uses the Redis that REDIS_URL names, or starts one with its file in the data folder.
    """
    stopping = StopRequests()
    try:
        settings = get_settings()
        for warning in unknown_variables():
            messages.print(f"[yellow]tailprune serve:[/yellow] {escape(warning)}")
        folder = Path(os.path.expanduser(data_dir or settings.data_dir)).resolve()
        check_folder(folder, "--data-dir")
        if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
            raise StartError(f"the disk of {folder} is full; make room, or name another folder with --data-dir")
        settings = settings.model_copy(update={"data_dir": folder})
        supervisor = Supervisor(None if verbose else folder / "logs")
        EvaluationAssets.from_registry(Registry.read(settings.registry))  # fails here at once, rather than in a child
        port = _free_port(host, port)
        _check_exposure(host, settings)
        with redis_for(settings, folder, supervisor, stopping) as redis_url:
            settings = settings.model_copy(update={"redis_url": redis_url})
            with connect(settings) as client:
                artifacts = ArtifactStore(settings, client)
                await_servers(settings, artifacts, _say_waiting, lambda: _tended(supervisor, stopping))
            if stopping:
                return
            shared = {"REDIS_URL": redis_url, "TAILPRUNE_DATA_DIR": str(folder)}
            of_service = {} if root_path is None else {"TAILPRUNE_ROOT_PATH": root_path}
            if not _is_address(host):
                of_service["TAILPRUNE_ALLOWED_HOSTS"] = ",".join([*listed(settings.allowed_hosts), host])
            programs = [*worker_programs(workers, shared), service_program(host, port, shared | of_service)]
            if settings.webhook_hosts:
                programs.append(webhook_program(shared | of_service))
            with noted_settings(settings), _running(programs, supervisor, stopping):
                url = f"http://{_reachable(host)}:{port}"
                _until(lambda: _is_ready(url, workers, supervisor), supervisor, stopping)
                if not stopping:
                    print(f"tailprune is ready at {url} (data in {folder}, workers: {workers})", flush=True)
                while not stopping:
                    _report(supervisor.tend(), supervisor)
                    time.sleep(TEND_SECONDS)
    except (ChildFailed, *REASONS) as error:
        messages.print(f"[red]tailprune serve:[/red] {escape(str(error))}")
        raise typer.Exit(1) from error


class StopRequests:
    """Counts SIGINT, SIGTERM and SIGHUP; true after the first."""

    def __init__(self) -> None:
        self._count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # started with nohup
            signal.signal(number, self._on_signal)

    def __bool__(self) -> bool:
        return self._count > 0

    def repeated(self) -> bool:
        """Whether there was a second signal, after which nothing is awaited."""
        return self._count > 1

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._count += 1


@contextmanager
def _running(programs: list[Program], supervisor: Supervisor, stopping: StopRequests) -> Iterator[None]:
    """Run programs for as long as the context lasts; a second request to stop ends their grace early."""
    try:
        for program in programs:
            supervisor.start(program)
        yield
    finally:
        names = [program.name for program in programs]
        for name in supervisor.stop(names, GRACE_SECONDS, hurry=stopping.repeated):
            messages.print(f"{name} did not stop in time and was killed")


@contextmanager
def redis_for(settings: Settings, folder: Path, supervisor: Supervisor, stopping: StopRequests) -> Iterator[str]:
    """The URL of the configured Redis, or of one that is started and runs for as long as the context lasts."""
    if "redis_url" in settings.model_fields_set:
        yield settings.redis_url
        return
    server_folder = folder / "redis"
    check_folder(server_folder, "--data-dir")
    with _sole_user(server_folder) as lock:
        port, password = _free_port(LOOPBACK, 0), secrets.token_urlsafe()
        command = server_command(port, server_folder, settings.redis_memory_bytes, supervisor.log_path(REDIS))
        # From its input, since every user of the machine can see the arguments of a process.
        options = f"requirepass {password}\n".encode()
        supervisor.start(Program(REDIS, [command[0], "-", *command[1:]], keep_open=(lock,), sent=options))
        try:
            url = f"redis://:{password}@{LOOPBACK}:{port}/0"
            _until(lambda: _answers(url), supervisor, stopping)
            yield url
        finally:
            supervisor.stop([REDIS], GRACE_SECONDS)


def worker_programs(count: int, shared: dict[str, str]) -> list[Program]:
    """Workers that share the cores of the machine evenly; a worker picks its GPU by its index."""
    threads = os.environ.get("TAILPRUNE_THREADS") or max(1, _cores() // max(1, count))
    return [
        Program(
            _worker_name(index),
            [
                *(sys.executable, "-m", "celery", "--app", "workers.app", "worker"),
                *("--pool", "threads", "--concurrency", "1", "--hostname", f"{_worker_name(index)}@%h"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            {"TAILPRUNE_THREADS": str(threads), "TAILPRUNE_WORKER_INDEX": str(index), **shared},
        )
        for index in range(count)
    ]


def webhook_program(shared: dict[str, str]) -> Program:
    """What calls webhooks."""
    name = "webhooks"
    options = (
        *("--pool", "threads", "--concurrency", "32", "--hostname", f"{name}@%h"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    )
    return Program(name, [sys.executable, "-m", "celery", "--app", "workers.webhooks.app", "worker", *options], shared)


def service_program(host: str, port: int, shared: dict[str, str]) -> Program:
    """The HTTP service."""
    options = ("--host", host, "--port", str(port), "--timeout-graceful-shutdown", str(REQUESTS_GRACE_SECONDS))
    return Program("service", [sys.executable, "-m", "service.server", *options], shared)


def _check_exposure(host: str, settings: Settings) -> None:
    """Raise StartError where other machines would reach a service that has no keys."""
    if (_is_address(host) and is_loopback(host)) or host == "localhost" or settings.open:
        KeyFile(settings.keys_file).read()  # a damaged file ends the command here rather than the service
        return
    if not KeyFile(settings.keys_file).read():
        raise StartError(
            f"--host {host} lets other machines in, and there are no keys in {settings.keys_file}: make one with "
            "`tailprune keys add NAME --scope read|submit|admin`, or set TAILPRUNE_OPEN=true if all who reach it may "
            "do everything"
        )


def _until(condition: Callable[[], bool], supervisor: Supervisor, stopping: StopRequests) -> None:
    """Keep the programs running until the condition holds or a stop is requested."""
    while not _tended(supervisor, stopping) and not condition():
        time.sleep(LOOK_SECONDS)


def _tended(supervisor: Supervisor, stopping: StopRequests) -> bool:
    """Tend the programs while the stack comes up; whether a stop is requested."""
    _report(supervisor.tend(deaths_allowed=DEATHS_BEFORE_READY), supervisor)
    return bool(stopping)


def _report(deaths: list[Death], supervisor: Supervisor) -> None:
    for name, how in deaths:
        messages.print(f"{name} died ({how}) and is started again; see {_log_of(name, supervisor)}")


def _say_waiting(reason: str) -> None:
    messages.print(f"waiting: {escape(reason)}")


def _is_ready(url: str, workers: int, supervisor: Supervisor) -> bool:
    """Whether the service is ready and lists the workers of this stack, whose names have the ids of their processes."""
    try:
        status, answer = _asked(url, "/health/ready")
    except (OSError, HTTPException, ValueError):
        return False
    if status != HTTPStatus.OK:
        return False
    alive = {str(worker["name"]).partition("@")[0] for worker in answer["workers"]}
    own = (_worker_name(index) for index in range(workers))
    return alive >= {f"{name}-{supervisor.process_id(name)}" for name in own}


def _worker_name(index: int) -> str:
    return f"worker-{index + 1}"


def _answers(redis_url: str) -> bool:
    try:
        with redis.Redis.from_url(redis_url, socket_timeout=ANSWER_SECONDS) as client:
            return bool(client.ping())
    except redis.RedisError:  # not up yet, or still reading its file
        return False


@contextmanager
def _sole_user(folder: Path) -> Iterator[int]:
    """Lock the folder. Redis inherits the lock, so it is held for as long as a Redis process writes there."""
    with (folder / "lock").open("w") as lock:
        deadline, waiting = time.monotonic() + LOCK_SECONDS, False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not waiting:
                    _say_waiting(f"the Redis of an earlier tailprune serve still uses {folder}")
                waiting = True
                if time.monotonic() > deadline:
                    raise StartError(
                        f"another tailprune serve uses {folder}: stop it, or name another --data-dir"
                    ) from error
                time.sleep(TEND_SECONDS)
        yield lock.fileno()


def _free_port(host: str, port: int) -> int:
    """The port itself after a check that it is free, or any free port for 0."""
    if not host:
        raise StartError("--host is empty; name an address of this machine, or 0.0.0.0 for all of them")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that just closed is free
        try:
            probe.bind((host, port))
        except OSError as error:
            what = f"cannot listen on {host} port {port}: {error.strerror}"
            if error.errno not in (EADDRINUSE, EACCES):
                raise StartError(f"{what}; name an address of this machine with --host") from error
            if _is_tailprune(f"http://{_reachable(host)}:{port}"):
                what = f"a tailprune runs at http://{_reachable(host)}:{port} already; use it or stop it"
            raise StartError(f"{what}, or try --port 0") from error
        return int(probe.getsockname()[1])


def _is_tailprune(url: str) -> bool:
    try:
        _, answer = _asked(url, "/health/live")
    except (OSError, HTTPException, ValueError):
        return False
    return bool(answer == {"status": "live"})


def _asked(url: str, path: str) -> tuple[int, Any]:
    """The status and the JSON of the answer to a GET. Raises OSError, HTTPException and ValueError."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _reachable(host: str) -> str:
    """An address at which this machine reaches a server that listens on `host`."""
    host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _log_of(name: str, supervisor: Supervisor) -> str:
    return "above" if supervisor.log_folder is None else str(supervisor.log_folder / f"{name}.log")
