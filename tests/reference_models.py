"""A registry of the reference cases: every system from its checkpoint as published files lay it out, with a decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save, save_file
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from tests.registry import write_document
from tests.tailprune.decoders.autoencoders import ldm_weights, randomised, statistics, tiny_vae
from tests.tailprune.parity import given, inputs_of, read

REFERENCE = Path(__file__).parent / "reference"
FAMILIES = ("dit", "sit", "mdt", "lightningdit", "repa", "mg", "x-mdpt", "mdsgen")
BY_FEATURES = ("x-mdpt", "mdsgen")
STEPS = 4
RATE = 16_000
SAMPLES = 130_560
"""Of MDSGen's 8.16 seconds."""


def case(family: str) -> dict[str, Any]:
    """The reference case of a family."""
    return read(REFERENCE / f"{family}-a.pt.xz")


def conditions_file(family: str) -> bytes:
    """The inputs of a case and, so that there are two of each, the same a little smaller, as safetensors."""
    inputs = inputs_of(case(family))
    return save({name: torch.cat([value[:1], value[:1] * 0.5]).contiguous() for name, value in inputs.items()})


def write_reference_models(folder: Path) -> Path:
    """Writes a model of each family and its decoder; returns the registry's path."""
    folder.mkdir(parents=True, exist_ok=True)
    decoders = _write_decoders(folder / "decoders")
    models = {family: _write_model(folder, family) | decoders[family] for family in FAMILIES}
    return write_document(folder, {"models": models})


def _write_model(folder: Path, family: str) -> dict[str, Any]:
    content = case(family)
    tensors = content["state_dict"]
    nested = {"lightningdit": "ema", "repa": "ema", "mg": "model"}.get(family)
    if family == "sit":
        checkpoint = f"{family}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / checkpoint)
    else:
        checkpoint = f"{family}.pt"
        torch.save({nested: tensors, "step": 7} if nested else tensors, folder / checkpoint)
    entry: dict[str, Any] = {
        "family": family,
        "checkpoint": checkpoint,
        "condition_dim": content["config"]["hidden_size"],
        "latent_shape": list(content["inputs"]["z"].shape[1:]),
        "defaults": {"steps": STEPS},
        **given(content),
    }
    return entry if family in BY_FEATURES else entry | {"classes": content["config"]["num_classes"]}


def _write_decoders(folder: Path) -> dict[str, dict[str, Any]]:
    folder.mkdir()
    tiny_vae(latent_channels=4).save_pretrained(folder / "sd-vae")
    latent_channels = case("lightningdit")["config"]["in_channels"]
    torch.save({"state_dict": ldm_weights((32, 64), latent_channels, 2)}, folder / "va-vae.pt")
    statistics(folder / "latents_stats.pt", latent_channels)
    _write_audioldm(folder / "audioldm")
    sd_vae = {"decoder": "sd-vae", "decoder_source": "decoders/sd-vae"}
    return dict.fromkeys(FAMILIES, sd_vae) | {
        "lightningdit": {
            "decoder": "va-vae",
            "decoder_source": "decoders/va-vae.pt",
            "decoder_statistics": "decoders/latents_stats.pt",
        },
        "mdsgen": {"decoder": "audioldm", "decoder_source": "decoders/audioldm", "decoder_scale": 4.0},
    }


def _write_audioldm(folder: Path) -> None:
    vae = tiny_vae(
        latent_channels=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
    )
    vae.save_pretrained(folder / "vae")  # type: ignore[attr-defined]
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=64,
        sampling_rate=RATE,
        upsample_initial_channel=16,
        upsample_rates=[5, 4, 4, 2],
        upsample_kernel_sizes=[11, 8, 8, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3, 5]],
    )
    randomised(SpeechT5HifiGan(vocoder)).save_pretrained(folder / "vocoder")  # type: ignore[operator]
