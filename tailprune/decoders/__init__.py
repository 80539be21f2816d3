"""Decoders from latents to images and sound, one for each kind of latents, loaded by `load_decoder`.

    base           `Decoder` and `Decoded`: what a decoder takes and returns
    plain          pixels, and a view of the latents themselves; no weights
    images         SD-VAE and VA-VAE
    audioldm       AudioLDM: spectrograms and sound
    autoencoder    the decoding half of an AutoencoderKL
    ldm            the names of tensors in the LDM code's format
    weights        filling a network from a file

Weights are local files, or on the Hugging Face hub; the libraries with the networks are imported when a decoder needs
them.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch

from tailprune.arguments import as_device, closest
from tailprune.checkpoints import HubError, fetch
from tailprune.decoders.autoencoder import find_autoencoder
from tailprune.decoders.base import Decoded, Decoder, DecoderError
from tailprune.decoders.plain import Latents, Pixels, pixels
from tailprune.extras import require
from tailprune.spec import InputError
from tailprune.spec.hub import is_hub, parse
from tailprune.spec.layouts import CONFIG, VAE

__all__ = ["DECODERS", "Decoded", "Decoder", "DecoderError", "load_decoder", "pixels"]

DECODERS = ("pixels", "latents", "sd-vae", "va-vae", "audioldm")
WITHOUT_SOURCE = ("pixels", "latents")


def load_decoder(
    name: str,
    source: str | PathLike[str] | None = None,
    *,
    statistics: str | PathLike[str] | None = None,
    scale: float | None = None,
    device: str | torch.device = "cpu",
) -> Decoder:
    """The decoder of a name, ready to call, in float32.

    name: one of DECODERS
    source: its weights: a folder, or for `va-vae` a file; or `hf://owner/repo[/path]`, which is downloaded if it is not
        in the cache (see `tailprune.checkpoints.hub`); None for a decoder without weights
    statistics: the file with mean and standard deviation of the latents, or its address on the hub; for `va-vae` only
    scale: the factor that latents were multiplied by in training, above 0; the decoder's own by default
    device: where the network runs, the CPU by default

    Raises InputError for an unknown name, and for arguments that are missing or that the decoder does not take;
    DecoderError, an InputError, for files that do not fit; HubError, a FileNotFoundError, for files that cannot be
    fetched.
    """
    if name not in DECODERS:
        raise InputError(f"there is no decoder {name!r}: give one of {', '.join(DECODERS)}{closest(name, DECODERS)}")
    device = as_device(device)
    if name in WITHOUT_SOURCE:
        for argument, value in (("source", source), ("statistics", statistics), ("scale", scale)):
            if value is not None:
                raise InputError(f"decoder {name!r} has no weights: leave out {argument}, which is {str(value)!r}")
        return Pixels() if name == "pixels" else Latents()
    require("decoders", "diffusers", "transformers")
    if source is None:
        raise InputError(
            f"decoder {name!r} needs a source: the {'file' if name == 'va-vae' else 'folder'} of its weights"
        )
    if name == "va-vae":
        from tailprune.decoders.images import load_va_vae

        if statistics is None:
            raise InputError("decoder 'va-vae' needs statistics: the latents_stats.pt that its model was trained with")
        return load_va_vae(_file_or_folder(source), _local(statistics), scale, device)
    if statistics is not None:
        raise InputError(f"decoder {name!r} takes no statistics: leave out {str(statistics)!r}")
    if name == "sd-vae":
        from tailprune.decoders.images import load_sd_vae

        return load_sd_vae(_local(source), scale, device)
    from tailprune.decoders.audioldm import load_audioldm

    return load_audioldm(_local(source), scale, device)


def _file_or_folder(source: str | PathLike[str]) -> Path:
    """As `_local`, for `va-vae`: a repository that is not a diffusers folder needs its file named."""
    if not is_hub(source) or parse(str(source)).is_file:
        return _local(source)
    hint = f"a repository that is not a diffusers folder needs its file named: {str(source).rstrip('/')}/FILE.pt"
    try:
        folder = _local(source)
    except HubError as error:
        raise HubError(f"{error}. {hint}") from error
    if find_autoencoder(folder) is None:
        raise DecoderError(f"{folder}: has no {CONFIG}, and none in {VAE}/; {hint}")
    return folder


def _local(source: str | PathLike[str]) -> Path:
    return fetch(str(source)) if is_hub(source) else Path(source)
