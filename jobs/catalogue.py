"""All models there are: those of the registry, and those that were compacted of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jobs.artifacts import ArtifactStore
from jobs.compacted import Compacted, CompactedStore
from jobs.registry import ModelEntry, Registry, UnknownModel

__all__ = ["Catalogue", "ModelGone"]

CHECKPOINT = "model.safetensors"


class ModelGone(UnknownModel):
    """A compacted model whose own model is not registered any more."""

    def __init__(self, name: str, model: str) -> None:
        LookupError.__init__(
            self,
            f"{name!r} was compacted from {model!r}, which is not registered any more and says how it is sampled; put "
            "its entry back into the registry",
        )


class Catalogue:
    """Models by name. A compacted one is as the model that it was made of, but for its checkpoint.

    fetches: whether checkpoints are wanted on this machine, in the data folder, or need only be known of.
    Methods raise redis.RedisError where they look for compacted models and Redis is gone.
    """

    def __init__(
        self, registry: Registry, made: CompactedStore, artifacts: ArtifactStore, data_dir: Path, *, fetches: bool
    ) -> None:
        self.registry = registry
        self._made = made
        self._artifacts = artifacts
        self._data_dir = data_dir
        self._fetches = fetches

    def get(self, name: str) -> ModelEntry:
        """The model of this name. Raises UnknownModel."""
        made = None if name in self.registry else self._made.get(name)
        if made is None:
            return self.registry.get(name)
        if made.model not in self.registry:
            raise ModelGone(name, made.model)
        return self._entry(name, made)

    def __iter__(self) -> Iterator[ModelEntry]:
        """The registered models, then the compacted ones whose own model is there still, the oldest first."""
        yield from self.registry
        for name, made in self._made.all().items():
            if made.model in self.registry and name not in self.registry:
                yield self._entry(name, made)

    def _entry(self, name: str, made: Compacted) -> ModelEntry:
        whole = self.registry.get(made.model)
        path = self._data_dir.absolute() / "compacted" / made.checkpoint.digest / CHECKPOINT
        stored = path.is_file() or self._artifacts.exists(made.checkpoint)
        if self._fetches and stored and not path.is_file():
            self._artifacts.place(made.checkpoint, path)
        return whole.model_copy(
            update={
                "name": name,
                "title": f"{whole.title}, compacted to {_width(made)}",
                "checkpoint": str(path),
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
