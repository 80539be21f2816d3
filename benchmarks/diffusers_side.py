"""A DiT converted to diffusers, and diffusers' pipeline without a decoder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from torch import Tensor

from tailprune import load
from tailprune.systems import System
from tailprune.systems.dit import DiT

__all__ = ["converted", "pipeline", "read_back"]

CLASSES = 1000


def converted(system: DiT) -> Any:
    """diffusers' model with a system's weights; every block gets a copy of the embedders.

    diffusers' pipeline uses label 1,000 as the null label, so the model has 1,000 classes, whatever the system has.
    """
    channels, size, _ = system.latent_shape
    heads = system.metadata_arguments()["num_heads"]
    dim, out = system.condition_dim, system.final_layer.linear.out_features // system.patch_size**2
    theirs: Any = DiTTransformer2DModel(
        num_attention_heads=heads, attention_head_dim=dim // heads, in_channels=channels, out_channels=out,
        num_layers=len(system.blocks), sample_size=size, patch_size=system.patch_size,
        num_embeds_ada_norm=CLASSES,
    )  # fmt: skip
    ours = system.state_dict()
    of_labels = ours["y_embedder.embedding_table.weight"]
    table = of_labels[-1:].repeat(CLASSES + 1, 1)  # zeros would be refused, as what is left of a download
    table[: system.num_classes] = of_labels[:-1]
    named = {
        "pos_embed.proj": "x_embedder.proj",
        "proj_out_1": "final_layer.adaLN_modulation.1",
        "proj_out_2": "final_layer.linear",
    }
    tensors: dict[str, Tensor] = {}
    for block in range(len(system.blocks)):
        at, here = f"transformer_blocks.{block}", f"blocks.{block}"
        named |= {
            f"{at}.attn1.to_out.0": f"{here}.attn.proj",
            f"{at}.ff.net.0.proj": f"{here}.mlp.fc1",
            f"{at}.ff.net.2": f"{here}.mlp.fc2",
            f"{at}.norm1.linear": f"{here}.adaLN_modulation.1",
            f"{at}.norm1.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
            f"{at}.norm1.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
        }
        tensors[f"{at}.norm1.emb.class_embedder.embedding_table.weight"] = table
        for kind in ("weight", "bias"):
            for letter, part in zip("qkv", ours[f"{here}.attn.qkv.{kind}"].chunk(3), strict=True):
                tensors[f"{at}.attn1.to_{letter}.{kind}"] = part
    for their_name, our_name in named.items():
        for kind in ("weight", "bias"):
            tensors[f"{their_name}.{kind}"] = ours[f"{our_name}.{kind}"]
    theirs.load_state_dict(tensors)
    return theirs.requires_grad_(False).eval()


def read_back(theirs: Any, folder: Path) -> System:
    """The same model read by `tailprune.load`: diffusers has other frequencies of time."""
    theirs.save_pretrained(folder)
    return load(folder)


class _NoDecoder(torch.nn.Module):
    """Replaces the pipeline's decoder, and returns the latents."""

    config = SimpleNamespace(scaling_factor=1.0)

    def __init__(self, beside: Any) -> None:
        super().__init__()
        self.device, self.dtype = beside.device, beside.dtype

    def decode(self, latents: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=latents)


def pipeline(theirs: Any) -> Any:
    """diffusers' DiT pipeline with DDIM, which returns latents."""
    scheduler = DDIMScheduler(timestep_spacing="linspace", clip_sample=False)
    made: Any = DiTPipeline(transformer=theirs, vae=_NoDecoder(theirs), scheduler=scheduler)
    made.set_progress_bar_config(disable=True)
    return made
