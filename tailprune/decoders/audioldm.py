"""AudioLDM's decoder (arXiv 2301.12503): from latents to a log-mel spectrogram, as an image, and to sound."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.decoders.autoencoder import DecodingHalf, load_folder, scaling
from tailprune.decoders.base import AT_ONCE, Decoded, DecoderError, check_latents, denormalise
from tailprune.decoders.weights import files_in, fill, open_weights, read_config
from tailprune.spec import InputError
from tailprune.spec.layouts import VAE, VOCODER, VOCODER_WEIGHTS

__all__ = ["HIGHEST", "LOWEST", "AudioLDM", "load_audioldm", "picture"]

ANCHOR = "conv_pre.weight"
"""A tensor that every vocoder has."""
LOWEST = math.log(1e-5)
"""The minimum of AudioLDM's spectrograms, whose magnitudes are clipped at 1e-5 before the logarithm."""
HIGHEST = 2.0
"""About a sine of full scale: half the sum of a Hann window of 1024 times the weight of a mel filter, exp(2) = 7.4."""

VIRIDIS = (
    (68, 1, 84),
    (72, 24, 106),
    (71, 45, 123),
    (66, 64, 134),
    (59, 82, 139),
    (51, 99, 141),
    (44, 114, 142),
    (38, 130, 142),
    (33, 145, 140),
    (31, 160, 136),
    (40, 174, 128),
    (63, 188, 115),
    (94, 201, 98),
    (132, 212, 75),
    (173, 220, 48),
    (216, 226, 25),
    (253, 231, 37),
)
"""Evenly spaced colours of Matplotlib's viridis (CC0), which is perceptually uniform."""


class AudioLDM:
    """mel = decode(latents / scale), sound = vocoder(mel).

    latents, with shape (B, C, time, frequency) -> images (B, frequency', time', 3), sounds (B, T).

    half: the decoding half of the autoencoder, on the device to compute on
    vocoder: a SpeechT5HifiGan of transformers, on the same device
    scale: the factor that latents were multiplied by in training, above 0
    """

    def __init__(self, half: DecodingHalf, vocoder: Any, scale: float) -> None:
        self.half = half
        self.vocoder = vocoder
        self.channels: int | None = half.channels
        self.scale = scale

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Decoded:
        check_latents(latents, "audioldm", self.channels)
        bands, made = self.vocoder.config.model_in_dim, latents.shape[3] * self.half.upsampling
        if bands != made:
            raise InputError(
                f"audioldm takes latents of width {bands / self.half.upsampling:g}, for the {bands} mel bands of its "
                f"vocoder; these have shape {tuple(latents.shape)}, which gives {made} bands"
            )
        device = next(self.half.parameters()).device
        images, sounds = [], []
        for z in latents.split(AT_ONCE):
            mel = self.half(denormalise(z.to(device), self.scale)).squeeze(1)  # (1, time, bands)
            images.append(picture(mel))
            sounds.append(self.vocoder(mel).float().clamp(-1, 1).cpu())
        return Decoded(torch.cat(images), "spectrogram", torch.cat(sounds), self.vocoder.config.sampling_rate)


def load_audioldm(source: str | PathLike[str], scale: float | None, device: str | torch.device) -> AudioLDM:
    """AudioLDM's decoder (arXiv 2301.12503) from a folder in diffusers' layout.

    source: a folder with `vae/`, an AutoencoderKL that decodes to one channel, and `vocoder/`, a SpeechT5HifiGan
    scale: the factor that latents were multiplied by in training; the scaling_factor of vae/config.json for None
    device: where the networks run

    Raises DecoderError for files that do not fit.
    """
    folder = Path(source)
    for part in (VAE, VOCODER):
        if not (folder / part).is_dir():
            raise DecoderError(f"{folder}: has no folder {part}/; give a folder with AudioLDM's {VAE}/ and {VOCODER}/")
    half, config = load_folder(folder / VAE, out_channels=1)
    scale = scaling(config, folder / VAE, scale, None)
    return AudioLDM(half.to(device), _vocoder(folder / VOCODER).to(device), scale)


def _vocoder(folder: Path) -> Any:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    config = read_config(folder, "speecht5_hifigan", "model_type")
    weights = open_weights(files_in(folder, VOCODER_WEIGHTS), ANCHOR)
    # Not by from_pretrained, which initialises missing tensors at random.
    try:
        with torch.device("meta"):
            vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig.from_dict(config))
    except Exception as error:  # transformers and torch raise many types for values that do not fit
        raise DecoderError(f"{folder}: its configuration does not fit SpeechT5HifiGan: {error}") from error
    fill(vocoder, weights, "SpeechT5HifiGan")
    return vocoder


def picture(mel: Tensor) -> Tensor:
    """The spectrogram as an image: time to the right, frequency upwards, from violet (`LOWEST`) to yellow (`HIGHEST`).

    mel, with shape (B, time, frequency), natural logarithms of magnitudes -> (B, frequency, time, 3), uint8 on the
    CPU. The range is fixed, so that equal colours mean equal magnitudes in any two images.
    """
    colours = torch.tensor(VIRIDIS, dtype=torch.float32)
    level = (mel.detach().float().cpu() - LOWEST) / (HIGHEST - LOWEST)
    position = level.clamp(0, 1).transpose(1, 2).flip(1) * (len(colours) - 1)
    below = position.floor().clamp(max=len(colours) - 2)
    at = below.long()
    return colours[at].lerp(colours[at + 1], (position - below)[..., None]).round().byte()
