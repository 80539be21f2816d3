"""What the tensors of a FLUX.1 or a MiniMax-H3, by their original names, tell of diffusers' configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tailprune.checkpoints.files import CheckpointError
from tailprune.transformers.layouts import DEFAULTS, H3, embedder_shapes, shapes_of
from tailprune.transformers.source import Source

__all__ = ["MOST", "columns_of", "configuration_of", "rows_of", "told_of_minimax", "whole_shapes"]

FLUX = "FluxTransformer2DModel"
MOST = 10_000
"""The largest number of blocks, and of times in a table."""
PUBLISHED_HEAD = 128
"""The width of a head in the published models, with which the fields that no tensor tells are known."""
TIME_COLUMNS = 256
"""The sinusoids of FLUX.1's time."""
ROTARY = {FLUX: "axes_dims_rope", H3: "rope_freq_dim"}
"""The field of the rotary embedding, whose sizes depend on the width of a head."""
PUBLISHED: dict[str, dict[str, Any]] = {
    FLUX: {"patch_size": 1, "axes_dims_rope": [16, 56, 56]},
    H3: {"rope_freq_dim": 16, **DEFAULTS},
}
"""The published values of what no tensor tells."""


def configuration_of(source: Source, class_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """diffusers' configuration of a whole model under its original names, and those of its fields that are assumed.

    Fields that the tensors do not tell are those of the source's configuration, or else the published ones.

    Raises CheckpointError for a configuration that is not diffusers' or does not fit the tensors, and for a model that
    has none and whose heads are not as wide as the published ones'.
    """
    given = {key: value for key, value in source.config.items() if value is not None}
    if given and "_class_name" not in given:
        raise CheckpointError(
            f"{source.path}: the configuration beside it is not diffusers', as it has no _class_name: put diffusers' "
            "in its place, or take it away if the model is a published one"
        )
    patch = _patch(source, class_name, given)
    told = _told_of_flux(source, patch) if class_name == FLUX else told_of_minimax(source, patch)
    for key, value in told.items():
        if value == 0 and type(value) is int:
            raise CheckpointError(f"{source.path}: {key} is 0 by its tensors")
        if (stated := given.get(key, value)) != value or type(stated) is not type(value):
            raise CheckpointError(
                f"{source.path}: {key} is {stated!r} in its configuration, and {value!r} by its tensors: the "
                "configuration is of another model"
            )
    assumed = {key: value for key, value in PUBLISHED[class_name].items() if key not in given and key not in told}
    rotary, head = ROTARY[class_name], told["attention_head_dim"]
    if rotary in assumed and head != PUBLISHED_HEAD:
        raise CheckpointError(
            f"{source.path}: its heads are {head:,} wide, and not {PUBLISHED_HEAD} as the published ones', so that "
            f"{rotary} is not known: put the model's config.json of diffusers beside it"
        )
    config = {"_class_name": class_name} | assumed | told | given
    _check_untold(source, config, rotary, head)
    return config, assumed


def whole_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of a whole model, by diffusers' names."""
    if config["_class_name"] == FLUX:
        return _flux_shapes(config)
    return shapes_of(config, config["time_embed_dim"]) | embedder_shapes(config)


def _patch(source: Source, class_name: str, given: Mapping[str, Any]) -> int:
    """The values of a channel that are one patch."""
    patch = given.get("patch_size", PUBLISHED[class_name]["patch_size"])
    sizes = [patch, patch] if class_name == FLUX else patch
    wanted = 2 if class_name == FLUX else 3
    fits = isinstance(sizes, Sequence) and len(sizes) == wanted
    if not fits or not all(type(size) is int and 0 < size <= MOST for size in sizes):
        raise CheckpointError(
            f"{source.path}: patch_size is {patch!r} in its configuration, and not "
            + ("a size" if class_name == FLUX else "three sizes")
        )
    return math.prod(sizes)


def _check_untold(source: Source, config: Mapping[str, Any], rotary: str, head: int) -> None:
    found = config[rotary]
    axes = found if rotary == ROTARY[FLUX] else [found]
    fits = isinstance(axes, Sequence) and all(type(size) is int and 0 < size <= head for size in axes)
    if not fits or (rotary == ROTARY[FLUX] and (sum(axes) != head or len(axes) != 3 or any(n % 2 for n in axes))):
        raise CheckpointError(
            f"{source.path}: {rotary} is {found!r} in its configuration, which does not fit heads of {head:,}"
        )
    for key in DEFAULTS.keys() - {"patch_size"} if config["_class_name"] == H3 else ():
        if type(config[key]) not in (int, float) or not 0 < config[key] < math.inf:
            raise CheckpointError(f"{source.path}: {key} is {config[key]!r} in its configuration, not a number above 0")


def _told_of_flux(source: Source, patch: int) -> dict[str, Any]:
    inner, channels = rows_of(source, "img_in.weight"), columns_of(source, "img_in.weight")
    head = rows_of(source, "double_blocks.0.img_attn.norm.query_norm.scale")
    if not head or inner % head:
        raise CheckpointError(f"{source.path}: img_in has {inner:,} rows, which are not heads of {head}")
    return {
        "num_attention_heads": inner // head,
        "attention_head_dim": head,
        "num_layers": _blocks(source, "double_blocks"),
        "num_single_layers": _blocks(source, "single_blocks"),
        "in_channels": channels,
        "out_channels": rows_of(source, "final_layer.linear.weight") // patch,
        "joint_attention_dim": columns_of(source, "txt_in.weight"),
        "pooled_projection_dim": columns_of(source, "vector_in.in_layer.weight"),
        "guidance_embeds": any(name.startswith("guidance_in.") for name in source.tensors),
    }


def told_of_minimax(source: Source, patch: int = math.prod(DEFAULTS["patch_size"])) -> dict[str, Any]:
    """What the tensors of a MiniMax-H3, whole or compacted, tell by MiniMax's names.

    patch: the values of a channel that are one patch
    """
    rows = rows_of(source, "blocks.0.attn.qkv_proj.weight")
    head = rows_of(source, "blocks.0.attn.q_norm.weight")
    if not head or rows % (3 * head):
        raise CheckpointError(f"{source.path}: qkv_proj has {rows:,} rows, which are not 3 times heads of {head}")
    told = {
        "num_attention_heads": rows // (3 * head),
        "attention_head_dim": head,
        "hidden_size": columns_of(source, "blocks.0.attn.qkv_proj.weight"),
        "num_layers": _blocks(source, "blocks"),
        "num_refiner_layers": _blocks(source, "token_refiner.blocks"),
        "ffn_dim": rows_of(source, "blocks.0.mlp.fc1.weight") // 2,
        "in_channels": columns_of(source, "video_patch_proj.weight") // patch,
        "audio_in_channels": columns_of(source, "audio_patch_proj.weight"),
        "text_dim": columns_of(source, "condition_proj.weight"),
    }
    if "rope.inv_freq" in source.tensors:
        told["rope_freq_dim"] = rows_of(source, "rope.inv_freq")
    if "time_embedder.proj_in.weight" in source.tensors:
        told["freq_dim"] = columns_of(source, "time_embedder.proj_in.weight")
        told["time_embed_hidden_dim"] = rows_of(source, "time_embedder.proj_in.weight")
        told["time_embed_dim"] = rows_of(source, "time_embedder.proj_out.weight")
    return told


def _flux_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    head = config["attention_head_dim"]
    inner = config["num_attention_heads"] * head
    found: dict[str, tuple[int, ...]] = {}

    def linear(name: str, rows: int, width: int = inner) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (rows, width), (rows,)

    def attention(name: str, projections: Sequence[str], norms: Sequence[str]) -> None:
        for each in projections:
            linear(f"{name}.{each}", inner)
        for each in norms:
            found[f"{name}.{each}.weight"] = (head,)

    def embedder(name: str, width: int) -> None:
        linear(f"time_text_embed.{name}.linear_1", inner, width)
        linear(f"time_text_embed.{name}.linear_2", inner)

    embedder("timestep_embedder", TIME_COLUMNS)
    if config["guidance_embeds"]:
        embedder("guidance_embedder", TIME_COLUMNS)
    embedder("text_embedder", config["pooled_projection_dim"])
    linear("context_embedder", inner, config["joint_attention_dim"])
    linear("x_embedder", inner, config["in_channels"])
    for number in range(config["num_layers"]):
        block = f"transformer_blocks.{number}"
        linear(f"{block}.norm1.linear", 6 * inner)
        linear(f"{block}.norm1_context.linear", 6 * inner)
        attention(f"{block}.attn", ("to_q", "to_k", "to_v", "to_out.0"), ("norm_q", "norm_k"))
        attention(
            f"{block}.attn",
            ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
            ("norm_added_q", "norm_added_k"),
        )
        for part in ("ff", "ff_context"):
            linear(f"{block}.{part}.net.0.proj", 4 * inner)
            linear(f"{block}.{part}.net.2", inner, 4 * inner)
    for number in range(config["num_single_layers"]):
        block = f"single_transformer_blocks.{number}"
        linear(f"{block}.norm.linear", 3 * inner)
        attention(f"{block}.attn", ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"))
        linear(f"{block}.proj_mlp", 4 * inner)
        linear(f"{block}.proj_out", inner, 5 * inner)
    linear("norm_out.linear", 2 * inner)
    linear("proj_out", config["out_channels"] * config["patch_size"] ** 2)
    return found


def _blocks(source: Source, name: str) -> int:
    pattern = re.compile(rf"{re.escape(name)}\.(\d{{1,5}})\.")
    count = max((int(match[1]) + 1 for each in source.tensors if (match := pattern.match(each))), default=0)
    if count > MOST:
        raise CheckpointError(f"{source.path}: has {name}.{count - 1}, and there are at most {MOST:,} blocks")
    return count


def rows_of(source: Source, name: str) -> int:
    """The rows of a tensor. Raises CheckpointError for a single number."""
    if not (shape := source.shape(name)):
        raise CheckpointError(f"{source.path}: {name} is a single number")
    return shape[0]


def columns_of(source: Source, name: str) -> int:
    """The columns of a linear layer's weight. Raises CheckpointError for a tensor that is none."""
    shape = source.shape(name)
    if len(shape) != 2:
        raise CheckpointError(f"{source.path}: {name} has the shape {list(shape)}, which is no linear layer's")
    return shape[1]
