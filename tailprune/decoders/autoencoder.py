"""The decoding half of an autoencoder: post_quant_conv and decoder of diffusers' AutoencoderKL (arXiv 2112.10752)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tailprune.arguments import as_number
from tailprune.checkpoints import TensorFile
from tailprune.decoders.base import DecoderError
from tailprune.decoders.weights import files_in, fill, open_weights, read_config
from tailprune.spec.layouts import CONFIG, DIFFUSERS_WEIGHTS, VAE

__all__ = ["ANCHOR", "DecodingHalf", "find_autoencoder", "load_folder", "load_half", "scaling"]

ANCHOR = "decoder.conv_in.weight"
"""A tensor that every autoencoder has, in diffusers' format and in the LDM code's."""
OWN = ("decoder.", "post_quant_conv.")
FORMER_NAMES = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
"""The names of attention layers now, and in files from before diffusers 0.18, such as SD-VAE's and AudioLDM's."""


class DecodingHalf(nn.Module):
    """Decodes z, with shape (B, C, H, W) -> (B, out_channels, H * upsampling, W * upsampling)."""

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

    config: diffusers' configuration of the autoencoder
    weights: the tensors of its file
    out_channels: the number of channels that it must decode to
    stored_as: maps the name of a tensor in the network to its name in the file

    Raises DecoderError for a configuration or tensors that do not fit.
    """
    from diffusers import AutoencoderKL

    try:
        with torch.device("meta"):  # no memory for the encoder, which is discarded
            half = DecodingHalf(AutoencoderKL.from_config(dict(config)))
    except (ValueError, TypeError, IndexError) as error:
        raise DecoderError(f"{weights.path}: its configuration does not fit an AutoencoderKL: {error}") from error
    if half.out_channels != out_channels:
        raise DecoderError(
            f"{weights.path}: decodes to {half.out_channels} channels; give one that decodes to {out_channels}"
        )
    fill(half, weights, "the decoder of an AutoencoderKL", stored_as, OWN)
    return half


def find_autoencoder(folder: Path) -> Path | None:
    """The folder of the autoencoder: `folder` itself, or `vae` in it; None if neither has a configuration."""
    return next((at for at in (folder, folder / VAE) if (at / CONFIG).is_file()), None)


def load_folder(folder: Path, out_channels: int) -> tuple[DecodingHalf, dict[str, Any]]:
    """The decoding half from a folder in diffusers' layout, and its configuration. Raises DecoderError."""
    config = read_config(folder, "AutoencoderKL", "_class_name")
    weights = open_weights(files_in(folder, DIFFUSERS_WEIGHTS), ANCHOR)
    return load_half(config, weights, out_channels, lambda name: _stored_name(name, weights)), config


def scaling(config: Mapping[str, Any], folder: Path, scale: float | None, default: float | None) -> float:
    """The factor that latents were multiplied by in training, above 0.

    config: diffusers' configuration; its scaling_factor is used if `scale` is None
    folder: the folder of the configuration, for messages
    scale: the factor, if given
    default: the factor if neither gives one; None if one of them has to

    Raises InputError for a scale that is not above 0, DecoderError if there is none, or if the configuration has a
    shift or statistics too.
    """
    for key in ("shift_factor", "latents_mean", "latents_std"):
        if config.get(key) is not None:
            raise DecoderError(f"{folder}: its {CONFIG} has {key}, which is not supported; give one without it")
    found = next((value for value in (scale, config.get("scaling_factor"), default) if value is not None), None)
    if found is None:
        raise DecoderError(f"{folder}: its {CONFIG} has no scaling_factor; give scale")
    return positive(found)


def positive(scale: float) -> float:
    """Return the scale. Raises InputError unless it is finite and above 0."""
    return as_number("scale", scale, above=0)


def _stored_name(name: str, weights: TensorFile) -> str:
    if name not in weights.shapes and ".attentions." in name:
        for now, before in FORMER_NAMES.items():
            if (former := name.replace(now, before)) in weights.shapes:
                return former
    return name
