"""The registry of models: what `models.toml` says of each, and which of their files are there."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs.registry.compacted import Compacted
from jobs.registry.decoding import LATENT_CHANNELS, NEEDS_SOURCE, DecoderName, Decoding
from tailprune.spec import hub
from tailprune.spec.families import FAMILIES, Family
from tailprune.spec.layouts import missing_from_checkpoint, missing_from_decoder

__all__ = ["ExtractorName", "ModelDefaults", "ModelEntry", "Registry", "RegistryError", "UnknownModel"]

IMAGENET_CLASSES = 1000
IMAGENET_LABELS = [207, 360, 387, 974, 88, 979, 417, 279]
"""The labels of DiT's own sample script, and so of its successors'."""
LABELS_SHOWN = 8
ExtractorName = Literal["shapes-classifier", "inception", "clip", "lpips"]
"""The networks that samples are measured with."""
PIXELS_A_SIDE: Mapping[DecoderName, int] = {"pixels": 1, "sd-vae": 8, "va-vae": 16}
"""What decodes to images, and how many pixels a side it makes of a latent."""
NOT_STATED = "not stated"


class RegistryError(ValueError):
    """`models.toml` cannot be used."""


class UnknownModel(LookupError):
    """No model of this name is registered."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"no model is named {name!r}; known models: {', '.join(known) or 'none'}")


def _known_family(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(f"family {name!r} is not one of {', '.join(FAMILIES)}")
    return name


class ModelDefaults(BaseModel):
    """What a request that does not say otherwise gets."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    sampler: str
    steps: int = Field(ge=2)
    guidance_scale: float = Field(ge=1, le=1000)
    guidance_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    guidance_power: float | None = Field(default=None, gt=0, le=1000)
    guided_channels: Annotated[int, Field(ge=1)] | Literal["all"] = "all"
    timestep_shift: float | None = Field(default=None, gt=0, le=1000)
    labels: list[int] | None = Field(default=None, description="Null for a model that takes conditions.")
    samples_per_label: int = Field(default=1, ge=1)


Source = Annotated[str, Field(min_length=1), AfterValidator(hub.check_source)]
"""A path, or a place on the Hugging Face hub."""


Size = Annotated[int, Field(ge=1)]


class ModelEntry(BaseModel):
    """One model: its checkpoint, its shape and where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    family: Annotated[str, AfterValidator(_known_family)]
    checkpoint: Source
    """A file, a folder, or `hf://owner/repo/file`."""
    num_heads: int | None = Field(default=None, ge=1)
    decode_layer: int | None = Field(default=None, ge=0)
    classes: int | None = Field(default=None, ge=1)
    """None for families that take conditions."""
    class_names: Path | None = None
    """A text file with one name a line."""
    condition_dim: int = Field(ge=1)
    latent_shape: tuple[Size, Size, Size]
    decoder: DecoderName = "latents"
    """`pixels` for models that sample pixels; `latents` shows the latents themselves."""
    decoder_source: Source | None = None
    decoder_statistics: Source | None = None
    """Mean and deviation of the latents, for `va-vae`."""
    decoder_scale: float | None = Field(default=None, gt=0)
    display_scale: int = Field(default=1, ge=1)
    """Images are enlarged by this, without smoothing."""
    size: str | None = None
    """The published size, such as XL/2."""
    parameters: int | None = Field(default=None, ge=1)
    licence: str = NOT_STATED
    source: str = NOT_STATED
    """Where the checkpoint comes from."""
    obtain: str | None = None
    """What to do to have its files: what to put where."""
    card: Path | None = None
    extractor: ExtractorName | None = None
    """Whose features samples are compared by; Inception's for a model of images unless said."""
    reference: str | None = None
    """The registered set of images that samples are compared with."""
    classifier: Literal["shapes-classifier"] | None = None
    """What names the class of a sample."""
    prompt: str = Field(default="a photo of a {}", pattern=r"^[^{}]*\{\}[^{}]*$")
    """What CLIP is told of a class, its name in place of the braces."""
    folder: Path = Field(exclude=True)
    """Where the registry lies, from which the rest is found."""
    hub_cache: Path | None = Field(default=None, exclude=True)
    compacted: Compacted | None = Field(default=None, exclude=True)
    """What it was made of, for a model that is not in the registry (`jobs.registry.catalogue`)."""
    stored: bool = Field(default=True, exclude=True)
    """Whether the checkpoint of such a model is stored, wherever that is."""
    defaults: ModelDefaults

    @model_validator(mode="before")
    @classmethod
    def _published_unless_said(cls, said: Any) -> Any:
        """Fills in what the family's authors sample with, and what else needs no saying."""
        family = FAMILIES.get(str(said.get("family"))) if isinstance(said, dict) else None
        if family is None:
            return said
        filled = {"title": said.get("name"), **said}
        if said.get("decoder") in PIXELS_A_SIDE:
            filled.setdefault("extractor", "inception")
        if family.latents is not None:
            filled.setdefault("latent_shape", family.latents)
        classes = said.get("classes")
        if not family.features and isinstance(classes, int):
            labels = IMAGENET_LABELS if classes == IMAGENET_CLASSES else list(range(min(LABELS_SHOWN, classes)))
        else:
            labels = None
        defaults = said.get("defaults", {})
        if isinstance(defaults, Mapping):
            filled["defaults"] = {**family.published, "labels": labels, **defaults}
        return filled

    @model_validator(mode="after")
    def _fits_its_family(self) -> Self:
        takes = LATENT_CHANNELS[self.decoder]
        if takes is not None and self.latent_shape[0] != takes:
            raise ValueError(
                f"decoder {self.decoder!r} takes {takes} channels, and latent_shape has {self.latent_shape[0]}; "
                "use 'latents'"
            )
        if self.decoder not in NEEDS_SOURCE and (self.decoder_source or self.decoder_statistics or self.decoder_scale):
            raise ValueError(f"decoder {self.decoder!r} is made from no files; leave decoder_source and the rest out")
        if self.decoder != "va-vae" and self.decoder_statistics:
            raise ValueError(f"decoder {self.decoder!r} takes no statistics; leave decoder_statistics out")
        if self.decoder == "audioldm" and self.family != "mdsgen":
            raise ValueError(f"decoder 'audioldm' makes sound of mdsgen's latents, not of {self.family}'s")
        if self.facts.features and self.classes is not None:
            raise ValueError(f"{self.family} takes {', '.join(self.facts.features)}, not labels; leave classes out")
        if not self.facts.features and self.classes is None:
            raise ValueError("say classes, how many labels the model has")
        if self.facts.features and self.defaults.labels is not None:
            raise ValueError(f"defaults.labels: {self.family} takes {', '.join(self.facts.features)}, not labels")
        for label in self.defaults.labels or []:
            if self.classes is not None and not 0 <= label < self.classes:
                raise ValueError(f"defaults.labels: label {label} is outside 0 to {self.classes - 1}")
        for fault in self._guidance_faults():
            raise ValueError(fault)
        if self.defaults.sampler not in self.facts.samplers:
            raise ValueError(
                f"defaults.sampler: {self.defaults.sampler!r} does not sample {self.family}, which has "
                f"{', '.join(self.facts.samplers)}"
            )
        return self

    @property
    def facts(self) -> Family:
        """What a request may ask of this model's family."""
        return FAMILIES[self.family]

    @property
    def local_checkpoint(self) -> Path | None:
        """Where the checkpoint lies on this machine; None where it is not there."""
        return self._local(self.checkpoint)

    @property
    def decoding(self) -> Decoding:
        """What makes pictures or sound of the samples, as its files are at this moment."""
        source, statistics = self.decoder_source, self.decoder_statistics
        missing = self._absent(source, lambda path: missing_from_decoder(self.decoder, path)) + self._absent(statistics)
        if self.decoder in NEEDS_SOURCE and source is None:
            missing.append(f"decoder_source of {self.decoder}")
        if self.decoder == "va-vae" and statistics is None:
            missing.append("decoder_statistics of va-vae")
        return Decoding(
            named=self.decoder,
            missing=tuple(missing),
            source=source and self._local(source),  # type: ignore[arg-type]
            statistics=statistics and self._local(statistics),  # type: ignore[arg-type]
            scale=self.decoder_scale,
        )

    @property
    def shows_images(self) -> bool:
        """Whether samples become images that can be measured: its decoder makes some, and its files are there."""
        return self.decoding.in_use in PIXELS_A_SIDE

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images, of a model that shows some."""
        scale = PIXELS_A_SIDE[self.decoding.in_use]
        return self.latent_shape[1] * scale, self.latent_shape[2] * scale

    @property
    def reading(self) -> dict[str, Any]:
        """What a result depends on besides request, weights and decoder: how they are read and shown."""
        said = self.model_dump(mode="json", include={"family", "num_heads", "decode_layer", "display_scale"})
        return said | {"class_names": self.names}

    def place_of(self, text: str) -> str:
        """A text with paths of this machine as the registry has them: for clients."""
        if self.compacted is not None:
            text = text.replace(self.checkpoint, f"the checkpoint of {self.name}")
        for source in (self.checkpoint, self.decoder_source, self.decoder_statistics):
            path = source and self._local(source)
            if source and path:
                text = text.replace(str(path), self._relative(source))
        return text.replace(f"{self.folder}/", "")

    @property
    def missing(self) -> list[str]:
        """The files that are not there; the model can be used when there is none."""
        if self.compacted is None:
            checkpoint = self._absent(self.checkpoint, missing_from_checkpoint)
        else:
            checkpoint = [] if self.stored else ["its checkpoint"]
        return [
            *checkpoint,
            *self._absent(str(self.class_names) if self.class_names else None),
        ]

    @property
    def ready(self) -> bool:
        """Whether the model can be used."""
        return not self.missing

    @property
    def training(self) -> Path | None:
        """Where the record of the model's training would lie: beside its card. None for a model without one."""
        return None if self.card is None else self.card.parent / "training.json"

    @property
    def names(self) -> list[str]:
        """The names of the classes in order; none where the model has no names, or its file is not there."""
        if self.class_names is None or not self.class_names.is_file():
            return []
        return self.class_names.read_text().splitlines()

    def class_name(self, label: int) -> str | None:
        """The name of a label, or None where the model has no names."""
        names = self.names
        return names[label] if label < len(names) else None

    def _local(self, source: str) -> Path | None:
        if hub.is_hub(source):
            return hub.cached(source, self.hub_cache)
        path = Path(source)
        return path if path.exists() else None

    def _absent(self, source: str | None, lacks: Callable[[Path], list[str]] = lambda _: []) -> list[str]:
        """The source, or what its folder lacks, as the registry names them; nothing where all is there."""
        if source is None:
            return []
        path = self._local(source)
        if path is None:
            return [self._relative(source)]
        return [f"{self._relative(source)}/{part}" for part in lacks(path)]

    def _relative(self, source: str) -> str:
        return source.removeprefix(f"{self.folder}/")

    def _guidance_faults(self) -> Iterator[str]:
        """What of the defaults no request of this model could say."""
        channels, interval = self.defaults.guided_channels, self.defaults.guidance_interval
        if isinstance(channels, int) and channels > self.latent_shape[0]:
            yield f"defaults.guided_channels: {channels} is more than the {self.latent_shape[0]} channels there are"
        if interval is not None:
            low, high = interval
            if low >= high:
                yield f"defaults.guidance_interval: {low:g} to {high:g} is empty; the lower time comes first"
            for time in interval:
                if fault := self.facts.check_time(time):
                    yield f"defaults.guidance_interval: {fault}"


class Registry:
    """The registered models."""

    def __init__(self, entries: Mapping[str, ModelEntry]) -> None:
        self._entries = dict(entries)

    @classmethod
    def read(cls, path: Path, hub_cache: Path | None = None) -> Registry:
        """The registry in a file; paths in it are relative to its folder. hub_cache: as `Settings.hub_cache`.

        Raises RegistryError naming the file, the entry and what is wrong with it.
        """
        try:
            document = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise RegistryError(f"{path} does not exist; set TAILPRUNE_REGISTRY to the registry of models") from None
        except tomllib.TOMLDecodeError as error:
            raise RegistryError(f"{path}: {error}") from None
        folder = path.parent.absolute()
        entries = {}
        tables = document.get("models", {})
        if not isinstance(tables, Mapping):
            raise RegistryError(f"{path}: models is {tables!r}, not a table of models")
        for name, table in tables.items():
            try:
                said = _with_paths(table, folder)
                entries[name] = ModelEntry(name=name, folder=folder, hub_cache=hub_cache, **said)
            except ValidationError as error:
                raise RegistryError(f"{path}, model {name!r}: {_plainly(error)}") from None
            except TypeError as error:
                raise RegistryError(f"{path}, model {name!r}: {error}") from None
        return cls(entries)

    def get(self, name: str) -> ModelEntry:
        """The model of this name. Raises UnknownModel naming the known ones."""
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownModel(name, list(self._entries)) from None

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[ModelEntry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)


PATHS = ("checkpoint", "class_names", "card", "decoder_source", "decoder_statistics")


def _with_paths(table: Any, folder: Path) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise TypeError(f"is {table!r}, not a table")
    paths = {
        key: str(folder / said)
        for key in PATHS
        if isinstance(said := table.get(key), str) and said and not hub.is_hub(said)
    }
    return {**table, **paths}


def _plainly(error: ValidationError) -> str:
    """What is wrong, a phrase a mistake, without pydantic's own explanations."""
    faults = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{place}: {message}" if place else message)
    return "; ".join(faults)
