"""The layouts in which programs read a compacted MiniMax-H3: names, shapes and order of its tensors in each.

    diffusers   what `compact` writes: diffusers' names; the embedder of the time, a basis B and a mean m of SiLU(c)
    fastvideo   the same without a mean: x = Q s, with orthonormal rows; AdaLN and Q in float16
    sglang      diffusers' names; a table of x at evenly spaced times in place of the embedder; biases as folded_bias
    comfyui     one file with MiniMax's names; the table as adaln_t_table; q, k and v in one tensor, gate before value
    musubi      the same with exactly 8 columns and 1,025 times, AdaLN in float16 and the rest as published

AdaLN is W' x + b' in all of them, and x at a time between two of the table is taken from the line between them.

Source: huggingface.co/multimodalart/MiniMax-H3-Pruned and sgl-project/sglang#36070 (sglang), hao-ai-lab/FastVideo#1699,
Comfy-Org/ComfyUI comfy/ldm/minimax/model.py, kohya-ss/musubi-tuner#1046 (whose own 9 columns are made while a whole
model is loaded, and are in no file), and diffusers' loaders/single_file_utils.py for MiniMax's names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tailprune.transformers.original_names import Piece, stored_by_original_name

__all__ = [
    "CONFIGURATION",
    "DEFAULTS",
    "H3",
    "LAYOUTS",
    "TABLE_TIMES",
    "Layout",
    "embedder_shapes",
    "extra_shapes",
    "frequencies",
    "is_adaln",
    "shapes_of",
    "stored_as",
]

H3 = "MiniMaxH3Transformer3DModel"
TABLE_TIMES = 1025
"""The times of a table, as the published ones have it."""


@dataclass(frozen=True)
class Layout:
    """How a program has a compacted MiniMax-H3."""

    name: str
    file: bool = False
    """Whether it is one file with MiniMax's names, and not a folder with diffusers'."""
    table: str | None = None
    """The name of its table of the times; None if it has the embedder."""
    adaln: str | None = None
    """The type of AdaLN's weights; None for that of the model."""
    folded: bool = False
    """Whether biases of AdaLN are called folded_bias, and are float32."""
    strict: bool = False
    """Whether columns, times and types have to be the published ones."""
    assumes: tuple[str, ...] = ()
    """The fields of DEFAULTS that it does not read from the file or the configuration."""
    class_name: str = H3


CONFIGURATION = (
    "num_attention_heads",
    "attention_head_dim",
    "hidden_size",
    "num_layers",
    "num_refiner_layers",
    "ffn_dim",
    "in_channels",
    "audio_in_channels",
    "text_dim",
    "freq_dim",
    "time_embed_hidden_dim",
    "time_embed_dim",
    "rope_freq_dim",
)
"""The sizes in diffusers' configuration."""
DEFAULTS: Mapping[str, Any] = {
    "patch_size": [1, 2, 2],
    "rope_theta": 10000.0,
    "norm_eps": 1e-5,
    "qk_norm_eps": 1e-5,
    "final_norm_eps": 1e-5,
}
"""The published values of what some programs do not read."""

LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("diffusers"),
        Layout("fastvideo", adaln="F16"),
        Layout(
            "sglang",
            table="time_embedder.table",
            folded=True,
            assumes=("rope_theta",),
            class_name="MiniMaxH3PrunedTransformer3DModel",
        ),
        Layout("comfyui", file=True, table="adaln_t_table", adaln="F32", assumes=tuple(DEFAULTS)),
        Layout("musubi", file=True, table="adaln_t_table", adaln="F16", strict=True, assumes=tuple(DEFAULTS)),
    )
}


def shapes_of(config: Mapping[str, Any], columns: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that all layouts have, by diffusers' names, for AdaLN of so many columns."""
    hidden, head, ffn = config["hidden_size"], config["attention_head_dim"], config["ffn_dim"]
    inner = config["num_attention_heads"] * head
    patch = config["in_channels"] * math.prod(config["patch_size"])
    found: dict[str, tuple[int, ...]] = {}

    def linear(name: str, rows: int, width: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (rows, width), (rows,)

    def block(name: str) -> None:
        for part in ("norm1", "norm2"):
            found[f"{name}.{part}.weight"] = (hidden,)
        for part in ("to_q", "to_k", "to_v"):
            found[f"{name}.attn.{part}.weight"] = (inner, hidden)
        for part in ("norm_q", "norm_k"):
            found[f"{name}.attn.{part}.weight"] = (head,)
        found[f"{name}.attn.to_out.0.weight"] = (hidden, inner)
        found[f"{name}.ff.net.0.proj.weight"] = (2 * ffn, hidden)
        found[f"{name}.ff.net.2.weight"] = (hidden, ffn)

    linear("proj_in", hidden, patch)
    linear("audio_proj_in", hidden, config["audio_in_channels"])
    linear("context_embedder", hidden, config["text_dim"])
    for number in range(config["num_refiner_layers"]):
        block(f"token_refiner.refiner_blocks.{number}")
    found["token_refiner.final_norm.weight"] = (hidden,)
    for number in range(config["num_layers"]):
        block(f"transformer_blocks.{number}")
        linear(f"transformer_blocks.{number}.adaln_proj.linear", 18 * hidden, columns)
    found["norm_out.norm.weight"] = (hidden,)
    linear("norm_out.linear", 2 * hidden, columns)
    linear("proj_out", patch, hidden)
    linear("audio_proj_out", config["audio_in_channels"], hidden)
    return found


def extra_shapes(layout: Layout, config: Mapping[str, Any], columns: int, times: int) -> dict[str, tuple[int, ...]]:
    """The shapes of what a layout has besides: the embedder and the directions of SiLU(c), or the table."""
    width = config["time_embed_dim"]
    if layout.file:
        return {str(layout.table): (times, columns), "rope.inv_freq": (config["rope_freq_dim"],)}
    if layout.table is not None:
        return {layout.table: (times, columns), "adaln_basis": (columns, width), "adaln_mean": (width,)}
    if times:
        return {"time_embedder.table": (times, columns)}
    found: dict[str, tuple[int, ...]] = {"adaln_basis.weight": (columns, width)}
    if layout.adaln is None:
        found["adaln_basis.mean"] = (width,)
    return found | embedder_shapes(config)


def embedder_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that make c, by diffusers' names."""
    width, inner = config["time_embed_dim"], config["time_embed_hidden_dim"]
    found: dict[str, tuple[int, ...]] = {}
    for number, rows, read in ((1, inner, config["freq_dim"]), (2, width, inner)):
        found[f"time_embedder.linear_{number}.weight"] = (rows, read)
        found[f"time_embedder.linear_{number}.bias"] = (rows,)
    return found


def is_adaln(name: str) -> bool:
    """Whether a tensor, by diffusers' name, is a weight or a bias of AdaLN."""
    return ".adaln_proj.linear." in name or name.startswith("norm_out.linear.")


def stored_as(layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, list[Piece]]:
    """What the tensors in a layout are, by their names in it: rows of those with diffusers' names, in order."""
    if layout.file:
        return stored_by_original_name(H3, shapes)
    return {
        name.replace("linear.bias", "folded_bias") if layout.folded and is_adaln(name) else name: [
            Piece(name, 0, shape[0])
        ]
        for name, shape in shapes.items()
    }


def frequencies(count: int, theta: float) -> Tensor:
    """The frequencies of the rotary embedding, which files with MiniMax's names hold, float32."""
    return 1.0 / (theta ** (torch.arange(0, 2 * count, 2, dtype=torch.float32) / (2 * count)))
