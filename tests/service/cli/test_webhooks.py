"""`tailprune webhooks secret`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

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
