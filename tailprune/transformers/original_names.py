"""Layers of FLUX.1 and MiniMax-H3 by the names of the original code, which adapters for ComfyUI and kohya's have.

Facts of diffusers 0.42.1 (loaders/lora_conversion_utils.py and loaders/single_file_utils.py). `*` in a name stands for
the number of a block. Where several layers are given, the original is all of them one below the other.
"""

from __future__ import annotations

from collections.abc import Iterator

from tailprune.transformers.recognise import pattern_of

__all__ = ["HALVES_SWAPPED", "ORIGINAL_NAMES", "layers_by_original_name"]


def _flux() -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {
        "img_in": ("x_embedder",),
        "txt_in": ("context_embedder",),
        "final_layer.linear": ("proj_out",),
        "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    }
    of_each: dict[str, tuple[str, ...]] = {
        "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "img_attn.proj": ("attn.to_out.0",),
        "txt_attn.proj": ("attn.to_add_out",),
        "img_mlp.0": ("ff.net.0.proj",),
        "img_mlp.2": ("ff.net.2",),
        "txt_mlp.0": ("ff_context.net.0.proj",),
        "txt_mlp.2": ("ff_context.net.2",),
        "img_mod.lin": ("norm1.linear",),
        "txt_mod.lin": ("norm1_context.linear",),
    }
    of_single = {
        "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        "linear2": ("proj_out",),
        "modulation.lin": ("norm.linear",),
    }
    return (
        names
        | _in_blocks("double_blocks", "transformer_blocks", of_each)
        | _in_blocks("single_blocks", "single_transformer_blocks", of_single)
    )


def _minimax() -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {
        "video_patch_proj": ("proj_in",),
        "audio_patch_proj": ("audio_proj_in",),
        "condition_proj": ("context_embedder",),
        "final_layer.adaln_proj.linear": ("norm_out.linear",),
        "final_layer.video_out": ("proj_out",),
        "final_layer.audio_out": ("audio_proj_out",),
    }
    of_refiner = {
        "attn.qkv_proj": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "attn.out_proj": ("attn.to_out.0",),
        "mlp.fc1": ("ff.net.0.proj",),
        "mlp.fc2": ("ff.net.2",),
    }
    of_each: dict[str, tuple[str, ...]] = {**of_refiner, "adaln_proj.linear": ("adaln_proj.linear",)}
    return (
        names
        | _in_blocks("blocks", "transformer_blocks", of_each)
        | _in_blocks("token_refiner.blocks", "token_refiner.refiner_blocks", of_refiner)
    )


def _in_blocks(theirs: str, ours: str, layers: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {f"{theirs}.*.{name}": tuple(f"{ours}.*.{each}" for each in all_) for name, all_ in layers.items()}


ORIGINAL_NAMES = {"FluxTransformer2DModel": _flux(), "MiniMaxH3Transformer3DModel": _minimax()}
"""diffusers' layers by the original name, by diffusers' name of the class."""

HALVES_SWAPPED = frozenset({"final_layer.adaLN_modulation.1", "blocks.*.mlp.fc1", "token_refiner.blocks.*.mlp.fc1"})
"""Layers whose two halves of rows stand in the other order in diffusers."""


def layers_by_original_name(class_name: str, name: str, *, flat: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The pattern that an original name fits and diffusers' layers for it; nothing if it fits none.

    flat: whether the name has `_` in place of its dots
    """
    for original, layers in ORIGINAL_NAMES.get(class_name, {}).items():
        if match := pattern_of(original.replace(".", "_") if flat else original).fullmatch(name):
            number = match[1] if match.groups() else ""
            yield original, tuple(layer.replace("*", number) for layer in layers)
