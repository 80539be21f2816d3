"""Whether a compacted transformer is what it says, against the whole one.

Its own account is believed for one thing alone, what it covers. That all other weights are those of the whole model is
seen by comparing them, and its errors are measured anew.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.checkpoints.files import CheckpointError
from tailprune.checkpoints.save import TYPES
from tailprune.progress import OnStep, reporting
from tailprune.spec import MissingFileError
from tailprune.spec.display import Shown
from tailprune.transformers.account import COMPACTION
from tailprune.transformers.directions import DIRECTIONS, read_decode
from tailprune.transformers.errors import Products, errors_of, precise_type
from tailprune.transformers.modeling import BASIS
from tailprune.transformers.plans import checked_plan, covered_by
from tailprune.transformers.population import POPULATION, PooledTexts, read_population, texts_replaced
from tailprune.transformers.ranks import Unmeasured, check_plain
from tailprune.transformers.recognise import Model
from tailprune.transformers.renaming import Rows, open_whole
from tailprune.transformers.rewriting import ROWS
from tailprune.transformers.source import PIECE, Source, open_source, read_json
from tailprune.transformers.writing import as_bytes

__all__ = ["Verified", "verify"]

SLACK = 1.01
"""How much larger than stated an error may be that is summed in another order."""
ROUNDING = 1e-7
FIRST = slice(0, 64)
"""Rows of each layer that show with which directions all were made."""
ROUNDED = 2**-7
"""What the rounding of a weight to half precision may change of it, relatively."""


@dataclass(frozen=True, repr=False)
class Verified(Shown):
    """What was found of a compacted transformer."""

    tensors: int
    """How many tensors are byte for byte those of the whole model."""
    layers: int
    """How many layers of AdaLN were measured."""
    error: float
    worst_error: float
    error_between: float | None
    """The errors as measured now; see `Written`."""


@torch.no_grad()
def verify(
    out: str | os.PathLike[str],
    against: str | os.PathLike[str],
    *,
    qkv: Rows | None = None,
    progress: bool = False,
    on_bytes: OnStep | None = None,
) -> Verified:
    """Check a compacted transformer against the whole one that it was made of.

    out: the folder that `compact` wrote
    against: the whole transformer
    qkv: as in `compact`
    progress, on_bytes: as in `compact`; the bytes are those of the whole model's tensors

    Raises CheckpointError for a file that is not the one that was written, a tensor that differs, is missing or too
    many, and for an error that is larger than stated; FileNotFoundError for what is missing.
    """
    folder = Path(out)
    if not (folder / COMPACTION).is_file():
        raise MissingFileError(f"{folder} has no {COMPACTION}: it is not what tailprune.transformers.compact wrote")
    said = read_json(folder / COMPACTION)
    if said.get("adapters"):
        raise CheckpointError(f"{folder}: has an adapter merged, so its weights are not the whole model's")
    try:
        small, model = open_source(folder), open_whole(against, qkv)
        check_plain(model)
        _check_digests(folder, said["files"])
        plan = checked_plan(model, said["plan"])
        texts = _population(folder, model, plan["population"])
        replaced = texts_replaced(model, plan["pooled"], texts)
        same = _check_names(small, model)
        _check_config(small, model)
        with reporting(progress, on_bytes, "B") as report:
            total, done = model.source.size_of(model.source.tensors), 0
            for name in same:
                _check_equal(small, model.source, name, replaced)
                done += model.source.size_of([name])
                report(done, total)
            found = _measured(small, model, plan, texts, lambda size: report(min(total, done + size), total))
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / COMPACTION}: does not say what was done ({error})") from error
    except Unmeasured as why:
        raise CheckpointError(f"{model.source.path}: {why}") from why
    for name in ("error", "worst_error", "error_between"):
        now, stated = getattr(found, name), said.get(name)
        limit = SLACK * stated + ROUNDING if type(stated) is float and math.isfinite(stated) else -1.0
        if now is not None and not now <= limit:  # NaN is not
            raise CheckpointError(f"{folder}: {name} is {now:.3g}, and {COMPACTION} says {stated}")
    if DIRECTIONS in said["files"]:
        rank, width = small.shape(f"{BASIS}.weight")
        _check_directions(small, model, read_decode(folder, rank, width, said["files"]))
    for source in (small, model.source):
        source.check_unchanged()
    return Verified(len(same), found.layers, found.error, found.worst_error, found.error_between)


def _check_digests(folder: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        with (folder / Path(name).name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise CheckpointError(f"{folder / name}: is not the file that was written: its sha256 differs")


def _check_names(small: Source, model: Model) -> list[str]:
    """The tensors that have to be the same. Raises CheckpointError for names that are missing or too many."""
    layers = {f"{name}.{kind}" for name in model.names for kind in ("weight", "bias")}
    same = [name for name in model.source.tensors if name not in layers]
    expected = {*same, *layers, f"{BASIS}.weight", f"{BASIS}.mean"}
    for name in sorted(expected ^ small.tensors.keys()):
        raise CheckpointError(f"{small.path}: {'lacks' if name in expected else 'has a tensor too many,'} {name}")
    basis, rank = small.shape(f"{BASIS}.weight"), small.shape(f"{BASIS}.weight")[:1]
    shapes = {f"{BASIS}.weight": (*rank, model.width), f"{BASIS}.mean": (model.width,)}
    for name in model.names:
        rows = model.source.shape(f"{name}.weight")[:1]
        shapes |= {f"{name}.weight": (*rows, *rank), f"{name}.bias": rows}
    for name, shape in shapes.items():
        if small.shape(name) != shape or len(basis) != 2:
            raise CheckpointError(f"{small.path}: {name} has the shape {list(small.shape(name))}, not {list(shape)}")
    return same


def _check_config(small: Source, model: Model) -> None:
    """Raise CheckpointError for a configuration that says other than the whole model's."""
    for key, value in model.source.config.items():
        stated = small.config.get(key)
        if not key.startswith("_") and None not in (stated, value) and stated != value:
            raise CheckpointError(
                f"{small.path}: {key} is {stated!r} in its configuration, and the whole model's is {value!r}"
            )


def _population(folder: Path, model: Model, said: Mapping[str, Any] | None) -> PooledTexts | None:
    if said is None:
        return None
    population = read_population(folder / POPULATION, model)
    if population.digest != said["sha256"]:
        raise CheckpointError(f"{folder / POPULATION}: is not the population that was covered: its sha256 differs")
    return population


def _check_equal(small: Source, whole: Source, name: str, replaced: Mapping[str, Tensor | None]) -> None:
    """Raise CheckpointError for a tensor that is not the whole model's, or what it is replaced with: None for zeros."""
    ours, theirs = small.tensors[name], whole.tensors[name]
    other = replaced.get(name)
    dtype = theirs.dtype if other is None else TYPES[other.dtype]
    if (ours.dtype, ours.shape) != (dtype, theirs.shape):
        raise CheckpointError(f"{small.path}: {name} has another type or shape than the whole model's")
    for start in range(0, ours.end - ours.begin, PIECE):
        piece = small.raw(name, start, PIECE)
        if other is not None:
            expected = as_bytes(other)[start : start + PIECE]
        else:
            expected = memoryview(bytes(len(piece))) if name in replaced else whole.raw(name, start, PIECE)
        if piece != expected:
            raise CheckpointError(f"{small.path}: {name} differs from the whole model's")


def _check_directions(small: Source, model: Model, decode: Tensor) -> None:
    """Raise CheckpointError if the layers were not made with these directions, of which LoRAs are projected later."""
    for name in model.names:
        exact = model.source.read(f"{name}.weight", FIRST).float() @ decode
        if (small.read(f"{name}.weight", FIRST).float() - exact).norm() > ROUNDED * exact.norm():
            raise CheckpointError(f"{small.path}: {name}.weight is not the whole model's times {DIRECTIONS}")


def _measured(small: Source, model: Model, plan: Mapping[str, Any], texts: PooledTexts | None, report: Any) -> Verified:
    covered, between = covered_by(model, plan, texts)
    checked = covered.read if between is None else torch.cat([covered.read, between])
    mean, encode = (small.read(f"{BASIS}.{kind}").double() for kind in ("mean", "weight"))
    precise = precise_type(model)
    products = Products(checked, len(covered.read), mean, encode, mean[None], precise)
    axes = products.axes.T.to(precise)
    sums, done = products.zeros(), 0
    for name in model.names:
        rows = model.source.shape(f"{name}.weight")[0]
        biased = f"{name}.bias" in model.source.tensors
        for start in range(0, rows, ROWS):
            place = slice(start, start + ROWS)
            weight = model.source.read(f"{name}.weight", place).to(precise)
            added = small.read(f"{name}.bias", place).to(precise)
            if biased:
                added = added - model.source.read(f"{name}.bias", place).to(precise)
            smaller = small.read(f"{name}.weight", place).to(precise)
            products.add(sums, weight @ axes, smaller, added)
        done += model.source.size_of(model.tensors(name))
        report(done)
    errors = errors_of(products.squares(sums), len(covered.read))
    return Verified(0, len(model.names), errors.mean, errors.worst, errors.between)
