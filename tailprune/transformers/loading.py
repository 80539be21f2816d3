"""Loading a compacted transformer: diffusers' own class, with its AdaLN's linear layers exchanged.

In all classes that are known the SiLU stands right before these layers, so that exchanging them is enough: no forward
of diffusers is changed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tailprune.arguments import as_device
from tailprune.checkpoints.files import CheckpointError
from tailprune.extras import require
from tailprune.spec import MissingFileError
from tailprune.transformers.classes import CLASSES, TransformerClass
from tailprune.transformers.recognise import pattern_of
from tailprune.transformers.rewriting import BASIS, COMPACTION
from tailprune.transformers.source import open_source

__all__ = ["NARROW", "Basis", "ReadsDirections", "load_transformer"]

NARROW = "narrow"
"""The module of a layer of AdaLN that is given directions; in the files its tensors are the layer's own."""


class Basis(nn.Module):
    """x = B (s - m), with B of shape (r, d) and the mean m of shape (d,), in float32 whatever the model's precision."""

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rank, width), requires_grad=False)
        self.mean = nn.Parameter(torch.empty(width), requires_grad=False)

    def forward(self, read: Tensor) -> Tensor:
        return F.linear(read.float() - self.mean.float(), self.weight.float())


class ReadsDirections(nn.Module):
    """A linear layer of the directions of what it is given; `narrow` has the weight, with r columns, and the bias.

    It is a module of its own for LoRAs: PEFT gives a LoRA what the layer in whose place it puts it is given.
    """

    def __init__(self, rank: int, rows: int, basis: Basis) -> None:
        super().__init__()
        self._basis = (basis,)  # in a tuple it is no module of this one: the model has it once
        self.narrow = nn.Linear(rank, rows)

    def forward(self, input: Tensor) -> Tensor:
        return self.narrow(self._basis[0](input).to(self.narrow.weight.dtype))


def load_transformer(
    path: str | os.PathLike[str], *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> Any:
    """A compacted transformer, as diffusers' class, for any pipeline: `FluxPipeline.from_pretrained(…, transformer=…)`.

    path: a folder that `compact` wrote
    dtype: the type of all weights but those of the directions; those of the file by default
    device: where the weights go, the CPU by default

    Raises FileNotFoundError for a missing folder or file, CheckpointError for tensors that do not fit,
    ModuleNotFoundError without diffusers.
    """
    require("decoders", "diffusers")
    import diffusers

    device = as_device(device)
    folder = Path(path)
    if not (folder / COMPACTION).is_file():
        raise MissingFileError(f"{folder} has no {COMPACTION}: it is not what tailprune.transformers.compact wrote")
    source = open_source(folder)
    name = source.config.get("_class_name")
    cls = next((each for each in CLASSES if each.name == name and each.naming == "diffusers"), None)
    if cls is None or f"{BASIS}.weight" not in source.tensors:
        raise CheckpointError(f"{folder}: is not a compacted transformer of a class that is known")
    config = {key: value for key, value in source.config.items() if not key.startswith("_") and key != "adaln_rank"}
    with _Unallocated():
        model = getattr(diffusers, cls.name).from_config(config)
        model.add_module(BASIS, Basis(*source.shape(f"{BASIS}.weight")))
        _exchange(model, cls)
    values = {
        _name(model, name): _typed(source.read(name), None if name.startswith(BASIS) else dtype)
        for name in source.tensors
    }
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in expected.keys() | values.keys():
        found = tuple(values[name].shape) if name in values else None
        if found != expected.get(name):
            raise CheckpointError(f"{folder}: {name} has the shape {found}, and {cls.name} one of {expected.get(name)}")
    model.load_state_dict(values, assign=True)
    return model.to(device).requires_grad_(False).eval()


def _name(model: nn.Module, stored: str) -> str:
    """The name in a model of a tensor of the files."""
    layer, _, kind = stored.rpartition(".")
    return f"{layer}.{NARROW}.{kind}" if isinstance(_module(model, layer), ReadsDirections) else stored


def _module(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:  # a tensor too many, which is said later
        return None


def _typed(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def _exchange(model: nn.Module, cls: TransformerClass) -> None:
    """Put a layer that reads directions in place of each that reads SiLU(c)."""
    basis = getattr(model, BASIS)
    patterns = [pattern_of(linears.name) for linears in cls.linears]
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and any(pattern.fullmatch(name) for pattern in patterns):
            parent, _, child = name.rpartition(".")
            reads = ReadsDirections(len(basis.weight), module.out_features, basis)
            setattr(model.get_submodule(parent), child, reads)


class _Unallocated(TorchFunctionMode):
    """Layers without memory for their weights, which are loaded after; other tensors of a module are made as ever."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
