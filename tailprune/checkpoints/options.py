"""What a checkpoint says of the run that made it: the options of its training script, under `args`, `config` or others.

They tell what tensors do not: the family, the number of heads, the number of classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tailprune.checkpoints.pickles import Record

__all__ = ["Options", "options_in"]

Options = dict[str, Any]
"""`architecture`, a text that names the model; `num_heads`, `decode_layer` and `num_classes`, whole numbers. Any may be
missing."""

ARCHITECTURE = (
    "family", "model", "model_name", "model_type", "arch", "architecture", "network", "net", "backbone", "_class_name",
    "class_name", "_target_", "target", "denoiser",
)  # fmt: skip
NUMBERS = {
    "num_heads": ("num_heads", "n_heads", "n_head", "heads", "num_attention_heads", "nhead", "nheads"),
    "decode_layer": ("decode_layer",),
    "num_classes": ("num_classes", "n_classes", "num_class", "class_num", "num_embeds_ada_norm"),
}
MOST_LEVELS = 6
WRAPPED = ("_val", "_content")
"""The attributes that hold the value of a node of OmegaConf."""


def options_in(content: Any) -> Options:
    """The options in the content of a pickle, in metadata, or in a configuration; the nearest to the top count."""
    found: Options = {}
    for key, value in _entries(content):
        if key in ARCHITECTURE and isinstance(value, str):
            found.setdefault("architecture", "")
            found["architecture"] += f" {value}"
        for name, keys in NUMBERS.items():
            if key in keys and type(value) is int and value > 0:
                found.setdefault(name, value)
    return found


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
