"""The registry of models: what `models.toml` says of each, and the digest of its checkpoint."""

from __future__ import annotations

import hashlib
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs.families import FAMILIES, Family

__all__ = ["ModelDefaults", "ModelEntry", "Registry", "RegistryError", "UnknownModel", "content_digest"]


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
    labels: list[int]
    samples_per_label: int = Field(default=1, ge=1)


class ModelEntry(BaseModel):
    """One model: its checkpoint, its shape and where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    family: Annotated[str, AfterValidator(_known_family)]
    checkpoint: Path
    num_heads: int | None = None
    classes: int = Field(ge=1)
    class_names: Path | None = None
    """A text file with one name a line."""
    condition_dim: int = Field(ge=1)
    latent_shape: tuple[int, int, int]
    decoder: Literal["pixels", "latents"]
    """`pixels` for models that sample pixels; `latents` shows the latents themselves."""
    display_scale: int = Field(default=1, ge=1)
    """Images are enlarged by this, without smoothing."""
    licence: str
    source: str
    card: Path | None = None
    defaults: ModelDefaults

    @model_validator(mode="after")
    def _decodes_to_colours(self) -> Self:
        if self.decoder == "pixels" and self.latent_shape[0] != 3:
            raise ValueError(
                f"decoder 'pixels' shows three channels, and latent_shape has {self.latent_shape[0]}; use 'latents'"
            )
        return self

    @property
    def facts(self) -> Family:
        """What a request may ask of this model's family."""
        return FAMILIES[self.family]

    @property
    def reading(self) -> dict[str, Any]:
        """What a result depends on besides request and weights: how they are read, decoded and shown."""
        said = self.model_dump(mode="json", include={"family", "num_heads", "decoder", "display_scale"})
        return said | {"class_names": self.names}

    @property
    def missing(self) -> list[str]:
        """The files that are not there; the model can be used when there is none."""
        return [path.name for path in (self.checkpoint, self.class_names) if path and not path.is_file()]

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


class Registry:
    """The registered models."""

    def __init__(self, entries: Mapping[str, ModelEntry]) -> None:
        self._entries = dict(entries)

    @classmethod
    def read(cls, path: Path) -> Registry:
        """The registry in a file; paths in it are relative to its folder.

        Raises RegistryError naming the file, the entry and what is wrong with it.
        """
        try:
            document = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise RegistryError(f"{path} does not exist; set TAILPRUNE_REGISTRY to the registry of models") from None
        except tomllib.TOMLDecodeError as error:
            raise RegistryError(f"{path}: {error}") from None
        entries = {}
        for name, table in document.get("models", {}).items():
            try:
                entries[name] = ModelEntry(name=name, **_with_paths(table, path.parent.absolute()))
            except ValidationError as error:
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


def _with_paths(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    paths = {key: folder / table[key] for key in ("checkpoint", "class_names", "card") if key in table}
    return {**table, **paths}


_digests: dict[str, str] = {}


def content_digest(entry: ModelEntry, data_dir: Path) -> str:
    """The sha256 of a model's checkpoint, in hexadecimal.

    Read again only when the file changed: known digests are kept in memory and in `data_dir`, by path,
    size and time of change. Raises FileNotFoundError where the checkpoint is not there.
    """
    stat = entry.checkpoint.stat()
    state = f"{entry.checkpoint}\0{stat.st_size}\0{stat.st_mtime_ns}"
    if state in _digests:
        return _digests[state]
    note = data_dir / "digests" / hashlib.sha256(state.encode()).hexdigest()
    if note.is_file():
        digest = note.read_text()
    else:
        with entry.checkpoint.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        _write_whole(note, digest)
    _digests[state] = digest
    return digest


def _write_whole(path: Path, text: str) -> None:
    """Write a file that other processes see whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    os.replace(temporary, path)
