"""Models that were added: looked up by all processes, unique by name, gone once they are deleted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog.testing

from jobs.registry.added import Added, AddedStore, ModelExists
from jobs.registry.catalogue import Catalogue, ModelGone, ModelRegistered
from jobs.registry.compacted import Compacted, CompactedStore
from jobs.registry.digests import identify
from jobs.registry.models import Registry, UnknownModel
from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore
from tests.registry import extend

NOW = datetime.now(UTC)
TABLE: dict[str, Any] = {"family": "dit", "classes": 3, "condition_dim": 64, "latent_shape": [4, 8, 8]}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "a.pt").write_bytes(b"weights")
    return settings.model_copy(update={"model_folders": str(tmp_path / "checkpoints")})


@pytest.fixture
def store(redis_client: redis.Redis) -> AddedStore:
    return AddedStore(redis_client)


@pytest.fixture
def catalogue(settings: Settings, redis_client: redis.Redis) -> Callable[[], Catalogue]:
    """The models, as a process has them that starts now."""

    def catalogue() -> Catalogue:
        artifacts, made = ArtifactStore(settings, redis_client), CompactedStore(redis_client)
        return Catalogue(
            Registry.read(settings.registry), AddedStore(redis_client), made, artifacts, settings, fetches=False
        )

    return catalogue


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Added]:
    def record(key: str = "k", age: int = 0, **fields: Any) -> Added:
        folder = tmp_path / "checkpoints"
        table = {**TABLE, "checkpoint": str(folder / "a.pt"), **fields}
        return Added(table=table, folder=folder, created=NOW - timedelta(hours=age), key=key)

    return record


def compacted(redis_client: redis.Redis, settings: Settings, model: str) -> None:
    checkpoint = ArtifactStore(settings, redis_client).put(b"smaller", "application/octet-stream", "models")
    made = Compacted(
        model=model, model_digest="d", by="variance", fill="mean", components=64, kept=8, time_columns=0, created=NOW,
        parameters=10, checkpoint=checkpoint, family="dit", key="c",
    )  # fmt: skip
    CompactedStore(redis_client).put("small", made)


def test_an_added_model_is_seen_by_all_that_run_after_those_of_the_file_the_oldest_first(
    catalogue: Callable[[], Catalogue], store: AddedStore, record: Callable[..., Added]
) -> None:
    service, worker = catalogue(), catalogue()
    service.add("younger", record(age=1))
    service.add("older", record(age=2))
    for models in (service, worker):
        assert [entry.name for entry in models] == ["shapes-sit", "absent-dit", "older", "younger"]
        entry = models.get("older")
        assert (entry.ready, entry.in_file, entry.classes) == (True, False, 3)
        with pytest.raises(UnknownModel, match="known models: shapes-sit, absent-dit, older, younger"):
            models.get("nobody")


def test_a_changed_file_is_noticed_and_a_missing_one_named(
    catalogue: Callable[[], Catalogue], record: Callable[..., Added], settings: Settings, tmp_path: Path
) -> None:
    models, file = catalogue(), tmp_path / "checkpoints" / "a.pt"
    models.add("mine", record())
    before = identify("model", models.get("mine"), settings.data_dir)
    file.write_bytes(b"other weights")
    assert identify("model", models.get("mine"), settings.data_dir).weights != before.weights
    file.unlink()
    entry = models.get("mine")
    assert (entry.ready, entry.missing) == (False, ["a.pt"])
    assert entry.obtain is not None
    assert entry.obtain.startswith(f"put it back under {file.parent}, which TAILPRUNE_MODEL_FOLDERS has to name")
    assert entry.obtain.endswith("on all machines, or DELETE /models/mine")
    assert entry.place_of(f"{file} is missing") == "a.pt is missing"


def test_a_file_that_became_a_link_out_of_the_folder_counts_as_missing(
    catalogue: Callable[[], Catalogue], record: Callable[..., Added], tmp_path: Path
) -> None:
    models, file = catalogue(), tmp_path / "checkpoints" / "a.pt"
    models.add("mine", record())
    (tmp_path / "secret.pt").write_bytes(b"secret")
    file.unlink()
    file.symlink_to(tmp_path / "secret.pt")
    assert models.get("mine").missing == ["a.pt"]


def test_a_model_whose_folder_is_named_no_more_is_not_ready(
    settings: Settings, redis_client: redis.Redis, catalogue: Callable[[], Catalogue], record: Callable[..., Added]
) -> None:
    catalogue().add("mine", record())
    without = settings.model_copy(update={"model_folders": ""})
    models = Catalogue(
        Registry.read(settings.registry), AddedStore(redis_client), CompactedStore(redis_client),
        ArtifactStore(settings, redis_client), without, fetches=False,
    )  # fmt: skip
    assert models.get("mine").missing == ["a.pt"]


def test_a_name_is_added_once_but_by_its_own_job(
    catalogue: Callable[[], Catalogue],
    record: Callable[..., Added],
    redis_client: redis.Redis,
    settings: Settings,
) -> None:
    models = catalogue()
    compacted(redis_client, settings, "shapes-sit")
    models.add("mine", record("a"))
    models.add("mine", record("a", title="again"))
    for name, key in (("mine", "b"), ("shapes-sit", "a"), ("small", "a")):
        with pytest.raises(ModelExists, match=f"there is a model '{name}' already"):
            models.add(name, record(key))
    assert models.get("mine").title == "again"


def test_of_two_that_add_at_once_the_later_is_refused_by_the_store(
    store: AddedStore, record: Callable[..., Added]
) -> None:
    store.put("mine", record("a"))
    with pytest.raises(ModelExists):
        store.put("mine", record("b"))


def test_a_deleted_model_is_unknown_and_so_is_what_was_compacted_from_it(
    catalogue: Callable[[], Catalogue],
    record: Callable[..., Added],
    redis_client: redis.Redis,
    settings: Settings,
    tmp_path: Path,
) -> None:
    models = catalogue()
    models.add("mine", record())
    compacted(redis_client, settings, "mine")
    assert (models.get("small").ready, models.get("small").added) == (True, None)
    models.remove("mine")
    assert (tmp_path / "checkpoints" / "a.pt").exists()
    assert [entry.name for entry in models] == ["shapes-sit", "absent-dit"]
    with pytest.raises(ModelGone, match="put its entry back into the registry, or add it again"):
        models.get("small")
    with pytest.raises(UnknownModel):
        models.remove("mine")
    models.add("mine", record("of another request"))
    assert models.get("small").ready


def test_a_model_of_the_file_hides_an_added_one_with_a_warning(
    catalogue: Callable[[], Catalogue], record: Callable[..., Added], settings: Settings
) -> None:
    catalogue().add("mine", record())
    extend(settings.registry, {"models": {"mine": {**TABLE, "checkpoint": "a.pt", "classes": 7}}})
    models = catalogue()
    with structlog.testing.capture_logs() as logs:
        models.warn_of_hidden()
    assert [line["model"] for line in logs] == ["mine"]
    assert [entry.classes for entry in models if entry.name == "mine"] == [models.get("mine").classes] == [7]
    with pytest.raises(ModelRegistered):
        models.remove("mine")


def test_a_record_that_is_none_of_a_model_is_left_out_and_says_how_to_go_on(
    catalogue: Callable[[], Catalogue], store: AddedStore, record: Callable[..., Added]
) -> None:
    store.put("mine", record(novelty=1))
    models = catalogue()
    assert [entry.name for entry in models] == ["shapes-sit", "absent-dit"]
    with pytest.raises(ModelGone, match=r"cannot be used as it was added \(novelty: .*DELETE /models/mine"):
        models.get("mine")
    models.remove("mine")
    assert store.all() == {}
