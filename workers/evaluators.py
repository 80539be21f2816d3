"""The networks and reference images that studies measure samples with, kept in a worker's memory."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar, cast

import structlog
import torch
from cachetools import LRUCache
from safetensors.torch import load, save

from jobs.keys import RESULT_VERSION, digest
from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import ExtractorName
from jobs.storage.shards import ShardStore
from tailprune.quality import (
    Extracted,
    Extractor,
    ImageSource,
    Lpips,
    Manifold,
    Reference,
    ShapesImages,
    SourceError,
    load_extractor,
    load_lpips,
    load_reference,
    make_reference,
    open_images,
)
from tailprune.spec import InputError, MissingFileError
from workers.model_pool import tensor_bytes

__all__ = ["Evaluators"]

T = TypeVar("T")

FILE = "reference.safetensors"
RADII = "squared_radii"
PAUSE_SECONDS = 0.2
KEPT_BYTES = 2 * 2**30
"""The limit of all networks, features and images in memory; a larger one is loaded each time."""

log = structlog.get_logger(__name__)


class _Checked:
    """An extractor that calls `check` before each batch, which may raise to stop it."""

    def __init__(self, extractor: Extractor, check: Callable[[], None]) -> None:
        self.check = check
        self.name, self.digest, self.dim = extractor.name, extractor.digest, extractor.dim
        self._extractor = extractor

    def __call__(self, images: torch.Tensor) -> Extracted:
        self.check()
        return self._extractor(images)


class Evaluators:
    """Loads the extractors and references of the registry, each content once.

    registered: the registry's extractors and references.
    shards: where references that were measured are stored.
    device: where the networks run.
    batch_size: how many images a network takes at a time.
    The argument `digests` of the methods is a job's: the digests of its extractors and references, by
    `extractor NAME` and `reference NAME`.
    """

    def __init__(self, registered: EvaluationAssets, shards: ShardStore, device: torch.device, batch_size: int) -> None:
        self.registered = registered
        self._shards = shards
        self._device = device
        self._batch_size = batch_size
        self._in_memory: LRUCache[Hashable, Any] = LRUCache(KEPT_BYTES, getsizeof=tensor_bytes)

    def extractor(self, name: ExtractorName, digests: dict[str, str]) -> Extractor:
        """A network of features or classes. Raises FileNotFoundError, or ExtractorError for a file that is not one."""
        return self._load_once(
            ("extractor", name, digests[f"extractor {name}"]),
            lambda: load_extractor(name, self._path(name), self._device),
        )

    def lpips(self, digests: dict[str, str]) -> Lpips:
        """The network of LPIPS. Raises what `extractor` raises."""
        return self._load_once(
            ("lpips", digests["extractor lpips"]), lambda: load_lpips(self._path("lpips"), self._device)
        )

    def reference(
        self, name: str, extractor: ExtractorName, digests: dict[str, str], check: Callable[[], None]
    ) -> Reference:
        """The moments and features of a registered set of images, computed once by the first worker that needs them.

        name: the reference in the registry.
        extractor: the network of the features.
        digests: of the job's extractors and references.
        check: called before each batch; may raise to stop.
        Raises SourceError for a source without images, and redis.RedisError.
        """
        key = _reference_key(name, extractor, digests)
        by = _Checked(self.extractor(extractor, digests), check)
        return self._load_once(("reference", key), lambda: self._reference(name, by, key))

    def manifold(
        self, name: str, extractor: ExtractorName, digests: dict[str, str], k: int, check: Callable[[], None]
    ) -> Manifold:
        """The balls around the features of a registered set of images, each reaching the k-th neighbour.

        Their radii are computed once, by the first worker that needs them.
        name, extractor, digests, check: see `reference`.
        k: the neighbour, from 1.
        Raises InputError where the reference has only moments, and what `reference` raises.
        """
        features = self.reference(name, extractor, digests, check).features
        if features is None:
            raise InputError(f"reference {name!r} has only moments, and this measure needs single features")
        key = digest({"reference": _reference_key(name, extractor, digests), "neighbour": k})
        stored = self._make_once(key, lambda: save({RADII: Manifold(features, k).squared_radii}), check)
        return Manifold(features, k, squared_radii=load(stored)[RADII])

    def targets(self, name: str, count: int, digests: dict[str, str]) -> torch.Tensor:
        """The first images of a registered set, uint8 with shape (count, 3, H, W). Raises SourceError for fewer."""

        def read() -> torch.Tensor:
            parts: list[torch.Tensor] = []
            for batch in self._images(name).batches(self._batch_size):
                parts.append(batch)
                if sum(map(len, parts)) >= count:
                    return torch.cat(parts)[:count]
            raise SourceError(f"targets {name!r} has {sum(map(len, parts))} images, and {count} are needed")

        return self._load_once(("targets", digests[f"reference {name}"], count), read)

    def _reference(self, name: str, by: _Checked, key: str) -> Reference:
        stored = self._make_once(key, lambda: self._measure(name, by), by.check)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / FILE
            file.write_bytes(stored)
            return Reference.open(file)

    def _make_once(self, key: str, make: Callable[[], bytes], check: Callable[[], None]) -> bytes:
        """Load what is stored under a key, or make and store it; one worker makes it, the others wait."""
        while (stored := self._shards.get(key)) is None:
            lease = self._shards.lease(key)
            if lease is not None:
                with lease:
                    stored = self._shards.get(key)  # another worker may have made it since the look before the lease
                    if stored is None:
                        stored = make()
                        self._shards.put(key, stored)
                    return stored
            check()
            time.sleep(PAUSE_SECONDS)
        return stored

    def _measure(self, name: str, by: _Checked) -> bytes:
        log.info("reference is measured", reference=name, extractor=by.name)
        path, extractor = self.registered.reference(name), cast(Extractor, by)
        if path is None:
            reference = make_reference(self._images(name), extractor, self._batch_size)
        else:
            reference = load_reference(path, extractor, self._batch_size)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / FILE
            reference.save(file)
            return file.read_bytes()

    def _images(self, name: str) -> ImageSource:
        entry, path = self.registered.references[name], self.registered.reference(name)
        if path is not None:
            return open_images(path)
        if entry.dataset is None:
            raise MissingFileError(self.registered.missing_reference(name) or name)
        return ShapesImages(count=entry.count)

    def _path(self, name: ExtractorName) -> Path:
        path = self.registered.extractor(name)
        if path is None:
            raise MissingFileError(f"the extractor {name!r} is missing; {self.registered.missing_extractor(name)}")
        return path

    def _load_once(self, key: Hashable, make: Callable[[], T]) -> T:
        found: T | None = self._in_memory.get(key)
        if found is None:
            found = make()
            with contextlib.suppress(ValueError):  # larger than the limit
                self._in_memory[key] = found
        return found


def _reference_key(name: str, extractor: ExtractorName, digests: dict[str, str]) -> str:
    return digest(
        {
            "reference": digests[f"reference {name}"],
            "extractor": digests[f"extractor {extractor}"],
            "version": RESULT_VERSION,
        }
    )
