"""The scale of adapters, as PEFT describes it beside their tensors, or diffusers in the metadata of a file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailprune.spec import InputError

__all__ = ["DIFFUSERS", "ScalesStated", "scales_stated"]

CONFIG = "adapter_config.json"
"""PEFT's description of an adapter, beside its weights."""
DIFFUSERS = "lora_adapter_metadata"
"""The same in the metadata of a file that diffusers wrote."""
MOST_CONFIGURATION_BYTES = 2**20
PEFT_TYPES = ("LORA", "LOHA", "LOKR")
"""PEFT's names of the kinds of adapters that are read."""


@dataclass(frozen=True)
class ScalesStated:
    """What a file says of all its adapters, apart from their tensors."""

    alpha: float | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    """Of layers that have another, by PEFT's patterns: the ends of their names, or after `^` the whole ones."""
    rank: float | None = None
    """Where both factors of a LoKr may be whole, so that no tensor tells it."""
    ranks: Mapping[str, float] = field(default_factory=dict)
    """Of layers that have another, as `alphas`."""
    stabilised: bool = False

    def alpha_of(self, name: str) -> float | None:
        """That of a layer."""
        return _of_layer(name, self.alphas, self.alpha)

    def rank_of(self, name: str) -> float | None:
        """That of a layer, where it is stated."""
        return _of_layer(name, self.ranks, self.rank)


def _of_layer(name: str, patterns: Mapping[str, float], otherwise: float | None) -> float | None:
    """What is stated of a layer: by the first pattern that fits its name, as in PEFT."""
    for key, value in patterns.items():
        whole = key.removeprefix("^")
        if name == whole or (key == whole and name.endswith(f".{key}")):
            return value
    return otherwise


def scales_stated(path: Path, metadata: Mapping[str, str], class_name: str, alphas: bool) -> ScalesStated:
    """What the metadata of a file, or PEFT's configuration beside it, say of the scale.

    class_name: diffusers' name of the model's class
    alphas: whether the file has tensors of alphas

    Raises InputError for kinds of adapters that are not read, patterns that are more than names, a description that is
    not PEFT's, and one beside alphas.
    """
    config: Any = None
    try:
        if DIFFUSERS in metadata:
            config = json.loads(metadata[DIFFUSERS])
            config = {key.removeprefix("transformer."): value for key, value in config.items()}
        elif (beside := path.parent / CONFIG).is_file() and path.name.startswith("adapter_model"):
            if beside.stat().st_size > MOST_CONFIGURATION_BYTES:
                raise InputError(f"{beside}: has {beside.stat().st_size:,} bytes, and such a file has a few thousand")
            config = json.loads(beside.read_text())
        if config is None:
            whole = metadata.get("alpha") if class_name == "MiniMaxH3Transformer3DModel" and not alphas else None
            return ScalesStated(None if whole is None else _finite(whole))
        kind = config.get("peft_type") or "LORA"
        if kind not in PEFT_TYPES:
            raise InputError(f"{path}: is of the kind {str(kind)[:80]} of PEFT, and {', '.join(PEFT_TYPES)} are read")
        if config.get("use_dora"):
            raise InputError(f"{path}: is a DoRA, which is not read: merge it into the whole model, and compact that")
        if alphas:
            raise InputError(f"{path}: has alphas as tensors and in its description: leave one of them out")
        if kind != "LORA":
            return ScalesStated(
                _number(config, "alpha"),
                _patterns(path, config, "alpha_pattern"),
                _number(config, "r"),
                _patterns(path, config, "rank_pattern"),
            )
        return ScalesStated(
            _number(config, "lora_alpha"),
            _patterns(path, config, "alpha_pattern"),
            stabilised=config.get("use_rslora") is True,
        )
    except InputError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: does not describe its adapters as PEFT does ({error})") from error


def _number(config: Mapping[str, Any], key: str) -> float | None:
    value = config.get(key)
    return None if value is None else _finite(value)


def _patterns(path: Path, config: Mapping[str, Any], key: str) -> dict[str, float]:
    """The numbers of some layers. Raises InputError for patterns that are more than names."""
    found = {name: _finite(value) for name, value in (config.get(key) or {}).items()}
    if odd := next((name for name in found if not re.fullmatch(r"\^?[\w.]+", name)), None):
        raise InputError(f"{path}: {key} has {odd[:80]!r}, and only names are read, no expressions")
    return found


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no alpha")
    return number
