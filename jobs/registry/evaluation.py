"""What samples are measured with: the networks whose features measures compare, and what they are compared with.

The registry names both, beside the models:

    [extractors]
    inception = "published/inception-2015-12-05.pt"

    [references.imagenet-256]
    title = "ImageNet at 256 x 256, as the evaluator of ADM publishes it"
    source = "published/VIRTUAL_imagenet256_labeled.npz"
"""

from __future__ import annotations

import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs.registry.models import ExtractorName, RegistryError
from tailprune.spec import hub
from tailprune.spec.layouts import IMAGES

__all__ = ["EXTRACTORS", "MEASURES", "EvaluationAssets", "ExtractorName", "Measure", "MeasureInfo", "ReferenceEntry"]

Measure = Literal[
    "fid", "kid", "inception-score", "precision", "recall", "accuracy", "clip-score", "drift", "psnr", "ssim", "lpips"
]

EXTRACTORS: Mapping[ExtractorName, str] = {
    "shapes-classifier": "models/shapes-classifier/model.safetensors of the repository",
    "inception": "the TorchScript file inception-2015-12-05.pt, published with StyleGAN2-ADA",
    "clip": "a folder of a CLIPModel of transformers with its processor, its weights as safetensors",
    "lpips": "the TorchScript file vgg16.pt, published with StyleGAN2-ADA",
}
"""What the source of each is."""


@dataclass(frozen=True)
class MeasureInfo:
    """What a measure is, and what it needs."""

    title: str
    better: Literal["higher", "lower"]
    by: Literal["features", "classes", "clip", "lpips"] | None = None
    """What it reads of images: the features of the study's extractor, the classifier of the model's data, ..."""
    reference: bool = False
    """Whether samples are compared with a set of images."""
    paired: bool = False
    """Whether each sample is compared with one image: the baseline's, or its target."""


MEASURES: Mapping[Measure, MeasureInfo] = {
    "fid": MeasureInfo("Fréchet distance", "lower", by="features", reference=True),
    "kid": MeasureInfo("Kernel distance", "lower", by="features", reference=True),
    "inception-score": MeasureInfo("Inception score", "higher", by="features"),
    "precision": MeasureInfo("Precision", "higher", by="features", reference=True),
    "recall": MeasureInfo("Recall", "higher", by="features", reference=True),
    "accuracy": MeasureInfo("Class accuracy", "higher", by="classes"),
    "clip-score": MeasureInfo("CLIP score", "higher", by="clip"),
    "drift": MeasureInfo("Drift of the latents", "lower"),
    "psnr": MeasureInfo("PSNR", "higher", paired=True),
    "ssim": MeasureInfo("SSIM", "higher", paired=True),
    "lpips": MeasureInfo("LPIPS", "lower", by="lpips", paired=True),
}
"""In the order in which they are shown."""

ARRAY = "arr_0"
"""The images of an npz file."""

Source = Annotated[str, Field(min_length=1), AfterValidator(hub.check_source)]


class ReferenceEntry(BaseModel):
    """A set of images: a folder, an npz file as the evaluator of ADM takes it, or a data set that is drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    source: Source | None = None
    dataset: Literal["shapes"] | None = None
    count: int = Field(default=10_000, ge=2, le=1_000_000)
    """Of a data set that is drawn: how many images."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.source is None) == (self.dataset is None):
            raise ValueError("say where its images come from: exactly one of source and dataset")
        return self


class EvaluationAssets:
    """The registered extractors and references."""

    def __init__(
        self,
        extractors: Mapping[ExtractorName, str],
        references: Mapping[str, ReferenceEntry],
        folder: Path,
        hub_cache: Path | None,
    ) -> None:
        self._extractors = dict(extractors)
        self.references = dict(references)
        self._folder = folder
        self._hub_cache = hub_cache

    @classmethod
    def read(cls, path: Path, hub_cache: Path | None = None) -> EvaluationAssets:
        """Those in the file of the registry, which can be read. Raises RegistryError naming what is wrong."""
        document = tomllib.loads(path.read_text())
        said, folder = document.get("extractors", {}), path.parent.absolute()
        if not isinstance(said, Mapping) or not all(isinstance(source, str) for source in said.values()):
            raise RegistryError(f"{path}: extractors is a table of sources: name = 'file, folder or hf://'")
        for name, source in said.items():
            if name not in EXTRACTORS:
                raise RegistryError(f"{path}: no extractor is called {name!r}; there are {', '.join(EXTRACTORS)}")
            try:
                hub.check_source(source)
            except ValueError as error:
                raise RegistryError(f"{path}, extractor {name!r}: {error}") from None
        tables = document.get("references", {})
        if not isinstance(tables, Mapping):
            raise RegistryError(f"{path}: references is {tables!r}, not a table of sets of images")
        references: dict[str, ReferenceEntry] = {}
        for name, table in tables.items():
            try:
                references[name] = ReferenceEntry(**{"title": name, **table, "name": name})
            except (ValidationError, TypeError) as error:
                raise RegistryError(f"{path}, reference {name!r}: {_plainly(error)}") from None
        return cls(said, references, folder, hub_cache)

    def extractor(self, name: ExtractorName) -> Path | None:
        """Where its weights lie; None where it is not registered, or its files are not there."""
        source = self._extractors.get(name)
        return None if source is None else self._local(source)

    def missing_extractor(self, name: ExtractorName) -> str | None:
        """What to do to have an extractor, or None where it is there."""
        if self.extractor(name) is not None:
            return None
        source = self._extractors.get(name)
        if source is None:
            return f"it is not registered: under [extractors], say where {EXTRACTORS[name]} is"
        return f"{source} is not there: put there {EXTRACTORS[name]}, or name another place under [extractors]"

    def reference(self, name: str) -> Path | None:
        """Where its images lie; None for a data set that is drawn, and where they are not there."""
        source = self.references[name].source
        return None if source is None else self._local(source)

    def missing_reference(self, name: str) -> str | None:
        """What is missing of a reference, or None where it is there."""
        entry = self.references.get(name)
        if entry is None:
            known = ", ".join(self.references) or "none"
            return f"no reference is registered as {name!r}; there are {known}"
        if entry.source is None or self._local(entry.source) is not None:
            return None
        return f"{entry.source}, the images of reference {name!r}, is not there"

    def image_count(self, name: str) -> int | None:
        """How many images a reference has that is there; none where an npz has moments alone, None where it is damaged.

        Of an npz file, its table of contents and one header are read.
        """
        entry, path = self.references[name], self.reference(name)
        if path is None:
            return entry.count
        if path.is_dir():
            return sum(file.suffix.lower() in IMAGES for file in path.rglob("*"))
        try:
            with zipfile.ZipFile(path) as archive:
                if f"{ARRAY}.npy" not in archive.namelist():
                    return 0
                with archive.open(f"{ARRAY}.npy") as file:
                    version = np.lib.format.read_magic(file)
                    read = np.lib.format.read_array_header_1_0
                    shape, _, _ = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
                    return int(shape[0])
        except (OSError, ValueError, IndexError, zipfile.BadZipFile):
            return None

    def _local(self, source: str) -> Path | None:
        if hub.is_hub(source):
            return hub.cached(source, self._hub_cache)
        path = self._folder / source
        return path if path.exists() else None


def _plainly(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return "is not a table"
    faults: list[Any] = list(error.errors())
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}".removeprefix(": ")
        for fault in faults
    )
