"""Loading a compacted transformer: diffusers' own class, with its AdaLN's linear layers exchanged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tailprune.arguments import as_device
from tailprune.checkpoints.files import CheckpointError
from tailprune.extras import require
from tailprune.spec import InputError, MissingFileError
from tailprune.spec.transformers import CLASSES
from tailprune.transformers.account import COMPACTION
from tailprune.transformers.modeling import BASIS, KEYS, RANK, TABLE, connect, exchange
from tailprune.transformers.source import open_source

__all__ = ["load_transformer"]


def load_transformer(
    path: str | os.PathLike[str], *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> Any:
    """A compacted transformer, as diffusers' class, for any pipeline: `FluxPipeline.from_pretrained(…, transformer=…)`.

    path: a folder that `compact` wrote, or that the loaded model's `save_pretrained` did
    dtype: the type of all weights but those of the directions and those that diffusers keeps in float32; by default
        the types of the file
    device: where the weights go, the CPU by default

    The model refers to itself, by its `save_pretrained`: its memory is free after `del` and `gc.collect()`.

    Raises FileNotFoundError for a missing folder or file, InputError for a type that is not of floating point,
    CheckpointError for tensors that do not fit, ModuleNotFoundError without diffusers.
    """
    require("decoders", "diffusers")
    import diffusers

    device = as_device(device)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"dtype must be a type of floating point, such as torch.bfloat16, not {dtype!r}")
    folder = Path(path)
    source = open_source(folder)
    if not (folder / COMPACTION).is_file() and RANK not in source.config:
        raise MissingFileError(f"{folder} has no {COMPACTION}: it is not what tailprune.transformers.compact wrote")
    name = source.config.get("_class_name")
    cls = next((each for each in CLASSES if each.name == name and each.naming == "diffusers"), None)
    directions = next((name for name in (f"{BASIS}.weight", TABLE) if name in source.tensors), None)
    if cls is None or directions is None:
        raise CheckpointError(f"{folder}: is not a compacted transformer of a class that is known")
    config = {key: value for key, value in source.config.items() if not key.startswith("_") and key not in KEYS}
    first, second = source.shape(directions)
    base = getattr(diffusers, cls.name)
    layers = [linears.name for linears in cls.linears]
    with _Unallocated():
        try:
            model = base.from_config(config)
        except Exception as error:  # whatever diffusers makes of a configuration that is wrong
            why = str(error).partition("\n")[0] or type(error).__name__
            raise CheckpointError(f"{folder}: diffusers makes no {cls.name} of its configuration ({why})") from error
        exchange(model, layers, *((second, first) if directions == TABLE else (first,)))
    precise = {BASIS, *(base._keep_in_fp32_modules or ())}
    values = {}
    for name in source.tensors:
        kept = dtype is not None and not precise.isdisjoint(name.split("."))
        values[name] = _typed(source.read(name), torch.float32 if kept else dtype)
    _check(folder, cls.name, values, model.state_dict())
    model.load_state_dict(values, assign=True)
    connect(model, layers)
    model.register_to_config(**{key: source.config[key] for key in KEYS if key in source.config})
    return model.to(device).requires_grad_(False).eval()


def _typed(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def _check(folder: Path, name: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for tensors that are not those of a class by its configuration."""
    for each in sorted(expected.keys() ^ found.keys()):
        what = "lacks" if each in expected else "has a tensor too many,"
        raise CheckpointError(f"{folder}: {what} {each}, for a {name} with its configuration")
    for each, tensor in found.items():
        shape = tuple(expected[each].shape)
        if tuple(tensor.shape) != shape:
            raise CheckpointError(f"{folder}: {each} has the shape {tuple(tensor.shape)}, and a {name} one of {shape}")
        if expected[each].is_floating_point() and not tensor.is_floating_point():
            raise CheckpointError(f"{folder}: {each} is of the type {tensor.dtype}, and not of floating point")


class _Unallocated(TorchFunctionMode):
    """Layers without memory for their weights, which are loaded after; other tensors of a module are made as ever."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
