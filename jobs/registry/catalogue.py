"""All models by name: those of the registry, and those that were compacted from them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from jobs.registry.compacted import Compacted, CompactedStore
from jobs.registry.models import ModelEntry, Registry, UnknownModel
from jobs.storage.artifacts import ArtifactStore, ArtifactsUnavailable
from tailprune.spec.layouts import WEIGHTS

__all__ = ["Catalogue", "ModelGone", "ModelRegistered"]

LISTED_SECONDS = 30.0
"""For how long a file that was found in a store of objects counts as stored when models are listed."""

log = structlog.get_logger(__name__)


class ModelGone(UnknownModel):
    """A compacted model whose original model has left the registry, or has another family there."""

    def __init__(self, why: str) -> None:
        LookupError.__init__(self, why)


class ModelRegistered(Exception):
    """The model belongs to the registry, so it cannot be deleted."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is registered, and only compacted models can be deleted here: remove its entry from the "
            "registry's file, which TAILPRUNE_REGISTRY names, and restart service and workers"
        )


class Catalogue:
    """Models by name. A compacted model has the properties of its original model, except for its checkpoint.

    registry: the registered models.
    compacted: the compacted models.
    artifacts: the store of their checkpoints.
    data_dir: the folder of the checkpoints that were fetched to this machine.
    fetches: whether `get` fetches the checkpoint of a compacted model; a service only needs to know that it is stored.

    Methods that look for compacted models raise redis.RedisError if Redis does not answer. While the store of
    artifacts does not answer, compacted models whose checkpoint is not on this machine are not ready; where `get`
    fetches, it raises ArtifactsUnavailable for them.
    """

    def __init__(
        self, registry: Registry, compacted: CompactedStore, artifacts: ArtifactStore, data_dir: Path, *, fetches: bool
    ) -> None:
        self.registry = registry
        self._compacted = compacted
        self._artifacts = artifacts
        self._data_dir = data_dir
        self._fetches = fetches
        self._found: dict[str, float] = {}
        """When a file was last found in a store of objects, by digest."""

    def get(self, name: str) -> ModelEntry:
        """The model of this name. Raises UnknownModel."""
        compacted = None if name in self.registry else self._compacted.get(name)
        if compacted is None:
            return self.registry.get(name)
        if why := self._gone(name, compacted):
            raise ModelGone(why)
        if not self._fetches:
            return self._entry(name, compacted, self._is_stored(compacted))
        try:
            self._artifacts.place(compacted.checkpoint, self._path(compacted))
        except FileNotFoundError:
            return self._entry(name, compacted, stored=False)
        return self._entry(name, compacted, stored=True)

    def remove(self, name: str) -> None:
        """Delete a compacted model, also one that can no longer be used.

        Raises UnknownModel, and ModelRegistered for a model of the registry.
        """
        if name in self.registry:
            raise ModelRegistered(name)
        if not self._compacted.remove(name):
            raise UnknownModel(name, [entry.name for entry in self.registry])

    def __iter__(self) -> Iterator[ModelEntry]:
        """The registered models, then the compacted ones that can still be used, oldest first. Nothing is fetched."""
        yield from self.registry
        for name, compacted in self._compacted.all().items():
            if name not in self.registry and self._gone(name, compacted) is None:
                since = time.monotonic() - self._found.get(compacted.checkpoint.digest, -math.inf)
                yield self._entry(name, compacted, since < LISTED_SECONDS or self._is_stored(compacted))

    def _gone(self, name: str, compacted: Compacted) -> str | None:
        """Why a compacted model can no longer be used, and what helps; None if it can be used."""
        if compacted.model not in self.registry:
            return (
                f"{name!r} was compacted from {compacted.model!r} and has its sampling defaults, but that model is no "
                "longer registered; put its entry back into the registry"
            )
        family = self.registry.get(compacted.model).family
        if compacted.family in (None, family):
            return None
        return (
            f"{name!r} was compacted from {compacted.model!r} when its family was {compacted.family!r}, but it is "
            f"{family!r} in the registry now; restore the entry, or POST /compact again"
        )

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

    def _entry(self, name: str, compacted: Compacted, stored: bool) -> ModelEntry:
        whole = self.registry.get(compacted.model)
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
            }
        )


def _width(compacted: Compacted) -> str:
    what = "directions" if compacted.by == "directions" else "components"
    return f"{compacted.kept} of {compacted.components} {what}"
