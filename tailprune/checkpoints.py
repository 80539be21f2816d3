"""A published file -> tensors and configuration, reading no more than is asked for.

A `.safetensors` file is read by its header, a `.pt` or `.pth` file is mapped into memory: in both, the bytes of a
tensor are touched when that tensor is asked for. Nothing here runs a pickle's code (`weights_only`).
"""

from __future__ import annotations

import argparse
import os
import pickle
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tailprune.systems import SYSTEMS, Condition, System

__all__ = ["Checkpoint", "CheckpointError", "load", "load_condition"]

SUFFIXES = (".safetensors", ".pt", ".pth")
NESTED_UNDER = ("ema", "model")
"""Where training scripts put the weights inside a `.pt` file, the one to sample with first."""


class CheckpointError(ValueError):
    """A file that is not a checkpoint of the system it is meant to be; the message says what does not fit."""


class Checkpoint:
    """The tensors of one file: their shapes at once, their values on demand.

    `metadata` is what the file says of itself (safetensors only): `family` and `num_heads` in files written here.

    Raises FileNotFoundError for a path that is not there, CheckpointError for a file that is no checkpoint.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no checkpoint at {self.path}")
        self.metadata: dict[str, str] = {}
        if self.path.suffix == ".safetensors":
            self._open_safetensors()
        elif self.path.suffix in SUFFIXES:
            self._map_pickle()
        else:
            raise CheckpointError(
                f"{self.path}: a checkpoint ends in .safetensors, .pt or .pth, not in {self.path.suffix or 'nothing'}"
            )

    def _open_safetensors(self) -> None:
        try:
            self._file = safe_open(self.path, framework="pt")
        except SafetensorError as error:
            raise CheckpointError(f"{self.path}: not a safetensors file ({error})") from error
        self.metadata = dict(self._file.metadata() or {})
        stored = {_official(name): name for name in self._file.keys()}  # noqa: SIM118
        self.shapes = {name: tuple(self._file.get_slice(at).get_shape()) for name, at in stored.items()}
        self._read = lambda name: self._file.get_tensor(stored[name])

    def _map_pickle(self) -> None:
        try:
            with torch.serialization.safe_globals([argparse.Namespace]):  # DiT's training script stores its options
                content = torch.load(self.path, map_location="cpu", weights_only=True, mmap=_is_zip(self.path))
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise CheckpointError(
                f"{self.path}: cannot be read as tensors alone, and nothing else of a pickle is run ({error})"
            ) from error
        tensors = _state_dict(content)
        if not tensors:
            raise CheckpointError(
                f"{self.path}: holds no tensors, neither at the top level nor under {' or '.join(NESTED_UNDER)}"
            )
        self.shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        self._read = tensors.__getitem__

    def tensors(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The values of these tensors, in float32 where they are floating-point numbers."""
        found = ((name, self._read(name)) for name in names)
        return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found}


def load(
    source: str | os.PathLike[str], *, family: str | None = None, device: str | torch.device = "cpu", **given: Any
) -> System:
    """A system with its weights, ready to sample.

    `source` is a file, a folder that holds `model.safetensors`, or the name of a model in the registry
    (`models/models.toml`, or the file that TAILPRUNE_REGISTRY names). `family` and `given` (`num_heads`, ...) say
    what the file's names and shapes do not.

    Raises FileNotFoundError, CheckpointError (tensors missing, unknown or of the wrong shape), ValueError (a family
    or a number of heads that has to be given).
    """
    checkpoint, family, given = _identify(source, family, given)
    cls = SYSTEMS[family]
    with _explained(checkpoint, family):
        configuration = cls.infer_configuration(checkpoint.shapes, **given)
    with torch.device("meta"):
        system = cls(**configuration)
    expected = {name: tuple(tensor.shape) for name, tensor in system.state_dict().items()}
    _check(checkpoint, family, expected, dict(checkpoint.shapes))
    system.load_state_dict(checkpoint.tensors(expected), assign=True)
    return system.requires_grad_(False).eval().to(device)


def load_condition(
    source: str | os.PathLike[str], *, family: str | None = None, device: str | torch.device = "cpu", **given: Any
) -> Condition:
    """The condition part of a system alone; no block is read. Arguments and errors as in `load`."""
    checkpoint, family, _ = _identify(source, family, given)
    with _explained(checkpoint, family), torch.device("meta"):
        condition = SYSTEMS[family].condition_part(checkpoint.shapes)
    expected = {name: tuple(tensor.shape) for name, tensor in condition.state_dict().items()}
    _check(
        checkpoint, family, expected, {name: checkpoint.shapes[name] for name in expected if name in checkpoint.shapes}
    )
    condition.load_state_dict(checkpoint.tensors(expected), assign=True)
    return condition.requires_grad_(False).eval().to(device)


def _identify(
    source: str | os.PathLike[str], family: str | None, given: dict[str, Any]
) -> tuple[Checkpoint, str, dict[str, Any]]:
    path, known = _locate(source)
    checkpoint = Checkpoint(path)
    family = family or known.get("family") or checkpoint.metadata.get("family")
    if family is None:
        raise ValueError(
            f"{path}: does not say which system it is, and DiT and SiT share their tensors' names and shapes: "
            f"give family, one of {', '.join(SYSTEMS)}"
        )
    if family not in SYSTEMS:
        raise ValueError(f"no system is called {family!r}; there are {', '.join(SYSTEMS)}")
    heads = known.get("num_heads") or checkpoint.metadata.get("num_heads")
    if heads is not None:
        try:
            given = {"num_heads": int(heads)} | given
        except ValueError:
            raise CheckpointError(f"{path}: says num_heads = {heads!r}, which is no number") from None
    return checkpoint, family, given


def _locate(source: str | os.PathLike[str]) -> tuple[Path, Mapping[str, Any]]:
    """The file that `source` means, and what the registry says of it."""
    path = Path(source)
    if path.is_dir():
        return path / "model.safetensors", {}
    if path.exists() or len(path.parts) > 1:
        return path, {}
    registry = Path(os.environ.get("TAILPRUNE_REGISTRY", "models/models.toml"))
    models = tomllib.loads(registry.read_text()).get("models", {}) if registry.is_file() else {}
    if str(source) not in models:
        if path.suffix in SUFFIXES:
            return path, {}
        known = ", ".join(sorted(models)) or "no model"
        raise FileNotFoundError(f"{source!r} is neither a file nor a model of {registry}, which has {known}")
    entry = models[str(source)]
    return registry.parent / entry["checkpoint"], entry


@contextmanager
def _explained(checkpoint: Checkpoint, family: str) -> Iterator[None]:
    """Says which file it was where its names and shapes do not tell a configuration."""
    try:
        yield
    except KeyError as error:
        raise CheckpointError(f"{checkpoint.path}: does not look like {family}: no tensor named {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from error


def _check(
    checkpoint: Checkpoint,
    family: str,
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
) -> None:
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} is not part of {family}" for name in found if name not in expected]
    wrong += [
        f"{name} is {found[name]}, not {shape}" for name, shape in expected.items() if found.get(name, shape) != shape
    ]
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CheckpointError(f"{checkpoint.path}: does not fit {family}: {'; '.join(wrong[:5])}{more}")


def _state_dict(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    for key in NESTED_UNDER:
        if tensors := _state_dict(content.get(key)):
            return tensors
    return {_official(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _official(name: str) -> str:
    """A tensor's name without what wrappers of training put before it."""
    for wrapper in ("module.", "_orig_mod."):  # DistributedDataParallel outside, torch.compile inside
        name = name.removeprefix(wrapper)
    return name


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"  # files older than torch 1.6 are not, and cannot be mapped
