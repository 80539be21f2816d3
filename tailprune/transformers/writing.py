"""What writing a folder of weights takes: room, configuration and index, and what its source was when it was read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.spec import InputError
from tailprune.spec.layouts import CONFIG, DIFFUSERS_WEIGHTS
from tailprune.spec.safetensors import read_header
from tailprune.transformers import modeling
from tailprune.transformers.classes import TransformerClass
from tailprune.transformers.modeling import AUTO_MAP, LAYERS, RANK, TABLE_SIZE, CompactedTransformer
from tailprune.transformers.source import INDEX, Source

__all__ = ["MODELING", "as_bytes", "check_room", "stamps", "write_config", "write_index"]

MODELING = "modeling_tailprune.py"
"""The code that goes with a compacted folder, for `trust_remote_code`."""
SPARE = 64 * 2**20
"""Room on the disk besides the tensors."""


def as_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, as a file has them."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def check_room(folder: Path, size: int) -> None:
    """Raise InputError if a folder has no room for so many bytes more."""
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise InputError(
            f"{folder.parent} has {free / 1e9:.2f} GB of room, and {(size + SPARE) / 1e9:.2f} GB are needed"
        )


def stamps(source: Source) -> list[list[Any]]:
    """Name, size and time of every file of a source."""
    stats = [(path, path.stat()) for path in dict.fromkeys(source.files.values())]
    return [[str(path.absolute()), stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def write_config(
    folder: Path, config: Mapping[str, Any], cls: TransformerClass, rank: int, table_size: int | None = None
) -> None:
    """Write the configuration of a compacted folder, and the code that diffusers loads it by.

    config: that of diffusers' class
    table_size: the number of times in the table, for a model that has one in place of directions
    """
    own: dict[str, Any] = {RANK: rank, LAYERS: [linears.name for linears in cls.linears]}
    if table_size is not None:
        own[TABLE_SIZE] = table_size
    own[AUTO_MAP] = {"AutoModel": f"{Path(MODELING).stem}.{CompactedTransformer.__name__}"}
    (folder / CONFIG).write_text(json.dumps(dict(config) | own, indent=2) + "\n")
    shutil.copyfile(modeling.__file__, folder / MODELING)


def write_index(folder: Path, files: Iterable[str], total: int) -> None:
    """Write the index of the shards in a folder.

    files: their names
    total: the bytes of all tensors
    """
    weights: dict[str, str] = {}
    for name in files:
        with (folder / name).open("rb") as file:
            weights |= dict.fromkeys(read_header(file).tensors, name)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weights.items()))}
    (folder / f"{DIFFUSERS_WEIGHTS[0]}{INDEX}").write_text(json.dumps(index, indent=2) + "\n")
