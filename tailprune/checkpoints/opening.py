"""Finding and opening a checkpoint: where a source is, which of its files hold the weights, and their tensors.

A source is a file, a folder (with `model.safetensors` or `pytorch_model.bin`, in one file or several, or a DiT in
diffusers' format), the name of a model in the registry, or `hf://owner/repo/file`.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.checkpoints.damage import no_plain_numbers, not_finite, zeroed
from tailprune.checkpoints.diffusers import DiffusersDiT
from tailprune.checkpoints.files import CheckpointError, TensorFile, open_tensors
from tailprune.checkpoints.hub import fetch
from tailprune.checkpoints.options import options_in
from tailprune.spec import MissingFileError
from tailprune.spec.hub import check_download, is_hub
from tailprune.spec.layouts import (
    CONFIG,
    DIFFUSERS_WEIGHTS,
    TENSOR_FILES,
    WEIGHTS_IN_A_FOLDER,
    find_diffusers,
    weight_files,
)
from tailprune.spec.registry import registry_path

__all__ = ["Checkpoint", "check_digest", "locate"]

ANCHORS = ("final_layer.linear.weight", "t_embedder.mlp.0.weight")
"""Tensors that weights of every family have; files of the condition alone have the second."""
SECOND_MODEL = re.compile(r"model_\d+\.safetensors")
"""Further models that accelerate saves in one folder, such as the average of the first."""


class Checkpoint:
    """The tensors of a file or folder: shapes when opened, values on demand.

    `metadata` is the file's: it has `family` and `num_heads` in files written by `save_system`.

    path: a file or a folder
    key: the key of the weights in a file that holds several copies; None, the default, for the averaged one

    Raises FileNotFoundError for a missing file, CheckpointError for one that is not a checkpoint.
    """

    def __init__(self, path: str | os.PathLike[str], key: str | None = None) -> None:
        self.path = Path(path)
        self._file = _open(self.path, key)
        self.shapes = self._file.shapes
        self.metadata = self._file.metadata
        self.arguments = self._file.arguments
        self.options = self._file.options
        self.holder, self.others = self._file.holder, self._file.others
        self._read = self._file.read

    def tensors(self, names: Iterable[str], device: str | torch.device = "cpu") -> dict[str, Tensor]:
        """The values of these tensors; floating-point numbers are converted to float32.

        They are copies, since later changes of the file would change a tensor that is mapped into memory.

        Raises CheckpointError for values that no trained network has: NaN, infinity, long runs of zeros; and for
        tensors that are sparse, quantized, complex, without values, or weights of whole numbers.
        """
        tensors: dict[str, Tensor] = {}
        for name in names:
            tensor = self._read(name)
            if fault := no_plain_numbers(name, tensor):
                raise CheckpointError(f"{self.path}: {fault}")
            tensors[name] = tensor.to(device, torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        if damage := not_finite(tensors) or zeroed(tensors):
            raise CheckpointError(f"{self.path}: {damage}")
        return tensors


def locate(source: str | os.PathLike[str]) -> tuple[Path, Mapping[str, Any]]:
    """The file or folder of a source, and its entry in the registry, empty if it has none."""
    if is_hub(source):
        return fetch(str(source)), {}
    path = Path(source)
    if path.exists() or len(path.parts) > 1:
        return path, {}
    registry = registry_path()
    models = tomllib.loads(registry.read_text()).get("models", {}) if registry.is_file() else {}
    if str(source) not in models:
        if path.suffix in TENSOR_FILES:
            return path, {}
        names = ", ".join(sorted(models)) or "no model"
        raise MissingFileError(f"{source!r} is neither a file nor a model of {registry}, which has {names}")
    entry = models[str(source)]
    if is_hub(entry["checkpoint"]):
        return fetch(entry["checkpoint"]), entry
    return registry.parent / entry["checkpoint"], entry


def _open(path: Path, key: str | None) -> TensorFile:
    if not path.is_dir():
        if path.name.startswith(Path(DIFFUSERS_WEIGHTS[0]).stem) and (path.parent / CONFIG).is_file():
            return DiffusersDiT(path.parent)
        return open_tensors([path], ANCHORS, key)
    if files := weight_files(path, WEIGHTS_IN_A_FOLDER):
        if several := sorted(file.name for file in path.iterdir() if SECOND_MODEL.fullmatch(file.name)):
            raise CheckpointError(
                f"{path}: has the weights of several models, {', '.join([files[0].name, *several])}, of which one may "
                "be the average of another: give the file"
            )
        opened = open_tensors(files, ANCHORS, key)
        opened.options = opened.options | _configured(path)
        return opened
    folder = find_diffusers(path)
    if folder is not None and key is not None:
        raise CheckpointError(f"{path}: a folder in diffusers' format has one copy of the weights: leave key out")
    if folder is None:
        there = sorted(file.name for file in path.iterdir() if file.suffix in TENSOR_FILES)
        raise MissingFileError(
            f"no checkpoint at {path}: the folder has neither {' nor '.join(WEIGHTS_IN_A_FOLDER)} (nor an index) nor a "
            "diffusers DiT (transformer/config.json)"
            + (f"; give one of its files, such as {', '.join(there[:5])}" if there else "")
        )
    return DiffusersDiT(folder)


def _configured(folder: Path) -> dict[str, Any]:
    """What the configuration beside the weights says of the model, as mixins of the hub write it."""
    path = folder / CONFIG
    if not path.is_file():
        return {}
    try:
        return options_in(json.loads(path.read_text()))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not JSON ({error}); download it again") from error


def check_digest(path: Path) -> None:
    """Raise CheckpointError for a file of the hub whose content is not what the hub has."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix in TENSOR_FILES]
    for file in files:
        if (fault := check_download(file)) is not None:
            raise CheckpointError(f"{file}: {fault}")
