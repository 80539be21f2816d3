"""`tailprune keys`: what is printed, and what a service then knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.settings import Settings
from service.cli import app
from service.keys import KeyFile, Keys


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.keys.get_settings", lambda: Settings(data_dir=tmp_path / "data"))


def keys(*arguments: str, expected: int = 0) -> tuple[str, str]:
    """What the command prints, and what it says besides."""
    done = CliRunner().invoke(app, ["keys", *arguments])
    assert done.exit_code == expected, done.output
    return done.stdout, done.stderr


def test_a_key_is_printed_once_and_then_listed_without_it(tmp_path: Path) -> None:
    printed, said = keys("add", "ana", "--scope", "submit")
    secret = printed.strip()
    assert "not shown again" in said
    assert secret not in said
    known = Keys(KeyFile(tmp_path / "data" / "keys.toml"))
    found = known.find(secret)
    assert found is not None
    assert (found.name, found.scope) == ("ana", "submit")
    listed, _ = keys("list")
    assert "ana" in listed
    assert "submit" in listed
    assert secret not in listed


def test_a_name_has_one_key_and_can_be_removed(tmp_path: Path) -> None:
    keys("add", "ana", "--scope", "read")
    assert "there is a key 'ana' already" in keys("add", "ana", "--scope", "admin", expected=1)[1]
    assert "open to this machine" in keys("remove", "ana")[1]
    assert "there is no key 'ana'" in keys("remove", "ana", expected=1)[1]
    assert "there are no keys" in keys("list")[1]


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 65, "é"])
def test_a_name_that_could_not_be_read_in_a_log_is_refused(name: str) -> None:
    assert keys("add", "--scope", "read", "--", name, expected=2)[0] == ""


def test_the_folder_and_the_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys("add", "ana", "--scope", "read", "--data-dir", str(tmp_path / "other"))
    assert list(KeyFile(tmp_path / "other" / "keys.toml").read()) == ["ana"]
    elsewhere = tmp_path / "secrets" / "tailprune.toml"
    monkeypatch.setattr("service.cli.keys.get_settings", lambda: Settings(keys=elsewhere))
    keys("add", "bob", "--scope", "read")
    assert list(KeyFile(elsewhere).read()) == ["bob"]


def test_a_damaged_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "data" / "keys.toml"
    path.parent.mkdir()
    path.write_text("no [toml")
    assert "is no TOML" in keys("add", "ana", "--scope", "read", expected=1)[1]
    assert path.read_text() == "no [toml"
