"""A DiT in diffusers' format: a folder with `config.json` and the weights under diffusers' names.

    transformer_blocks.N.norm1.emb    the embedders, per block          transformer_blocks.N.norm1.linear    AdaLN
    transformer_blocks.N.attn1        to_q, to_k, to_v, to_out          transformer_blocks.N.ff.net          the MLP
    pos_embed.proj   patches          proj_out_1, proj_out_2            the final layer's AdaLN and linear

Positions are not in the files. The frequencies of time include the longest period, where the published code stops one
step short; the normalisation before the MLP has an epsilon of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.checkpoints.files import CheckpointError, TensorFile, open_tensors
from tailprune.checkpoints.options import Options
from tailprune.spec.layouts import CONFIG, DIFFUSERS_WEIGHTS, weight_files
from tailprune.systems.infer import Shapes
from tailprune.systems.layers import sincos_positions

__all__ = ["DiffusersDiT"]

CLASS = "DiTTransformer2DModel"
SUPPORTED = {
    "norm_type": "ada_norm_zero",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "norm_elementwise_affine": False,
}
TIME_GAPS = 127
EMBEDDERS = {
    "t_embedder.mlp.0.weight": "timestep_embedder.linear_1.weight",
    "t_embedder.mlp.0.bias": "timestep_embedder.linear_1.bias",
    "t_embedder.mlp.2.weight": "timestep_embedder.linear_2.weight",
    "t_embedder.mlp.2.bias": "timestep_embedder.linear_2.bias",
    "y_embedder.embedding_table.weight": "class_embedder.embedding_table.weight",
}
BLOCK = {
    "attn.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn.proj": ("attn1.to_out.0",),
    "mlp.fc1": ("ff.net.0.proj",),
    "mlp.fc2": ("ff.net.2",),
    "adaLN_modulation.1": ("norm1.linear",),
}
OUTSIDE = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
POSITIONS = "pos_embed"
ANCHOR = "proj_out_2.weight"
"""A tensor that every such file has."""


class DiffusersDiT:
    """The tensors of such a folder under the official names, read on demand; a `TensorFile`.

    If the embedders of all blocks are equal, as in converted checkpoints, they become one; otherwise they are named
    `embedders.N` (see `tailprune.systems.dit.PerBlockDiT`).

    Raises CheckpointError for another class, an option with an unsupported value, or missing files.
    """

    holder = ""
    others: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.options: Options = {}
        config = _config(folder)
        self._files = _weights(folder)
        depth = int(config["num_layers"])
        _check_shapes(folder / CONFIG, config, self._files.shapes)
        self.arguments: dict[str, Any] = {
            "num_heads": int(config["num_attention_heads"]),
            "time_gaps": TIME_GAPS,
            "mlp_norm_eps": float(config.get("norm_eps", 1e-5)),
        }
        self.metadata = {"family": "dit"}
        self._sources = _sources(depth, shared=self._embedders_are_shared(depth))
        claimed = {name for names in self._sources.values() for name in names}
        copies = tuple(f"transformer_blocks.{block}.norm1.emb." for block in range(depth))
        foreign = {name: (name,) for name in self._files.shapes if name not in claimed and not name.startswith(copies)}
        present = {ours: theirs for ours, theirs in self._sources.items() if set(theirs) <= self._files.shapes.keys()}
        self._sources = present | foreign
        self.shapes = {ours: self._shape(theirs) for ours, theirs in self._sources.items()}
        width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
        self._side = int(config["sample_size"]) // int(config["patch_size"])
        self.shapes[POSITIONS] = (1, self._side**2, width)

    def read(self, name: str) -> Tensor:
        """The value of one tensor."""
        if name == POSITIONS:
            return sincos_positions(self.shapes[name][2], self._side)
        parts = [self._files.read(part) for part in self._sources[name]]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _shape(self, names: tuple[str, ...]) -> tuple[int, ...]:
        first, *more = (self._files.shapes[name] for name in names)
        if more and not all((first, *more)):
            raise CheckpointError(f"{self.path}: one of {', '.join(names)} is a single number; download it again")
        return (first[0] + sum(shape[0] for shape in more), *first[1:]) if more else first

    def _embedders_are_shared(self, depth: int) -> bool:
        def at(block: int, name: str) -> Tensor:
            try:
                return self._files.read(f"transformer_blocks.{block}.norm1.emb.{name}")
            except KeyError as error:
                raise CheckpointError(f"{self.path}: lacks the tensor {error}") from error

        return all(
            torch.equal(first, at(block, name))
            for name in EMBEDDERS.values()
            for first in [at(0, name)]
            for block in range(1, depth)
        )


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    config = _json(path)
    found = config.get("_class_name") if isinstance(config, dict) else None
    if found != CLASS:
        raise CheckpointError(f"{path}: its class is {found or 'missing'}, and only {CLASS} of diffusers is supported")
    for key in ("num_layers", "num_attention_heads", "attention_head_dim", "sample_size", "patch_size"):
        if type(config.get(key)) is not int:
            raise CheckpointError(f"{path}: {key} is {config.get(key)!r}, not a whole number")
        if config[key] < 1:
            raise CheckpointError(f"{path}: {key} is {config[key]}; it must be at least 1")
    if config["sample_size"] < config["patch_size"]:
        raise CheckpointError(
            f"{path}: sample_size is {config['sample_size']}, less than patch_size, {config['patch_size']}"
        )
    if type(config.get("norm_eps", 1e-5)) not in (int, float):
        raise CheckpointError(f"{path}: norm_eps is {config['norm_eps']!r}, not a number")
    for key, value in SUPPORTED.items():
        if config.get(key, value) != value:
            raise CheckpointError(f"{path}: {key} is {config[key]!r}; only {value!r}, the value of a DiT, is supported")
    return config


def _check_shapes(path: Path, config: Mapping[str, Any], shapes: Shapes) -> None:
    """Raise CheckpointError if configuration and weights differ in the number of blocks or the size of patches."""
    blocks = {found[1] for name in shapes if (found := re.match(r"transformer_blocks\.(\d+)\.", name))}
    if (depth := config["num_layers"]) != len(blocks):
        raise CheckpointError(f"{path}: num_layers is {depth}, but the weights have {len(blocks)} blocks")
    patches = shapes.get(f"{OUTSIDE['x_embedder.proj']}.weight", ())
    if len(patches) == 4 and patches[-1] != config["patch_size"]:
        raise CheckpointError(
            f"{path}: patch_size is {config['patch_size']}, but the weights are for patches of {patches[-1]}"
        )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path}: is not JSON ({error}); download it again") from error


def _weights(folder: Path) -> TensorFile:
    files = weight_files(folder, DIFFUSERS_WEIGHTS)
    if not files:
        raise CheckpointError(
            f"{folder}: has {CONFIG} but no weights: add {DIFFUSERS_WEIGHTS[0]}, its index, or a .bin"
        )
    for file in files:
        if file.suffix == ".json":
            raise CheckpointError(f"{file}: {_fault_of_index(file)}; download it again")
    return open_tensors(files, [ANCHOR])


def _fault_of_index(path: Path) -> str:
    """Why no files can be read from an index of weights."""
    index = _json(path)
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict) or not files:
        return "has no weight_map, which names the file of each tensor"
    named = ((tensor, name) for tensor, name in files.items() if not isinstance(name, str) or not Path(name).name)
    tensor, name = next(named)
    return f"the weight_map has {name!r} for {tensor}, which is not the name of a file"


def _sources(depth: int, *, shared: bool) -> dict[str, tuple[str, ...]]:
    """The tensors of diffusers that each official tensor is the concatenation of, by the official name."""
    found: dict[str, tuple[str, ...]] = {}
    for block in range(1 if shared else depth):
        before = "" if shared else f"embedders.{block}."
        for ours, theirs in EMBEDDERS.items():
            found[before + ours] = (f"transformer_blocks.{block}.norm1.emb.{theirs}",)
    for kind in ("weight", "bias"):
        for block in range(depth):
            for ours, theirs_of_block in BLOCK.items():
                parts = tuple(f"transformer_blocks.{block}.{part}.{kind}" for part in theirs_of_block)
                found[f"blocks.{block}.{ours}.{kind}"] = parts
        for ours, theirs in OUTSIDE.items():
            found[f"{ours}.{kind}"] = (f"{theirs}.{kind}",)
    return found
