"""A transformer of diffusers whose AdaLN reads few directions of SiLU(c).

This file goes with the weights, as `modeling_tailprune.py`, and needs torch and diffusers alone: `auto_map` in the
configuration names it, so that `diffusers.AutoModel.from_pretrained(FOLDER, trust_remote_code=True)` loads the folder.
`tailprune.load_transformer` does the same by its own copy of this code.

In all classes that are known the SiLU stands right before the layers that read it, so that exchanging them is enough:
no forward of diffusers is changed.
"""

import os
import re
import shutil
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

BASIS = "adaln_basis"
"""The module of the directions: its weight B, and its mean m."""
TABLE = "time_embedder.table"
"""The table of x by the time, where there is no embedder of the time."""
NARROW = "narrow"
"""The module of a loaded layer of AdaLN that is given directions; in the files its tensors are the layer's own."""
LAYERS = "adaln_layers"
RANK = "adaln_rank"
TABLE_SIZE = "time_table_size"
AUTO_MAP = "auto_map"
KEYS = (LAYERS, RANK, TABLE_SIZE, AUTO_MAP)
"""Fields of the configuration that diffusers' own class does not have."""
FILE = "modeling_tailprune.py"
"""The name of this file beside the weights."""


class Basis(nn.Module):
    """x = B (s - m), with B of shape (r, d) and the mean m of shape (d,), in float32 whatever the model's precision."""

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rank, width), requires_grad=False)
        self.mean = nn.Parameter(torch.empty(width), requires_grad=False)

    def forward(self, read: torch.Tensor) -> torch.Tensor:
        return F.linear(read.float() - self.mean.float(), self.weight.float())


class Table(nn.Module):
    """x at evenly spaced times from 0 to 1, linear between them, as (x, -x): `Halves` takes the SiLU away again."""

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(size, rank), requires_grad=False)

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        table = self.table.float()
        place = time.float().clamp(0, 1) * (len(table) - 1)
        lower = place.long().clamp(max=len(table) - 2)
        read = torch.lerp(table[lower], table[lower + 1], (place - lower)[:, None])
        return torch.cat([read, -read], dim=-1)


class Halves(nn.Module):
    """x from SiLU((x, -x)), since SiLU(x) - SiLU(-x) = x."""

    def forward(self, read: torch.Tensor) -> torch.Tensor:
        positive, negative = read.float().chunk(2, dim=-1)
        return positive - negative


class ReadsDirections(nn.Module):
    """A linear layer of the directions of what it is given; `narrow` has the weight, with r columns, and the bias.

    It is a module of its own for LoRAs: PEFT gives a LoRA what the layer in whose place it puts it is given.
    """

    def __init__(self, narrow: nn.Module, directions: nn.Module) -> None:
        super().__init__()
        self._directions = (directions,)  # in a tuple it is no module of this one: the model has it once
        self.narrow = narrow

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.narrow(self._directions[0](input).to(self.narrow.weight.dtype))


def exchange(model: nn.Module, layers: list[str], rank: int, table_size: int | None = None) -> None:
    """Put a layer of `rank` columns in place of each that reads SiLU(c), for the tensors of the files to be loaded.

    layers: their names, with `*` for the number of a block
    table_size: the number of times in the table that takes the place of MiniMax-H3's embedder; None for directions
    """
    found = _linears(model, layers)
    if table_size is None:
        model.add_module(BASIS, Basis(rank, next(iter(found.values())).in_features))
    else:
        model.time_proj, model.time_embedder = nn.Identity(), Table(table_size, rank)
    for name, module in found.items():
        _put(model, name, nn.Linear(rank, module.out_features))


def connect(model: nn.Module, layers: list[str]) -> None:
    """Have the loaded layers that `exchange` made read directions. layers: as there"""
    directions = getattr(model, BASIS, None) or Halves()
    for name, module in _linears(model, layers).items():
        _put(model, name, ReadsDirections(module, directions))
    model.save_pretrained = partial(save_pretrained, model)  # type: ignore[assignment]


def save_pretrained(model: Any, save_directory: str, *given: Any, **more: Any) -> None:
    """Save a loaded model as diffusers does, the tensors with their names in the files, and this code beside them."""
    reading = {name: module for name, module in model.named_modules() if isinstance(module, ReadsDirections)}
    try:
        for name, module in reading.items():
            _put(model, name, module.narrow)
        type(model).save_pretrained(model, save_directory, *given, **more)
    finally:
        for name, module in reading.items():
            _put(model, name, module)
    if os.path.isdir(save_directory):
        shutil.copyfile(__file__, os.path.join(save_directory, FILE))


def _linears(model: nn.Module, layers: list[str]) -> dict[str, nn.Linear]:
    patterns = [re.compile(re.escape(name).replace(r"\*", r"\d+")) for name in layers]
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(pattern.fullmatch(name) for pattern in patterns)
    }


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


class CompactedTransformer:
    """What `auto_map` names: loads diffusers' own class with its layers exchanged."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, **kwargs: Any) -> nn.Module:
        """diffusers' `from_pretrained`, with all of its parameters.

        Raises ImportError for a type without accelerate, which keeps the directions in float32.
        """
        import diffusers

        accelerated = find_spec("accelerate") is not None
        if not accelerated and (kwargs.get("torch_dtype") or kwargs.get("dtype")):
            raise ImportError("a type needs accelerate, which keeps the directions in float32: install it")

        names = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision", "subfolder")
        where = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
        reader: Any = type("Config", (diffusers.ConfigMixin,), {"config_name": "config.json"})
        stated = reader.load_config(pretrained_model_name_or_path, **where)
        base: Any = getattr(diffusers, stated["_class_name"])

        def from_config(own: Any, config: dict[str, Any], **more: Any) -> Any:
            known = {key: value for key, value in config.items() if key not in KEYS}
            model = base.from_config.__func__(own, known, **more)
            exchange(model, config[LAYERS], config[RANK], config.get(TABLE_SIZE))
            model.register_to_config(**{key: config[key] for key in KEYS if key in config})
            return model

        kept = [*(base._keep_in_fp32_modules or []), BASIS] if accelerated else None
        fields = {"__module__": base.__module__, "from_config": classmethod(from_config), "_keep_in_fp32_modules": kept}
        made: Any = type(base.__name__, (base,), fields)
        model: nn.Module = made.from_pretrained(pretrained_model_name_or_path, **kwargs)
        connect(model, stated[LAYERS])
        return model
