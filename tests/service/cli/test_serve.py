import socket
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from jobs.settings import Settings
from service.cli import app
from service.cli.serve import ServeError, StopRequests, redis_for, service_program, worker_programs
from service.cli.supervisor import Supervisor
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
    with redis_for(settings, tmp_path, supervisor, stopping) as url, redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
        policy = client.config_get("maxmemory-policy")
    assert policy == {"maxmemory-policy": "volatile-lru"}
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
        pytest.raises(ServeError, match=r"another tailprune serve uses .* --data-dir"),
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
