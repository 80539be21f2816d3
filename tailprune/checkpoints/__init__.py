"""Published files and folders -> systems, and systems -> files.

    load          a source (file, folder, address on the hub, name in the registry) -> a system; also `tailprune.load`
    recognition   which system a file's tensors are, by names and shapes
    files         tensors of safetensors files and pickles, values on demand
    diffusers     a DiT as diffusers saves it, under the official names
    hub           what is fetched of the Hugging Face hub
    save          systems and tensors -> safetensors files, the same bytes each time

Names are imported when first used: to fetch a file, torch is not needed. The function `load` is not among them, since
the module has that name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailprune.checkpoints.diffusers import DiffusersDiT
    from tailprune.checkpoints.files import CheckpointError, TensorFile, open_tensors
    from tailprune.checkpoints.hub import HubError, fetch
    from tailprune.checkpoints.load import Checkpoint, Found, inspect, load_condition
    from tailprune.checkpoints.recognition import parameter_counts, recognise
    from tailprune.checkpoints.save import encode_tensors, save_system

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "DiffusersDiT",
    "Found",
    "HubError",
    "TensorFile",
    "encode_tensors",
    "fetch",
    "inspect",
    "load_condition",
    "open_tensors",
    "parameter_counts",
    "recognise",
    "save_system",
]

_HOMES = {
    "Checkpoint": "load",
    "CheckpointError": "files",
    "DiffusersDiT": "diffusers",
    "Found": "load",
    "HubError": "hub",
    "TensorFile": "files",
    "encode_tensors": "save",
    "fetch": "hub",
    "inspect": "load",
    "load_condition": "load",
    "open_tensors": "files",
    "parameter_counts": "recognition",
    "recognise": "recognition",
    "save_system": "save",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tailprune.checkpoints' has no attribute {name!r}")
    return getattr(import_module(f"tailprune.checkpoints.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
