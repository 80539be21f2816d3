"""Tiny models under the names of the original code: the way back from diffusers', apart from tailprune's own table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

__all__ = ["as_bfl", "as_minimax"]


def _swapped(tensor: Tensor) -> Tensor:
    return torch.cat(tensor.chunk(2)[::-1])


def _renamed(name: str, names: Mapping[str, str]) -> str:
    for ours, theirs in names.items():
        name = re.sub(ours, theirs, name)
    return name


def as_bfl(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a FLUX.1 by BFL's names."""
    weights = dict(weights)
    found: dict[str, Tensor] = {}

    def fused(theirs: str, *ours: str) -> None:
        for kind in ("weight", "bias"):
            found[f"{theirs}.{kind}"] = torch.cat([weights.pop(f"{each}.{kind}") for each in ours])

    for block in [name.removesuffix(".attn.add_k_proj.weight") for name in weights if "add_k_proj.weight" in name]:
        theirs = block.replace("transformer_blocks", "double_blocks")
        fused(f"{theirs}.img_attn.qkv", *(f"{block}.attn.to_{each}" for each in "qkv"))
        fused(f"{theirs}.txt_attn.qkv", *(f"{block}.attn.add_{each}_proj" for each in "qkv"))
    for block in [name.removesuffix(".proj_mlp.weight") for name in weights if "proj_mlp.weight" in name]:
        theirs = block.replace("single_transformer_blocks", "single_blocks")
        fused(f"{theirs}.linear1", *(f"{block}.attn.to_{each}" for each in "qkv"), f"{block}.proj_mlp")
    for kind in ("weight", "bias"):
        found[f"final_layer.adaLN_modulation.1.{kind}"] = _swapped(weights.pop(f"norm_out.linear.{kind}"))
    names = {
        r"^single_transformer_blocks(.*)[.]attn[.]norm_q[.]weight": r"single_blocks\1.norm.query_norm.scale",
        r"^single_transformer_blocks(.*)[.]attn[.]norm_k[.]weight": r"single_blocks\1.norm.key_norm.scale",
        r"^single_transformer_blocks(.*)[.]norm[.]linear": r"single_blocks\1.modulation.lin",
        r"^single_transformer_blocks(.*)[.]proj_out": r"single_blocks\1.linear2",
        r"^transformer_blocks": "double_blocks",
        r"attn[.]norm_q[.]weight": "img_attn.norm.query_norm.scale",
        r"attn[.]norm_k[.]weight": "img_attn.norm.key_norm.scale",
        r"attn[.]norm_added_q[.]weight": "txt_attn.norm.query_norm.scale",
        r"attn[.]norm_added_k[.]weight": "txt_attn.norm.key_norm.scale",
        r"attn[.]to_out[.]0": "img_attn.proj",
        r"attn[.]to_add_out": "txt_attn.proj",
        r"norm1[.]linear": "img_mod.lin",
        r"norm1_context[.]linear": "txt_mod.lin",
        r"ff[.]net[.]0[.]proj": "img_mlp.0",
        r"ff[.]net[.]2": "img_mlp.2",
        r"ff_context[.]net[.]0[.]proj": "txt_mlp.0",
        r"ff_context[.]net[.]2": "txt_mlp.2",
        r"^x_embedder": "img_in",
        r"^context_embedder": "txt_in",
        r"^proj_out": "final_layer.linear",
        r"^time_text_embed[.]timestep_embedder[.]linear_1": "time_in.in_layer",
        r"^time_text_embed[.]timestep_embedder[.]linear_2": "time_in.out_layer",
        r"^time_text_embed[.]guidance_embedder[.]linear_1": "guidance_in.in_layer",
        r"^time_text_embed[.]guidance_embedder[.]linear_2": "guidance_in.out_layer",
        r"^time_text_embed[.]text_embedder[.]linear_1": "vector_in.in_layer",
        r"^time_text_embed[.]text_embedder[.]linear_2": "vector_in.out_layer",
    }
    return found | {_renamed(name, names): tensor for name, tensor in weights.items()}


def as_minimax(
    weights: Mapping[str, Tensor], heads: int, rows: Literal["stacked", "interleaved"] = "stacked"
) -> dict[str, Tensor]:
    """The tensors of a MiniMax-H3 by MiniMax's names."""
    weights = dict(weights)
    names = {
        r"^transformer_blocks": "blocks",
        r"^token_refiner[.]refiner_blocks": "token_refiner.blocks",
        r"^time_embedder[.]linear_1": "time_embedder.proj_in",
        r"^time_embedder[.]linear_2": "time_embedder.proj_out",
        r"^proj_in": "video_patch_proj",
        r"^audio_proj_in": "audio_patch_proj",
        r"^context_embedder": "condition_proj",
        r"^norm_out[.]norm": "final_layer.norm",
        r"^norm_out[.]linear": "final_layer.adaln_proj.linear",
        r"^proj_out": "final_layer.video_out",
        r"^audio_proj_out": "final_layer.audio_out",
        r"attn[.]norm_(.)": r"attn.\1_norm",
        r"attn[.]to_out[.]0": "attn.out_proj",
        r"ff[.]net[.]0[.]proj": "mlp.fc1",
        r"ff[.]net[.]2": "mlp.fc2",
    }
    found: dict[str, Tensor] = {}
    for name in list(weights):
        if ".attn.to_q." in name:
            parts = [weights.pop(name.replace("to_q", f"to_{each}")) for each in "qkv"]
            if rows == "interleaved":
                parts = [part.unflatten(0, (heads, -1)) for part in parts]
            whole = torch.cat(parts, 1 if rows == "interleaved" else 0)
            found[_renamed(name, names).replace("to_q", "qkv_proj")] = whole.reshape(-1, whole.shape[-1])
        elif ".ff.net.0.proj." in name:
            found[_renamed(name, names)] = _swapped(weights.pop(name))
    return found | {_renamed(name, names): tensor for name, tensor in weights.items()}
