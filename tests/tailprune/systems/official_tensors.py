"""The tensors of small models, by their names and shapes in official files, and random values for them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tests.tailprune.systems.naive import offset_index

Shapes = dict[str, tuple[int, ...]]


SMALL = 0.03
"""How large is what a norm reads, so that its epsilon counts."""


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep what they read about as large as it was; the gains of norms near 1.

    Tokens are small, and queries and keys where they are normalised.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
        values = torch.randn(shape, generator=generator)
        if name.startswith(("x_embedder.", "pos_embed")):
            return SMALL * values
        if len(shape) == 1:
            values = 1 + values / 5 if name.endswith("weight") else values / 5
        elif name.endswith("weight") and "table" not in name:
            values = values / math.sqrt(math.prod(shape[1:]))
        else:
            values = values / 2
        if ".attn.qkv." in name and f"{name.split('.qkv.')[0]}.q_norm.weight" in shapes:
            values[: 2 * shape[0] // 3] *= SMALL
        return values

    return {name: drawn(name, shape) for name, shape in shapes.items()}


def linear_shapes(name: str, out: int, width: int) -> Shapes:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def norm_shapes(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def trunk_shapes(dim: int, tokens: int, patch: int, channels: int, out: int, time_width: int = 256) -> Shapes:
    """Patches, positions, time and the final layer."""
    return {
        "pos_embed": (1, tokens, dim),
        "x_embedder.proj.weight": (dim, channels, patch, patch),
        "x_embedder.proj.bias": (dim,),
        **linear_shapes("t_embedder.mlp.0", dim, time_width),
        **linear_shapes("t_embedder.mlp.2", dim, dim),
        **linear_shapes("final_layer.linear", patch**2 * out, dim),
        **linear_shapes("final_layer.adaLN_modulation.1", 2 * dim, dim),
    }


def block_shapes(name: str, dim: int, hidden: int) -> Shapes:
    return {
        **linear_shapes(f"{name}.attn.qkv", 3 * dim, dim),
        **linear_shapes(f"{name}.attn.proj", dim, dim),
        **linear_shapes(f"{name}.mlp.fc1", hidden, dim),
        **linear_shapes(f"{name}.mlp.fc2", dim, hidden),
        **linear_shapes(f"{name}.adaLN_modulation.1", 6 * dim, dim),
    }


def masked_block_shapes(name: str, dim: int, heads: int, grid: tuple[int, int], skip: bool = False) -> Shapes:
    """The stored index is not among them: see `with_indices`."""
    rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3
    return {
        **block_shapes(name, dim, 4 * dim),
        f"{name}.attn.rel_pos_bias.relative_position_bias_table": (rows, heads),
        **(linear_shapes(f"{name}.skip_linear", dim, 2 * dim) if skip else {}),
    }


def with_indices(state: dict[str, Tensor], grid: tuple[int, int]) -> dict[str, Tensor]:
    """The same with the index that official files store beside every table."""
    tables = [name for name in state if name.endswith("_bias_table")]
    return state | {name.replace("bias_table", "index"): offset_index(grid).clone() for name in tables}


def lightningdit_shapes(
    dim: int, depth: int, heads: int, tokens: int, channels: int, classes: int, **has: Any
) -> Shapes:
    """Patches of 1. The rotary buffers are not among them: see `naive.rotary_buffers`."""
    shapes = trunk_shapes(dim, tokens, 1, channels, channels) | {
        "y_embedder.embedding_table.weight": (classes + 1, dim)
    }
    for i in range(depth):
        name = f"blocks.{i}"
        shapes |= linear_shapes(f"{name}.attn.qkv", 3 * dim, dim) | linear_shapes(f"{name}.attn.proj", dim, dim)
        shapes |= linear_shapes(f"{name}.adaLN_modulation.1", (4 if has["wo_shift"] else 6) * dim, dim)
        if has["use_swiglu"]:
            hidden = int(2 / 3 * 4 * dim)
            shapes |= linear_shapes(f"{name}.mlp.w12", 2 * hidden, dim) | linear_shapes(f"{name}.mlp.w3", dim, hidden)
        else:
            shapes |= linear_shapes(f"{name}.mlp.fc1", 4 * dim, dim) | linear_shapes(f"{name}.mlp.fc2", dim, 4 * dim)
        if has["use_rmsnorm"]:
            shapes |= {f"{name}.norm1.weight": (dim,), f"{name}.norm2.weight": (dim,)}
        for of in ("q", "k") if has["use_qknorm"] else ():
            both = norm_shapes(f"{name}.attn.{of}_norm", dim // heads)
            shapes |= {key: shape for key, shape in both.items() if key.endswith("weight") or not has["use_rmsnorm"]}
    return shapes | ({"final_layer.norm_final.weight": (dim,)} if has["use_rmsnorm"] else {})
