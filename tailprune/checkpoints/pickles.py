"""Reading pickles of PyTorch without running their code.

Objects other than tensors, as in checkpoints of training runs, are replaced: containers by plain ones, all others by
`Record`, which keeps the attributes. Tensors are mapped into memory, so their bytes are read when they are used.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # private, stable since Python 3.0, and torch's own as well
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

__all__ = ["Array", "Record", "WholeModule", "load_pickle", "reason"]

PARAMETERS, CHILDREN = "_parameters", "_modules"
"""The attributes that every module of torch has."""


class Record:
    """Replaces an object of a pickle that is neither a tensor nor a container, such as the options of a run."""

    attributes: dict[str, Any]

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.attributes = state


class WholeModule(Record):
    """Replaces a module of torch that was pickled whole, with its class, instead of its state_dict."""


class Array(Record):
    """Replaces an array of NumPy, of which only the shape is kept."""

    shape: tuple[int, ...] = ()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and isinstance(state[1], tuple):
            self.shape = state[1]


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

        class Recorded(Record):
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
        if name.endswith(".multiarray._reconstruct"):
            return Array
        if name in self.by_key:
            return _Items
        if name in self.appended:
            return _Entries
        states = self.attributes.get(name, ())
        is_module = any(isinstance(state, dict) and {PARAMETERS, CHILDREN} <= state.keys() for state in states)
        return WholeModule if is_module else Record

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


class _UnsupportedContainer(pickle.UnpicklingError):
    """A pickle has a container that no stand-in can replace."""


def load_pickle(path: Path) -> Any:
    """The content of a pickle of torch. Raises OSError, and errors of any type for bytes that are not such a pickle."""
    if not zipfile.is_zipfile(path):  # older than torch 1.6: can be neither mapped nor surveyed
        return torch.load(path, map_location="cpu", weights_only=True)
    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    survey = _Survey(_pickle_of(path))
    survey.refuse_attributes(foreign)
    with torch.serialization.safe_globals([(survey.stand_in(name), name) for name in foreign]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def reason(error: Exception) -> str:
    """The reason in torch's message, in parentheses, without its advice to run the pickle; empty if it gives none."""
    if isinstance(error, _UnsupportedContainer):
        return f" ({error})"
    found = re.search(r"(Trying to (load|call)|Unsupported|PytorchStreamReader)[^\n]*?(?=\.\s|\.?$|\n)", str(error))
    return f" ({found[0]})" if found else ""


def _check_memo(content: bytes) -> None:
    """Raise UnpicklingError for a pickle that stores an object at an index larger than the number of its operations.

    An unpickler allocates all indices up to that one, so a file of a few bytes could use up the memory.
    """
    for filled, (opcode, place, _) in enumerate(pickletools.genops(content)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(place, int) and place > filled:
            raise pickle.UnpicklingError(f"it stores an object at index {place}, and can have filled at most {filled}")


def _pickle_of(path: Path) -> bytes:
    """The pickle in a file of torch, a zip archive of one folder with the pickle and the bytes of its tensors."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{archive.namelist()[0].partition('/')[0]}/data.pkl")
        member.CRC = None  # type: ignore[assignment]  # not checked: torch.serialization.set_crc32_options(False)
        return archive.read(member)


def _short(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name[:80] for name in sorted(names)[:most]) + more
