"""Filling a network from a file, reading only its own tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tailprune.checkpoints import CheckpointError, TensorFile, open_tensors
from tailprune.checkpoints.damage import not_finite
from tailprune.decoders.base import DecoderError
from tailprune.spec.layouts import CONFIG, weight_files

__all__ = ["files_in", "fill", "open_weights", "read_config"]


def open_weights(paths: Sequence[Path], anchor: str) -> TensorFile:
    """The tensors of the files of one network. Raises DecoderError for a path that is not a file of tensors.

    anchor: the name of a tensor that the network has
    """
    try:
        return open_tensors(paths, [anchor])
    except (CheckpointError, FileNotFoundError) as error:
        raise DecoderError(str(error)) from error


def fill(
    module: nn.Module,
    weights: TensorFile,
    kind: str,
    stored_as: Callable[[str], str] = str,
    own: tuple[str, ...] = ("",),
) -> None:
    """Give a module on the meta device the tensors of a file, in float32 and without gradients.

    module: the module, changed in place
    weights: the tensors of the file; a linear layer may be stored as a 1 x 1 convolution
    kind: the kind of module, for messages
    stored_as: maps the name of a tensor in the module to its name in the file; the same name by default
    own: prefixes of the module's tensors in the file; others are ignored. All tensors by default

    Raises DecoderError with the tensors that are missing, unknown or of another shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    stored = {name: stored_as(name) for name in shapes}
    known = set(stored.values())
    wrong = [f"{name} is missing" for name in stored.values() if name not in weights.shapes]
    wrong += [f"{name} is not part of it" for name in weights.shapes if name.startswith(own) and name not in known]
    for name, shape in shapes.items():
        found = weights.shapes.get(stored[name], shape)
        if found not in (shape, (*shape, 1, 1)):
            wrong.append(f"{stored[name]} is {found}, not {shape}")
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise DecoderError(f"{weights.path}: does not fit {kind}: {'; '.join(wrong[:5])}{more}")
    # Copies, so that the file does not stay mapped.
    tensors = {name: _copied(weights.read(stored[name])).reshape(shape) for name, shape in shapes.items()}
    if damage := not_finite({stored[name]: tensor for name, tensor in tensors.items()}):
        raise DecoderError(f"{weights.path}: {damage}")
    module.load_state_dict(tensors, assign=True)
    module.requires_grad_(False).eval()


def _copied(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32, copy=True)


def read_config(folder: Path, kind: str, key: str) -> dict[str, Any]:
    """The `config.json` of a folder. Raises DecoderError if it is missing, or its `key` is not `kind`."""
    path = folder / CONFIG
    if not path.is_file():
        raise DecoderError(f"{folder}: has no {CONFIG}; give a folder of {kind}, with {CONFIG} and weights")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise DecoderError(f"{path}: is not JSON ({error}); download it again") from error
    found = config.get(key) if isinstance(config, dict) else None
    if found != kind:
        raise DecoderError(f"{path}: its {key} must be {kind!r}, not {found!r}")
    return config


def files_in(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """The files of the weights in a folder, as `weight_files` finds them. Raises DecoderError if it has none."""
    found = weight_files(folder, names)
    if not found:
        raise DecoderError(f"{folder}: has no weights; give a folder with {CONFIG} and {' or '.join(names)}")
    return found
