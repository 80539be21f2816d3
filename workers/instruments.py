"""The networks that samples are measured with and the images they are compared with, warm in a worker."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import structlog
import torch

from jobs.instruments import Instruments
from jobs.keys import digest
from jobs.registry import ExtractorName
from jobs.shards import ShardStore
from tailprune.quality import Extractor, Lpips, Reference, load_extractor, load_lpips, load_reference, make_reference
from tailprune.quality.sources import ImageSource, ShapesImages, open_images

__all__ = ["Bench"]

T = TypeVar("T")

MOST_KEPT = 8
"""So many networks and references are kept at once."""

log = structlog.get_logger(__name__)


class Bench:
    """Loads what the registry names, once for each content.

    digests: of a job, what each of its instruments is made of, by `extractor NAME` and `reference NAME`.
    """

    def __init__(self, registered: Instruments, shards: ShardStore, device: torch.device, batch_size: int) -> None:
        self.registered = registered
        self._shards = shards
        self._device = device
        self._batch_size = batch_size
        self._kept: dict[Hashable, Any] = {}

    def extractor(self, name: ExtractorName, digests: dict[str, str]) -> Extractor:
        """A network of features or classes. Raises FileNotFoundError, or ExtractorError for other files."""
        return self._once(
            ("extractor", name, digests[f"extractor {name}"]),
            lambda: load_extractor(name, self._path(name), self._device),
        )

    def lpips(self, digests: dict[str, str]) -> Lpips:
        """The network of LPIPS. Raises as `extractor`."""
        return self._once(("lpips", digests["extractor lpips"]), lambda: load_lpips(self._path("lpips"), self._device))

    def reference(self, name: str, by: Extractor, digests: dict[str, str]) -> Reference:
        """The moments and features of a registered set of images; computed once, by whichever worker needs them first.

        Raises SourceError for what holds no images.
        """
        content = digests[f"reference {name}"]
        return self._once(("reference", content, by.digest), lambda: self._reference(name, by, content))

    def targets(self, name: str, digests: dict[str, str]) -> torch.Tensor:
        """All images of a registered set, uint8 with shape (N, 3, H, W). Raises SourceError."""

        def read() -> torch.Tensor:
            return torch.cat(list(self._images(name).batches(self._batch_size)))

        return self._once(("targets", digests[f"reference {name}"]), read)

    def _reference(self, name: str, by: Extractor, content: str) -> Reference:
        key = digest({"reference": content, "extractor": by.digest})
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "reference.safetensors"
            if (kept := self._shards.get(key)) is not None:
                file.write_bytes(kept)
                return Reference.open(file)
            log.info("reference is measured", reference=name, extractor=by.name)
            path = self.registered.reference(name)
            if path is None:
                made = make_reference(self._images(name), by, self._batch_size)
            else:
                made = load_reference(path, by, self._batch_size)
            made.save(file)
            self._shards.put(key, file.read_bytes())
        return made

    def _images(self, name: str) -> ImageSource:
        entry, path = self.registered.references[name], self.registered.reference(name)
        if path is not None:
            return open_images(path)
        if entry.dataset is None:
            raise FileNotFoundError(self.registered.lacks_reference(name) or name)
        return ShapesImages(count=entry.count)

    def _path(self, name: ExtractorName) -> Path:
        path = self.registered.extractor(name)
        if path is None:
            raise FileNotFoundError(f"the extractor {name!r} is missing; {self.registered.lacks_extractor(name)}")
        return path

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._kept:
            while len(self._kept) >= MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = make()
        found: T = self._kept[key]
        return found
