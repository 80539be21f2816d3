"""A compacted transformer with an adapter merged: its own files, with the change added to the weights."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from tailprune.checkpoints.files import CheckpointError
from tailprune.progress import OnStep
from tailprune.spec import InputError
from tailprune.transformers.account import COMPACTION
from tailprune.transformers.adapters import Adapter, Change
from tailprune.transformers.projecting import Compacted, finite, projected, weight_of
from tailprune.transformers.rewriting import ROWS
from tailprune.transformers.source import PIECE, TORCH, Source
from tailprune.transformers.writing import needing_room

__all__ = ["write_merged"]

FLOATS = ("F64", "F32", "F16", "BF16")


def write_merged(model: Compacted, adapter: Adapter, strength: float, target: Path, report: OnStep) -> None:
    """Write the compacted model with an adapter, times a strength, added to its weights.

    Raises InputError for layers that nothing can be added to, and for sums that their type cannot hold.
    """
    changes = {change.layer: change for change in adapter.changes}
    source = model.source
    for change in adapter.changes:
        _check_merged(source, change, adaln=change.layer in model.adaln)
    work = target.with_name(f".{target.name}.partial")
    if work.exists():
        raise InputError(
            f"{work} exists: it is of a merge that was stopped, or that runs now: delete it if it does not"
        )
    work.mkdir()
    shards = list(dict.fromkeys(source.files.values()))
    total, before, digests = sum(path.stat().st_size for path in shards), 0, dict(model.said["files"])
    try:
        with needing_room(target.absolute().parent, total):
            names = {path.name for path in shards}
            for path in sorted(model.folder.iterdir()):
                if path.is_file() and path.name not in names:
                    shutil.copyfile(path, work / path.name)
            for path in shards:
                digests[path.name] = _merge_shard(model, changes, strength, path, work / path.name)
                before += path.stat().st_size
                report(before, total)
            for read in (source, adapter.source):
                read.check_unchanged()
            _describe(model, adapter, strength, digests, work)
        if os.path.lexists(target):
            raise FileExistsError(f"{target} was made by another meanwhile: give another name")
        os.rename(work, target)
    except BaseException:
        shutil.rmtree(work)
        raise


def _check_merged(source: Source, change: Change, *, adaln: bool) -> None:
    kinds = [("weight", change.form != "bias"), ("bias", adaln or bool({"up_bias", "diff_b"} & change.names.keys()))]
    for kind in (kind for kind, changed in kinds if changed):
        name = f"{change.layer}.{kind}"
        if name not in source.tensors:
            raise InputError(f"{change.source.path}: {change.said} changes a bias, and {change.layer} has none")
        if source.tensors[name].dtype not in FLOATS:
            raise InputError(
                f"{source.path}: {name} has the type {source.tensors[name].dtype}, to which nothing is added: merge "
                "into the weights before they were quantised"
            )


def _merge_shard(model: Compacted, changes: Mapping[str, Change], strength: float, path: Path, target: Path) -> str:
    """Write one file of weights, with the same header, and return its sha256."""
    source, digest = model.source, hashlib.sha256()
    names = sorted((name for name, file in source.files.items() if file == path), key=lambda n: source.tensors[n].begin)
    with path.open("rb") as file, target.open("wb") as sink:

        def put(values: bytes | memoryview) -> None:
            digest.update(values)
            sink.write(values)

        put(file.read(source.tensors[names[0]].begin))
        for name in names:
            layer, _, kind = name.rpartition(".")
            if layer in changes and kind in ("weight", "bias"):
                for values in _added(model, changes[layer], name, kind, strength):
                    put(values.reshape(-1).view(torch.uint8).numpy().data)
            else:
                size = source.tensors[name].end - source.tensors[name].begin
                for start in range(0, size, PIECE):
                    put(source.raw(name, start, PIECE))
        sink.flush()
        os.fsync(sink.fileno())
    if target.stat().st_size != path.stat().st_size:
        raise CheckpointError(f"{path}: has changed since it was opened")
    return digest.hexdigest()


def _added(model: Compacted, change: Change, name: str, kind: str, strength: float) -> Iterator[Tensor]:
    """A tensor with the change added, some rows at a time, in its own type."""
    stored = model.source.tensors[name]
    dtype = TORCH[stored.dtype]
    adaln = change.layer in model.adaln
    by_rows = kind == "weight" and not adaln and change.form != "bias"
    if adaln:
        whole = projected(model, change)[0 if kind == "weight" else 1]
    else:
        whole = change.bias() if kind == "bias" else None
    for start in range(0, stored.shape[0], ROWS):
        rows = slice(start, min(start + ROWS, stored.shape[0]))
        values = model.source.read(name, rows)
        added = weight_of(change, rows, torch.float32).double() if by_rows else None if whole is None else whole[rows]
        if added is None:
            yield values
        else:
            yield finite(change, (values.double() + strength * added.reshape(values.shape)).to(dtype))


def _describe(model: Compacted, adapter: Adapter, strength: float, digests: Mapping[str, str], work: Path) -> None:
    """Say in the account of the folder and in its card what was merged."""
    with adapter.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    merged = {"file": adapter.path.name, "sha256": digest, "strength": strength}
    said = model.said | {"files": dict(digests), "adapters": [*model.said.get("adapters", []), merged]}
    (work / COMPACTION).write_text(json.dumps(said, indent=2) + "\n")
    card = work / "README.md"
    text = card.read_text() if card.is_file() else ""
    card.write_text(
        f"{text}\nMerged: the adapter `{adapter.path.name}` (sha256 {digest}) with strength {strength:g}. The errors "
        "above are those of the model without it.\n"
    )
