"""Large transformers in the registry: what entries say, which files they need, and what tells that these changed."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from safetensors.numpy import save

from jobs.registry.added import AddedStore, ModelExists
from jobs.registry.catalogue import Catalogue, ModelGone, ModelRegistered
from jobs.registry.compacted import Compacted, CompactedStore
from jobs.registry.document import RegistryError
from jobs.registry.models import IsTransformer, Registry, UnknownModel, UnknownTransformer
from jobs.registry.transformers import TransformerEntry
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact, ArtifactStore
from tests.hub import write_cached
from tests.registry import PLAIN, write_document

SHARDS = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
INDEX = "diffusion_pytorch_model.safetensors.index.json"


def tensors(*names: str) -> bytes:
    import numpy

    return save({name: numpy.zeros(2, dtype=numpy.float32) for name in names})


def write_shards(folder: Path) -> Path:
    """A folder in diffusers' layout, with weights in two files that an index names."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / INDEX).write_text(json.dumps({"weight_map": dict(zip("ab", SHARDS, strict=True))}))
    for name, shard in zip("ab", SHARDS, strict=True):
        (folder / shard).write_bytes(tensors(name))
    return folder


def read(folder: Path, hub_cache: Path | None = None, **fields: Any) -> Registry:
    """The plain registry with the large transformer `flux`."""
    table = {"kind": "transformer", "checkpoint": "flux", **fields}
    return Registry.read(write_document(folder, {"models": {**PLAIN["models"], "flux": table}}), hub_cache)


def flux(folder: Path, hub_cache: Path | None = None, **fields: Any) -> TransformerEntry:
    return read(folder, hub_cache, **fields).transformers["flux"]


def test_it_is_none_of_the_systems_and_every_call_for_them_is_told_so(tmp_path: Path) -> None:
    registry = read(tmp_path)
    assert [entry.name for entry in registry] == ["shapes-sit", "absent-dit"]
    assert len(registry) == 2
    assert "flux" in registry
    with pytest.raises(IsTransformer, match=r"'flux' is a large transformer.*GET /models/flux/anatomy"):
        registry.get("flux")
    assert issubclass(IsTransformer, UnknownModel)


def test_an_entry_says_what_it_is_of_and_little_has_to_be_said(tmp_path: Path) -> None:
    entry = flux(tmp_path)
    assert (entry.name, entry.title, entry.licence, entry.source, entry.obtain) == (
        "flux", "flux", "not stated", "not stated", None,
    )  # fmt: skip
    entry = flux(tmp_path, title="FLUX.1", licence="own", source="BFL", obtain="ask")
    assert (entry.title, entry.licence, entry.source, entry.obtain) == ("FLUX.1", "own", "BFL", "ask")


def test_a_system_may_say_that_it_is_one(tmp_path: Path) -> None:
    table = PLAIN["models"]["shapes-sit"] | {"kind": "system"}
    registry = Registry.read(write_document(tmp_path, {"models": {"shapes-sit": table}}))
    assert registry.get("shapes-sit").family == "sit"
    assert not registry.transformers


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"kind": "unet"}, "model 'flux': kind 'unet' is not one of system, transformer"),
        ({"kind": 1}, "model 'flux': kind 1 is not one of system, transformer"),
        ({"family": "sit"}, "model 'flux': family: Extra inputs are not permitted"),
        ({"checkpoint": ""}, "model 'flux': checkpoint: "),
        ({"checkpoint": "hf://one"}, "model 'flux': checkpoint: 'hf://one' does not have the form"),
        ({"name": "other"}, "model 'flux'.*name"),
    ],
)
def test_an_entry_that_cannot_be_used_names_the_fault(tmp_path: Path, fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(RegistryError, match=fault):
        read(tmp_path, **fields)


def test_a_transformer_says_which_of_its_files_are_missing(tmp_path: Path) -> None:
    assert flux(tmp_path).missing == ["flux"]
    within = write_shards(tmp_path / "flux" / "transformer")
    assert flux(tmp_path).ready
    (within / SHARDS[1]).unlink()
    assert flux(tmp_path).missing == [f"flux/transformer/{SHARDS[1]}"]
    for file in within.iterdir():
        file.unlink()
    (within / "config.json").write_text("{}")
    assert flux(tmp_path).missing == ["flux/transformer/diffusion_pytorch_model.safetensors"]


def test_a_file_is_a_checkpoint_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "h3.safetensors").write_bytes(tensors("a"))
    assert flux(tmp_path, checkpoint="h3.safetensors").ready


def test_a_transformer_on_the_hub_is_ready_once_all_its_files_are_in_the_cache(tmp_path: Path) -> None:
    cache, weights = tmp_path / "hub", "transformer/diffusion_pytorch_model.safetensors"
    source = {"checkpoint": "hf://owner/flux"}
    assert flux(tmp_path, cache, **source).missing == ["hf://owner/flux"]
    write_cached(cache, "owner/flux", {"transformer/config.json": b"{}"})
    assert flux(tmp_path, cache, **source).missing == [f"hf://owner/flux/{weights}"]
    write_cached(cache, "owner/flux", {weights: tensors("a")})
    assert flux(tmp_path, cache, **source).ready


def test_copies_of_the_same_files_elsewhere_have_the_same_digest(tmp_path: Path) -> None:
    for name in ("here", "there"):
        for file in write_shards(tmp_path / name / "flux").iterdir():
            os.utime(file, ns=(0, 10**18))
    assert flux(tmp_path / "here").files_digest == flux(tmp_path / "there").files_digest


@pytest.mark.parametrize("name", [*SHARDS, INDEX, "config.json"])
def test_the_digest_changes_when_a_file_was_written_to(tmp_path: Path, name: str) -> None:
    folder = write_shards(tmp_path / "flux")
    before = flux(tmp_path).files_digest
    assert flux(tmp_path).files_digest == before
    (folder / "README.md").write_text("read by nobody")
    assert flux(tmp_path).files_digest == before
    state = (folder / name).stat()
    os.utime(folder / name, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert flux(tmp_path).files_digest != before


def test_the_digest_changes_with_a_header_of_the_same_size_and_time(tmp_path: Path) -> None:
    path = write_shards(tmp_path / "flux") / SHARDS[0]
    state, before = path.stat(), flux(tmp_path).files_digest
    path.write_bytes(tensors("c"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    assert flux(tmp_path).files_digest != before


def test_a_file_without_a_header_has_a_digest_and_a_missing_one_has_none(tmp_path: Path) -> None:
    (tmp_path / "flux").write_bytes(b"\xff" * 100)
    assert len(flux(tmp_path).files_digest) == 64
    (tmp_path / "flux").unlink()
    with pytest.raises(FileNotFoundError, match=r"^flux is missing"):
        flux(tmp_path).files_digest  # noqa: B018


def test_texts_for_clients_have_no_path_of_this_machine(tmp_path: Path) -> None:
    write_shards(tmp_path / "flux")
    text = f"{tmp_path}/flux/{SHARDS[0]}: is cut short; see {tmp_path}/models.toml"
    assert flux(tmp_path).place_of(text) == f"flux/{SHARDS[0]}: is cut short; see models.toml"


@pytest.fixture
def catalogue(tmp_path: Path, settings: Settings, redis_client: redis.Redis) -> Catalogue:
    added, made, artifacts = (
        AddedStore(redis_client),
        CompactedStore(redis_client),
        ArtifactStore(settings, redis_client),
    )
    return Catalogue(read(tmp_path / "registry"), added, made, artifacts, settings, fetches=False)


def test_a_system_is_no_transformer_and_a_name_that_nothing_has_is_another_matter(catalogue: Catalogue) -> None:
    assert catalogue.transformer("flux").name == "flux"
    with pytest.raises(UnknownTransformer, match=r"'shapes-sit' is a system.*known large transformers: flux"):
        catalogue.transformer("shapes-sit")
    with pytest.raises(UnknownTransformer, match="no large transformer is named 'nothing'; known large transformers: "):
        catalogue.transformer("nothing")


def test_no_other_model_takes_its_name_and_it_cannot_be_deleted(catalogue: Catalogue) -> None:
    with pytest.raises(ModelExists):
        catalogue.check_free("flux", "key")
    with pytest.raises(ModelRegistered):
        catalogue.remove("flux")


def test_a_model_that_was_compacted_from_a_system_of_its_name_is_gone(
    catalogue: Catalogue, redis_client: redis.Redis
) -> None:
    record = Compacted(
        model="flux", model_digest="0" * 64, by="directions", fill="mean", components=128, kept=24, time_columns=0,
        created=datetime.now(UTC), parameters=1, checkpoint=Artifact(digest="1" * 64, size=1, media_type="a/b"),
        family="sit", key="key",
    )  # fmt: skip
    CompactedStore(redis_client).put("flux-compact-0123456789abcdef", record)
    with pytest.raises(ModelGone, match="no longer registered"):
        catalogue.get("flux-compact-0123456789abcdef")
    assert [entry.name for entry in catalogue] == ["shapes-sit", "absent-dit"]
