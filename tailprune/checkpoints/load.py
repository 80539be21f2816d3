"""Loading a system, its condition part alone, or only its description from a checkpoint.

A source is a file, a folder (with `model.safetensors`, or a DiT in diffusers' format), the name of a model in the
registry, or `hf://owner/repo/file`. The family is the one given, the one that registry or file names, or the one that
the names and shapes of the tensors show.
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
    Candidate,
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
    """The description of a checkpoint, from `inspect`."""

    path: Path
    family: str
    also_fits: tuple[str, ...]
    """Other families with the same tensors; none if they were not looked for."""
    size: str | None
    """The published size, such as XL/2; None for any other size."""
    configuration: dict[str, Any]
    condition_dim: int
    latent_shape: tuple[int, int, int]
    classes: int | None
    """The number of classes; None for a system that is conditioned on features."""
    parameters: int
    adaln_parameters: int
    held_under: str
    """The key of a pickle that holds the tensors; empty for the top level."""
    left_out: dict[str, int]
    """The number of tensors left out because only training uses them, by the beginning of their names."""
    compacted: str | None
    """What AdaLN reads of c in a compacted model, such as `64 of 128 components`; None for a full model."""

    @property
    def adaln_share(self) -> float:
        """AdaLN's share of all parameters, in [0, 1]."""
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
            lines.append(f"files of {', '.join(self.also_fits)} have the same tensors; give family to choose one")
        return "\n".join(lines)


class Checkpoint:
    """The tensors of a file or folder: shapes when opened, values on demand.

    `metadata` is the file's: it has `family` and `num_heads` in files written by `save_system`.

    Raises FileNotFoundError for a missing file, CheckpointError for one that is not a checkpoint.
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
        """The values of these tensors; floating-point numbers are converted to float32.

        They are copies, since later changes of the file would change a tensor that is mapped into memory.
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

    source: a file, a folder with `model.safetensors` or a DiT in diffusers' format, `hf://owner/repo/file`, or the name
        of a model in the registry (`models/models.toml`, or the file that TAILPRUNE_REGISTRY names)
    family: the architecture family; by default the one that registry, file or tensors show
    device: where the weights go, the CPU by default
    given: `num_heads` or `decode_layer`, needed if names and shapes of the tensors do not determine them

    Raises FileNotFoundError for a missing source, CheckpointError for tensors that are missing, unknown or of the wrong
    shape, and InputError if the family or another argument has to be given.
    """
    checkpoint, family, given = _identify(source, family, given)
    candidate = _candidate(checkpoint, family, given)
    system = candidate.build()
    values = checkpoint.tensors((candidate.names[name] for name in system.state_dict()), device)
    system.load_state_dict({name: values[candidate.names[name]] for name in system.state_dict()}, assign=True)
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
    """The condition part of a system, without reading its blocks. Parameters and errors as in `load`."""
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
        raise CheckpointError(f"{checkpoint.path}: does not fit {family}: {_first(wrong)}")
    condition.load_state_dict(checkpoint.tensors(expected, device), assign=True)
    return condition.requires_grad_(False).eval()


def inspect(source: str | os.PathLike[str], *, family: str | None = None, others: bool = True, **given: Any) -> Found:
    """The description of a checkpoint, from names and shapes without reading a tensor.

    others: whether to look for other families that the file fits
    The other parameters are those of `load`.
    """
    checkpoint, family, given = _identify(source, family, given)
    candidate = _candidate(checkpoint, family, given)
    assert candidate.configuration is not None, "a candidate that fits has a configuration"
    system = candidate.build()
    parameters, adaln = parameter_counts(checkpoint.shapes)
    fitting = recognise(checkpoint.shapes, **given) if others else []
    return Found(
        path=checkpoint.path,
        family=family,
        also_fits=tuple(other.family for other in fitting if other.family != family),
        size=candidate.size,
        configuration=candidate.configuration.described(given),
        condition_dim=system.condition_dim,
        latent_shape=system.latent_shape,
        classes=getattr(system, "num_classes", None),
        parameters=parameters,
        adaln_parameters=adaln,
        held_under=checkpoint.holder,
        left_out=dict(Counter(name.split(".")[0] for name in candidate.left_out)),
        compacted=_compacted(system),
    )


def _compacted(system: System) -> str | None:
    if system.reader is None:
        return None
    return str(system.reader) + (f" and {system.time_columns}" if system.time_columns is not None else "")


def _identify(
    source: str | os.PathLike[str], family: str | None, given: dict[str, Any]
) -> tuple[Checkpoint, str, dict[str, Any]]:
    """The opened checkpoint, its family, and its arguments; the caller's take precedence over registry and file."""
    path, entry = _locate(source)
    checkpoint = Checkpoint(path)
    family = family or entry.get("family") or checkpoint.metadata.get("family")
    if family is not None and family not in SYSTEMS:
        raise InputError(f"there is no family {family!r}: give one of {', '.join(SYSTEMS)}")
    kinds = {name: kind for system in SYSTEMS.values() for name, kind in system.config_class.metadata_fields.items()}
    values = {name: value for name in kinds if (value := entry.get(name, checkpoint.metadata.get(name))) is not None}
    for name, value in values.items():
        try:
            values[name] = kinds[name](value)
        except ValueError:
            raise CheckpointError(f"{path}: its {name} is {value!r}, not a number") from None
    given = checkpoint.arguments | values | given
    return checkpoint, family or _recognised(checkpoint, given), given


def _recognised(checkpoint: Checkpoint, given: Mapping[str, Any]) -> str:
    """The family of a file that does not name it."""
    file_name = str(checkpoint.path)
    candidates = recognise(checkpoint.shapes, file_name, **given)
    if not candidates:
        closest = nearest(checkpoint.shapes, **given)
        raise CheckpointError(
            f"{checkpoint.path}: fits none of the families {', '.join(SYSTEMS)}; "
            f"the nearest is {closest.family}, but {_first(closest.faults)}"
        )
    if not is_unambiguous(candidates, file_name):
        fitting = " and ".join(candidate.family for candidate in candidates)
        raise InputError(
            f"{checkpoint.path}: does not name its family, and files of {fitting} have the same tensors: give family, "
            f"one of {', '.join(candidate.family for candidate in candidates)}"
        )
    return candidates[0].family


def _candidate(checkpoint: Checkpoint, family: str, given: Mapping[str, Any]) -> Candidate:
    """The file's tensors as those of a family. Raises CheckpointError if they do not fit."""
    try:
        candidate = read_as(SYSTEMS[family], checkpoint.shapes, **given)
    except MissingArgument as error:
        raise InputError(f"{checkpoint.path}: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from error
    if not candidate.fits:
        others = [other.family for other in recognise(checkpoint.shapes, str(checkpoint.path), **given)]
        hint = f"; it fits {' or '.join(others)}" if others else ""
        closest = nearest(checkpoint.shapes, **given)
        if not others and closest.family != family and closest.configuration is not None:
            hint = f"; the nearest is {closest.family}, but there {_first(closest.faults, 2)}"
        raise CheckpointError(f"{checkpoint.path}: does not fit {family}: {_first(candidate.faults)}{hint}")
    return candidate


def _locate(source: str | os.PathLike[str]) -> tuple[Path, Mapping[str, Any]]:
    """The file or folder of a source, and its entry in the registry, empty if it has none."""
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
        names = ", ".join(sorted(models)) or "no model"
        raise MissingFileError(f"{source!r} is neither a file nor a model of {registry}, which has {names}")
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
    """Add the file to errors about names and shapes that do not determine a configuration."""
    try:
        yield
    except KeyError as error:
        raise CheckpointError(
            f"{checkpoint.path}: does not fit {family}: there is no tensor named {error}; "
            f"the file has {groups(checkpoint.shapes)}"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from error


def _first(faults: Iterable[str], most: int = 5) -> str:
    """The first `most` faults, and the number of the others, as a text for people."""
    faults = list(faults)
    more = f", and {len(faults) - most} more" if len(faults) > most else ""
    return "; ".join(faults[:most]) + more
