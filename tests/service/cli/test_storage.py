"""`tailprune storage`: a table by class, and a collection at once."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner, Result

from jobs.settings import Settings, get_settings
from jobs.startup import check_servers
from jobs.storage.artifacts import ArtifactStore
from jobs.store.connection import connect
from service.cli import app
from service.cli.note import NOTE, noted_settings
from tests.jobs.storage.test_retention import DAY, write_job

HOURS = 3600.0


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("TAILPRUNE_") or name in ("REDIS_URL", "BROKER_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "120")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def serving(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The settings of a `tailprune serve` that runs on a data folder, with limits."""
    monkeypatch.setenv("TAILPRUNE_KEEP_DAYS", "results=30")
    monkeypatch.setenv("TAILPRUNE_KEEP_BYTES", "20GB")
    folder = tmp_path / "data"
    folder.mkdir()
    settings = Settings().model_copy(update={"redis_url": redis_url, "data_dir": folder})
    for name in ("TAILPRUNE_KEEP_DAYS", "TAILPRUNE_KEEP_BYTES"):
        monkeypatch.delenv(name)
    with connect(settings) as client:
        check_servers(settings, ArtifactStore(settings, client))
    with noted_settings(settings):
        yield settings


def storage(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["storage", "--data-dir", str(settings.data_dir), *arguments])


def put_old(settings: Settings, client: redis.Redis, content: bytes, age: float = 3 * HOURS) -> Path:
    artifact = ArtifactStore(settings, client).put(content, "text/plain")
    path = next(Path(settings.artifacts).rglob(artifact.digest))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_is_stored_is_shown_beside_a_running_serve_with_its_limits(
    serving: Settings, redis_client: redis.Redis
) -> None:
    named = ArtifactStore(serving, redis_client).put(b"x" * 2_500_000, "text/plain")
    write_job(redis_client, named)
    put_old(serving, redis_client, b"y" * 1000)
    shown = storage(serving)
    assert shown.exit_code == 0, shown.output
    results = next(line for line in shown.stdout.splitlines() if "results" in line)
    for part in ("2", "2.5 MB", "1 kB", "30 days, 20 GB"):
        assert part in results
    shards = next(line for line in shown.stdout.splitlines() if "shards" in line)
    assert "7 days, 20 GB" in shards
    models = next(line for line in shown.stdout.splitlines() if "models" in line)
    assert "GB" not in models


def test_a_collection_says_what_it_deletes(serving: Settings, redis_client: redis.Redis) -> None:
    unnamed = put_old(serving, redis_client, b"y" * 1000)
    old = put_old(serving, redis_client, b"old", 40 * DAY)
    artifact = ArtifactStore(serving, redis_client).find(old.name, "results")
    assert artifact is not None
    write_job(redis_client, artifact, age=40 * DAY)
    planned = storage(serving, "prune", "--dry-run")
    assert planned.stdout.splitlines() == [
        "would delete 2 files of results (1 kB)",
        "would delete 1 finished job over a limit",
    ]
    assert unnamed.exists()
    done = storage(serving, "prune")
    assert done.stdout == planned.stdout.replace("would delete", "deleted")
    assert not unnamed.exists()
    assert not old.exists()
    again = CliRunner().invoke(app, ["storage", "prune", "--data-dir", str(serving.data_dir)])
    assert again.stdout == "nothing to delete\n"


def test_without_a_serve_and_a_redis_it_says_what_to_do(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["storage", "--data-dir", str(tmp_path)])
    assert said.exit_code == 1
    assert "no tailprune serve runs on" in said.stderr
    assert "REDIS_URL is not set" in said.stderr
    assert not list(tmp_path.iterdir())


def test_a_redis_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    get_settings.cache_clear()
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "store-id").write_text("some")
    said = CliRunner().invoke(app, ["storage", "--data-dir", str(tmp_path)])
    assert said.exit_code == 1
    assert "redis://:***@127.0.0.1:1/0" in said.stderr


def test_a_store_that_is_not_of_this_redis_is_refused(
    serving: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REDIS_URL", serving.redis_url)
    get_settings.cache_clear()
    other = serving.model_copy(update={"data_dir": tmp_path / "other"})
    assert "nothing is stored in" in storage(other).stderr
    ArtifactStore(other, redis_client).write_id("another")
    said = storage(other)
    assert said.exit_code == 1
    assert "another store of artifacts" in said.stderr


def test_the_settings_of_a_serve_are_noted_for_its_user_alone_while_it_runs(tmp_path: Path) -> None:
    settings = Settings().model_copy(update={"redis_url": "redis://:secret@host", "data_dir": tmp_path})
    with noted_settings(settings):
        assert stat.S_IMODE((tmp_path / NOTE).stat().st_mode) == 0o600
        noted = json.loads((tmp_path / NOTE).read_text())
        assert noted == {"redis_url": "redis://:secret@host", "data_dir": str(tmp_path)}
    assert not list(tmp_path.iterdir())


def test_a_note_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / NOTE).write_text("{")
    said = CliRunner().invoke(app, ["storage", "--data-dir", str(tmp_path)])
    assert said.exit_code == 1
    assert "serve.json cannot be read" in said.stderr
