"""A published file -> a system with its weights, reading no more than is asked for.

A source is a file, a folder (`model.safetensors`, or a DiT as diffusers saves it), the name of a model in the registry,
or `hf://owner/repo/file`. Its tensors are read as the family that is given, that the file names, or that they are
recognised as.
"""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.checkpoints.diffusers import DiffusersDiT, find_diffusers
from tailprune.checkpoints.files import CheckpointError, TensorFile, open_tensors
from tailprune.checkpoints.hub import fetch
from tailprune.checkpoints.recognition import (
    Reading,
    check_sizes,
    groups,
    is_unambiguous,
    nearest,
    parameter_counts,
    read_as,
    recognise,
)
from tailprune.spec import InputError, MissingFileError
from tailprune.spec.hub import is_hub
from tailprune.spec.layouts import TENSOR_FILES, WEIGHTS
from tailprune.systems import SYSTEMS, Condition, System
from tailprune.systems.infer import MissingArgument

__all__ = ["Checkpoint", "CheckpointError", "Found", "inspect", "load", "load_condition"]


@dataclass(frozen=True)
class Found:
    """What a checkpoint turned out to be."""

    path: Path
    family: str
    also_fits: tuple[str, ...]
    """Other families with the same tensors: a file of theirs would look like this one."""
    size: str | None
    """The published size, such as XL/2."""
    configuration: dict[str, Any]
    condition_dim: int
    latent_shape: tuple[int, int, int]
    classes: int | None
    """None for a system that is conditioned on features."""
    parameters: int
    adaln_parameters: int
    held_under: str
    """The key that the tensors lie under; empty at the top level."""
    left_out: dict[str, int]
    """How many tensors were left out that only training used, by the beginning of their names."""
    compacted: str | None
    """What AdaLN reads of c in place of all of it, such as 64 of 128 components; None in a full model."""

    @property
    def adaln_share(self) -> float:
        """The part of all parameters that turns `c` into shifts, scales and gates, in [0, 1]."""
        return self.adaln_parameters / self.parameters

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.family}{f' {self.size}' if self.size else ''}, "
            f"{self.parameters / 1e6:.1f} million parameters, {self.adaln_share:.1%} of them AdaLN's",
            f"condition of {self.condition_dim} components, latents {' x '.join(map(str, self.latent_shape))}"
            + (f", {self.classes} classes" if self.classes is not None else ""),
        ]
        if self.compacted:
            lines.append(f"compacted: AdaLN reads {self.compacted}")
        if self.held_under:
            lines.append(f"tensors under the key {self.held_under!r}")
        if self.left_out:
            parts = ", ".join(f"{name} ({count} tensors)" for name, count in self.left_out.items())
            lines.append(f"left out, since only training uses it: {parts}")
        if self.also_fits:
            lines.append(f"files of {', '.join(self.also_fits)} can look the same; give family to say otherwise")
        return "\n".join(lines)


class Checkpoint:
    """The tensors of a file or folder: their shapes at once, their values on demand.

    `metadata` is what the file records of itself: `family` and `num_heads` in files written here.

    Raises FileNotFoundError for a path that is not there, CheckpointError for what is no checkpoint.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = _open(self.path)
        self.shapes = self._file.shapes
        self.metadata = self._file.metadata
        self.arguments = self._file.arguments
        self.holder = self._file.holder
        self._read = self._file.read

    def tensors(self, names: Iterable[str], device: str | torch.device = "cpu") -> dict[str, Tensor]:
        """The values of these tensors, in float32 where they are floating-point numbers.

        They are copies: the file is mapped into memory, and what is written to it later would be seen.
        """
        found = ((name, self._read(name)) for name in names)
        return {
            name: tensor.to(device, torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
            for name, tensor in found
        }


def load(
    source: str | os.PathLike[str], *, family: str | None = None, device: str | torch.device = "cpu", **given: Any
) -> System:
    """A system with its weights, ready to sample.

    `source` is a file, a folder that holds `model.safetensors` or a diffusers DiT, `hf://owner/repo/file`, or the name
    of a model in the registry (`models/models.toml`, or the file that TAILPRUNE_REGISTRY names). `family` and `given`
    (`num_heads`, `decode_layer`) settle what the file's names and shapes leave open.

    Raises FileNotFoundError, CheckpointError (tensors missing, unknown or of the wrong shape), ValueError (a family
    or a number of heads that has to be given).
    """
    checkpoint, family, given = _identify(source, family, given)
    reading = _reading(checkpoint, family, given)
    system = reading.build()
    values = checkpoint.tensors((reading.names[name] for name in system.state_dict()), device)
    system.load_state_dict({name: values[reading.names[name]] for name in system.state_dict()}, assign=True)
    for part in (system.reader, system.time_columns):
        if part is not None:
            try:
                part.check()
            except ValueError as error:
                raise CheckpointError(f"{checkpoint.path}: {error}") from error
    return system.requires_grad_(False).eval()


def load_condition(
    source: str | os.PathLike[str], *, family: str | None = None, device: str | torch.device = "cpu", **given: Any
) -> Condition:
    """The condition part of a system alone; no block is read. Arguments and errors as in `load`."""
    checkpoint, family, given = _identify(source, family, given)
    cls = SYSTEMS[family].variant(checkpoint.shapes)
    with _explained(checkpoint, family), torch.device("meta"):
        check_sizes(checkpoint.shapes)
        condition = cls.condition_part(checkpoint.shapes, **given)
    expected = {name: tuple(tensor.shape) for name, tensor in condition.state_dict().items()}
    found = {name: checkpoint.shapes[name] for name in expected if name in checkpoint.shapes}
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} is {found[name]}, not {expected[name]}" for name in found if found[name] != expected[name]]
    if wrong:
        raise CheckpointError(f"{checkpoint.path}: does not fit {family}: {_some(wrong)}")
    condition.load_state_dict(checkpoint.tensors(expected, device), assign=True)
    return condition.requires_grad_(False).eval()


def inspect(source: str | os.PathLike[str], *, family: str | None = None, **given: Any) -> Found:
    """What a checkpoint is, from names and shapes alone: no tensor is read. Arguments and errors as in `load`."""
    checkpoint, family, given = _identify(source, family, given)
    reading = _reading(checkpoint, family, given)
    assert reading.configuration is not None, "a reading that fits has a configuration"
    system = reading.build()
    parameters, adaln = parameter_counts(checkpoint.shapes)
    others = [other.family for other in recognise(checkpoint.shapes, **given) if other.family != family]
    return Found(
        path=checkpoint.path,
        family=family,
        also_fits=tuple(others),
        size=reading.size,
        configuration=reading.configuration.described(given),
        condition_dim=system.condition_dim,
        latent_shape=system.latent_shape,
        classes=getattr(system, "num_classes", None),
        parameters=parameters,
        adaln_parameters=adaln,
        held_under=checkpoint.holder,
        left_out=dict(Counter(name.split(".")[0] for name in reading.left_out)),
        compacted=_compacted(system),
    )


def _compacted(system: System) -> str | None:
    if system.reader is None:
        return None
    return str(system.reader) + (f" and {system.time_columns}" if system.time_columns is not None else "")


def _identify(
    source: str | os.PathLike[str], family: str | None, given: dict[str, Any]
) -> tuple[Checkpoint, str, dict[str, Any]]:
    path, known = _locate(source)
    checkpoint = Checkpoint(path)
    family = family or known.get("family") or checkpoint.metadata.get("family")
    if family is not None and family not in SYSTEMS:
        raise InputError(f"no system is called {family!r}; there are {', '.join(SYSTEMS)}")
    kinds = {name: kind for system in SYSTEMS.values() for name, kind in system.config_class.metadata_fields.items()}
    values = {name: value for name in kinds if (value := known.get(name, checkpoint.metadata.get(name))) is not None}
    for name, value in values.items():
        try:
            values[name] = kinds[name](value)
        except ValueError:
            raise CheckpointError(f"{path}: says {name} = {value!r}, which is no number") from None
    given = checkpoint.arguments | values | given
    return checkpoint, family or _recognised(checkpoint, given), given


def _recognised(checkpoint: Checkpoint, given: Mapping[str, Any]) -> str:
    """The family of a file that does not name it."""
    file_name = str(checkpoint.path)
    readings = recognise(checkpoint.shapes, file_name, **given)
    if not readings:
        close = nearest(checkpoint.shapes, **given)
        raise CheckpointError(
            f"{checkpoint.path}: is of no system there is ({', '.join(SYSTEMS)}); "
            f"it is nearest to {close.family}, but {_some(close.faults)}"
        )
    if not is_unambiguous(readings, file_name):
        fitting = " and ".join(reading.family for reading in readings)
        raise InputError(
            f"{checkpoint.path}: does not say which system it is, and files of {fitting} have the same tensors: "
            f"give family, one of {', '.join(reading.family for reading in readings)}"
        )
    return readings[0].family


def _reading(checkpoint: Checkpoint, family: str, given: Mapping[str, Any]) -> Reading:
    """The file's tensors as that family. Raises CheckpointError where they are not."""
    try:
        reading = read_as(SYSTEMS[family], checkpoint.shapes, **given)
    except MissingArgument as error:
        raise InputError(f"{checkpoint.path}: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from error
    if not reading.fits:
        others = [other.family for other in recognise(checkpoint.shapes, str(checkpoint.path), **given)]
        looks = f"; it looks like {' or '.join(others)}" if others else ""
        close = nearest(checkpoint.shapes, **given)
        if not others and close.family != family and close.configuration is not None:
            looks = f"; it is nearest to {close.family}, but there {_some(close.faults, 2)}"
        raise CheckpointError(f"{checkpoint.path}: does not fit {family}: {_some(reading.faults)}{looks}")
    return reading


def _locate(source: str | os.PathLike[str]) -> tuple[Path, Mapping[str, Any]]:
    """The file or folder that `source` means, and its entry in the registry."""
    if is_hub(source):
        return fetch(str(source)), {}
    path = Path(source)
    if path.exists() or len(path.parts) > 1:
        return path, {}
    registry = Path(os.environ.get("TAILPRUNE_REGISTRY", "models/models.toml"))
    models = tomllib.loads(registry.read_text()).get("models", {}) if registry.is_file() else {}
    if str(source) not in models:
        if path.suffix in TENSOR_FILES:
            return path, {}
        known = ", ".join(sorted(models)) or "no model"
        raise MissingFileError(f"{source!r} is neither a file nor a model of {registry}, which has {known}")
    entry = models[str(source)]
    if is_hub(entry["checkpoint"]):
        return fetch(entry["checkpoint"]), entry
    return registry.parent / entry["checkpoint"], entry


def _open(path: Path) -> TensorFile:
    if not path.is_dir():
        return open_tensors([path])
    if (path / WEIGHTS).is_file():
        return open_tensors([path / WEIGHTS])
    folder = find_diffusers(path)
    if folder is None:
        raise MissingFileError(
            f"no checkpoint at {path}: the folder has neither {WEIGHTS} nor a diffusers DiT (transformer/config.json)"
        )
    return DiffusersDiT(folder)


@contextmanager
def _explained(checkpoint: Checkpoint, family: str) -> Iterator[None]:
    """Names the file in errors where its names and shapes do not determine a configuration."""
    try:
        yield
    except KeyError as error:
        raise CheckpointError(
            f"{checkpoint.path}: does not fit {family}: there is no tensor named {error}; "
            f"the file has {groups(checkpoint.shapes)}"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from error


def _some(faults: Iterable[str], most: int = 5) -> str:
    faults = list(faults)
    more = f", and {len(faults) - most} more" if len(faults) > most else ""
    return "; ".join(faults[:most]) + more
