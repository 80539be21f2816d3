"""What makes pictures or sound of a model's samples: the decoder that the registry names, or its stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from jobs.registry.document import Sources
from tailprune.spec.layouts import missing_from_decoder

__all__ = ["LATENT_CHANNELS", "NEEDS_SOURCE", "DecoderName", "Decoding", "Shown"]

DecoderName = Literal["pixels", "latents", "sd-vae", "va-vae", "audioldm"]
NEEDS_SOURCE = ("sd-vae", "va-vae", "audioldm")
LATENT_CHANNELS = {"pixels": 3, "sd-vae": 4, "va-vae": None, "audioldm": 8, "latents": None}
"""How many channels a decoder takes; any number where it does not say."""


class Shown(BaseModel):
    """What makes pictures or sound of a model's samples, and whether it is there."""

    name: DecoderName = Field(description="The decoder that the registry names.")
    ready: bool = Field(description="Whether its files are there; while they are not, pictures show the latents.")
    missing: list[str] = Field(description="The files that are not there.")


@dataclass(frozen=True)
class Decoding:
    """A model's decoder at one moment; the same one for the key of a job, for what is loaded and for what is shown."""

    named: DecoderName
    """What the registry names."""
    missing: tuple[str, ...]
    """Its files that are not there."""
    source: Path | None
    statistics: Path | None
    scale: float | None

    @classmethod
    def find(
        cls, named: DecoderName, source: str | None, statistics: str | None, scale: float | None, sources: Sources
    ) -> Decoding:
        """A decoder as its files are at this moment."""
        missing = sources.missing(source, lambda path: missing_from_decoder(named, path)) + sources.missing(statistics)
        if named in NEEDS_SOURCE and source is None:
            missing.append(f"decoder_source of {named}")
        if named == "va-vae" and statistics is None:
            missing.append("decoder_statistics of va-vae")
        return cls(
            named=named,
            missing=tuple(missing),
            source=None if source is None else sources.local(source),
            statistics=None if statistics is None else sources.local(statistics),
            scale=scale,
        )

    @property
    def in_use(self) -> DecoderName:
        """The named one where its files are there, or `latents`."""
        return "latents" if self.missing else self.named

    @property
    def files(self) -> list[Path]:
        """The files and folders of the decoder in use."""
        return [] if self.missing else [path for path in (self.source, self.statistics) if path is not None]

    @property
    def note(self) -> str | None:
        """Why pictures show no more than latents, where that is for want of files."""
        if not self.missing:
            return None
        return (
            f"the decoder {self.named} is not there (missing: {', '.join(self.missing)}), so the pictures show "
            "the latents; they are an artifact too, to be decoded elsewhere"
        )

    @property
    def shown(self) -> Shown:
        """As clients see it."""
        return Shown(name=self.named, ready=not self.missing, missing=list(self.missing))
