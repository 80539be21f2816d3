"""The registry of models: what `models.toml` says of each, and which of their files are there."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs import hub
from jobs.families import FAMILIES, Family

__all__ = ["DecoderName", "ModelDefaults", "ModelEntry", "Registry", "RegistryError", "Shown", "UnknownModel"]

DecoderName = Literal["pixels", "latents", "sd-vae", "va-vae", "audioldm"]
NEEDS_SOURCE = ("sd-vae", "va-vae", "audioldm")
LATENT_CHANNELS = {"pixels": 3, "sd-vae": 4, "va-vae": None, "audioldm": 8, "latents": None}
"""How many channels a decoder takes; any number where it does not say."""
IMAGENET_CLASSES = 1000
IMAGENET_LABELS = [207, 360, 387, 974, 88, 979, 417, 279]
"""The labels of DiT's own sample script, and so of its successors'."""
LABELS_SHOWN = 8
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

    model_config = ConfigDict(extra="forbid", frozen=True)

    sampler: str
    steps: int = Field(ge=2)
    guidance_scale: float = Field(ge=1)
    guidance_interval: list[float] | None = None
    guidance_power: float | None = None
    guided_channels: int | Literal["all"] = "all"
    timestep_shift: float | None = None
    labels: list[int] | None = Field(default=None, description="Null for a model that takes conditions.")
    samples_per_label: int = Field(default=1, ge=1)


class Shown(BaseModel):
    """What makes pictures or sound of a model's samples, and whether it is there."""

    name: DecoderName = Field(description="The decoder that the registry names.")
    ready: bool = Field(description="Whether its files are there; while they are not, pictures show the latents.")
    missing: list[str] = Field(description="The files that are not there.")


Source = Annotated[str, AfterValidator(hub.check_source)]
"""A path, or a place on the Hugging Face hub."""


class ModelEntry(BaseModel):
    """One model: its checkpoint, its shape and where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    family: Annotated[str, AfterValidator(_known_family)]
    checkpoint: Source
    """A file, a folder, or `hf://owner/repo/file`."""
    num_heads: int | None = None
    decode_layer: int | None = None
    classes: int | None = Field(default=None, ge=1)
    """None for families that take conditions."""
    class_names: Path | None = None
    """A text file with one name a line."""
    condition_dim: int = Field(ge=1)
    latent_shape: tuple[int, int, int]
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
    folder: Path = Field(exclude=True)
    """Where the registry lies, from which the rest is found."""
    hub_cache: Path | None = Field(default=None, exclude=True)
    defaults: ModelDefaults

    @model_validator(mode="before")
    @classmethod
    def _published_unless_said(cls, said: Any) -> Any:
        """Fills in what the family's authors sample with, and what else needs no saying."""
        family = FAMILIES.get(str(said.get("family"))) if isinstance(said, dict) else None
        if family is None:
            return said
        filled = {"title": said.get("name"), **said}
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
        if self.decoder not in NEEDS_SOURCE and (self.decoder_source or self.decoder_statistics):
            raise ValueError(f"decoder {self.decoder!r} is made from no files; leave decoder_source out")
        if self.facts.features and self.classes is not None:
            raise ValueError(f"{self.family} takes {', '.join(self.facts.features)}, not labels; leave classes out")
        if not self.facts.features and self.classes is None:
            raise ValueError("say classes, how many labels the model has")
        if self.facts.features and self.defaults.labels is not None:
            raise ValueError(f"defaults.labels: {self.family} takes {', '.join(self.facts.features)}, not labels")
        for label in self.defaults.labels or []:
            if self.classes is not None and not 0 <= label < self.classes:
                raise ValueError(f"defaults.labels: label {label} is outside 0 to {self.classes - 1}")
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
    def local_decoder(self) -> tuple[Path | None, Path | None]:
        """Where the decoder's files and its statistics lie; None for what it has not, or is not there."""
        source, statistics = self.decoder_source, self.decoder_statistics
        return (source and self._local(source)) or None, (statistics and self._local(statistics)) or None

    @property
    def shown(self) -> Shown:
        """What makes pictures or sound of the samples."""
        missing = self._absent(self.decoder_source, self.decoder_statistics)
        if self.decoder in NEEDS_SOURCE and self.decoder_source is None:
            missing.append(f"decoder_source of {self.decoder}")
        if self.decoder == "va-vae" and self.decoder_statistics is None:
            missing.append("decoder_statistics of va-vae")
        return Shown(name=self.decoder, ready=not missing, missing=missing)

    @property
    def decoder_in_use(self) -> DecoderName:
        """The decoder whose files are there: the named one, or `latents`."""
        return self.decoder if self.shown.ready else "latents"

    @property
    def decoder_files(self) -> list[Path]:
        """The files and folders of the decoder in use."""
        if self.decoder_in_use != self.decoder:
            return []
        return [path for path in self.local_decoder if path is not None]

    @property
    def reading(self) -> dict[str, Any]:
        """What a result depends on besides request and weights: how they are read, decoded and shown."""
        said = self.model_dump(
            mode="json", include={"family", "num_heads", "decode_layer", "display_scale", "decoder_scale"}
        )
        return said | {"decoder": self.decoder_in_use, "class_names": self.names}

    @property
    def missing(self) -> list[str]:
        """The files that are not there; the model can be used when there is none."""
        return self._absent(self.checkpoint, str(self.class_names) if self.class_names else None)

    @property
    def ready(self) -> bool:
        """Whether the model can be used."""
        return not self.missing

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

    def _absent(self, *sources: str | None) -> list[str]:
        """Those that are not there, as the registry names them."""
        absent = [source for source in sources if source and self._local(source) is None]
        return [source.removeprefix(f"{self.folder}/") for source in absent]


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
            except (ValidationError, TypeError) as error:
                raise RegistryError(f"{path}, model {name!r}: {error}") from None
        return cls(entries)

    def get(self, name: str) -> ModelEntry:
        """The model of this name. Raises UnknownModel naming the known ones."""
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownModel(name, list(self._entries)) from None

    def __iter__(self) -> Iterator[ModelEntry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)


PATHS = ("checkpoint", "class_names", "card", "decoder_source", "decoder_statistics")


def _with_paths(table: Any, folder: Path) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise TypeError(f"is {table!r}, not a table")
    paths = {
        key: str(folder / table[key]) for key in PATHS if isinstance(table.get(key), str) and not hub.is_hub(table[key])
    }
    return {**table, **paths}
