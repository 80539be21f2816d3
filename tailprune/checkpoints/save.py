"""Systems as files whose bytes are a function of the system and of what is said of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from tailprune.systems.base import System

__all__ = ["save_system"]


def save_system(system: System, path: str | os.PathLike[str], said: Mapping[str, str] = {}) -> None:
    """Writes a system, compacted or full, as a safetensors file that `tailprune.load` reads with nothing told.

    said: what else its metadata says.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in system.state_dict().items()}
    metadata = {"family": system.family} | {name: repr(value) for name, value in system.metadata_arguments().items()}
    save_file(tensors, path, {**said, **metadata})
    file = Path(path)
    file.chmod(0o644)  # safetensors writes for its owner alone
    _order_metadata(file)


def _order_metadata(path: Path) -> None:
    """Puts metadata in the order of their names, in place: the library writes them in another at each call."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size))
