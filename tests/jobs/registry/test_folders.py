"""The folders whose checkpoints may be registered: what is found in them, and what leads out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.registry.folders import ModelFolders
from jobs.settings import Settings
from tailprune.spec import InputError, MissingFileError

TWO_WEIGHTS = ("model.safetensors", "transformer/weights.safetensors")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of checkpoints, beside which lies a secret."""
    home = tmp_path / "checkpoints"
    for name in ("a.pt", "sub/b.pt", ".hidden/c.pt", "dir/model.safetensors", "dir/.git/d.pt"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"weights")
    (tmp_path / "secret.pt").write_bytes(b"secret")
    (tmp_path / "checkpoints-of-others").mkdir()
    (tmp_path / "checkpoints-of-others" / "e.pt").write_bytes(b"secret")
    return home


@pytest.fixture
def folders(home: Path, tmp_path: Path) -> ModelFolders:
    return ModelFolders((tmp_path / "first", home), tmp_path / "data")


@pytest.mark.parametrize("source", ["a.pt", "sub/b.pt", "sub/./b.pt", "dir", "./a.pt"])
def test_a_source_is_absolute_or_relative_to_a_folder(folders: ModelFolders, home: Path, source: str) -> None:
    assert folders.find(source) == folders.find(str(home / source)) == home / source
    assert folders.of_path(home / source) == home


def test_of_two_folders_the_first_that_has_the_file_counts(folders: ModelFolders, home: Path, tmp_path: Path) -> None:
    assert folders.find("a.pt") == home / "a.pt"
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "a.pt").write_bytes(b"weights")
    assert folders.find("a.pt") == tmp_path / "first" / "a.pt"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("../secret.pt", "must not have '..'"),
        ("sub/../a.pt", "must not have '..'"),
        ("/etc/passwd", "is in none of the folders that TAILPRUNE_MODEL_FOLDERS names"),
        ("{tmp}/secret.pt", "is in none of the folders"),
        ("{tmp}/checkpoints-of-others/e.pt", "is in none of the folders"),
        ("none.pt", "none.pt does not exist in the folders that TAILPRUNE_MODEL_FOLDERS names"),
        ("{tmp}/checkpoints/none.pt", "none.pt does not exist"),
        (".hidden/c.pt", "is hidden"),
        ("~/a.pt", "does not exist"),
        ("x" * 300, "does not exist"),
    ],
)
def test_what_is_not_in_a_folder_is_refused(folders: ModelFolders, tmp_path: Path, source: str, why: str) -> None:
    with pytest.raises(InputError, match=why.replace("(", r"\(")):
        folders.find(source.replace("{tmp}", str(tmp_path)))


def test_links_may_lead_within_the_folders_and_not_out_of_them(
    folders: ModelFolders, home: Path, tmp_path: Path
) -> None:
    (home / "within.pt").symlink_to("sub/b.pt")
    (home / "out.pt").symlink_to(tmp_path / "secret.pt")
    (home / "up").symlink_to(tmp_path)
    (home / "nowhere.pt").symlink_to("nothing")
    (home / "round.pt").symlink_to("round.pt")
    assert folders.find("within.pt") == home / "within.pt"
    for source in ("out.pt", "up/secret.pt", "up"):
        with pytest.raises(InputError, match="leads out of the folders that TAILPRUNE_MODEL_FOLDERS names, by a link"):
            folders.find(source)
    for source in ("nowhere.pt", "round.pt"):
        with pytest.raises(MissingFileError, match="leads nowhere"):
            folders.find(source)


@pytest.mark.parametrize("name", TWO_WEIGHTS)
def test_a_link_in_the_folder_of_a_checkpoint_may_not_lead_out_either(
    folders: ModelFolders, home: Path, tmp_path: Path, name: str
) -> None:
    link = home / "links" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "secret.pt")
    with pytest.raises(InputError, match=f"by a link: {name} is elsewhere"):
        folders.find("links")


def test_a_link_beside_the_weights_that_are_read_with_it_may_not_lead_out_either(
    folders: ModelFolders, home: Path, tmp_path: Path
) -> None:
    (home / "sub" / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    (home / "sub" / "config.json").symlink_to(tmp_path / "secret.pt")
    with pytest.raises(InputError, match=r"config\.json is elsewhere"):
        folders.find("sub/diffusion_pytorch_model.safetensors")
    assert folders.find("sub/b.pt")


def test_a_folder_may_itself_be_a_link(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mounted").symlink_to(home)
    folders = ModelFolders((tmp_path / "mounted",), tmp_path / "data")
    assert folders.find("a.pt") == tmp_path / "mounted" / "a.pt"


def test_what_would_block_who_reads_it_is_refused(folders: ModelFolders, home: Path) -> None:
    os.mkfifo(home / "pipe.pt")
    with pytest.raises(InputError, match="is neither a file nor a folder"):
        folders.find("pipe.pt")
    os.mkfifo(home / "dir" / "part.bin")
    with pytest.raises(InputError, match=r"has part\.bin, which is no file"):
        folders.find("dir")


def test_what_the_service_deletes_by_itself_is_refused(home: Path) -> None:
    folders = ModelFolders((home,), home / "sub")
    assert folders.find("a.pt")
    with pytest.raises(InputError, match="is in TAILPRUNE_DATA_DIR"):
        folders.find("sub/b.pt")


def test_without_folders_the_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="set TAILPRUNE_MODEL_FOLDERS to the folders of checkpoints"):
        ModelFolders((), tmp_path).find("a.pt")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("", ()),
        (" , ", ()),
        ("/a", ("/a",)),
        ("/a,/b/", ("/a", "/b")),
        ("/a:/b c, /d", ("/a", "/b c", "/d")),
        ("/a/../b", ("/b",)),
    ],
)
def test_the_setting_names_folders(setting: str, named: tuple[str, ...]) -> None:
    settings = Settings(model_folders=setting)
    assert ModelFolders.of(settings).folders == tuple(map(Path, named))


def test_a_relative_folder_is_one_of_where_the_process_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folders = ModelFolders.of(Settings(model_folders="models,~/more")).folders
    assert folders == (tmp_path / "models", tmp_path / "home" / "more")
