import re
import socket
from pathlib import Path

import httpx
import pytest
import redis
from typer.testing import CliRunner

from jobs.settings import Settings, get_settings
from jobs.startup import StartError
from service.cli import app
from service.cli.serve import StopRequests, _is_ready, redis_for, service_program, worker_programs
from service.cli.supervisor import Supervisor
from service.keys import KeyFile
from tests.conftest import NO_REDIS
from tests.redis_process import RedisProcess
from tests.service.cli.conftest import Children
from tests.tiny_model import write_tiny_model


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("REDIS_URL", "TAILPRUNE_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    return Settings()


@pytest.fixture(autouse=True)
def _own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test run keeps its own handlers of signals."""
    monkeypatch.setattr("signal.signal", lambda *_: None)


@pytest.fixture
def stopping() -> StopRequests:
    return StopRequests()


def test_redis_runs_as_long_as_it_is_needed_and_keeps_its_data(
    settings: Settings, stopping: StopRequests, tmp_path: Path, children: Children
) -> None:
    supervisor = Supervisor(tmp_path / "logs")
    settings = settings.model_copy(update={"redis_memory_bytes": 64 * 2**20})
    with redis_for(settings, tmp_path, supervisor, stopping) as url, redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
        memory = client.config_get("maxmemory*")
    assert memory.items() >= {"maxmemory": str(64 * 2**20), "maxmemory-policy": "volatile-lru"}.items()
    assert not children()
    with redis_for(settings, tmp_path, supervisor, stopping) as url, redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"yes"


def test_two_serves_do_not_share_a_data_folder(
    processes: None, settings: Settings, stopping: StopRequests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.serve.LOCK_SECONDS", 0.1)
    first, second = Supervisor(tmp_path / "logs"), Supervisor(tmp_path / "logs")
    with (
        redis_for(settings, tmp_path, first, stopping),
        pytest.raises(StartError, match=r"another tailprune serve uses .* --data-dir"),
        redis_for(settings, tmp_path, second, stopping),
    ):
        pass


def test_a_configured_redis_is_used_and_none_is_started(
    stopping: StopRequests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: Children
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379/1")
    with redis_for(Settings(), tmp_path, Supervisor(tmp_path / "logs"), stopping) as url:
        assert url == "redis://elsewhere:6379/1"
        assert not children()


def test_a_registry_that_cannot_be_read_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.serve.get_settings", lambda: Settings(registry=tmp_path / "none.toml"))
    said = CliRunner().invoke(app, ["serve", "--port", "0", "--data-dir", str(tmp_path)])
    assert said.exit_code == 1
    assert "TAILPRUNE_REGISTRY" in said.stderr


def test_extractors_that_cannot_be_read_are_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = write_tiny_model(tmp_path / "models")
    registry.write_text("[extractors]\nvgg = 'vgg.pt'\n")
    monkeypatch.setattr("service.cli.serve.get_settings", lambda: Settings(registry=registry))
    said = CliRunner().invoke(app, ["serve", "--port", "0", "--data-dir", str(tmp_path)])
    assert said.exit_code == 1
    assert "extractor 'vgg' does not exist" in said.stderr


def test_a_port_in_use_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = write_tiny_model(tmp_path / "models")
    monkeypatch.setattr("service.cli.serve.get_settings", lambda: Settings(registry=registry))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = CliRunner().invoke(app, ["serve", "--port", port, "--data-dir", str(tmp_path)])
    assert said.exit_code == 1
    assert f"port {port}" in said.stderr
    assert "--port 0" in said.stderr


def test_a_port_where_a_tailprune_runs_is_reported_as_its(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = write_tiny_model(tmp_path / "models")
    monkeypatch.setattr("service.cli.serve.get_settings", lambda: Settings(registry=registry))
    monkeypatch.setattr("service.cli.serve._is_tailprune", lambda _: True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = CliRunner().invoke(app, ["serve", "--port", port, "--data-dir", str(tmp_path)])
    assert f"a tailprune runs at http://127.0.0.1:{port} already" in said.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_are_let_in_only_with_keys_or_where_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    registry = write_tiny_model(tmp_path / "models")
    monkeypatch.setattr("service.cli.serve.get_settings", lambda: Settings(registry=registry))
    if host == "::" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    serve = ["serve", "--host", host, "--port", "0", "--data-dir", str(tmp_path / "data")]
    said = CliRunner().invoke(app, serve)
    assert said.exit_code == 1
    assert "tailprune keys add" in said.stderr
    assert "TAILPRUNE_OPEN=true" in said.stderr

    class Reached(Exception):
        """It would start now."""

    def reached(*_: object) -> None:
        raise Reached

    monkeypatch.setattr("service.cli.serve.redis_for", reached)
    monkeypatch.setattr("service.cli.serve.get_settings", lambda: Settings(registry=registry, open=True))
    assert isinstance(CliRunner().invoke(app, serve).exception, Reached)
    monkeypatch.setattr("service.cli.serve.get_settings", lambda: Settings(registry=registry))
    KeyFile(tmp_path / "data" / "keys.toml").add("ana", "read")
    assert isinstance(CliRunner().invoke(app, serve).exception, Reached)


def test_its_redis_has_a_password_that_is_in_no_command(
    settings: Settings, stopping: StopRequests, tmp_path: Path, children: Children
) -> None:
    supervisor = Supervisor(tmp_path / "logs")
    with redis_for(settings, tmp_path, supervisor, stopping) as url:
        secret = httpx.URL(url).password
        assert len(secret) > 40
        commands = [part for child in children() for part in child.cmdline()]
        assert commands
        assert not any(secret in part for part in commands)
        assert secret not in repr(supervisor._children["redis"].program)
        with redis.Redis.from_url(url.replace(secret, "wrong")) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        with redis.Redis(port=httpx.URL(url).port) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        written = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
        assert secret not in written


@pytest.mark.parametrize(
    ("arguments", "variables", "reason"),
    [
        (["--data-dir", "file"], {}, "file cannot be used: File exists; name another one with --data-dir"),
        (["--data-dir", "/proc/nope"], {}, "/proc/nope cannot be used"),
        (["--host", "no-such-host.invalid"], {}, "cannot listen on no-such-host.invalid port 0: .* with --host"),
        (["--host", ""], {}, "--host is empty; name an address of this machine"),
        ([], {"TAILPRUNE_MAX_STEPS": "many"}, "TAILPRUNE_MAX_STEPS=many: input should be a valid integer"),
        ([], {"REDIS_URL": "sentinel://host"}, "REDIS_URL=sentinel://host: not the URL of a Redis server"),
        ([], {"TAILPRUNE_ARTIFACTS_URL": "memory://x"}, "TAILPRUNE_ARTIFACTS_URL=memory://x: each process"),
        ([], {"TAILPRUNE_REGISTRY": "."}, "cannot be read: Is a directory; set TAILPRUNE_REGISTRY"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    variables: dict[str, str],
    reason: str,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDIS_URL", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("service.cli.serve.get_settings", get_settings.__wrapped__)
    said = CliRunner().invoke(app, ["serve", "--port", "0", *arguments])
    assert said.exit_code == 1
    assert re.match(rf"^tailprune serve: .*{reason}.*\n$", said.stderr)


def test_a_redis_that_can_never_be_used_ends_the_command_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_redis: RedisProcess
) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("requirepass", "right")
    monkeypatch.setenv("REDIS_URL", own_redis.url.replace("redis://", "redis://:s3cret@"))
    monkeypatch.setattr("service.cli.serve.get_settings", get_settings.__wrapped__)
    said = CliRunner().invoke(app, ["serve", "--port", "0", "--data-dir", str(tmp_path)])
    assert said.exit_code == 1
    address = f"127.0.0.1:{own_redis.port}"
    assert (
        said.stderr == f"tailprune serve: Redis at redis://:***@{address}/0: it refuses the user name or the password\n"
    )


def test_a_redis_that_does_not_answer_is_said_to_be_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"{NO_REDIS}?password=s3cret")
    monkeypatch.setattr("service.cli.serve.get_settings", get_settings.__wrapped__)
    monkeypatch.setattr("jobs.startup.time.sleep", _interrupt)
    said = CliRunner().invoke(app, ["serve", "--port", "0", "--data-dir", str(tmp_path)])
    assert said.stderr == "waiting: Redis at redis://127.0.0.1:1/0?password=***: connection refused\n"


def test_a_variable_that_is_no_setting_is_said_to_have_no_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILPRUNE_BATCHSIZE", "3")
    said = CliRunner().invoke(app, ["serve", "--port", "0", "--data-dir", "/proc/nope"])
    assert "TAILPRUNE_BATCHSIZE is not a setting and has no effect" in " ".join(said.stderr.split())


def _interrupt(_: float) -> None:
    raise SystemExit(3)


def test_it_is_ready_when_the_workers_of_this_stack_are(monkeypatch: pytest.MonkeyPatch) -> None:
    class Running(Supervisor):
        def process_id(self, name: str) -> int | None:
            return {"worker-1": 41, "worker-2": 42}[name]

    listed: list[str] = []

    def ready(*_: object) -> tuple[int, object]:
        return 200, {"workers": [{"name": name} for name in listed]}

    monkeypatch.setattr("service.cli.serve._asked", ready)
    listed += ["worker-1-7@vm", "worker-2-8@vm"]  # another stack's
    assert not _is_ready("http://x", 2, Running(None))
    listed += ["worker-1-41@vm"]
    assert not _is_ready("http://x", 2, Running(None))
    listed += ["worker-2-42@vm"]
    assert _is_ready("http://x", 2, Running(None))


def test_workers_share_the_cores_and_differ_in_index_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.serve._cores", lambda: 8)
    programs = worker_programs(3, {"REDIS_URL": "redis://x"})
    assert [program.environment["TAILPRUNE_WORKER_INDEX"] for program in programs] == ["0", "1", "2"]
    assert {program.environment["TAILPRUNE_THREADS"] for program in programs} == {"2"}
    assert len({program.command[program.command.index("--hostname") + 1] for program in programs}) == 3
    assert all(program.environment["REDIS_URL"] == "redis://x" for program in programs)


def test_the_service_ends_in_time_although_events_are_followed() -> None:
    command = service_program("0.0.0.0", 80, {}).command
    assert int(command[command.index("--timeout-graceful-shutdown") + 1]) <= 10
