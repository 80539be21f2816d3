"""What a checkpoint says of the run that made it: the options of its training script, under `args`, `config` or others.

They tell what tensors do not: the family, the number of heads, the number of classes; and how many blocks a file has if
none is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tailprune.checkpoints.pickles import Record

__all__ = ["Options", "StatedDepth", "options_in"]

Options = dict[str, Any]
"""`architecture`, a text that names the model; whole numbers `num_heads`, `decode_layer`, `num_classes`; and `depths`,
a list of `StatedDepth`. Any may be missing."""

ARCHITECTURE = (
    "family", "model", "model_name", "model_type", "arch", "architecture", "network", "net", "backbone", "_class_name",
    "class_name", "_target_", "target", "denoiser",
)  # fmt: skip
NUMBERS = {
    "num_heads": ("num_heads", "n_heads", "n_head", "heads", "num_attention_heads", "nhead", "nheads"),
    "decode_layer": ("decode_layer",),
    "num_classes": ("num_classes", "n_classes", "num_class", "class_num", "num_embeds_ada_norm"),
}
DEPTH = ("depth", "num_layers", "n_layers", "n_layer", "num_blocks")
WIDTH = ("hidden_size", "hidden_dim", "d_model", "embed_dim", "inner_dim")
OF_THE_MODEL = {
    "args", "cfg", "conf", "config", "configuration", "hparams", "hyper_parameters", "hyperparameters", "init_args",
    "kwargs", "opt", "options", "params", "settings",
    "model", "model_args", "model_cfg", "model_config", "model_kwargs", "model_params", "network", "net", "backbone",
    "denoiser", "transformer", "dit", "unet",
}  # fmt: skip
"""The keys below which options are those of the model, and not of its autoencoder, its text encoder or another part."""
MOST_LEVELS = 6
MOST_DIGITS = 6
WRAPPED = ("_val", "_content")
"""The attributes that hold the value of a node of OmegaConf."""


@dataclass(frozen=True)
class StatedDepth:
    """A number of blocks, with the width and the heads that are stated beside it, if any."""

    key: str
    depth: int
    hidden_size: int | None
    num_heads: int | None


def options_in(content: Any) -> Options:
    """The options in the content of a pickle, in metadata, or in a configuration; the nearest to the top count."""
    found: Options = {}
    if depths := list(_depths(content)):
        found["depths"] = depths
    for key, value in _entries(content):
        if key in ARCHITECTURE and isinstance(value, str):
            found.setdefault("architecture", "")
            found["architecture"] += f" {value}"
        for name, keys in NUMBERS.items():
            if key in keys and type(value) is int and value > 0:
                found.setdefault(name, value)
    return found


def _depths(content: Any, levels: int = MOST_LEVELS) -> Iterator[StatedDepth]:
    """The numbers of blocks that the options of the model state, level by level."""
    items = {key: _unwrapped(value) for key, value in _items(content)}
    stated = {key: int(value) for key, value in items.items() if _is_count(value)}
    if key := next((key for key in DEPTH if key in stated), None):
        width = next((stated[key] for key in WIDTH if key in stated), None)
        heads = next((stated[key] for key in NUMBERS["num_heads"] if key in stated), None)
        yield StatedDepth(key, stated[key], width, heads)
    if levels:
        for key, value in items.items():
            if key in OF_THE_MODEL:
                yield from _depths(value, levels - 1)


def _is_count(value: Any) -> bool:
    """Whether this is a whole number above 0; metadata of safetensors has texts."""
    if isinstance(value, str):
        return value.isdecimal() and len(value) < MOST_DIGITS and int(value) > 0
    return type(value) is int and value > 0


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """The keys and simple values of nested mappings and objects, level by level."""
    level = [content]
    for _ in range(MOST_LEVELS):
        below: list[Any] = []
        for each in level:
            for key, value in _items(each):
                value = _unwrapped(value)
                if isinstance(value, Mapping | Record):
                    below.append(value)
                else:
                    yield key, value
        level = below


def _items(holder: Any) -> Iterator[tuple[str, Any]]:
    holder = _unwrapped(holder)
    items = getattr(holder, "attributes", {}) if isinstance(holder, Record) else holder
    if isinstance(items, Mapping):
        yield from ((key, value) for key, value in items.items() if isinstance(key, str))


def _unwrapped(value: Any) -> Any:
    """The value of a node of OmegaConf; any other value as it is."""
    for _ in range(2):
        if not isinstance(value, Record):
            break
        held = [value.attributes[name] for name in WRAPPED if name in getattr(value, "attributes", {})]
        if not held:
            break
        value = held[0]
    return value
