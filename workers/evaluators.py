"""The networks that samples are measured with and the images they are compared with, warm in a worker."""

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
"""The networks, features and images that are kept stay below this; what is larger is loaded anew each time."""

log = structlog.get_logger(__name__)


class _Checked:
    """An extractor that looks before each batch whether to go on."""

    def __init__(self, extractor: Extractor, check: Callable[[], None]) -> None:
        self.check = check
        self.name, self.digest, self.dim = extractor.name, extractor.digest, extractor.dim
        self._extractor = extractor

    def __call__(self, images: torch.Tensor) -> Extracted:
        self.check()
        return self._extractor(images)


class Evaluators:
    """Loads what the registry names, once for each content.

    digests: of a job, what each of its instruments is made of, by `extractor NAME` and `reference NAME`.
    """

    def __init__(self, registered: EvaluationAssets, shards: ShardStore, device: torch.device, batch_size: int) -> None:
        self.registered = registered
        self._shards = shards
        self._device = device
        self._batch_size = batch_size
        self._kept: LRUCache[Hashable, Any] = LRUCache(KEPT_BYTES, getsizeof=tensor_bytes)

    def extractor(self, name: ExtractorName, digests: dict[str, str]) -> Extractor:
        """A network of features or classes. Raises FileNotFoundError, or ExtractorError for other files."""
        return self._once(
            ("extractor", name, digests[f"extractor {name}"]),
            lambda: load_extractor(name, self._path(name), self._device),
        )

    def lpips(self, digests: dict[str, str]) -> Lpips:
        """The network of LPIPS. Raises as `extractor`."""
        return self._once(("lpips", digests["extractor lpips"]), lambda: load_lpips(self._path("lpips"), self._device))

    def reference(
        self, name: str, extractor: ExtractorName, digests: dict[str, str], check: Callable[[], None]
    ) -> Reference:
        """The moments and features of a registered set of images; computed once, by whichever worker needs them first.

        `check` is called before each batch, and may raise to stop. Raises SourceError for what holds no images, and
        redis.RedisError.
        """
        key = _reference_key(name, extractor, digests)
        by = _Checked(self.extractor(extractor, digests), check)
        return self._once(("reference", key), lambda: self._reference(name, by, key))

    def manifold(
        self, name: str, extractor: ExtractorName, digests: dict[str, str], k: int, check: Callable[[], None]
    ) -> Manifold:
        """The balls about the features of a registered set of images, to the k-th neighbour of each.

        Their radii are computed once, by whichever worker needs them first. Raises InputError where the set has moments
        alone, and as `reference`.
        """
        features = self.reference(name, extractor, digests, check).features
        if features is None:
            raise InputError(f"reference {name!r} has moments alone, and balls are about features")
        key = digest({"reference": _reference_key(name, extractor, digests), "neighbour": k})
        kept = self._stored(key, lambda: save({RADII: Manifold(features, k).squared_radii}), check)
        return Manifold(features, k, squared_radii=load(kept)[RADII])

    def targets(self, name: str, count: int, digests: dict[str, str]) -> torch.Tensor:
        """The first images of a registered set, uint8 with shape (count, 3, H, W). Raises SourceError for fewer."""

        def read() -> torch.Tensor:
            parts: list[torch.Tensor] = []
            for batch in self._images(name).batches(self._batch_size):
                parts.append(batch)
                if sum(map(len, parts)) >= count:
                    return torch.cat(parts)[:count]
            raise SourceError(f"targets {name!r} has {sum(map(len, parts))} images, and {count} are asked for")

        return self._once(("targets", digests[f"reference {name}"], count), read)

    def _reference(self, name: str, by: _Checked, key: str) -> Reference:
        kept = self._stored(key, lambda: self._measured(name, by), by.check)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / FILE
            file.write_bytes(kept)
            return Reference.open(file)

    def _stored(self, key: str, make: Callable[[], bytes], check: Callable[[], None]) -> bytes:
        """What is kept under a key; made by one worker, while others wait for it."""
        while (kept := self._shards.get(key)) is None:
            lease = self._shards.lease(key)
            if lease is not None:
                with lease:
                    made = make()
                    self._shards.put(key, made)
                    return made
            check()
            time.sleep(PAUSE_SECONDS)
        return kept

    def _measured(self, name: str, by: _Checked) -> bytes:
        log.info("reference is measured", reference=name, extractor=by.name)
        path, extractor = self.registered.reference(name), cast(Extractor, by)
        if path is None:
            made = make_reference(self._images(name), extractor, self._batch_size)
        else:
            made = load_reference(path, extractor, self._batch_size)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / FILE
            made.save(file)
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

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        found: T | None = self._kept.get(key)
        if found is None:
            found = make()
            with contextlib.suppress(ValueError):  # larger than all room
                self._kept[key] = found
        return found


def _reference_key(name: str, extractor: ExtractorName, digests: dict[str, str]) -> str:
    return digest(
        {
            "reference": digests[f"reference {name}"],
            "extractor": digests[f"extractor {extractor}"],
            "version": RESULT_VERSION,
        }
    )
