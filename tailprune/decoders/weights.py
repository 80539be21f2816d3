"""The tensors of one file: their shapes at once, their values on demand, so that an encoder is never read."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tailprune.decoders.base import DecoderError

__all__ = ["Weights", "fill", "first_file", "read_config"]

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
SUFFIXES = (".safetensors", *PICKLES)
NESTED_UNDER = ("state_dict", "model")
"""Where training scripts put the weights inside a pickle."""


class Weights:
    """`shapes` of the tensors of a file by name, and `read` for their values.

    Raises DecoderError for a path that is no file of tensors. Nothing of a pickle is run: what it names beside tensors,
    as training checkpoints do, is read as nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.suffix not in SUFFIXES or not path.is_file():
            raise DecoderError(f"{path}: is no file of tensors; it takes one that ends in {', '.join(SUFFIXES)}")
        if path.suffix == ".safetensors":
            try:
                file = safe_open(path, framework="pt")
            except SafetensorError as error:
                raise DecoderError(f"{path}: is not a safetensors file ({error}); download it again") from error
            self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            self._get: Callable[[str], Tensor] = file.get_tensor
        else:
            tensors = _tensors(path)
            self.shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            self._get = tensors.__getitem__

    def read(self, name: str) -> Tensor:
        """One tensor, in float32 and in memory of its own, so that no file stays mapped for it."""
        return self._get(name).to(torch.float32, copy=True)


class _Nothing:
    """Stands for every object of a pickle that is no tensor: a training run's callbacks, options, counters."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _load(path: Path) -> Any:
    if not zipfile.is_zipfile(path):  # older than torch 1.6: cannot be mapped, nor searched for what it names
        return torch.load(path, map_location="cpu", weights_only=True)
    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    with torch.serialization.safe_globals([(_Nothing, name) for name in foreign]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        content = _load(path)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DecoderError(
            f"{path}: cannot be read as tensors, and nothing of a pickle is run; "
            f"download it again, or save its state_dict alone"
        ) from error
    for key in NESTED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    found = content if isinstance(content, Mapping) else {}
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise DecoderError(f"{path}: holds no tensors by name, neither at the top level nor under state_dict or model")
    return tensors


def fill(
    module: nn.Module,
    weights: Weights,
    kind: str,
    stored_as: Callable[[str], str] = str,
    own: tuple[str, ...] = ("",),
) -> None:
    """Gives a module on the meta device the tensors of a file, ready to compute with, without gradients.

    `stored_as` says under which name the file has a tensor of the module; what the file holds beyond them is foreign
    where it begins with one of `own`, and left alone elsewhere. A linear layer may be stored as a convolution of 1 x 1.

    Raises DecoderError with the tensors that are missing, foreign or of another shape; `kind` says what was expected.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    stored = {name: stored_as(name) for name in shapes}
    known = set(stored.values())
    wrong = [f"{name} is missing" for name in stored.values() if name not in weights.shapes]
    wrong += [f"{name} is no part of it" for name in weights.shapes if name.startswith(own) and name not in known]
    for name, shape in shapes.items():
        found = weights.shapes.get(stored[name], shape)
        if found not in (shape, (*shape, 1, 1)):
            wrong.append(f"{stored[name]} is {found}, not {shape}")
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise DecoderError(f"{weights.path}: does not fit {kind}: {'; '.join(wrong[:5])}{more}")
    tensors = {name: weights.read(stored[name]).reshape(shape) for name, shape in shapes.items()}
    module.load_state_dict(tensors, assign=True)
    module.requires_grad_(False).eval()


def read_config(folder: Path, kind: str, key: str) -> dict[str, Any]:
    """`config.json` of a folder, whose `key` says it is a `kind`. Raises DecoderError where it is not."""
    path = folder / "config.json"
    if not path.is_file():
        raise DecoderError(f"{folder}: has no config.json; it takes a folder of {kind}, config.json beside its weights")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise DecoderError(f"{path}: is not JSON ({error}); download it again") from error
    said = config.get(key) if isinstance(config, dict) else None
    if said != kind:
        raise DecoderError(f"{path}: its {key} is {said!r}, and has to be {kind!r}")
    return config


def first_file(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of these files that the folder has. Raises DecoderError where it has none."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DecoderError(f"{folder}: has no weights; it takes {' or '.join(names)} beside config.json")
