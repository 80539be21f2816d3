"""All models by name: those of the registry's file, those added to it, and those that were compacted from them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import redis
import structlog
from pydantic import ValidationError

from jobs.registry.added import Added, AddedStore, ModelExists
from jobs.registry.compacted import Compacted, CompactedStore
from jobs.registry.document import faults_of
from jobs.registry.folders import ModelFolders
from jobs.registry.models import ModelEntry, Registry, UnknownModel, UnknownTransformer
from jobs.registry.transformers import TransformerEntry
from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore, ArtifactsUnavailable
from tailprune.spec.layouts import WEIGHTS

__all__ = ["Catalogue", "ModelGone", "ModelRegistered"]

LISTED_SECONDS = 30.0
"""For how long a file that was found in a store of objects counts as stored when models are listed."""

log = structlog.get_logger(__name__)


class ModelGone(UnknownModel):
    """A compacted model whose original model is gone or of another family, or an added one that cannot be read."""

    def __init__(self, why: str) -> None:
        LookupError.__init__(self, why)


class ModelRegistered(Exception):
    """The model belongs to the registry, so it cannot be deleted."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is registered, and only added and compacted models can be deleted here: remove its entry from "
            "the registry's file, which TAILPRUNE_REGISTRY names, and restart service and workers"
        )


class Catalogue:
    """Models by name. A compacted model has the properties of its original model, except for its checkpoint.

    registry: the models of the registry's file, which hide others of the same name.
    added: the added models.
    compacted: the compacted models.
    artifacts: the store of their checkpoints.
    settings: with the folders of added models, and that of the checkpoints that were fetched to this machine.
    fetches: whether `get` fetches the checkpoint of a compacted model; a service only needs to know that it is stored.

    Methods that look for other models than those of the file raise redis.RedisError if Redis does not answer. While
    the store of artifacts does not answer, compacted models whose checkpoint is not on this machine are not ready;
    where `get` fetches, it raises ArtifactsUnavailable for them.
    """

    def __init__(
        self,
        registry: Registry,
        added: AddedStore,
        compacted: CompactedStore,
        artifacts: ArtifactStore,
        settings: Settings,
        *,
        fetches: bool,
    ) -> None:
        self.registry = registry
        self.folders = ModelFolders.of(settings)
        self._added = added
        self._compacted = compacted
        self._artifacts = artifacts
        self._data_dir = settings.data_dir
        self._hub_cache = settings.hub_cache
        self._fetches = fetches
        self._found: dict[str, float] = {}
        """When a file was last found in a store of objects, by digest."""

    def get(self, name: str) -> ModelEntry:
        """The model of this name. Raises UnknownModel."""
        if name in self.registry:
            return self.registry.get(name)  # or what is said of a large transformer
        added = self._added.get(name)
        if added is not None:
            return self._entry_of(name, added)
        compacted = self._compacted.get(name)
        if compacted is None:
            raise UnknownModel(name, self._names())
        whole = self._whole(name, compacted, self._added.get(compacted.model))
        if not self._fetches:
            return self._entry(name, compacted, whole, self._is_stored(compacted))
        try:
            self._artifacts.place(compacted.checkpoint, self._path(compacted))
        except FileNotFoundError:
            return self._entry(name, compacted, whole, stored=False)
        return self._entry(name, compacted, whole, stored=True)

    def transformer(self, name: str) -> TransformerEntry:
        """The large transformer of this name. Raises UnknownTransformer, which says so where a system has the name."""
        found = self.registry.transformers.get(name)
        if found is not None:
            return found
        is_system = name in self.registry or self._added.get(name) is not None or self._compacted.has(name)
        raise UnknownTransformer(name, list(self.registry.transformers), is_system=is_system)

    def check_free(self, name: str, key: str) -> None:
        """Raise ModelExists where a model has this name that another job than the one of this key added."""
        added = self._added.get(name)
        if name in self.registry or self._compacted.has(name) or (added is not None and added.key != key):
            raise ModelExists(name)

    def add(self, name: str, model: Added) -> None:
        """Add a model, or what the same job added before. Raises ModelExists where another model has its name."""
        self.check_free(name, model.key)
        self._added.put(name, model)

    def warn_of_hidden(self) -> None:
        """Log a warning of each added or compacted model that one of the registry's file hides, if Redis answers."""
        names: list[str] = []
        with suppress(redis.RedisError):
            names = [*self._added.names(), *self._compacted.all()]
        for name in names:
            if name in self.registry:
                log.warning(
                    "a model of the registry's file hides another one of its name: rename its entry, or ignore this",
                    model=name,
                )

    def remove(self, name: str) -> None:
        """Delete an added or compacted model, also one that can no longer be used; files of added ones stay.

        Raises UnknownModel, and ModelRegistered for a model of the registry's file.
        """
        if name in self.registry:
            raise ModelRegistered(name)
        if not self._added.remove(name) and not self._compacted.remove(name):
            raise UnknownModel(name, self._names())

    def __iter__(self) -> Iterator[ModelEntry]:
        """The models of the file, then the added ones, then the compacted ones, both oldest first.

        Without those that cannot be used. Nothing is fetched.
        """
        yield from self.registry
        added = self._added.all()
        for name, model in added.items():
            if name not in self.registry:
                with suppress(ModelGone):
                    yield self._entry_of(name, model)
        for name, compacted in self._compacted.all().items():
            if name in self.registry or name in added:
                continue
            with suppress(ModelGone):
                whole = self._whole(name, compacted, added.get(compacted.model))
                since = time.monotonic() - self._found.get(compacted.checkpoint.digest, -math.inf)
                yield self._entry(name, compacted, whole, since < LISTED_SECONDS or self._is_stored(compacted))

    def _names(self) -> list[str]:
        """The names of the models of the file, and of the added ones."""
        names = [entry.name for entry in self.registry]
        return names + [name for name in self._added.names() if name not in self.registry]

    def _entry_of(self, name: str, added: Added) -> ModelEntry:
        """An added model. Raises ModelGone where its record is none of a model, as one of another version may be."""
        try:
            return added.entry(name, self.folders, self._hub_cache)
        except ValidationError as error:
            why = (
                f"{name!r} cannot be used as it was added ({faults_of(error)}); DELETE /models/{name}, and add it again"
            )
            raise ModelGone(why) from error

    def _whole(self, name: str, compacted: Compacted, added: Added | None) -> ModelEntry:
        """The model from which a compacted one was made. Raises ModelGone where that can no longer be used.

        added: the added model of the original model's name, if there is one.
        """
        if compacted.model in self.registry and compacted.model not in self.registry.transformers:
            whole = self.registry.get(compacted.model)
        elif added is not None:
            whole = self._entry_of(compacted.model, added)
        else:
            raise ModelGone(
                f"{name!r} was compacted from {compacted.model!r} and has its sampling defaults, but that model is no "
                "longer registered; put its entry back into the registry, or add it again"
            )
        if compacted.family not in (None, whole.family):
            raise ModelGone(
                f"{name!r} was compacted from {compacted.model!r} when its family was {compacted.family!r}, but it is "
                f"{whole.family!r} in the registry now; restore the entry, or POST /compact again"
            )
        return whole

    def _is_stored(self, compacted: Compacted) -> bool:
        """Whether the checkpoint of a compacted model is on this machine or in the store, and not damaged."""
        checkpoint = compacted.checkpoint
        try:
            if self._artifacts.is_placed(checkpoint, self._path(compacted)):
                return True
            stored = self._artifacts.has_all([checkpoint])
        except ArtifactsUnavailable as error:
            log.warning("the store of artifacts is unavailable", reason=str(error))
            return False
        if stored and not self._artifacts.is_local:  # to look into a folder takes no time
            self._found[checkpoint.digest] = time.monotonic()
        return stored

    def _path(self, compacted: Compacted) -> Path:
        return self._data_dir.absolute() / "compacted" / compacted.checkpoint.digest / WEIGHTS

    def _entry(self, name: str, compacted: Compacted, whole: ModelEntry, stored: bool) -> ModelEntry:
        return whole.model_copy(
            update={
                "name": name,
                "title": f"{whole.title}, compacted to {_width(compacted)}",
                "checkpoint": str(self._path(compacted)),
                "key": None,
                "num_heads": None,  # its file has these; the entry of the original model may have changed since
                "decode_layer": None,
                "parameters": compacted.parameters,
                "card": None,
                "obtain": f"repeat the POST /compact that made {name}; it makes the same model",
                "source": f"made from {compacted.model} by POST /compact",
                "compacted": compacted,
                "stored": stored,
                "added": None,
            }
        )


def _width(compacted: Compacted) -> str:
    what = "directions" if compacted.by == "directions" else "components"
    return f"{compacted.kept} of {compacted.components} {what}"
