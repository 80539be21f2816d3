"""The registered models, each with its defaults and its missing files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs.registry.compacted import Compacted
from jobs.registry.decoding import LATENT_CHANNELS, NEEDS_SOURCE, DecoderName, Decoding
from jobs.registry.defaults import ModelDefaults, labels_shown
from jobs.registry.document import (
    NAME_PATTERN,
    NOT_STATED,
    PROMPT_PATTERN,
    ClassName,
    RegistryDocument,
    RegistryError,
    Source,
    Sources,
    faults_of,
)
from jobs.registry.folders import ModelFolders
from jobs.registry.measures import ExtractorName
from jobs.registry.transformers import TransformerEntry
from tailprune.spec import hub
from tailprune.spec.families import FAMILIES, Family
from tailprune.spec.layouts import missing_from_checkpoint

__all__ = ["ExtractorName", "IsTransformer", "ModelEntry", "Registry", "UnknownModel", "UnknownTransformer"]


PIXELS_A_SIDE: Mapping[DecoderName, int] = {"pixels": 1, "sd-vae": 8, "va-vae": 16}
"""The decoders that make images, and by what factor the side of an image is larger than that of its latent."""
TABLES = {"models", "extractors", "references"}
"""The tables of a registry's file."""
KINDS = ("system", "transformer")
"""What a model of the registry's file is: a system unless its entry says otherwise."""


class UnknownModel(LookupError):
    """No model of this name is registered."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"no model is named {name!r}; known models: {', '.join(known) or 'none'}")


class IsTransformer(UnknownModel):
    """The model of this name is a large transformer, and no system."""

    def __init__(self, name: str) -> None:
        LookupError.__init__(
            self,
            f"{name!r} is a large transformer, which only GET /models/{name}/anatomy, GET /metrics/{name} with "
            "/over-time and /figures/rank, and POST /compact take; GET /models lists the systems, which all other "
            "calls take, under models",
        )


class UnknownTransformer(UnknownModel):
    """No large transformer of this name is registered; a system may be."""

    def __init__(self, name: str, known: list[str], *, is_system: bool) -> None:
        what = (
            f"{name!r} is a system, which GET /models/{name} describes, and no large transformer"
            if is_system
            else f"no large transformer is named {name!r}"
        )
        LookupError.__init__(self, f"{what}; known large transformers: {', '.join(known) or 'none'}")


def _known_family(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(f"family {name!r} is not one of {', '.join(FAMILIES)}")
    return name


Size = Annotated[int, Field(ge=1)]


class ModelEntry(BaseModel):
    """One model: its checkpoint, its shape and where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME_PATTERN)
    title: str
    family: Annotated[str, AfterValidator(_known_family)]
    checkpoint: Source
    """A file, a folder, or `hf://owner/repo/file`."""
    key: str | None = None
    """The key of the weights in a file with several copies, such as `ema`; None for the averaged or only ones."""
    num_heads: int | None = Field(default=None, ge=1)
    num_heads_assumed: bool = False
    """Whether `num_heads` is only the published number for the width, since the file does not show it."""
    decode_layer: int | None = Field(default=None, ge=0)
    classes: int | None = Field(default=None, ge=1)
    """How many class labels it has; None for families that take conditions."""
    null_condition: bool = True
    """Whether it has a null condition, which guidance needs; false if it was trained without dropping labels."""
    class_names: Path | tuple[ClassName, ...] | None = None
    """A text file with the name of one class a line, or the names."""
    condition_dim: int = Field(ge=1)
    depth: int | None = Field(default=None, ge=1)
    """How many blocks it has; None where the registry does not say."""
    latent_shape: tuple[Size, Size, Size]
    decoder: DecoderName = "latents"
    """`pixels` for models that sample pixels; `latents` to show the latents themselves."""
    decoder_source: Source | None = None
    decoder_statistics: Source | None = None
    """Mean and deviation of the latents, for `va-vae`."""
    decoder_scale: float | None = Field(default=None, gt=0)
    display_scale: int = Field(default=1, ge=1, le=64)
    """The factor by which images are enlarged, without smoothing."""
    size: str | None = None
    """The published size, such as XL/2; of the shipped models blocks x width / patch, such as 4x128/4."""
    parameters: int | None = Field(default=None, ge=1)
    licence: str = NOT_STATED
    source: str = NOT_STATED
    """Where the checkpoint comes from."""
    obtain: str | None = None
    """How to get its files, and where to put them."""
    card: Path | None = None
    extractor: ExtractorName | None = None
    """The network whose features compare samples; by default Inception for a model that makes images."""
    reference: str | None = None
    """The registered set of images to compare samples with."""
    classifier: Literal["shapes-classifier"] | None = None
    """The network that predicts the class of a sample."""
    prompt: str = Field(default="a photo of a {}", pattern=PROMPT_PATTERN)
    """The text that CLIP compares with an image; the name of its class takes the place of the braces."""
    folder: Path = Field(exclude=True)
    """The folder of the registry, to which paths are relative."""
    hub_cache: Path | None = Field(default=None, exclude=True)
    compacted: Compacted | None = Field(default=None, exclude=True)
    """How it was made, for a compacted model, which is not in the registry (`jobs.registry.catalogue`)."""
    stored: bool = Field(default=True, exclude=True)
    """Whether the checkpoint of a compacted model is stored, on this machine or as an artifact."""
    added: datetime | None = Field(default=None, exclude=True)
    """When `POST /models` added it; None for a model of the registry's file, and for a compacted one."""
    within: ModelFolders | None = Field(default=None, exclude=True)
    """The folders that the files of an added model must be in."""
    defaults: ModelDefaults

    @model_validator(mode="before")
    @classmethod
    def _with_published_defaults(cls, table: Any) -> Any:
        """Fill in the sampling defaults of the family's authors, and fields that follow from others."""
        family = FAMILIES.get(str(table.get("family"))) if isinstance(table, dict) else None
        if family is None:
            return table
        filled = {"title": table.get("name"), **table}
        if table.get("decoder") in PIXELS_A_SIDE:
            filled.setdefault("extractor", "inception")
        if family.latents is not None:
            filled.setdefault("latent_shape", family.latents)
        defaults = table.get("defaults", {})
        if isinstance(defaults, Mapping):
            labels = None if family.features else labels_shown(table.get("classes"))
            published = dict(family.published)
            if table.get("null_condition") is False and not family.takes_guidance:
                published["guidance_scale"] = 1.0
            filled["defaults"] = {**published, "labels": labels, **defaults}
        return filled

    @model_validator(mode="after")
    def _fits_its_family(self) -> Self:
        for fault in chain(
            self._decoder_faults(),
            self._class_faults(),
            self.defaults.faults(self.family, channels=self.latent_shape[0], classes=self.classes),
        ):
            raise ValueError(fault)
        return self

    def _decoder_faults(self) -> Iterator[str]:
        takes = LATENT_CHANNELS[self.decoder]
        if takes is not None and self.latent_shape[0] != takes:
            yield (
                f"decoder {self.decoder!r} takes {takes} channels, but latent_shape has {self.latent_shape[0]}; "
                "use 'latents'"
            )
        if self.decoder not in NEEDS_SOURCE and (self.decoder_source or self.decoder_statistics or self.decoder_scale):
            yield (
                f"decoder {self.decoder!r} needs no files; leave decoder_source, decoder_statistics and decoder_scale "
                "out"
            )
        if self.decoder != "va-vae" and self.decoder_statistics:
            yield f"decoder {self.decoder!r} takes no statistics; leave decoder_statistics out"
        if self.decoder == "audioldm" and self.family != "mdsgen":
            yield f"decoder 'audioldm' decodes the latents of mdsgen, not those of {self.family}; use 'latents'"

    def _class_faults(self) -> Iterator[str]:
        features = ", ".join(self.facts.features)
        if features and self.classes is not None:
            yield f"{self.family} takes {features}, not labels; leave classes out"
        if not features and self.classes is None:
            yield "classes is missing; give the number of class labels of the model"
        if not self.null_condition and not self.facts.takes_guidance and self.defaults.guidance_scale != 1:
            yield "defaults.guidance_scale: must be 1 for a model without a null condition; leave it out"
        if fault := self._names_fault():
            yield fault

    def _names_fault(self) -> str | None:
        """What is wrong with the file of class names; a missing one is reported as missing."""
        try:
            count = len(self.names)
        except UnicodeDecodeError as error:
            return f"class_names: {self.class_names} is not UTF-8 ({error.reason} at byte {error.start})"
        if count == 0 or self.classes is None or count == self.classes:
            return None
        if isinstance(self.class_names, tuple):
            return f"class_names: there are {count} names, and the model has {self.classes} classes; give one for each"
        return (
            f"class_names: {self.class_names} has {count} names, and the model has {self.classes} classes; give one "
            "name a line, in the order of the labels"
        )

    @property
    def facts(self) -> Family:
        """The facts of this model's family."""
        return FAMILIES[self.family]

    @property
    def local_checkpoint(self) -> Path | None:
        """The path of the checkpoint on this machine, or None if it is missing."""
        sources = self._sources if self.compacted is None else Sources(self.folder, self.hub_cache)
        return sources.local(self.checkpoint)

    @property
    def decoding(self) -> Decoding:
        """The decoder of the samples, with its files as they are now."""
        return Decoding.find(
            self.decoder, self.decoder_source, self.decoder_statistics, self.decoder_scale, self._sources
        )

    @property
    def shows_images(self) -> bool:
        """Whether samples become images that can be measured: the decoder makes images, and is complete."""
        return self.decoding.in_use in PIXELS_A_SIDE

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels, of a model that shows images."""
        scale = PIXELS_A_SIDE[self.decoding.in_use]
        return self.latent_shape[1] * scale, self.latent_shape[2] * scale

    @property
    def read_as(self) -> dict[str, Any]:
        """How its weights are read, and so what everything computed from them depends on."""
        return {name: getattr(self, name) for name in ("family", "key", "classes", "num_heads", "decode_layer")}

    @property
    def loaded_as(self) -> dict[str, Any]:
        """What a result depends on besides request, weights and decoder: how weights are read and samples shown."""
        return self.read_as | {"display_scale": self.display_scale, "class_names": self.names}

    def place_of(self, text: str) -> str:
        """A text for clients, in which paths of this machine are replaced by those in the registry."""
        if self.compacted is not None:
            text = text.replace(self.checkpoint, f"the checkpoint of {self.name}")
        for source in (self.checkpoint, self.decoder_source, self.decoder_statistics):
            path = source and self._sources.local(source)
            if source and path:
                text = text.replace(str(path), self._sources.named(source))
        return text.replace(f"{self.folder}/", "")

    @property
    def missing(self) -> list[str]:
        """The missing files, without those of the decoder; the model can be used if there are none."""
        if self.compacted is None:
            checkpoint = self._sources.missing(self.checkpoint, missing_from_checkpoint)
        else:
            checkpoint = [] if self.stored else ["its checkpoint"]
        return [
            *checkpoint,
            *self._sources.missing(str(self.class_names) if isinstance(self.class_names, Path) else None),
        ]

    @property
    def in_file(self) -> bool:
        """Whether it is a model of the registry's file, which does not change while a process runs."""
        return self.compacted is None and self.added is None

    @property
    def ready(self) -> bool:
        """Whether the model can be used."""
        return not self.missing

    @property
    def training(self) -> Path | None:
        """The path of the record of training, beside the card, whether it exists or not; None without a card."""
        return None if self.card is None else self.card.parent / "training.json"

    @property
    def names(self) -> list[str]:
        """The names of the classes in order; empty if the model has none, or the file is missing."""
        if isinstance(self.class_names, tuple):
            return list(self.class_names)
        if self.class_names is None or not self.class_names.is_file():
            return []
        return self.class_names.read_text(encoding="utf-8-sig").rstrip().split("\n")

    @property
    def _sources(self) -> Sources:
        return Sources(self.folder, self.hub_cache, self.within)


class Registry:
    """The registered models, systems and large transformers, and the file that registers them.

    Only systems are iterated over.
    """

    def __init__(
        self,
        entries: Mapping[str, ModelEntry],
        document: RegistryDocument,
        transformers: Mapping[str, TransformerEntry] = MappingProxyType({}),
    ) -> None:
        self.document = document
        self.transformers = transformers
        self._entries = dict(entries)

    @classmethod
    def read(cls, path: Path, hub_cache: Path | None = None) -> Registry:
        """Read the registry from a file; paths in it are relative to its folder.

        path: the file.
        hub_cache: as in `Settings.hub_cache`.

        Raises RegistryError naming the file, the entry and what is wrong with it.
        """
        document = RegistryDocument.read(path, hub_cache)
        folder = document.sources.folder
        if others := ", ".join(sorted(document.tables.keys() - TABLES)):
            raise RegistryError(f"{path}: a registry has the tables {', '.join(sorted(TABLES))}, not {others}")
        tables = document.tables.get("models", {})
        if not isinstance(tables, Mapping):
            raise RegistryError(f"{path}: models is {tables!r}, not a table of models")
        entries: dict[str, ModelEntry] = {}
        transformers: dict[str, TransformerEntry] = {}
        for name, table in tables.items():
            try:
                fields = _with_paths(table, folder)
                match fields.pop("kind", KINDS[0]):
                    case "system":
                        entries[name] = ModelEntry(name=name, folder=folder, hub_cache=hub_cache, **fields)
                    case "transformer":
                        titled = {"title": name, **fields}
                        transformers[name] = TransformerEntry(name=name, folder=folder, hub_cache=hub_cache, **titled)
                    case kind:
                        raise TypeError(f"kind {kind!r} is not one of {', '.join(KINDS)}")
            except ValidationError as error:
                raise RegistryError(f"{path}, model {name!r}: {faults_of(error)}") from None
            except TypeError as error:
                raise RegistryError(f"{path}, model {name!r}: {error}") from None
        return cls(entries, document, transformers)

    def get(self, name: str) -> ModelEntry:
        """The system of this name. Raises UnknownModel naming the known ones, IsTransformer for a large transformer."""
        if name in self.transformers:
            raise IsTransformer(name)
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownModel(name, list(self._entries)) from None

    def __contains__(self, name: str) -> bool:
        """Whether a system or a large transformer has this name."""
        return name in self._entries or name in self.transformers

    def __iter__(self) -> Iterator[ModelEntry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)


PATHS = ("checkpoint", "class_names", "card", "decoder_source", "decoder_statistics")


def _with_paths(table: Any, folder: Path) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise TypeError(f"is {table!r}, not a table")
    paths = {
        key: str(folder / source)
        for key in PATHS
        if isinstance(source := table.get(key), str) and source and not hub.is_hub(source)
    }
    return {**table, **paths}
