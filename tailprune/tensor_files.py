"""Files of tensors: shapes at once, values on demand.

A `.safetensors` file is read by its header, a `.pt`, `.pth` or `.bin` file is mapped into memory: in both, the bytes of
a tensor are touched when that tensor is asked for. Nothing here runs a pickle's code (`weights_only`).
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

__all__ = ["SUFFIXES", "CheckpointError", "TensorFile", "open_tensors"]

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
NESTED_UNDER = ("ema", "model")
"""Where training scripts put the weights inside a `.pt` file, the one to sample with first."""


class CheckpointError(ValueError):
    """A file that is not a checkpoint of the system it is meant to be; the message says what does not fit."""


class TensorFile(Protocol):
    """Tensors by name."""

    path: Path
    metadata: dict[str, str]
    """What the file says of itself."""
    said: dict[str, Any]
    """Constructor arguments of its system that the file states."""
    holder: str
    """The key that the tensors lie under; empty at the top level."""
    shapes: dict[str, tuple[int, ...]]

    def read(self, name: str) -> Tensor:
        """The value of one tensor. Raises KeyError where there is none."""
        ...


class _Tensors:
    """A `TensorFile` of one or more files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, str] = {}
        self.said: dict[str, Any] = {}
        self.holder = ""
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._readers: dict[str, Callable[[], Tensor]] = {}

    def read(self, name: str) -> Tensor:
        return self._readers[name]()

    def add(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"no checkpoint at {path}")
        if path.suffix not in SUFFIXES:
            raise CheckpointError(
                f"{path}: a checkpoint ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, "
                f"not in {path.suffix or 'nothing'}"
            )
        if path.suffix == ".safetensors":
            self._add_safetensors(path)
        else:
            self._add_pickle(path)

    def _add_safetensors(self, path: Path) -> None:
        try:
            file = safe_open(path, framework="pt")
        except SafetensorError as error:
            raise CheckpointError(f"{path}: not a safetensors file ({error})") from error
        self.metadata |= file.metadata() or {}
        for name in file.keys():  # noqa: SIM118
            ours = _official(name)
            self.shapes[ours] = tuple(file.get_slice(name).get_shape())
            self._readers[ours] = lambda name=name: file.get_tensor(name)  # type: ignore[misc]

    def _add_pickle(self, path: Path) -> None:
        try:
            with torch.serialization.safe_globals([argparse.Namespace]):  # DiT's training script stores its options
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise CheckpointError(
                f"{path}: cannot be read as tensors alone, and nothing else of a pickle is run ({error})"
            ) from error
        self.holder, tensors = _state_dict(content)
        if not tensors:
            raise CheckpointError(
                f"{path}: holds no tensors, neither at the top level nor under {' or '.join(NESTED_UNDER)}"
            )
        for name, tensor in tensors.items():
            self.shapes[name] = tuple(tensor.shape)
            self._readers[name] = lambda tensor=tensor: tensor  # type: ignore[misc]


def open_tensors(paths: Iterable[Path]) -> TensorFile:
    """The tensors of one file, or of several that belong together.

    Raises FileNotFoundError for a path that is not there, CheckpointError for a file that holds no tensors.
    """
    paths = list(paths)
    tensors = _Tensors(paths[0])
    for path in paths:
        tensors.add(path)
    return tensors


def _state_dict(content: Any) -> tuple[str, dict[str, Tensor]]:
    """The key that tensors lie under, and the tensors."""
    if not isinstance(content, Mapping):
        return "", {}
    for key in NESTED_UNDER:
        _, tensors = _state_dict(content.get(key))
        if tensors:
            return key, tensors
    return "", {_official(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _official(name: str) -> str:
    """A tensor's name without what wrappers of training put before it."""
    for wrapper in ("module.", "_orig_mod."):  # DistributedDataParallel outside, torch.compile inside
        name = name.removeprefix(wrapper)
    return name


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"  # files older than torch 1.6 are not, and cannot be mapped
