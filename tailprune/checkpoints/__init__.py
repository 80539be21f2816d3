"""Loading systems from published files and folders, and saving them.

    load          a system from a file, a folder, an address on the hub or a name in the registry; also `tailprune.load`
    opening       where a source is, which files of it hold the weights, and their values
    files         the tensors of safetensors files and pickles, read on demand
    signature     what a file is by its first bytes
    pickles       pickles of PyTorch, read without running their code
    holders       which tensors of a file are the weights, where it has several copies
    options       what a file says of the run that made it
    damage        values that no trained network has
    recognition   which family a file belongs to
    diffusers     a DiT in diffusers' format, under the official names
    hub           downloads from the Hugging Face hub
    save          systems and tensors as safetensors files, with the same bytes each time

Names are imported when first used, so that fetching a file does not import torch. The function `load` is not among
them, since the module has that name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailprune.checkpoints.diffusers import DiffusersDiT
    from tailprune.checkpoints.files import CheckpointError, TensorFile, open_tensors
    from tailprune.checkpoints.hub import HubError, fetch
    from tailprune.checkpoints.load import Found, inspect, load_condition
    from tailprune.checkpoints.opening import Checkpoint
    from tailprune.checkpoints.recognition import parameter_counts, recognise
    from tailprune.checkpoints.save import Pieces, save_system, write_tensors

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "DiffusersDiT",
    "Found",
    "HubError",
    "Pieces",
    "TensorFile",
    "fetch",
    "inspect",
    "load_condition",
    "open_tensors",
    "parameter_counts",
    "recognise",
    "save_system",
    "write_tensors",
]

_HOMES = {
    "Checkpoint": "opening",
    "CheckpointError": "files",
    "DiffusersDiT": "diffusers",
    "Found": "load",
    "HubError": "hub",
    "Pieces": "save",
    "TensorFile": "files",
    "fetch": "hub",
    "inspect": "load",
    "load_condition": "load",
    "open_tensors": "files",
    "parameter_counts": "recognition",
    "recognise": "recognition",
    "save_system": "save",
    "write_tensors": "save",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tailprune.checkpoints' has no attribute {name!r}")
    return getattr(import_module(f"tailprune.checkpoints.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
