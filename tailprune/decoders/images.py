"""Decoders from latents to images: SD-VAE (arXiv 2112.10752) and VA-VAE (arXiv 2501.01423)."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from tailprune.checkpoints import TensorFile
from tailprune.decoders import ldm
from tailprune.decoders.autoencoder import (
    ANCHOR,
    DecodingHalf,
    find_autoencoder,
    load_folder,
    load_half,
    positive,
    scaling,
)
from tailprune.decoders.base import AT_ONCE, Decoded, DecoderError, check_latents, denormalise
from tailprune.decoders.plain import pixels
from tailprune.decoders.weights import open_weights
from tailprune.spec.layouts import CONFIG, DIFFUSERS_WEIGHTS, VAE

__all__ = ["Pictures", "load_sd_vae", "load_va_vae"]

SD_SCALE = 0.18215
"""The factor that SD-VAE's latents are multiplied by, for about unit variance."""
COLOURS = 3


class Pictures:
    """images = decode(latents / scale * std + mean). latents, with shape (B, C, H, W) -> images (B, H', W', 3).

    name: the name of the decoder, for messages
    half: the decoding half of the autoencoder, on the device to compute on
    scale, mean, std: as in `denormalise`, on the same device
    """

    def __init__(
        self, name: str, half: DecodingHalf, scale: float, mean: Tensor | None = None, std: Tensor | None = None
    ) -> None:
        self.name = name
        self.half = half
        self.channels: int | None = half.channels
        self.scale = scale
        self.mean, self.std = mean, std

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Decoded:
        check_latents(latents, self.name, self.channels)
        device = next(self.half.parameters()).device
        made = [
            pixels(self.half(denormalise(z.to(device), self.scale, self.mean, self.std)))
            for z in latents.split(AT_ONCE)
        ]
        return Decoded(torch.cat(made), shows="image")


def load_sd_vae(source: str | PathLike[str], scale: float | None, device: str | torch.device) -> Pictures:
    """SD-VAE (arXiv 2112.10752): x = decode(latents / scale).

    source: a folder of diffusers' AutoencoderKL, or one with it under `vae/`
    scale: the factor that latents were multiplied by; for None the scaling_factor of config.json, else 0.18215
    device: where the network runs

    Raises DecoderError for files that do not fit.
    """
    folder = _autoencoder_folder(Path(source))
    half, config = load_folder(folder, COLOURS)
    return Pictures("sd-vae", half.to(device), scaling(config, folder, scale, SD_SCALE))


def load_va_vae(
    source: str | PathLike[str],
    statistics: str | PathLike[str],
    scale: float | None,
    device: str | torch.device,
) -> Pictures:
    """VA-VAE (arXiv 2501.01423): x = decode(latents / scale * std + mean).

    source: the published file in the LDM code's format, or a folder as in `load_sd_vae`
    statistics: the latents_stats.pt that the model was trained with: `mean` and `std`, with shape (1, C, 1, 1) or (C,)
    scale: the latent_multiplier of that training, above 0; 1 for None
    device: where the network runs

    Raises DecoderError for files that do not fit.
    """
    path = Path(source)
    half = load_folder(_autoencoder_folder(path), COLOURS)[0] if path.is_dir() else _load_ldm(path)
    stored = open_weights([Path(statistics)], "mean")
    mean, std = (_of_channels(stored, name, half.channels).to(device) for name in ("mean", "std"))
    if not (std > 0).all():
        raise DecoderError(
            f"{stored.path}: std must be above 0 in every channel, and its minimum is {float(std.min())}"
        )
    return Pictures("va-vae", half.to(device), positive(1.0 if scale is None else scale), mean, std)


def _autoencoder_folder(source: Path) -> Path:
    """The folder of the autoencoder in a source. Raises DecoderError if there is none."""
    folder = find_autoencoder(source)
    if folder is None:
        raise DecoderError(
            f"{source}: has no {CONFIG}, and none in {VAE}/; give a folder of diffusers' AutoencoderKL, with {CONFIG} "
            f"and {DIFFUSERS_WEIGHTS[0]}"
        )
    return folder


def _load_ldm(path: Path) -> DecodingHalf:
    weights = open_weights([path], ANCHOR)
    try:
        config = ldm.configuration(weights.shapes)
    except ldm.NotLDM as error:
        raise DecoderError(
            f"{path}: is not an autoencoder in the LDM code's format: {error}. Give VA-VAE's published file, or a "
            "folder of diffusers' AutoencoderKL"
        ) from error
    levels = len(config["block_out_channels"])
    return load_half(config, weights, COLOURS, lambda name: ldm.ldm_name(name, levels))


def _of_channels(statistics: TensorFile, name: str, channels: int) -> Tensor:
    """The mean or the standard deviation, with shape (1, C, 1, 1)."""
    shape = statistics.shapes.get(name)
    if shape not in ((channels,), (channels, 1, 1), (1, channels, 1, 1)):
        found = "is missing" if shape is None else f"has shape {shape}"
        fit = f"mean and std with shape {(1, channels, 1, 1)} or {(channels,)}"
        raise DecoderError(f"{statistics.path}: {name} {found}; give {fit}")
    value = statistics.read(name).float().reshape(1, channels, 1, 1)
    if not value.isfinite().all():
        raise DecoderError(f"{statistics.path}: {name} holds NaN or infinity; give finite numbers")
    return value
