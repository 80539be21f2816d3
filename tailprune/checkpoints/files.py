"""Files of tensors: shapes at once, values on demand.

A `.safetensors` file is read by its header, a pickle (`.pt`, `.pth`, `.bin`, `.ckpt`) is mapped into memory: in both,
the bytes of a tensor are touched when that tensor is asked for. Nothing of a pickle is run: what it names beside
tensors, as checkpoints of training do, is read as nothing.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # private, stable since Python 3.0, and torch's own as well
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tailprune.spec import InputError, MissingFileError
from tailprune.spec.layouts import SAFETENSORS, TENSOR_FILES

__all__ = ["CheckpointError", "TensorFile", "open_tensors"]

NESTED_UNDER = ("ema", "model", "state_dict")
"""Where training scripts put the weights inside a pickle, the one to sample with first."""


class CheckpointError(InputError):
    """A file that is not a checkpoint of the system it is meant to be; the message says what does not fit."""


class TensorFile(Protocol):
    """Tensors by name."""

    path: Path
    metadata: dict[str, str]
    """What the file says of itself."""
    arguments: dict[str, Any]
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
        self.arguments: dict[str, Any] = {}
        self.holder = ""
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._readers: dict[str, Callable[[], Tensor]] = {}

    def read(self, name: str) -> Tensor:
        return self._readers[name]()

    def add(self, path: Path) -> None:
        if not path.is_file():
            raise MissingFileError(f"no checkpoint at {path}")
        if path.suffix not in TENSOR_FILES:
            raise CheckpointError(
                f"{path}: a checkpoint ends in {', '.join(TENSOR_FILES[:-1])} or {TENSOR_FILES[-1]}, "
                f"not in {path.suffix or 'nothing'}"
            )
        if path.suffix == SAFETENSORS:
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
    if isinstance(error, _Unfit):
        return f" ({error})"
    found = re.search(r"(Trying to (load|call)|Unsupported|PytorchStreamReader)[^\n]*?(?=\.\s|\.?$|\n)", str(error))
    return f" ({found[0]})" if found else ""


class _Nothing:
    """Stands for every object of a pickle that is no tensor: a training run's callbacks, options, counters."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class _Items:
    """Stands for a class that the pickle puts items into by key, as defaultdict is; torch fills these types alone."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()  # which, other than a dict, may have attributes as well


class _Entries:
    """Stands for a class that the pickle appends to, as deque is."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return []


class _Survey(pickle.Unpickler):
    """How a pickle fills the classes that it names. Nothing is imported or run: every name is read as a stand-in."""

    def __init__(self, content: bytes) -> None:
        _check_memo(content)
        super().__init__(io.BytesIO(content))
        self.by_key: set[str] = set()
        self.appended: set[str] = set()
        self.attributes: dict[str, list[Any]] = {}
        self.load()

    def find_class(self, module: str, name: str) -> Any:
        """Whatever the name, a class that notes what is done to its objects."""
        survey = self
        # Protocol 2, torch's, has names of Python 2, and torch lists those that it does not know by names of Python 3.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full_name = f"{module}.{name}"

        class Noted(_Nothing):
            def __setitem__(self, key: Any, value: Any) -> None:
                survey.by_key.add(full_name)

            def append(self, entry: Any) -> None:
                survey.appended.add(full_name)

            def __setstate__(self, state: Any) -> None:
                survey.attributes.setdefault(full_name, []).append(state)

        return Noted

    def persistent_load(self, pid: Any) -> Any:
        """Nothing, in place of a tensor's storage."""

    def stand_in(self, name: str) -> type:
        """What stands for a class that torch does not know."""
        return _Items if name in self.by_key else _Entries if name in self.appended else _Nothing

    def refuse_attributes(self, foreign: Iterable[str]) -> None:
        """Raises UnpicklingError with the classes that are filled and have attributes too, which no stand-in takes."""
        unfit = [
            name
            for name in foreign
            if (name in self.appended and name in self.attributes)
            or (name in self.by_key and not all(isinstance(state, dict) for state in self.attributes.get(name, ())))
        ]
        if unfit:
            raise _Unfit(f"it holds {_short(unfit)}, a container with attributes of its own")


def _check_memo(content: bytes) -> None:
    """Raises UnpicklingError for a pickle that keeps an object at a place beyond those that it can have filled.

    An unpickler makes room for all places up to that one: a file of a few bytes could take all memory.
    """
    for filled, (opcode, place, _) in enumerate(pickletools.genops(content)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(place, int) and place > filled:
            raise pickle.UnpicklingError(f"it keeps an object at place {place}, and has no more than {filled}")


class _Unfit(pickle.UnpicklingError):
    """What a pickle holds cannot be passed over."""


def _short(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name[:80] for name in sorted(names)[:most]) + more


def _pickle_of(path: Path) -> bytes:
    """The pickle in a file of torch's, a zip archive of one folder with the pickle and the bytes of its tensors."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{archive.namelist()[0].partition('/')[0]}/data.pkl")
        member.CRC = None  # type: ignore[assignment]  # not checked: torch.serialization.set_crc32_options(False)
        return archive.read(member)


def _load_pickle(path: Path) -> Any:
    if not zipfile.is_zipfile(path):  # older than torch 1.6: cannot be mapped, nor searched for what it names
        return torch.load(path, map_location="cpu", weights_only=True)
    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    survey = _Survey(_pickle_of(path))
    survey.refuse_attributes(foreign)
    with torch.serialization.safe_globals([(survey.stand_in(name), name) for name in foreign]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
