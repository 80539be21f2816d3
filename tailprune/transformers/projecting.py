"""Changes of a large transformer's layers, as changes of its compacted model's.

AdaLN of the compacted model reads x = B (s - m), and s = SiLU(c) is D x + m where its directions hold it, so a change
of a layer of the whole model becomes

    (W + dW) s + b + db  ->  (W D + dW D) x + (b + W m) + dW m + db

At what is covered exactly nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.checkpoints.files import CheckpointError
from tailprune.spec import InputError, MissingFileError
from tailprune.spec.transformers import CLASSES
from tailprune.transformers.account import COMPACTION
from tailprune.transformers.adapters import Change, Shapes
from tailprune.transformers.directions import read_decode
from tailprune.transformers.recognise import pattern_of
from tailprune.transformers.rewriting import BASIS, ROWS
from tailprune.transformers.source import Source, open_source, read_json

__all__ = ["Compacted", "finite", "open_compacted", "projected", "weight_of", "whole_layers"]


@dataclass(frozen=True)
class Compacted:
    """A compacted folder."""

    folder: Path
    source: Source
    said: dict[str, Any]
    class_name: str
    adaln: frozenset[str]
    """The layers that read directions."""
    decode: Tensor
    """D, with shape (d, r), float64."""
    mean: Tensor
    """m, with shape (d,), float64."""


def open_compacted(folder: Path) -> Compacted:
    """A folder that `compact` wrote, with what projecting needs.

    Raises FileNotFoundError for another folder, InputError for one of before directions were kept, CheckpointError for
    files that are not what they say.
    """
    if not (folder / COMPACTION).is_file():
        raise MissingFileError(f"{folder} has no {COMPACTION}: it is not what tailprune.transformers.compact wrote")
    source = open_source(folder)
    name = source.config.get("_class_name")
    cls = next((each for each in CLASSES if each.name == name and each.naming == "diffusers"), None)
    if cls is None or f"{BASIS}.weight" not in source.tensors:
        raise CheckpointError(f"{folder}: is not a compacted transformer of a class that is known")
    basis, mean = (source.shape(f"{BASIS}.{kind}") for kind in ("weight", "mean"))
    if len(basis) != 2 or mean != basis[1:]:
        raise CheckpointError(f"{folder}: {BASIS} has the shapes {list(basis)} and {list(mean)}, which do not fit")
    rank, width = basis
    said = read_json(folder / COMPACTION)
    try:
        files, merged = dict(said["files"]), said.get("adapters", [])
        if not isinstance(merged, list):
            raise TypeError("its adapters are no list")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / COMPACTION}: does not say what was done ({error})") from error
    patterns = [pattern_of(linears.name, "[.]weight") for linears in cls.linears]
    adaln = {name.removesuffix(".weight") for name in source.tensors if any(each.fullmatch(name) for each in patterns)}
    for layer in adaln:
        if source.shape(f"{layer}.weight")[1:] != (rank,):
            raise CheckpointError(f"{folder}: {layer}.weight reads no {rank} directions")
    decode, center = read_decode(folder, rank, width, files).double(), source.read(f"{BASIS}.mean").double()
    return Compacted(folder, source, said, cls.name, frozenset(adaln), decode, center)


def whole_layers(model: Compacted) -> Shapes:
    """The layers of the whole model."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, stored in model.source.tensors.items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and layer != BASIS and stored.shape:
            adaln = layer in model.adaln
            shapes[layer] = (stored.shape[0], len(model.mean)) if adaln else stored.shape
    return Shapes(model.class_name, shapes)


def projected(model: Compacted, change: Change) -> tuple[Tensor | None, Tensor]:
    """The change of a layer of AdaLN as that of the compacted one: dW D, and dW m + db.

    Returns them with shapes (rows, r) and (rows,), float64; None in place of a dW D that is zero.

    Raises InputError if they are not finite.
    """
    own = change.bias()
    constant = torch.zeros(change.outputs, dtype=torch.float64) if own is None else own
    if change.form == "bias":
        return None, finite(change, constant)
    both = torch.cat([model.decode, model.mean[:, None]], dim=1)
    if change.form == "LoRA":
        made = change.of_layer(change.read("up").double()) @ (change.scale * (change.read("down").double() @ both))
    else:
        pieces = [slice(start, min(start + ROWS, change.outputs)) for start in range(0, change.outputs, ROWS)]
        made = torch.cat([weight_of(change, piece, torch.float64) @ both for piece in pieces])
    return finite(change, made[:, :-1]), finite(change, constant + made[:, -1])


def weight_of(change: Change, rows: slice, dtype: torch.dtype) -> Tensor:
    """dW of some rows, of a change that is not of the bias alone."""
    weight = change.weight(rows, dtype)
    assert weight is not None, "a change of the bias alone was handled before"
    return weight


def finite(change: Change, values: Tensor) -> Tensor:
    """The values. Raises InputError if float32, or their own type, does not hold them."""
    if not torch.isfinite(values.float()).all():
        raise InputError(f"{change.source.path}: the change of {change.said} holds NaN or infinity, or is too large")
    return values
