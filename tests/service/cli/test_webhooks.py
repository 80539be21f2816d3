"""`tailprune webhooks secret`, and the webhooks of the commands that start jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from jobs.problems import Fault, problem
from jobs.settings import get_settings
from jobs.webhooks.secret import FILE
from service.cli import app

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    """Settings are read anew in each test."""
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def printed(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["webhooks", "secret", *arguments])
    assert done.exit_code == status, done.output
    return done.output.strip()


def test_the_secret_of_a_data_folder_is_made_once_and_shown_again(tmp_path: Path) -> None:
    first = printed("--data-dir", str(tmp_path))
    assert first.startswith("whsec_")
    assert printed("--data-dir", str(tmp_path)) == first == (tmp_path / FILE).read_text().strip()


def test_a_secret_of_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILPRUNE_WEBHOOK_SECRET", f"{SECRET} {SECRET}")
    assert printed("--data-dir", str(tmp_path)) == SECRET
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_secret_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("secret")
    assert "delete the file for a new one" in printed("--data-dir", str(tmp_path), status=1)


@pytest.mark.parametrize(
    "command",
    ["prune-sample tiny --threshold 0.1", "study tiny --threshold 0.1", "compact tiny --keep 8", "extract tiny"],
)
def test_commands_post_a_webhook_and_say_why_it_is_refused(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[dict[str, Any]] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        fault = Fault(location="body.webhook", message="webhooks are off")
        return httpx.Response(422, json=problem("invalid-request", "one thing is wrong", [fault]).public())

    real = httpx.Client
    monkeypatch.setattr("httpx.Client", lambda **options: real(**options, transport=httpx.MockTransport(refuse)))
    options = ["--webhook", "https://hooks.example.com/7", "--webhook-event", "started", "--webhook-event", "failed"]
    done = CliRunner().invoke(app, [*command.split(), *options])
    assert done.exit_code == 1
    assert "--webhook: webhooks are off" in done.stderr
    (body,) = bodies
    assert (body["webhook"], body["webhook_events"]) == ("https://hooks.example.com/7", ["started", "failed"])


def test_a_request_in_a_file_has_its_webhook_there(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text("{}")
    done = CliRunner().invoke(app, ["study", "--body", str(file), "--webhook", "https://hooks.example.com/7"])
    assert done.exit_code == 2
    assert "holds the whole request" in done.stderr
