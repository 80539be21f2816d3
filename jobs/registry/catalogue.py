"""All models there are: those of the registry, and those that were compacted of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from jobs.registry.compacted import Compacted, CompactedStore
from jobs.registry.models import ModelEntry, Registry, UnknownModel
from jobs.storage.artifacts import ArtifactStore
from tailprune.spec.layouts import WEIGHTS

__all__ = ["Catalogue", "ModelGone", "ModelRegistered"]

LISTED_SECONDS = 30.0
"""A list takes a file that was stored for stored still, so long, and does not ask the store for every model."""

log = structlog.get_logger(__name__)


class ModelGone(UnknownModel):
    """A compacted model whose own model is not what it was made of any more."""

    def __init__(self, why: str) -> None:
        LookupError.__init__(self, why)


class ModelRegistered(Exception):
    """The model is one of the registry, so it cannot be removed."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is registered, and only compacted models are deleted here: take its entry out of the registry's "
            "file, which TAILPRUNE_REGISTRY names, and start service and workers again"
        )


class Catalogue:
    """Models by name. A compacted one is as the model that it was made of, but for its checkpoint.

    fetches: whether checkpoints are wanted on this machine, in the data folder, or need only be known of.
    Methods raise redis.RedisError where they look for compacted models and Redis is gone. While the store of
    artifacts is away, compacted models whose checkpoint is not on this machine are not ready.
    """

    def __init__(
        self, registry: Registry, made: CompactedStore, artifacts: ArtifactStore, data_dir: Path, *, fetches: bool
    ) -> None:
        self.registry = registry
        self._made = made
        self._artifacts = artifacts
        self._data_dir = data_dir
        self._fetches = fetches
        self._found: dict[str, float] = {}
        """When the store had a file, by digest."""

    def get(self, name: str) -> ModelEntry:
        """The model of this name. Raises UnknownModel."""
        made = None if name in self.registry else self._made.get(name)
        if made is None:
            return self.registry.get(name)
        if why := self._gone(name, made):
            raise ModelGone(why)
        stored, path = self._is_stored(made), self._path(made)
        if self._fetches and stored and not path.is_file():
            self._artifacts.place(made.checkpoint, path)
        return self._entry(name, made, stored)

    def remove(self, name: str) -> None:
        """Forgets a compacted model, also one that cannot be used any more.

        Raises UnknownModel, and ModelRegistered for a model of the registry.
        """
        if name in self.registry:
            raise ModelRegistered(name)
        if not self._made.remove(name):
            raise UnknownModel(name, [entry.name for entry in self.registry])

    def __iter__(self) -> Iterator[ModelEntry]:
        """The registered models, then the compacted ones whose own model is there still, the oldest first.

        No checkpoint is fetched for it.
        """
        yield from self.registry
        for name, made in self._made.all().items():
            if name not in self.registry and self._gone(name, made) is None:
                since = time.monotonic() - self._found.get(made.checkpoint.digest, -math.inf)
                yield self._entry(name, made, since < LISTED_SECONDS or self._is_stored(made))

    def _gone(self, name: str, made: Compacted) -> str | None:
        """Why a compacted model cannot be used any more, and what would help; None where it can."""
        if made.model not in self.registry:
            return (
                f"{name!r} was compacted from {made.model!r}, which is not registered any more and says how it is "
                "sampled; put its entry back into the registry"
            )
        family = self.registry.get(made.model).family
        if made.family in (None, family):
            return None
        return (
            f"{name!r} was compacted from {made.model!r} when its family was {made.family!r}, and the registry now "
            f"says {family!r}; put the entry back as it was, or POST /compact again"
        )

    def _is_stored(self, made: Compacted) -> bool:
        """Whether the checkpoint of a compacted model is on this machine, or in the store."""
        if self._path(made).is_file():
            return True
        try:
            stored = self._artifacts.exists(made.checkpoint)
        except OSError as error:
            log.warning("store of artifacts is away", reason=str(error))
            return False
        if stored:
            self._found[made.checkpoint.digest] = time.monotonic()
        return stored

    def _path(self, made: Compacted) -> Path:
        return self._data_dir.absolute() / "compacted" / made.checkpoint.digest / WEIGHTS

    def _entry(self, name: str, made: Compacted, stored: bool) -> ModelEntry:
        whole = self.registry.get(made.model)
        return whole.model_copy(
            update={
                "name": name,
                "title": f"{whole.title}, compacted to {_width(made)}",
                "checkpoint": str(self._path(made)),
                "num_heads": None,  # its file has these, whatever the entry of the whole model has since
                "decode_layer": None,
                "parameters": made.parameters,
                "card": None,
                "obtain": f"POST /compact again what {name} was made by, and it is made anew",
                "source": f"made of {made.model} by POST /compact",
                "compacted": made,
                "stored": stored,
            }
        )


def _width(made: Compacted) -> str:
    what = "directions" if made.by == "directions" else "components"
    return f"{made.kept} of {made.components} {what}"
