"""Files of tensors: shapes at once, values on demand.

A `.safetensors` file is read by its header, a pickle (`.pt`, `.pth`, `.bin`, `.ckpt`) is mapped into memory: in both,
the bytes of a tensor are touched when that tensor is asked for. Nothing of a pickle is run: what it names beside
tensors, as checkpoints of training do, is read as nothing.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

__all__ = ["SUFFIXES", "CheckpointError", "TensorFile", "open_tensors"]

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
NESTED_UNDER = ("ema", "model", "state_dict")
"""Where training scripts put the weights inside a pickle, the one to sample with first."""


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
            raise CheckpointError(f"{path}: is not a safetensors file ({error}); download it again") from error
        self.metadata |= file.metadata() or {}
        for name in file.keys():  # noqa: SIM118
            ours = _official(name)
            self.shapes[ours] = tuple(file.get_slice(name).get_shape())
            self._readers[ours] = lambda name=name: file.get_tensor(name)  # type: ignore[misc]

    def _add_pickle(self, path: Path) -> None:
        try:
            content = _load_pickle(path)
        except OSError:
            raise
        except Exception as error:  # on bytes that are no pickle, torch's reader fails with whatever they lead to
            raise CheckpointError(
                f"{path}: cannot be read as tensors alone, and nothing else of a pickle is run{_reason(error)}; "
                "download it again, or save its state_dict alone"
            ) from error
        self.holder, tensors = _state_dict(content)
        if not tensors:
            raise CheckpointError(
                f"{path}: holds no tensors by name, neither at the top level nor under {' or '.join(NESTED_UNDER)}"
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
    return "", {_official(str(name)): value for name, value in content.items() if isinstance(value, Tensor)}


def _official(name: str) -> str:
    """A tensor's name without what wrappers of training put before it."""
    for wrapper in ("module.", "_orig_mod."):  # DistributedDataParallel outside, torch.compile inside
        name = name.removeprefix(wrapper)
    return name


def _reason(error: Exception) -> str:
    """What torch says is wrong, without its advice to run the pickle; nothing where it says no more than that."""
    found = re.search(r"(Trying to (load|call)|Unsupported|PytorchStreamReader)[^\n]*?(?=\.\s|\.?$|\n)", str(error))
    return f" ({found[0]})" if found else ""


class _Nothing:
    """Stands for every object of a pickle that is no tensor: a training run's callbacks, options, counters."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _load_pickle(path: Path) -> Any:
    if not zipfile.is_zipfile(path):  # older than torch 1.6: cannot be mapped, nor searched for what it names
        return torch.load(path, map_location="cpu", weights_only=True)
    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    with torch.serialization.safe_globals([(_Nothing, name) for name in foreign]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
