"""Where the registry is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

import tailprune
from tailprune.spec.registry import SHIPPED, is_installed, registry_path

CLONE = Path(__file__).parents[3]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TAILPRUNE_REGISTRY", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_any_folder_it_is_the_one_of_the_clone(elsewhere: Path) -> None:
    assert registry_path() == CLONE / "models" / "models.toml"


def test_a_registry_in_the_current_folder_comes_first(elsewhere: Path) -> None:
    (elsewhere / "models").mkdir()
    (elsewhere / "models" / "models.toml").touch()
    assert registry_path() == Path("models/models.toml")


def test_the_one_that_the_variable_names_comes_before_all(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILPRUNE_REGISTRY", "/srv/mine.toml")
    assert registry_path() == Path("/srv/mine.toml")
    monkeypatch.setenv("TAILPRUNE_REGISTRY", "")
    assert registry_path() == CLONE / "models" / "models.toml"


def test_the_registry_of_a_clone_is_not_part_of_an_installed_package(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_installed(SHIPPED)
    installed = elsewhere / "site-packages" / "tailprune" / "models" / "models.toml"
    installed.parent.mkdir(parents=True)
    installed.touch()
    monkeypatch.setattr("tailprune.spec.registry.SHIPPED", installed)
    assert registry_path() == installed
    assert is_installed(installed)


def test_a_shipped_model_is_loaded_by_name_from_any_folder(elsewhere: Path) -> None:
    assert tailprune.load("shapes-sit").condition_dim == 128
