"""The registry and the digests of checkpoints."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from jobs import registry as module
from jobs.registry import Registry, RegistryError, UnknownModel, content_digest
from tests.registry import write_registry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_registry(tmp_path / "models")


def test_an_unknown_model_is_told_the_known_ones(path: Path) -> None:
    with pytest.raises(UnknownModel, match="no model is named 'nothing'; known models: shapes-sit, absent-dit"):
        Registry.read(path).get("nothing")


def test_a_model_says_which_of_its_files_are_missing(path: Path) -> None:
    registry = Registry.read(path)
    assert registry.get("shapes-sit").ready
    assert registry.get("absent-dit").missing == ["model.safetensors"]


def test_labels_have_the_names_of_the_file_beside_the_registry(path: Path) -> None:
    registry = Registry.read(path)
    assert registry.get("shapes-sit").class_name(17) == "class 17"
    assert registry.get("absent-dit").class_name(0) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[models.x]\ntitle = 1", "model 'x'"),
        ("models =", "Invalid value"),
    ],
)
def test_a_registry_that_cannot_be_used_names_the_file_and_the_fault(path: Path, text: str, fault: str) -> None:
    path.write_text(text)
    with pytest.raises(RegistryError, match=fault) as error:
        Registry.read(path)
    assert str(path) in str(error.value)


def test_a_registry_that_is_not_there_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="TAILPRUNE_REGISTRY"):
        Registry.read(tmp_path / "models.toml")


def test_a_digest_follows_the_content(path: Path, tmp_path: Path) -> None:
    entry = Registry.read(path).get("shapes-sit")
    assert content_digest(entry, tmp_path) == hashlib.sha256(b"weights").hexdigest()
    entry.checkpoint.write_bytes(b"other weights")
    assert content_digest(entry, tmp_path) == hashlib.sha256(b"other weights").hexdigest()


def test_a_known_digest_is_not_computed_again_by_another_process(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Registry.read(path).get("shapes-sit")
    digest = content_digest(entry, tmp_path)
    monkeypatch.setattr(module, "_digests", {})
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert content_digest(entry, tmp_path) == digest
