"""What samples are evaluated with: the measures, the extractors that they use, and the references to compare with.

The registry names extractors and references beside the models:

    [extractors]
    inception = "published/inception-2015-12-05.pt"

    [references.imagenet-256]
    title = "ImageNet at 256 x 256, as the evaluator of ADM publishes it"
    source = "published/VIRTUAL_imagenet256_labeled.npz"
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs.registry.document import RegistryError, Source, Sources, faults_of
from jobs.registry.measures import MEASURES, ExtractorName, Measure, MeasureInfo
from jobs.registry.models import Registry
from tailprune.spec import hub
from tailprune.spec.layouts import image_files

__all__ = ["EXTRACTORS", "MEASURES", "EvaluationAssets", "ExtractorName", "Measure", "MeasureInfo", "ReferenceEntry"]

EXTRACTORS: Mapping[ExtractorName, str] = {
    "shapes-classifier": "models/shapes-classifier/model.safetensors of the repository",
    "inception": "the TorchScript file inception-2015-12-05.pt, published with StyleGAN2-ADA",
    "clip": "a folder of a CLIPModel of transformers with its processor, its weights as safetensors",
    "lpips": "the TorchScript file vgg16.pt, published with StyleGAN2-ADA",
}
"""What the source of each extractor is."""


ARRAY = "arr_0"
"""The name of the array of images in an npz file."""
HEADER_BYTES = 2**14
"""More than the longest header of an array that NumPy reads."""


class ReferenceEntry(BaseModel):
    """A set of images: a folder, an npz file in the format of ADM's evaluator, or a data set that is generated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    source: Source | None = None
    dataset: Literal["shapes"] | None = None
    count: int = Field(default=10_000, ge=2, le=1_000_000)
    """How many images of a generated data set are used."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.source is None) == (self.dataset is None):
            raise ValueError("give the origin of its images: exactly one of source and dataset")
        return self


class EvaluationAssets:
    """The registered extractors and references."""

    def __init__(
        self, extractors: Mapping[ExtractorName, str], references: Mapping[str, ReferenceEntry], sources: Sources
    ) -> None:
        self._extractors = dict(extractors)
        self.references = dict(references)
        self._sources = sources

    @classmethod
    def from_registry(cls, registry: Registry) -> EvaluationAssets:
        """The extractors and references of a registry's file. Raises RegistryError naming what is wrong."""
        path, tables = registry.document.path, registry.document.tables
        extractors = tables.get("extractors", {})
        if not isinstance(extractors, Mapping) or not all(isinstance(source, str) for source in extractors.values()):
            raise RegistryError(f"{path}: extractors must be a table of sources: name = 'file, folder or hf://'")
        for name, source in extractors.items():
            if name not in EXTRACTORS:
                raise RegistryError(f"{path}: extractor {name!r} does not exist; use {', '.join(EXTRACTORS)}")
            try:
                hub.check_source(source)
            except ValueError as error:
                raise RegistryError(f"{path}, extractor {name!r}: {error}") from None
        sets = tables.get("references", {})
        if not isinstance(sets, Mapping):
            raise RegistryError(f"{path}: references is {sets!r}, not a table of sets of images")
        references: dict[str, ReferenceEntry] = {}
        for name, table in sets.items():
            try:
                references[name] = ReferenceEntry(**{"title": name, **table, "name": name})
            except ValidationError as error:
                raise RegistryError(f"{path}, reference {name!r}: {faults_of(error)}") from None
            except TypeError:
                raise RegistryError(f"{path}, reference {name!r}: is not a table") from None
        return cls(extractors, references, registry.document.sources)

    def extractor(self, name: ExtractorName) -> Path | None:
        """The path of an extractor's weights; None if it is not registered, or its files are missing."""
        source = self._extractors.get(name)
        return None if source is None else self._sources.local(source)

    def missing_extractor(self, name: ExtractorName) -> str | None:
        """How to obtain an extractor, or None if it is present."""
        if self.extractor(name) is not None:
            return None
        source = self._extractors.get(name)
        if source is None:
            return f"it is not registered: under [extractors] of the registry, give the path of {EXTRACTORS[name]}"
        return f"{source} does not exist: put {EXTRACTORS[name]} there, or give another path under [extractors]"

    def reference(self, name: str) -> Path | None:
        """The path of a reference's images; None for a generated data set, and if they are missing."""
        source = self.references[name].source
        return None if source is None else self._sources.local(source)

    def missing_reference(self, name: str) -> str | None:
        """What is missing of a reference, or None if it is complete."""
        entry = self.references.get(name)
        if entry is None:
            known = ", ".join(self.references) or "none"
            return f"no reference {name!r} is registered; known references: {known}"
        if entry.source is None or self._sources.local(entry.source) is not None:
            return None
        return f"the images of reference {name!r} are missing: {entry.source} does not exist"

    def image_count(self, name: str) -> int | None:
        """How many images a reference has: 0 for an npz file of moments only, None where it cannot be read.

        Reads only the table of contents and one header of an npz file. The reference must be complete.
        """
        entry, path = self.references[name], self.reference(name)
        if path is None:
            return entry.count
        from numpy.lib import format as npy  # slow to import, and only needed here

        try:
            if path.is_dir():
                return len(image_files(path)[0])
            with zipfile.ZipFile(path) as archive:
                if f"{ARRAY}.npy" not in archive.namelist():
                    return 0
                with archive.open(f"{ARRAY}.npy") as file:
                    head = io.BytesIO(file.read(HEADER_BYTES))
                version = npy.read_magic(head)
                read = npy.read_array_header_1_0
                shape, _, _ = (read if version == (1, 0) else npy.read_array_header_2_0)(head)
                return int(shape[0])
        except Exception:  # zipfile, its decompressors and numpy raise errors of many types for damaged files
            return None

    def passed_over(self, name: str) -> dict[str, int]:
        """How many files of a reference's folder are passed over. Raises what `image_files` raises."""
        path = self.reference(name)
        return {} if path is None or not path.is_dir() else image_files(path)[1]
