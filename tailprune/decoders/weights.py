"""Filling the decoding half of a network from a file, so that an encoder is never read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tailprune.checkpoints import CheckpointError, TensorFile, open_tensors
from tailprune.decoders.base import DecoderError
from tailprune.spec.layouts import CONFIG

__all__ = ["fill", "first_file", "open_weights", "read_config"]


def open_weights(path: Path) -> TensorFile:
    """The tensors of one file. Raises DecoderError for a path that is no file of tensors."""
    try:
        return open_tensors([path])
    except (CheckpointError, FileNotFoundError) as error:
        raise DecoderError(str(error)) from error


def fill(
    module: nn.Module,
    weights: TensorFile,
    kind: str,
    stored_as: Callable[[str], str] = str,
    own: tuple[str, ...] = ("",),
) -> None:
    """Gives a module on the meta device the tensors of a file, ready to compute with, without gradients.

    A linear layer may be stored as a convolution of 1 x 1.

    module: whose tensors are replaced, by float32 ones.
    weights: the tensors of the file.
    kind: what the module is, for messages.
    stored_as: the name in the file of a tensor, by its name in the module.
    own: beginnings of names in the file that are the module's: what else begins so is foreign, the rest is left alone.

    Raises DecoderError with the tensors that are missing, foreign or of another shape.
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
    # Each in memory of its own, so that no file stays mapped for it.
    tensors = {name: _copied(weights.read(stored[name])).reshape(shape) for name, shape in shapes.items()}
    module.load_state_dict(tensors, assign=True)
    module.requires_grad_(False).eval()


def _copied(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32, copy=True)


def read_config(folder: Path, kind: str, key: str) -> dict[str, Any]:
    """`config.json` of a folder, whose `key` says it is a `kind`. Raises DecoderError where it is not."""
    path = folder / CONFIG
    if not path.is_file():
        raise DecoderError(f"{folder}: has no {CONFIG}; it takes a folder of {kind}, {CONFIG} beside its weights")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise DecoderError(f"{path}: is not JSON ({error}); download it again") from error
    found = config.get(key) if isinstance(config, dict) else None
    if found != kind:
        raise DecoderError(f"{path}: its {key} is {found!r}, and has to be {kind!r}")
    return config


def first_file(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of these files that the folder has. Raises DecoderError where it has none."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DecoderError(f"{folder}: has no weights; it takes {' or '.join(names)} beside {CONFIG}")
