"""Files of tensors: shapes when opened, values on demand.

Of a `.safetensors` file only the header is read at first, and a pickle (`.pt`, `.pth`, `.bin`, `.ckpt`) is mapped into
memory: the bytes of a tensor are read when that tensor is. No code of a pickle is run: its objects other than tensors,
as in checkpoints of training runs, are replaced by empty ones.
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
"""The keys under which training scripts save weights in a pickle, in order of preference."""


class CheckpointError(InputError):
    """A file that is not a checkpoint of the expected system; the message names what does not fit."""


class TensorFile(Protocol):
    """The tensors of a checkpoint, by name."""

    path: Path
    metadata: dict[str, str]
    """The metadata of the file."""
    arguments: dict[str, Any]
    """Constructor arguments of the system that the file states."""
    holder: str
    """The key of a pickle that holds the tensors; empty for the top level."""
    shapes: dict[str, tuple[int, ...]]

    def read(self, name: str) -> Tensor:
        """The value of one tensor. Raises KeyError for an unknown name."""
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
                f"{path}: the name of a checkpoint ends in {', '.join(TENSOR_FILES[:-1])} or {TENSOR_FILES[-1]}, "
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
        except Exception as error:  # for bytes that are not a pickle, torch's reader raises errors of any type
            raise CheckpointError(
                f"{path}: cannot be read without running code of the pickle, which is not done{_reason(error)}; "
                "download it again, or save only its state_dict"
            ) from error
        self.holder, tensors = _state_dict(content)
        if not tensors:
            raise CheckpointError(
                f"{path}: has no named tensors, neither at the top level nor under {' or '.join(NESTED_UNDER)}"
            )
        for name, tensor in tensors.items():
            self.shapes[name] = tuple(tensor.shape)
            self._readers[name] = lambda tensor=tensor: tensor  # type: ignore[misc]


def open_tensors(paths: Iterable[Path]) -> TensorFile:
    """The tensors of one file, or of several that belong together.

    Raises FileNotFoundError for a missing file, CheckpointError for one without tensors.
    """
    paths = list(paths)
    tensors = _Tensors(paths[0])
    for path in paths:
        tensors.add(path)
    return tensors


def _state_dict(content: Any) -> tuple[str, dict[str, Tensor]]:
    """The key that holds the tensors, empty for the top level, and the tensors."""
    if not isinstance(content, Mapping):
        return "", {}
    for key in NESTED_UNDER:
        _, tensors = _state_dict(content.get(key))
        if tensors:
            return key, tensors
    return "", {_official(str(name)): value for name, value in content.items() if isinstance(value, Tensor)}


def _official(name: str) -> str:
    """A tensor's name without the prefixes of training wrappers."""
    for wrapper in ("module.", "_orig_mod."):  # DistributedDataParallel outside, torch.compile inside
        name = name.removeprefix(wrapper)
    return name


def _reason(error: Exception) -> str:
    """The reason in torch's message, in parentheses, without its advice to run the pickle; empty if it gives none."""
    if isinstance(error, _UnsupportedContainer):
        return f" ({error})"
    found = re.search(r"(Trying to (load|call)|Unsupported|PytorchStreamReader)[^\n]*?(?=\.\s|\.?$|\n)", str(error))
    return f" ({found[0]})" if found else ""


class _Nothing:
    """Replaces every object of a pickle that is not a tensor: callbacks, options or counters of a training run."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class _Items:
    """Replaces a class to which the pickle adds items by key, such as defaultdict; torch fills only this type."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()  # unlike a dict, it can also have attributes


class _Entries:
    """Replaces a class to which the pickle appends, such as deque."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return []


class _Survey(pickle.Unpickler):
    """How a pickle fills the classes that it names. Nothing is imported or run: a stand-in replaces every class."""

    def __init__(self, content: bytes) -> None:
        _check_memo(content)
        super().__init__(io.BytesIO(content))
        self.by_key: set[str] = set()
        self.appended: set[str] = set()
        self.attributes: dict[str, list[Any]] = {}
        self.load()

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for any class, which records how its objects are filled."""
        survey = self
        # Protocol 2, which torch uses, has names of Python 2; torch lists unknown classes by their names of Python 3.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full_name = f"{module}.{name}"

        class Recorded(_Nothing):
            def __setitem__(self, key: Any, value: Any) -> None:
                survey.by_key.add(full_name)

            def append(self, entry: Any) -> None:
                survey.appended.add(full_name)

            def __setstate__(self, state: Any) -> None:
                survey.attributes.setdefault(full_name, []).append(state)

        return Recorded

    def persistent_load(self, pid: Any) -> Any:
        """None, in place of a tensor's storage."""

    def stand_in(self, name: str) -> type:
        """The stand-in for a class that torch does not know."""
        return _Items if name in self.by_key else _Entries if name in self.appended else _Nothing

    def refuse_attributes(self, foreign: Iterable[str]) -> None:
        """Raise UnpicklingError for classes that are both filled and given attributes, which no stand-in supports."""
        unsupported = [
            name
            for name in foreign
            if (name in self.appended and name in self.attributes)
            or (name in self.by_key and not all(isinstance(state, dict) for state in self.attributes.get(name, ())))
        ]
        if unsupported:
            raise _UnsupportedContainer(f"it has {_short(unsupported)}, a container with attributes of its own")


def _check_memo(content: bytes) -> None:
    """Raise UnpicklingError for a pickle that stores an object at an index larger than the number of its operations.

    An unpickler allocates all indices up to that one, so a file of a few bytes could use up the memory.
    """
    for filled, (opcode, place, _) in enumerate(pickletools.genops(content)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(place, int) and place > filled:
            raise pickle.UnpicklingError(f"it stores an object at index {place}, and can have filled at most {filled}")


class _UnsupportedContainer(pickle.UnpicklingError):
    """A pickle has a container that no stand-in can replace."""


def _short(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name[:80] for name in sorted(names)[:most]) + more


def _pickle_of(path: Path) -> bytes:
    """The pickle in a file of torch, a zip archive of one folder with the pickle and the bytes of its tensors."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{archive.namelist()[0].partition('/')[0]}/data.pkl")
        member.CRC = None  # type: ignore[assignment]  # not checked: torch.serialization.set_crc32_options(False)
        return archive.read(member)


def _load_pickle(path: Path) -> Any:
    if not zipfile.is_zipfile(path):  # older than torch 1.6: can be neither mapped nor surveyed
        return torch.load(path, map_location="cpu", weights_only=True)
    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    survey = _Survey(_pickle_of(path))
    survey.refuse_attributes(foreign)
    with torch.serialization.safe_globals([(survey.stand_in(name), name) for name in foreign]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
