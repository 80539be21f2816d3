"""Layers of FLUX.1 and MiniMax-H3 by the names of the original code, which ComfyUI's and kohya's files have.

Facts of diffusers 0.42.1 (loaders/lora_conversion_utils.py and loaders/single_file_utils.py). `*` in a name stands for
the number of a block. Where several layers are given, the original is all of them one below the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tailprune.transformers.recognise import pattern_of

__all__ = [
    "HALVES_SWAPPED",
    "ORIGINAL_NAMES",
    "Piece",
    "layers_by_original_name",
    "stored_by_original_name",
    "stored_pieces",
]


def _flux() -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {
        "img_in": ("x_embedder",),
        "txt_in": ("context_embedder",),
        **_embedder("time_in", "time_text_embed.timestep_embedder"),
        **_embedder("guidance_in", "time_text_embed.guidance_embedder"),
        **_embedder("vector_in", "time_text_embed.text_embedder"),
        "final_layer.linear": ("proj_out",),
        "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    }
    of_each: dict[str, tuple[str, ...]] = {
        "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "img_attn.norm.query_norm": ("attn.norm_q",),
        "img_attn.norm.key_norm": ("attn.norm_k",),
        "txt_attn.norm.query_norm": ("attn.norm_added_q",),
        "txt_attn.norm.key_norm": ("attn.norm_added_k",),
        "img_attn.proj": ("attn.to_out.0",),
        "txt_attn.proj": ("attn.to_add_out",),
        "img_mlp.0": ("ff.net.0.proj",),
        "img_mlp.2": ("ff.net.2",),
        "txt_mlp.0": ("ff_context.net.0.proj",),
        "txt_mlp.2": ("ff_context.net.2",),
        "img_mod.lin": ("norm1.linear",),
        "txt_mod.lin": ("norm1_context.linear",),
    }
    of_single: dict[str, tuple[str, ...]] = {
        "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        "norm.query_norm": ("attn.norm_q",),
        "norm.key_norm": ("attn.norm_k",),
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
        "time_embedder.proj_in": ("time_embedder.linear_1",),
        "time_embedder.proj_out": ("time_embedder.linear_2",),
        "token_refiner.final_norm": ("token_refiner.final_norm",),
        "final_layer.norm": ("norm_out.norm",),
        "final_layer.adaln_proj.linear": ("norm_out.linear",),
        "final_layer.video_out": ("proj_out",),
        "final_layer.audio_out": ("audio_proj_out",),
    }
    of_refiner: dict[str, tuple[str, ...]] = {
        "norm1": ("norm1",),
        "norm2": ("norm2",),
        "attn.q_norm": ("attn.norm_q",),
        "attn.k_norm": ("attn.norm_k",),
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


def _embedder(theirs: str, ours: str) -> dict[str, tuple[str, ...]]:
    return {f"{theirs}.in_layer": (f"{ours}.linear_1",), f"{theirs}.out_layer": (f"{ours}.linear_2",)}


def _in_blocks(theirs: str, ours: str, layers: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {f"{theirs}.*.{name}": tuple(f"{ours}.*.{each}" for each in all_) for name, all_ in layers.items()}


ORIGINAL_NAMES = {"FluxTransformer2DModel": _flux(), "MiniMaxH3Transformer3DModel": _minimax()}
"""diffusers' layers by the original name, by diffusers' name of the class."""

HALVES_SWAPPED = frozenset({"final_layer.adaLN_modulation.1", "blocks.*.mlp.fc1", "token_refiner.blocks.*.mlp.fc1"})
"""Layers whose two halves of rows stand in the other order in diffusers."""


SCALES = ("query_norm", "key_norm")
"""The ends of the names of FLUX.1's norms, whose weight is called scale."""
NUMBER = re.compile(r"[.]([0-9]+)[.]")


@dataclass(frozen=True)
class Piece:
    """Some rows of a tensor, one after another."""

    name: str
    first: int
    rows: int


def layers_by_original_name(class_name: str, name: str, *, flat: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The pattern that an original name fits and diffusers' layers for it; nothing if it fits none.

    flat: whether the name has `_` in place of its dots
    """
    for original, layers in ORIGINAL_NAMES.get(class_name, {}).items():
        if match := pattern_of(original.replace(".", "_") if flat else original).fullmatch(name):
            number = match[1] if match.groups() else ""
            yield original, tuple(layer.replace("*", number) for layer in layers)


def stored_by_original_name(
    class_name: str, shapes: Mapping[str, Sequence[int]], heads: int | None = None
) -> dict[str, list[Piece]]:
    """What the tensors of a model under its original names are: rows of those with diffusers' names, in order.

    shapes: of all tensors, by diffusers' names
    heads: the number of heads, if the rows of q, k and v stand in turns, a head at a time; else q is before k before v
    """
    names = ORIGINAL_NAMES[class_name]
    places = {layer: (original, place) for original, layers in names.items() for place, layer in enumerate(layers)}
    found: dict[str, dict[int, Piece]] = {}
    originals = {}
    for name, shape in shapes.items():
        layer, _, kind = name.rpartition(".")
        number = NUMBER.search(layer)
        original, place = places[NUMBER.sub(".*.", layer, count=1)]
        theirs = f"{original.replace('*', number[1] if number else '')}." + (
            "scale" if original.endswith(SCALES) and kind == "weight" else kind
        )
        originals[theirs] = original
        found.setdefault(theirs, {})[place] = Piece(name, 0, shape[0])
    return {
        theirs: _in_order([piece for _, piece in sorted(pieces.items())], originals[theirs], heads)
        for theirs, pieces in found.items()
    }


def _in_order(pieces: list[Piece], original: str, heads: int | None) -> list[Piece]:
    if original in HALVES_SWAPPED:
        [whole] = pieces
        half = whole.rows // 2
        return [Piece(whole.name, half, whole.rows - half), Piece(whole.name, 0, half)]
    if heads is not None and len(pieces) == 3:
        return [
            Piece(each.name, head * (each.rows // heads), each.rows // heads)
            for head in range(heads)
            for each in pieces
        ]
    return pieces


def stored_pieces(stored: Mapping[str, Sequence[Piece]]) -> dict[str, list[Piece]]:
    """Of which stored rows each tensor is made, in order, from what each stored tensor is made of."""
    found: dict[str, list[tuple[int, Piece]]] = {}
    for name, pieces in stored.items():
        place = 0
        for piece in pieces:
            found.setdefault(piece.name, []).append((piece.first, Piece(name, place, piece.rows)))
            place += piece.rows
    return {name: [piece for _, piece in sorted(parts, key=lambda part: part[0])] for name, parts in found.items()}
