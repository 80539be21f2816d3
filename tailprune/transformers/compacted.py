"""A compacted MiniMax-H3 in any of its layouts, read under diffusers' names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.checkpoints.files import CheckpointError
from tailprune.spec import InputError
from tailprune.spec.transformers import CLASSES
from tailprune.transformers.account import COMPACTION
from tailprune.transformers.configurations import MOST, columns_of, rows_of, told_of_minimax
from tailprune.transformers.layouts import (
    CONFIGURATION,
    DEFAULTS,
    H3,
    LAYOUTS,
    Layout,
    extra_shapes,
    frequencies,
    shapes_of,
    stored_as,
)
from tailprune.transformers.modeling import KEYS, TABLE
from tailprune.transformers.original_names import Piece, stored_pieces
from tailprune.transformers.ranks import Unmeasured, condition
from tailprune.transformers.recognise import Model
from tailprune.transformers.source import Source

__all__ = ["COVERED", "MINIMAX_H3", "Compacted", "read_compacted"]

MINIMAX_H3 = next(cls for cls in CLASSES if cls.name == H3 and cls.naming == "diffusers")
COVERED = "covered_times"
"""What `compaction.json` calls the times, in a folder that was converted."""


@dataclass(frozen=True)
class Compacted:
    """The tensors of a compacted MiniMax-H3, and what they compute for AdaLN."""

    source: Source
    layout: Layout
    config: dict[str, Any]
    """diffusers' configuration of the class."""
    columns: int
    """The columns of AdaLN's weights."""
    times: int
    """The times of its table; 0 if it has the embedder."""
    pieces: dict[str, list[Piece]]
    """Of which rows of the stored tensors each tensor is made, by diffusers' names."""

    def dtype(self, name: str) -> str:
        """The type of a tensor, in the format's notation."""
        return self.source.tensors[self.pieces[name][0].name].dtype

    def tensor(self, name: str) -> Tensor:
        """The values of a tensor, float64."""
        parts = [
            self.source.read(piece.name, slice(piece.first, piece.first + piece.rows)) for piece in self.pieces[name]
        ]
        return torch.cat(parts).double()

    def table(self) -> Tensor:
        """The table, with shape (times, columns), float64."""
        return self.source.read(self.layout.table or TABLE).double()

    def basis(self) -> tuple[Tensor, Tensor]:
        """B and m of x = B (s - m), with shapes (columns, d) and (d,), float64."""
        basis = self.source.read("adaln_basis.weight").double()
        mean = "adaln_basis.mean"
        return basis, self.source.read(mean).double() if mean in self.source.tensors else basis.new_zeros(len(basis.T))

    def activated(self, times: Tensor) -> Tensor:
        """SiLU(c) at some times, with shape (T, d), float64."""
        try:
            return F.silu(condition(Model(self.source, MINIMAX_H3, MINIMAX_H3.parts, (), 0), times))
        except Unmeasured as why:
            raise CheckpointError(f"{self.source.path}: {why}") from why

    def covered_times(self) -> list[float] | None:
        """The times that the model was compacted for; None if its folder does not say so, or it is for all."""
        account = Path(self.source.path) / COMPACTION
        if not account.is_file():
            return None
        try:
            said = json.loads(account.read_text())
            schedules = said["plan"].get("times", []) if "plan" in said else [said.get(COVERED) or []]
            times = [float(time) for schedule in schedules for time in schedule]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{account}: does not say what was done ({error})") from error
        if not all(0 <= time <= 1 for time in times):
            raise CheckpointError(f"{account}: says that times outside of 0 to 1 are covered")
        return times or None


def read_compacted(source: Source) -> Compacted:
    """The compacted MiniMax-H3 that a source is.

    Raises InputError for a whole model and one of another class, CheckpointError for tensors that are missing, too many
    or of another shape or type than those of a layout.
    """
    layout = _layout_of(source)
    if not source.has_values:
        raise InputError(f"{source.path}: only its headers are at hand: fetch the weights first")
    config = _config_of_file(source) if layout.file else _config_of_folder(source, layout)
    columns = columns_of(source, "final_layer.adaln_proj.linear.weight" if layout.file else "norm_out.linear.weight")
    table = layout.table or (TABLE if TABLE in source.tensors else None)
    times = 0 if table is None else rows_of(source, table)
    if table is not None and not 2 <= times <= MOST:
        raise CheckpointError(f"{source.path}: {table} has {times:,} times, and such a table has 2 to {MOST:,}")
    shapes = shapes_of(config, columns)
    stored = stored_as(layout, shapes)
    expected = {
        name: (sum(piece.rows for piece in pieces), *shapes[pieces[0].name][1:]) for name, pieces in stored.items()
    }
    _check(source, expected | extra_shapes(layout, config, columns, times))
    found = Compacted(source, layout, config, columns, times, stored_pieces(stored))
    if layout.file and not source.read("rope.inv_freq").equal(
        frequencies(config["rope_freq_dim"], config["rope_theta"])
    ):
        raise CheckpointError(f"{source.path}: rope.inv_freq is not that of MiniMax-H3")
    return found


def _layout_of(source: Source) -> Layout:
    name = source.config.get("_class_name")
    if isinstance(name, str) and name not in {layout.class_name for layout in LAYOUTS.values()}:
        raise InputError(f"{source.path}: is a {name[:80]}, and other layouts than diffusers' are of MiniMax-H3 alone")
    tensors = source.tensors
    if "adaln_t_table" in tensors:
        return LAYOUTS["comfyui"]
    if TABLE in tensors:
        return LAYOUTS["sglang" if "norm_out.folded_bias" in tensors else "diffusers"]
    if "adaln_basis.weight" in tensors:
        return LAYOUTS["diffusers" if "adaln_basis.mean" in tensors else "fastvideo"]
    raise InputError(
        f"{source.path}: has neither directions nor a table in place of SiLU(c): give what python -m tailprune compact "
        "wrote, or a compacted MiniMax-H3 in another layout"
    )


def _config_of_folder(source: Source, layout: Layout) -> dict[str, Any]:
    config = {key: value for key, value in source.config.items() if key not in KEYS}
    for key in CONFIGURATION:
        if type(config.get(key)) is not int or not 0 < config[key] <= 2**20:
            raise CheckpointError(f"{source.path}: {key} is {config.get(key)!r} in its configuration, not a size")
    patch = config.setdefault("patch_size", DEFAULTS["patch_size"])
    if not isinstance(patch, Sequence) or len(patch) != 3 or any(type(size) is not int or size < 1 for size in patch):
        raise CheckpointError(f"{source.path}: patch_size is {patch!r} in its configuration, not three sizes")
    _check_depth(source, config)
    return config | {"_class_name": H3}


def _config_of_file(source: Source) -> dict[str, Any]:
    """diffusers' configuration of a file with MiniMax's names, from the shapes of its tensors."""
    embedder = {"freq_dim": 256, "time_embed_hidden_dim": 5376, "time_embed_dim": 2688}  # as published
    return {"_class_name": H3, **embedder, **DEFAULTS, **told_of_minimax(source)}


def _check_depth(source: Source, config: dict[str, Any]) -> None:
    for key in ("num_layers", "num_refiner_layers"):
        if config[key] > MOST:
            raise CheckpointError(f"{source.path}: {key} is {config[key]:,}, and there are at most {MOST:,} blocks")


def _check(source: Source, expected: dict[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        if (found := source.shape(name)) != shape:
            raise CheckpointError(
                f"{source.path}: {name} has the shape {list(found)}, and by those of the others it is {list(shape)}"
            )
        if (dtype := source.tensors[name].dtype) not in ("F32", "F16", "BF16"):
            raise InputError(f"{source.path}: {name} has the type {dtype}: quantise after the conversion, not before")
    if more := next((name for name in source.tensors if name not in expected), None):
        raise CheckpointError(f"{source.path}: has a tensor that no compacted MiniMax-H3 has, {more}")
