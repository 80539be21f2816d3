"""The decoder that turns samples into pictures or sound: the registered one, or `latents` without its files."""

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
"""How many channels a decoder takes; None for any number."""


class Shown(BaseModel):
    """The decoder of a model, and whether its files are present."""

    name: DecoderName = Field(description="The decoder that the registry names.")
    ready: bool = Field(description="Whether all its files are present; without them, pictures show the latents.")
    missing: list[str] = Field(description="The files that are missing.")


@dataclass(frozen=True)
class Decoding:
    """A model's decoder as its files are at one moment: one for the key of a job, its loading and its result."""

    named: DecoderName
    """The decoder that the registry names."""
    missing: tuple[str, ...]
    """Those of its files that are missing."""
    source: Path | None
    statistics: Path | None
    scale: float | None

    @classmethod
    def find(
        cls, named: DecoderName, source: str | None, statistics: str | None, scale: float | None, sources: Sources
    ) -> Decoding:
        """The decoder with its files as they are now.

        named: the decoder.
        source: its weights, as the registry has them; None for a decoder without files.
        statistics: mean and deviation of the latents, for va-vae.
        scale: the scale by which latents are divided before decoding; None for the decoder's own.
        sources: where sources are on this machine.
        """
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
        """The registered decoder if all its files are present, or else `latents`."""
        return "latents" if self.missing else self.named

    @property
    def files(self) -> list[Path]:
        """The files and folders of the decoder in use."""
        return [] if self.missing else [path for path in (self.source, self.statistics) if path is not None]

    @property
    def note(self) -> str | None:
        """Why pictures show the latents, if files of the decoder are missing; None otherwise."""
        if not self.missing:
            return None
        return (
            f"files of the decoder {self.named} are missing ({', '.join(self.missing)}), so the pictures show the "
            "latents; the latents are an artifact too, and can be decoded elsewhere"
        )

    @property
    def shown(self) -> Shown:
        """The decoder as clients see it."""
        return Shown(name=self.named, ready=not self.missing, missing=list(self.missing))
