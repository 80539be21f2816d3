"""Files of tensors: shapes when opened, values on demand.

Of a safetensors file only the header is read at first, and a pickle is mapped into memory: the bytes of a tensor are
read when that tensor is. What a file is, its first bytes say (`signature`), and which of its tensors are the weights,
their names (`holders`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor

from tailprune.checkpoints.holders import Ambiguous, Holder, Place, choose, is_averaged
from tailprune.checkpoints.options import Options, options_in
from tailprune.checkpoints.pickles import Array, Record, WholeModule, load_pickle, reason
from tailprune.checkpoints.signature import NotTensors, format_of
from tailprune.spec import InputError, MissingFileError
from tailprune.spec.layouts import SAFETENSORS, TENSOR_FILES

__all__ = ["CheckpointError", "TensorFile", "open_tensors"]

MOST_LEVELS = 8
"""How deeply mappings of a pickle are searched for tensors."""


class CheckpointError(InputError):
    """A file that is not a checkpoint of the expected system; the message names what does not fit."""


class TensorFile(Protocol):
    """The tensors of a checkpoint, by name."""

    path: Path
    metadata: dict[str, str]
    """The metadata of the file."""
    arguments: dict[str, Any]
    """Constructor arguments of the system that the file states."""
    options: Options
    """What the file says of the run that made it."""
    holder: str
    """The key of the weights in the file, such as `ema`; empty for the top level."""
    others: tuple[str, ...]
    """The keys of other copies of the weights."""
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
        self.options: Options = {}
        self.holder = ""
        self.others: tuple[str, ...] = ()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._readers: dict[str, Callable[[], Tensor]] = {}

    def read(self, name: str) -> Tensor:
        return self._readers[name]()


class _Contents:
    """All tensors of one or more files by their places, before the weights are chosen among them."""

    def __init__(self) -> None:
        self.shapes: dict[Place, tuple[int, ...]] = {}
        self.readers: dict[Place, Callable[[], Tensor]] = {}
        self.metadata: dict[str, str] = {}
        self.options: Options = {}
        self.unread: list[str] = []
        """The keys of tensors without names, and of whole modules."""
        self.modules: list[str] = []
        self.keys: list[str] = []
        """The keys at the top level of a pickle."""

    def add(self, path: Path) -> None:
        if not path.is_file():
            raise MissingFileError(f"no checkpoint at {path}{_similar(path)}")
        if path.suffix not in TENSOR_FILES:
            raise CheckpointError(
                f"{path}: the name of a checkpoint ends in {', '.join(TENSOR_FILES[:-1])} or {TENSOR_FILES[-1]}, "
                f"not in {path.suffix or 'nothing'}"
            )
        try:
            form = format_of(path)
        except NotTensors as error:
            raise CheckpointError(f"{path}: {error}") from error
        if form == "pickle" and path.suffix == SAFETENSORS:  # torch.load goes by the suffix
            raise CheckpointError(f"{path}: is a pickle of PyTorch, not a safetensors file: rename it to end in .pt")
        if form == "safetensors":
            self._add_safetensors(path)
        else:
            self._add_pickle(path)

    def _add_safetensors(self, path: Path) -> None:
        try:
            file = safe_open(path, framework="pt")
        except SafetensorError as error:
            raise CheckpointError(f"{path}: is not a safetensors file ({error}); download it again") from error
        self.metadata |= file.metadata() or {}
        self.options = options_in({name: _parsed(value) for name, value in self.metadata.items()}) | self.options
        for name in file.keys():  # noqa: SIM118
            shape = tuple(file.get_slice(name).get_shape())
            self._add(Place((), name, len(shape)), shape, partial(file.get_tensor, name))

    def _add_pickle(self, path: Path) -> None:
        try:
            content = load_pickle(path)
        except OSError:
            raise
        except Exception as error:  # for bytes that are not a pickle, torch's reader raises errors of any type
            raise CheckpointError(
                f"{path}: cannot be read without running code of the pickle, which is not done{reason(error)}; "
                "download it again, or save only its state_dict"
            ) from error
        if isinstance(content, Mapping):
            self.keys += [str(key) for key in content]
        self.options = options_in(content) | self.options
        for keys, value in _values(content):
            if isinstance(value, Tensor):
                shape = tuple(value.shape)
                self._add(Place(keys[:-1], keys[-1], len(shape)), shape, partial(_itself, value))
                continue
            self.unread.append(".".join(keys))
            if isinstance(value, WholeModule):
                self.modules.append(".".join(keys))

    def _add(self, place: Place, shape: tuple[int, ...], read: Callable[[], Tensor]) -> None:
        self.shapes[place] = shape
        self.readers[place] = read

    def why_none(self) -> str:
        """Why there are no tensors by name, and what to do."""
        if self.modules:
            under = f" under {self.modules[0]!r}" if self.modules[0] else ""
            return (
                f"holds a whole module{under}, with its class, and no code of a pickle is run: save its weights with "
                "torch.save(module.state_dict(), path), and give that file"
            )
        if self.unread:
            under = self.unread[0][:40]
            return f"has values only in lists, arrays or objects, such as {under!r}: save the model's state_dict()"
        has = f"; its keys are {', '.join(key[:40] for key in self.keys[:12])}" if self.keys else ""
        return f"has no named tensors{has}: save the state_dict() of the model"


def open_tensors(paths: Iterable[Path], anchors: Sequence[str], key: str | None = None) -> TensorFile:
    """The weights in one file, or in several that belong together.

    paths: the files
    anchors: names of tensors that weights of the expected kind have; the first that the files have counts
    key: the key of the weights; None to use the only copy, or the averaged one of two

    Raises FileNotFoundError for a missing file, CheckpointError for one without tensors, for one that has several
    copies of the weights, and for one without the key.
    """
    paths = list(paths)
    contents = _Contents()
    for path in paths:
        contents.add(path)
    try:
        held = choose(contents.shapes, anchors, key, contents.unread)
    except Ambiguous as error:
        raise CheckpointError(f"{paths[0]}: {error}") from error
    if not held.tensors:
        raise CheckpointError(f"{paths[0]}: {contents.why_none()}")
    return _weights(paths[0], contents, held)


def _weights(path: Path, contents: _Contents, held: Holder) -> TensorFile:
    tensors = _Tensors(path)
    tensors.metadata, tensors.options = contents.metadata, contents.options
    tensors.holder, tensors.others = held.key, held.others
    for name, place in held.tensors.items():
        tensors.shapes[name] = contents.shapes[place]
        tensors._readers[name] = contents.readers[place]
    return tensors


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _values(content: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The tensors of a pickle with their keys, and what may hold weights in a form that is not read."""
    if isinstance(content, Tensor | WholeModule):
        yield keys or ("",), content
    elif isinstance(content, Mapping) and len(keys) < MOST_LEVELS:
        for key, value in content.items():
            # The state of optimizers is by number; averages may be by their decay.
            if isinstance(key, str) or (isinstance(key, int | float) and any(map(is_averaged, keys))):
                yield from _values(value, (*keys, str(key)))
    elif isinstance(content, list | tuple) and any(isinstance(each, Mapping) for each in content):
        yield from _values({str(place): each for place, each in enumerate(content)}, keys)
    elif keys and _has_tensors(content):
        yield keys, content


def _has_tensors(value: Any, levels: int = 3) -> bool:
    """Whether a list or an object holds a tensor with dimensions, or is a matrix of NumPy."""
    if isinstance(value, Array):
        return len(value.shape) > 1
    if isinstance(value, Tensor):
        return value.ndim > 0
    if not levels:
        return False
    if isinstance(value, Record):
        value = getattr(value, "attributes", {})
    if isinstance(value, Mapping):
        value = list(value.values())
    return isinstance(value, list | tuple) and any(_has_tensors(each, levels - 1) for each in value)


def _parsed(text: str) -> Any:
    """A value of metadata: JSON, where it is a JSON object, else a text."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _similar(path: Path) -> str:
    """The files beside a missing one that it may have been meant to be, as the end of a sentence."""
    if not path.parent.is_dir():
        return f": there is no folder {path.parent}"
    names = [each.name for each in path.parent.iterdir() if each.suffix in TENSOR_FILES or each.is_dir()]
    near = get_close_matches(path.name, names, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""
