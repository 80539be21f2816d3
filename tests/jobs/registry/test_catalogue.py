"""All models there are: the registry's, and those that were compacted of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from jobs.registry.added import AddedStore
from jobs.registry.catalogue import Catalogue, ModelRegistered
from jobs.registry.compacted import Compacted, CompactedStore
from jobs.registry.compaction import compacted_name
from jobs.registry.digests import identify
from jobs.registry.models import Registry, UnknownModel
from jobs.settings import Settings
from jobs.storage.artifacts import Artifact, ArtifactStore, ArtifactsUnavailable
from jobs.storage.files import LocalFiles

NAME = "shapes-sit-compact-0123456789abcdef"
CONTENT = b"a smaller checkpoint"
NOW = datetime.now(UTC)


@pytest.fixture
def artifacts(settings: Settings, redis_client: redis.Redis) -> ArtifactStore:
    return ArtifactStore(settings, redis_client)


@pytest.fixture
def made(redis_client: redis.Redis) -> CompactedStore:
    return CompactedStore(redis_client)


@pytest.fixture
def catalogue(
    settings: Settings, redis_client: redis.Redis, made: CompactedStore, artifacts: ArtifactStore
) -> Callable[..., Catalogue]:
    def catalogue(fetches: bool = True) -> Catalogue:
        return Catalogue(
            Registry.read(settings.registry), AddedStore(redis_client), made, artifacts, settings, fetches=fetches
        )

    return catalogue


def compacted(checkpoint: Artifact, model: str = "shapes-sit", created: datetime = NOW, **said: Any) -> Compacted:
    return Compacted(
        model=model,
        model_digest="0" * 64,
        by="directions",
        fill="mean",
        components=128,
        kept=24,
        time_columns=0,
        created=created,
        parameters=1000,
        checkpoint=checkpoint,
        **said,
    )


def stored_file(settings: Settings, artifact: Artifact) -> Path:
    return Path(settings.artifacts) / artifact.folder / artifact.digest[:2] / artifact.digest


def test_a_compacted_model_is_as_its_own_model_but_for_its_checkpoint(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore
) -> None:
    made.put(NAME, compacted(artifacts.put(CONTENT, "application/octet-stream")))
    whole, entry = catalogue().get("shapes-sit"), catalogue().get(NAME)
    assert (entry.name, entry.parameters, entry.title) == (
        NAME,
        1000,
        "SiT on shapes, compacted to 24 of 128 directions",
    )
    assert entry.local_checkpoint is not None
    assert entry.local_checkpoint.read_bytes() == CONTENT
    assert entry.local_checkpoint.suffix == ".safetensors"
    for same in ("family", "defaults", "decoder", "names", "latent_shape", "condition_dim"):
        assert getattr(entry, same) == getattr(whole, same)
    assert entry.training is None


def test_its_identity_is_the_digest_of_its_file_whether_or_not_that_lies_here(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore, settings: Settings
) -> None:
    made.put(NAME, compacted(artifacts.put(CONTENT, "application/octet-stream")))
    entry = catalogue(fetches=False).get(NAME)
    assert entry.ready
    assert entry.local_checkpoint is None
    assert not list(settings.data_dir.rglob("*.safetensors"))
    for reads in ("model", "condition"):
        identity = identify(reads, entry, settings.data_dir)
        assert identity.weights == hashlib.sha256(CONTENT).hexdigest()


def test_those_whose_checkpoint_is_stored_no_more_are_not_ready_and_say_how_to_have_it(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore, settings: Settings
) -> None:
    checkpoint = artifacts.put(CONTENT, "application/octet-stream")
    made.put(NAME, compacted(checkpoint))
    stored_file(settings, checkpoint).unlink()
    entry = catalogue().get(NAME)
    assert entry.missing == ["its checkpoint"]
    assert entry.obtain is not None
    assert "repeat the POST /compact" in entry.obtain


def test_they_come_after_the_registered_ones_the_oldest_first(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore
) -> None:
    checkpoint = artifacts.put(CONTENT, "application/octet-stream")
    for name, age in (("later", 1), ("oldest", 3), ("gone", 4), ("old", 2)):
        model = "not-there" if name == "gone" else "shapes-sit"
        made.put(name, compacted(checkpoint, model, NOW - timedelta(hours=age)))
    assert [entry.name for entry in catalogue()] == ["shapes-sit", "absent-dit", "oldest", "old", "later"]


def test_a_model_whose_own_model_left_the_registry_is_unknown_and_says_so(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore
) -> None:
    made.put(NAME, compacted(artifacts.put(CONTENT, "application/octet-stream"), "not-there"))
    with pytest.raises(UnknownModel, match=f"'{NAME}' was compacted from 'not-there' and has its sampling defaults"):
        catalogue().get(NAME)


def changed(settings: Settings, before: str, after: str) -> None:
    text = settings.registry.read_text()
    assert before in text
    settings.registry.write_text(text.replace(before, after, 1))


def test_a_later_entry_of_the_whole_model_does_not_change_how_its_file_is_read(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore, settings: Settings
) -> None:
    made.put(NAME, compacted(artifacts.put(CONTENT, "application/octet-stream"), family="sit"))
    before = catalogue().get(NAME)
    changed(settings, "num_heads = 4", "num_heads = 2\ndecode_layer = 1")
    after = catalogue().get(NAME)
    assert (after.num_heads, after.decode_layer) == (None, None)
    assert after.loaded_as == before.loaded_as


def test_a_model_whose_own_model_is_of_another_family_now_is_unknown_and_says_so(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore, settings: Settings
) -> None:
    checkpoint = artifacts.put(CONTENT, "application/octet-stream")
    made.put(NAME, compacted(checkpoint, family="sit"))
    made.put("earlier", compacted(checkpoint))  # a record that does not say
    changed(settings, 'family = "sit"', 'family = "lightningdit"')
    with pytest.raises(UnknownModel, match="when its family was 'sit', but it is 'lightningdit' in the registry now"):
        catalogue().get(NAME)
    assert [entry.name for entry in catalogue()] == ["shapes-sit", "absent-dit", "earlier"]


def test_a_name_is_made_anew_by_its_own_job_alone(made: CompactedStore, artifacts: ArtifactStore) -> None:
    checkpoint = artifacts.put(CONTENT, "application/octet-stream")
    for parameters in (1000, 900):
        made.put(NAME, compacted(checkpoint, key="a").model_copy(update={"parameters": parameters}))
    with pytest.raises(ValueError, match=f"{NAME} is already the name of a model that another request made"):
        made.put(NAME, compacted(checkpoint, key="b"))
    kept = made.get(NAME)
    assert kept is not None
    assert (kept.key, kept.parameters) == ("a", 900)


def test_a_removed_model_is_unknown_to_every_catalogue_and_its_checkpoint_stays(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore
) -> None:
    checkpoint = artifacts.put(CONTENT, "application/octet-stream")
    for name in (NAME, "another"):
        made.put(name, compacted(checkpoint))
    service, worker = catalogue(fetches=False), catalogue()
    assert worker.get(NAME).ready
    service.remove(NAME)
    for models in (service, worker):
        assert [entry.name for entry in models] == ["shapes-sit", "absent-dit", "another"]
        with pytest.raises(UnknownModel, match="known models: shapes-sit, absent-dit"):
            models.get(NAME)
    assert artifacts.read(checkpoint) == CONTENT
    assert worker.get("another").ready


def test_a_removed_model_is_served_again_once_it_is_made_again_even_by_another_job(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore
) -> None:
    models, checkpoint = catalogue(), artifacts.put(CONTENT, "application/octet-stream")
    for key in ("a", "b"):
        made.put(NAME, compacted(checkpoint, key=key))
        assert models.get(NAME).ready
        models.remove(NAME)
        assert not made.has(NAME)


def test_a_model_is_removed_once(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore
) -> None:
    made.put(NAME, compacted(artifacts.put(CONTENT, "application/octet-stream")))
    catalogue().remove(NAME)
    with pytest.raises(UnknownModel, match=f"no model is named '{NAME}'; known models: shapes-sit, absent-dit"):
        catalogue().remove(NAME)


def test_a_model_that_cannot_be_used_any_more_can_be_removed(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore
) -> None:
    made.put(NAME, compacted(artifacts.put(CONTENT, "application/octet-stream"), "not-there"))
    catalogue().remove(NAME)
    assert made.all() == {}


def test_a_registered_model_is_not_removed_nor_what_has_its_name(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore
) -> None:
    made.put("shapes-sit", compacted(artifacts.put(CONTENT, "application/octet-stream")))
    with pytest.raises(ModelRegistered, match="'shapes-sit' is registered, and only added and compacted models"):
        catalogue().remove("shapes-sit")
    assert made.has("shapes-sit")


def test_while_the_store_is_away_models_are_listed_as_not_ready(
    catalogue: Callable[..., Catalogue],
    made: CompactedStore,
    artifacts: ArtifactStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made.put(NAME, compacted(artifacts.put(CONTENT, "application/octet-stream")))

    def away(*_: Any) -> None:
        raise ArtifactsUnavailable("the store is away")

    monkeypatch.setattr(LocalFiles, "state", away)
    models = catalogue(fetches=False)
    assert [entry.ready for entry in models if entry.name == NAME] == [False]
    assert models.get(NAME).missing == ["its checkpoint"]


def test_a_list_does_not_ask_a_store_of_objects_again_for_what_was_there_a_moment_ago(
    made: CompactedStore,
    settings: Settings,
    redis_client: redis.Redis,
    s3_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    artifacts = ArtifactStore(settings.model_copy(update={"artifacts_url": s3_url}), redis_client)
    there = artifacts.put(CONTENT, "application/octet-stream")
    gone = there.model_copy(update={"digest": "0" * 64})
    made.put(NAME, compacted(there))
    made.put("gone", compacted(gone))
    asked: list[str] = []
    has_all = ArtifactStore.has_all

    def counted(store: ArtifactStore, files: list[Artifact]) -> bool:
        asked.append(files[0].digest)
        return has_all(store, files)

    monkeypatch.setattr(ArtifactStore, "has_all", counted)
    models = Catalogue(
        Registry.read(settings.registry), AddedStore(redis_client), made, artifacts, settings, fetches=False
    )
    for _ in range(2):
        assert {entry.name: entry.ready for entry in models if entry.compacted} == {NAME: True, "gone": False}
    assert sorted(asked) == sorted([there.digest, gone.digest, gone.digest])
    assert models.get(NAME).ready
    assert asked[-1] == there.digest


def test_a_damaged_checkpoint_is_not_stored_wherever_it_lies(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore, settings: Settings
) -> None:
    checkpoint = artifacts.put(CONTENT, "application/octet-stream", "models")
    made.put(NAME, compacted(checkpoint))
    service, worker = catalogue(fetches=False), catalogue()
    assert [entry.ready for entry in service if entry.name == NAME] == [True]
    placed = worker.get(NAME).local_checkpoint
    assert placed is not None
    placed.write_bytes(b"A smaller checkpoint")  # both names of the one file
    for models in (service, worker):
        assert [entry.ready for entry in models if entry.name == NAME] == [False]
        assert models.get(NAME).missing == ["its checkpoint"]
    assert not stored_file(settings, checkpoint).exists()


def test_a_damaged_copy_is_replaced_before_a_worker_uses_it(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore
) -> None:
    made.put(NAME, compacted(artifacts.put(CONTENT, "application/octet-stream", "models")))
    placed = catalogue().get(NAME).local_checkpoint
    assert placed is not None
    placed.unlink()
    placed.write_bytes(b"A smaller checkpoint")
    again = catalogue().get(NAME).local_checkpoint
    assert again is not None
    assert again.read_bytes() == CONTENT


def test_an_unknown_name_is_answered_with_the_known_ones(catalogue: Callable[..., Catalogue]) -> None:
    with pytest.raises(UnknownModel, match="known models: shapes-sit, absent-dit"):
        catalogue().get("nobody")


def test_the_name_of_a_compacted_model_is_told_by_its_job() -> None:
    assert compacted_name("shapes-sit", "0123456789abcdef" * 4) == NAME


def test_an_error_names_no_path_of_this_machine(
    catalogue: Callable[..., Catalogue], made: CompactedStore, artifacts: ArtifactStore
) -> None:
    made.put(NAME, compacted(artifacts.put(CONTENT, "application/octet-stream")))
    entry = catalogue().get(NAME)
    assert entry.place_of(f"{entry.checkpoint}: is damaged") == f"the checkpoint of {NAME}: is damaged"
