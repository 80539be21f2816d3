"""Files of the hub: found in a cache folder, and fetched from a hub on loopback."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import tailprune
from tailprune.checkpoints import HubError, fetch
from tailprune.systems import DiT, SiT, System
from tests.hub import FakeHub, ask_science, write_cached
from tests.registry import write_document
from tests.tailprune.conftest import random_system
from tests.tailprune.spec.test_hub import MALFORMED

OTHER_COMMIT = "beef" + "0" * 36
REPOSITORY = {
    "README.md": b"what it is",
    "config.json": b"{}",
    "diffusion_pytorch_model.safetensors": b"a decoder",
    "last.safetensors": b"weights",
    "model.safetensors": b"a system",
    "model_index.json": b"{}",
    "scheduler/scheduler_config.json": b'{"of": "a scheduler"}',
    "text_encoder/model.safetensors": b"words",
    "transformer/config.json": b'{"of": "a system"}',
    "transformer/diffusion_pytorch_model.safetensors": b"a transformer",
    "vae/config.json": b'{"of": "a decoder"}',
    "vocoder/config.json": b'{"of": "a vocoder"}',
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder; nothing is fetched into it."""
    monkeypatch.setenv("TAILPRUNE_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TAILPRUNE_OFFLINE", "1")
    return tmp_path / "hub"


@pytest.fixture
def hub(processes: None) -> Iterator[FakeHub]:
    hub = FakeHub({"owner/repo": REPOSITORY})
    yield hub
    hub.stop()


@pytest.mark.parametrize("source", MALFORMED)
def test_a_source_that_names_no_repository_is_refused_with_the_form(source: str) -> None:
    with pytest.raises(ValueError, match=r"does not have the form hf://owner/repo/file") as error:
        fetch(source)
    assert repr(source) in str(error.value)


def test_a_folder_with_a_dot_in_its_name_is_found(cache: Path) -> None:
    write_cached(cache, "owner/dit-v1.0", {"x/v1.0/model.safetensors": b"weights", "config.json": b"{}"})
    assert (fetch("hf://owner/dit-v1.0/x/v1.0") / "model.safetensors").read_bytes() == b"weights"
    assert (fetch("hf://owner/dit-v1.0") / "config.json").read_bytes() == b"{}"


def test_an_empty_name_of_the_cache_folder_is_no_name(hub: FakeHub, tmp_path: Path) -> None:
    source = "hf://owner/repo/last.safetensors"
    done = ask_science("fetch", source, hub=hub.url, cache=tmp_path, TAILPRUNE_HUB_CACHE="")
    assert Path(done.stdout.removesuffix("\n")).is_relative_to(tmp_path / "home")  # HF_HOME


def test_a_file_in_the_cache_is_found(cache: Path) -> None:
    write_cached(cache, "owner/repo", {"runs/last.pt": b"weights"})
    assert fetch("hf://owner/repo/runs/last.pt").read_bytes() == b"weights"


@pytest.mark.parametrize("revision", ["v2", OTHER_COMMIT])
def test_a_file_in_the_cache_is_found_by_its_revision(cache: Path, revision: str) -> None:
    write_cached(cache, "owner/repo", {"last.pt": b"first"})
    write_cached(cache, "owner/repo", {"last.pt": b"second"}, OTHER_COMMIT, "v2")
    assert fetch(f"hf://owner/repo@{revision}/last.pt").read_bytes() == b"second"
    assert fetch("hf://owner/repo/last.pt").read_bytes() == b"first"


@pytest.mark.parametrize(("path", "holds"), [("", "vae/config.json"), ("/vae", "config.json")])
def test_a_folder_in_the_cache_is_found(cache: Path, path: str, holds: str) -> None:
    write_cached(cache, "owner/repo", REPOSITORY)
    assert (fetch(f"hf://owner/repo{path}") / holds).read_bytes() == REPOSITORY["vae/config.json"]


@pytest.mark.parametrize("source", ["hf://owner/repo/last.pt", "hf://owner/repo/vae", "hf://owner/repo@v1"])
def test_what_is_not_in_the_cache_of_someone_offline_is_refused_with_the_way_out(cache: Path, source: str) -> None:
    with pytest.raises(HubError) as error:
        fetch(source)
    assert str(error.value) == (
        f"{source} is not in the cache ({cache}), and TAILPRUNE_OFFLINE is set: fetch it where there is a network, or "
        "give the path of a local copy"
    )


@pytest.mark.parametrize("source", ["hf://owner/repo/other.pt", "hf://owner/repo/vae", "hf://owner/repo"])
def test_another_file_of_the_repository_in_the_cache_is_not_taken_for_it(cache: Path, source: str) -> None:
    write_cached(cache, "owner/repo", {"last.pt": b"weights"})
    with pytest.raises(HubError, match="is not in the cache"):
        fetch(source)


def test_a_file_is_fetched_and_where_it_lies_is_printed(hub: FakeHub, tmp_path: Path) -> None:
    done = ask_science("fetch", "hf://owner/repo/last.safetensors", hub=hub.url, cache=tmp_path)
    found = Path(done.stdout.removesuffix("\n"))
    assert found.is_relative_to(tmp_path)
    assert found.read_bytes() == b"weights"
    assert hub.fetched == ["last.safetensors"]


def test_a_file_that_has_not_changed_is_not_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    for _ in range(2):
        done = ask_science("fetch", "hf://owner/repo/last.safetensors", hub=hub.url, cache=tmp_path)
        assert done.returncode == 0
    assert hub.fetched == ["last.safetensors"]


@pytest.mark.parametrize("source", ["hf://owner/repo/last.safetensors", "hf://owner/repo"])
def test_what_was_fetched_is_found_without_the_hub(hub: FakeHub, tmp_path: Path, source: str) -> None:
    first = ask_science("fetch", source, hub=hub.url, cache=tmp_path)
    hub.repositories = {}
    asked = list(hub.asked)
    again = ask_science("fetch", source, hub=hub.url, cache=tmp_path, TAILPRUNE_OFFLINE="1")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert hub.asked == asked


@pytest.mark.parametrize("setting", ["TAILPRUNE_OFFLINE", "HF_HUB_OFFLINE"])
def test_someone_offline_asks_nothing_of_the_hub(hub: FakeHub, tmp_path: Path, setting: str) -> None:
    for source in ("hf://owner/repo/last.safetensors", "hf://owner/repo"):
        done = ask_science("fetch", source, hub=hub.url, cache=tmp_path, **{setting: "1"})
        assert done.returncode == 1
        assert f"{source} is not in the cache" in done.stderr
    assert hub.asked == []


def test_of_a_repository_as_a_whole_only_what_a_system_or_a_decoder_is_made_of_is_fetched(
    hub: FakeHub, tmp_path: Path
) -> None:
    done = ask_science("fetch", "hf://owner/repo", hub=hub.url, cache=tmp_path)
    assert (Path(done.stdout.removesuffix("\n")) / "vae" / "config.json").is_file()
    left = {"README.md", "last.safetensors", "model_index.json", "text_encoder/model.safetensors"}
    assert set(hub.fetched) == REPOSITORY.keys() - left


def test_of_a_folder_only_what_is_in_it_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    done = ask_science("fetch", "hf://owner/repo/text_encoder", hub=hub.url, cache=tmp_path)
    assert (Path(done.stdout.removesuffix("\n")) / "model.safetensors").read_bytes() == b"words"
    assert hub.fetched == ["text_encoder/model.safetensors"]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("hf://owner/repo/none.pt", "404 Client Error.*Entry Not Found"),
        ("hf://owner/repo/none", r"it has no none/\*"),
        ("hf://owner/none/last.pt", "404 Client Error.*Repository Not Found"),
        ("hf://owner/none", "404 Client Error.*Repository Not Found"),
    ],
)
def test_what_the_hub_does_not_have_is_reported(hub: FakeHub, tmp_path: Path, source: str, why: str) -> None:
    done = ask_science("fetch", source, hub=hub.url, cache=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(f"{source} cannot be fetched: {why}", done.stderr, re.DOTALL)


def test_a_hub_that_does_not_answer_is_reported(hub: FakeHub, tmp_path: Path) -> None:
    hub.stop()
    done = ask_science("fetch", "hf://owner/repo", hub=hub.url, cache=tmp_path)
    assert done.returncode == 1
    assert "hf://owner/repo is not in the cache" in done.stderr
    assert "the hub cannot be reached: fetch it where there is a network" in done.stderr


def test_a_proxy_that_lets_nobody_through_is_reported(hub: FakeHub, tmp_path: Path) -> None:
    source = "hf://owner/repo/last.safetensors"
    done = ask_science("fetch", source, hub="https://hub.invalid", cache=tmp_path, HTTPS_PROXY=hub.url)
    assert (done.returncode, done.stderr) == (1, f"{source} cannot be fetched: 403 Forbidden\n")


def test_a_checkpoint_is_fetched_to_be_inspected(processes: None, tmp_path: Path, sit: System) -> None:
    hub = FakeHub({"owner/repo": {"sit.safetensors": save(sit.state_dict())}})
    try:
        source = "hf://owner/repo/sit.safetensors"
        asked = ("inspect", source, "--family", "sit", "--num-heads", "4", "--json")
        done = ask_science(*asked, hub=hub.url, cache=tmp_path)
    finally:
        hub.stop()
    found = json.loads(done.stdout)
    assert (found["family"], found["condition_dim"], found["classes"]) == ("sit", 32, 10)
    assert Path(found["path"]).is_relative_to(tmp_path)


def test_a_system_is_loaded_from_the_cache(cache: Path, dit: System) -> None:
    write_cached(cache, "owner/repo", {"runs/dit.safetensors": save(dit.state_dict())})
    loaded = tailprune.load("hf://owner/repo/runs/dit.safetensors", family="dit", num_heads=4)
    assert isinstance(loaded, DiT)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in dit.state_dict().items())


def test_a_system_of_the_registry_is_loaded_from_the_cache_as_the_registry_says(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = random_system(SiT, learn_sigma=False)
    write_cached(cache, "owner/repo", {"last.safetensors": save(system.state_dict())})
    entry = {"family": "sit", "num_heads": 8, "checkpoint": "hf://owner/repo/last.safetensors"}
    monkeypatch.setenv("TAILPRUNE_REGISTRY", str(write_document(tmp_path, {"models": {"far": entry}})))
    assert isinstance(tailprune.load("far"), SiT)
    assert tailprune.inspect("far").configuration["num_heads"] == 8
