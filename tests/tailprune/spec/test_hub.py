"""Addresses on the hub, and where the files lie that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailprune.checkpoints import fetch
from tailprune.spec.hub import HubFile, cached, check_source, is_hub, parse
from tests.hub import COMMIT, write_cached

OTHER_COMMIT = "beef" + "0" * 36
WELL_FORMED = ["hf://o/r", "hf://o/r/", "hf://o/r/a.pt", "hf://o/r/a/b.pt", "hf://o/r@v1/a.pt", "hf://o/r/vae/"]
MALFORMED = ["hf://", "hf://o", "hf://o/", "hf:///r/a.pt", "hf://o/@v1/a.pt", "hf://o/r@/a.pt"]
MALFORMED += ["hf://o/r/../../x.pt", "hf://o/r/./x.pt", "hf://o/r/a//x.pt", "hf://o/r//x.pt", "hf://o/r//"]
MALFORMED += ["hf://o/r/a/..", "hf://o/..", "hf://../r/x.pt", "hf://o/r@../x.pt"]
MALFORMED += ["hf://o/r/a file.pt", "hf://o /r", "hf://o/r\n", "hf://o/r@v 1/a.pt", "hf://o@v1/r", "hf://@/r"]


@pytest.mark.parametrize(
    ("source", "repo", "path", "revision"),
    [
        ("hf://owner/repo", "owner/repo", "", None),
        ("hf://owner/repo/", "owner/repo", "", None),
        ("hf://owner/repo/last.pt", "owner/repo", "last.pt", None),
        ("hf://owner/repo/runs/a/last.pt", "owner/repo", "runs/a/last.pt", None),
        ("hf://owner/repo/vae/", "owner/repo", "vae", None),
        ("hf://owner/repo@v1.0/last.pt", "owner/repo", "last.pt", "v1.0"),
        (f"hf://owner/repo@{COMMIT}", "owner/repo", "", COMMIT),
    ],
)
def test_a_source_names_a_repository_a_path_and_a_revision(
    source: str, repo: str, path: str, revision: str | None
) -> None:
    assert parse(source) == HubFile(repo, path, revision)


@pytest.mark.parametrize(
    ("source", "is_file"),
    [
        ("hf://o/r/a.pt", True),
        ("hf://o/r/x/a.safetensors", True),
        ("hf://o/r/stats.npz", True),
        ("hf://o/r/config.json", True),
        ("hf://o/dit-v1.0", False),
        ("hf://o/r.pt", False),
        ("hf://o/r/x/v1.0", False),
        ("hf://o/r/v1.pt/x", False),
    ],
)
def test_a_file_is_known_by_its_suffix(source: str, is_file: bool) -> None:
    assert parse(source).is_file == is_file


@pytest.mark.parametrize("source", ["hf://owner/repo", "hf://owner/repo@v1/a/b.pt"])
def test_what_was_parsed_is_written_as_it_was(source: str) -> None:
    assert str(parse(source)) == source


def test_a_path_is_no_address() -> None:
    assert not is_hub(Path("models/a.pt"))
    assert is_hub("hf://owner/repo/a.pt")
    with pytest.raises(ValueError, match="'owner/repo/a' does not have the form"):
        parse("owner/repo/a")


def test_a_file_that_was_fetched_is_where_the_snapshot_has_it(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path, "owner/repo", {"runs/last.pt": b"weights"})
    assert cached("hf://owner/repo/runs/last.pt", tmp_path) == snapshot / "runs" / "last.pt"


@pytest.mark.parametrize(
    ("source", "folder", "holds"),
    [
        ("hf://owner/repo", "", "config.json"),
        ("hf://owner/repo", "", "transformer/config.json"),
        ("hf://owner/repo", "", "vae/config.json"),
        ("hf://owner/repo/", "", "vae/config.json"),
        ("hf://owner/repo/vae", "vae", "config.json"),
        ("hf://owner/repo/a/b/", "a/b", "transformer/config.json"),
        ("hf://owner/repo/sit", "sit", "model.safetensors"),
        ("hf://owner/repo/x/v1.0", "x/v1.0", "model.safetensors"),
    ],
)
def test_a_folder_that_was_fetched_is_known_by_what_it_holds(
    tmp_path: Path, source: str, folder: str, holds: str
) -> None:
    snapshot = write_cached(tmp_path, "owner/repo", {f"{folder}/{holds}".lstrip("/"): b"{}"})
    assert cached(source, tmp_path) == snapshot / folder


@pytest.mark.parametrize("revision", ["v2", OTHER_COMMIT])
def test_a_revision_is_a_reference_or_a_commit(tmp_path: Path, revision: str) -> None:
    first = write_cached(tmp_path, "owner/repo", {"last.pt": b"first"})
    second = write_cached(tmp_path, "owner/repo", {"last.pt": b"second"}, OTHER_COMMIT, "v2")
    assert cached(f"hf://owner/repo@{revision}/last.pt", tmp_path) == second / "last.pt"
    assert cached("hf://owner/repo/last.pt", tmp_path) == first / "last.pt"


@pytest.mark.parametrize(
    "source",
    [
        "hf://owner/other/last.pt",
        "hf://owner/repo/other.pt",
        "hf://owner/repo@v2/last.pt",
        "hf://owner/repo/vae",
        "hf://owner/repo",
        "hf://-owner-/..repo/last.pt",
    ],
)
def test_what_was_not_fetched_is_nowhere(tmp_path: Path, source: str) -> None:
    write_cached(tmp_path, "owner/repo", {"last.pt": b"weights"})
    assert cached(source, tmp_path) is None


def test_a_repository_with_a_dot_in_its_name_is_found(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path, "o/dit-v1.0", {"config.json": b"{}", "a.npz": b"numbers"})
    assert cached("hf://o/dit-v1.0", tmp_path) == snapshot
    assert cached("hf://o/dit-v1.0/a.npz", tmp_path) == snapshot / "a.npz"


@pytest.mark.parametrize("path", ["x" * 5000 + ".pt", "a\0.pt", "a\udc80.pt", "a@..", "a" * 300 + "/b", "last.pt/b.pt"])
@pytest.mark.parametrize("at", ["", "@v\0", f"@{'v' * 5000}", "@main"])
def test_no_source_that_is_accepted_makes_looking_for_it_fail(tmp_path: Path, path: str, at: str) -> None:
    write_cached(tmp_path, "owner/repo", {"last.pt": b"weights"})
    source = check_source(f"hf://owner/repo{at}/{path}")
    assert cached(source, tmp_path) is None


@pytest.mark.parametrize("source", MALFORMED)
def test_a_source_that_is_refused_is_nowhere(tmp_path: Path, source: str) -> None:
    assert cached(source, tmp_path) is None


def test_a_cache_that_cannot_be_read_has_nothing(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path, "owner/repo", {"last.pt": b"weights"})
    (snapshot.parents[1] / "refs" / "main").write_bytes(b"\xff")
    assert cached("hf://owner/repo/last.pt", tmp_path) is None


def test_a_file_that_the_hub_is_known_not_to_have_is_nowhere(tmp_path: Path) -> None:
    snapshot = write_cached(tmp_path, "owner/repo", {"last.pt": b"weights"})
    absent = snapshot.parents[1] / ".no_exist" / COMMIT / "other.pt"
    absent.parent.mkdir(parents=True)
    absent.touch()
    assert cached("hf://owner/repo/other.pt", tmp_path) is None


@pytest.mark.parametrize("source", [*WELL_FORMED, "models/a.pt", "/models/a b.pt", "hf:/o/r"])
def test_a_path_and_a_place_on_the_hub_are_sources(source: str) -> None:
    assert check_source(source) == source
    assert is_hub(source) == (source in WELL_FORMED)


@pytest.mark.parametrize("source", MALFORMED)
def test_a_source_that_names_no_repository_is_refused_with_the_form(source: str) -> None:
    with pytest.raises(ValueError, match="does not have the form hf://owner/repo/file") as error:
        check_source(source)
    assert repr(source) in str(error.value)


@pytest.mark.parametrize("source", ["hf://owner/repo", "hf://owner/repo/sit", "hf://owner/repo@v1/sit/last.pt"])
def test_a_source_lies_where_it_is_fetched_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setenv("TAILPRUNE_OFFLINE", "1")
    monkeypatch.setenv("TAILPRUNE_HUB_CACHE", str(tmp_path))
    files = {"vae/config.json": b"{}", "sit/model.safetensors": b"weights", "sit/last.pt": b"weights"}
    write_cached(tmp_path, "owner/repo", files, reference="v1")
    write_cached(tmp_path, "owner/repo", {}, reference="main")
    assert cached(source, tmp_path) == fetch(source)
