"""The decoding half of an autoencoder: post_quant_conv and decoder of diffusers' AutoencoderKL (arXiv 2112.10752)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tailprune.checkpoints import TensorFile
from tailprune.decoders.base import DecoderError
from tailprune.decoders.weights import fill, first_file, open_weights, read_config
from tailprune.spec import InputError
from tailprune.spec.layouts import CONFIG, DIFFUSERS_WEIGHTS, VAE

__all__ = ["DecodingHalf", "find_autoencoder", "load_folder", "load_half", "scaling"]

OWN = ("decoder.", "post_quant_conv.")
FORMER_NAMES = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
"""Attention in files from before diffusers 0.18, SD-VAE's and AudioLDM's among them."""


class DecodingHalf(nn.Module):
    """z, with shape (B, C, H, W) -> decoded, with shape (B, out_channels, H * upsampling, W * upsampling)."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.channels: int = whole.config.latent_channels
        self.out_channels: int = whole.config.out_channels
        self.upsampling = 2 ** (len(whole.config.block_out_channels) - 1)
        self.post_quant_conv: nn.Module | None = whole.post_quant_conv
        self.decoder: nn.Module = whole.decoder

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(z if self.post_quant_conv is None else self.post_quant_conv(z))


def load_half(
    config: Mapping[str, Any], weights: TensorFile, out_channels: int, stored_as: Callable[[str], str]
) -> DecodingHalf:
    """The decoding half of an AutoencoderKL; the encoder is neither built nor read.

    config: diffusers' configuration of the whole.
    weights: the tensors of its file.
    out_channels: how many channels it has to decode to.
    stored_as: the name in the file of a tensor, by its name in the network.

    Raises DecoderError for a configuration or tensors that do not fit.
    """
    from diffusers import AutoencoderKL

    try:
        with torch.device("meta"):  # shapes alone: no memory for the half that is thrown away
            half = DecodingHalf(AutoencoderKL.from_config(dict(config)))
    except (ValueError, TypeError, IndexError) as error:
        raise DecoderError(f"{weights.path}: does not describe an AutoencoderKL: {error}") from error
    if half.out_channels != out_channels:
        raise DecoderError(
            f"{weights.path}: decodes to {half.out_channels} channels; one that decodes to {out_channels} would fit"
        )
    fill(half, weights, "the decoder of an AutoencoderKL", stored_as, OWN)
    return half


def find_autoencoder(folder: Path) -> Path | None:
    """The folder of the autoencoder: `folder` itself, or `vae` in it; None where neither is one."""
    return next((at for at in (folder, folder / VAE) if (at / CONFIG).is_file()), None)


def load_folder(folder: Path, out_channels: int) -> tuple[DecodingHalf, dict[str, Any]]:
    """The decoding half from a folder in diffusers' layout, and its configuration. Raises DecoderError."""
    config = read_config(folder, "AutoencoderKL", "_class_name")
    weights = open_weights(first_file(folder, DIFFUSERS_WEIGHTS))
    return load_half(config, weights, out_channels, lambda name: _stored_name(name, weights)), config


def scaling(config: Mapping[str, Any], folder: Path, scale: float | None, otherwise: float | None) -> float:
    """What latents were multiplied by, above 0.

    config: diffusers' configuration, whose scaling_factor it is where `scale` is None.
    folder: where the configuration lies, for messages.
    scale: what was given for it.
    otherwise: what it is where neither says it.

    Raises InputError for a scale that is none, DecoderError for a configuration that says nothing or says more.
    """
    for key in ("shift_factor", "latents_mean", "latents_std"):
        if config.get(key) is not None:
            raise DecoderError(f"{folder}: its {CONFIG} has {key}, which is not undone here; take one that has none")
    found = next((value for value in (scale, config.get("scaling_factor"), otherwise) if value is not None), None)
    if found is None:
        raise DecoderError(f"{folder}: its {CONFIG} has no scaling_factor; give scale")
    return positive(found)


def positive(scale: float) -> float:
    """The scale. Raises InputError for one that latents cannot be divided by."""
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"scale is {scale}, and latents are divided by it: give a number above 0")
    return float(scale)


def _stored_name(name: str, weights: TensorFile) -> str:
    if name not in weights.shapes and ".attentions." in name:
        for now, before in FORMER_NAMES.items():
            if (former := name.replace(now, before)) in weights.shapes:
                return former
    return name
