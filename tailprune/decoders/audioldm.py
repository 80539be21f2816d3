"""Latents of sound -> its spectrogram and the sound: AudioLDM (arXiv 2301.12503)."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.decoders.autoencoder import DecodingHalf, load_folder, scaling
from tailprune.decoders.base import AT_ONCE, Decoded, DecoderError, check_latents, denormalise
from tailprune.decoders.spectrogram import picture
from tailprune.decoders.weights import fill, first_file, open_weights, read_config

__all__ = ["AudioLDM", "load_audioldm"]

FILES = ("model.safetensors", "pytorch_model.bin")


class AudioLDM:
    """mel = decode(latents / scale), sound = vocoder(mel).

    latents, with shape (B, C, time, frequency) -> images (B, frequency', time', 3), sounds (B, T). `half` and
    `vocoder`, a SpeechT5HifiGan of transformers, stand on the device to compute on.
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
            raise ValueError(
                f"audioldm takes latents {bands / self.half.upsampling:g} wide, for the {bands} mel bands of its "
                f"vocoder; these have shape {tuple(latents.shape)}, and make {made}"
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

    `source` holds `vae/`, an AutoencoderKL that decodes to one channel, and `vocoder/`, a SpeechT5HifiGan. `scale`
    where given, else the scaling_factor of vae/config.json. Raises DecoderError.
    """
    folder = Path(source)
    for part in ("vae", "vocoder"):
        if not (folder / part).is_dir():
            raise DecoderError(f"{folder}: has no folder {part}/; it takes AudioLDM's vae/ and vocoder/ side by side")
    half, config = load_folder(folder / "vae", out_channels=1)
    scale = scaling(config, folder / "vae", scale, None)
    return AudioLDM(half.to(device), _vocoder(folder / "vocoder").to(device), scale)


def _vocoder(folder: Path) -> Any:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    config = read_config(folder, "speecht5_hifigan", "model_type")
    weights = open_weights(first_file(folder, FILES))
    # Built and filled here, not by from_pretrained, which makes up tensors that are missing.
    with torch.device("meta"):
        vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig.from_dict(config))
    fill(vocoder, weights, "SpeechT5HifiGan")
    return vocoder
