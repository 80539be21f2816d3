"""Loading a system, its condition part alone, or only its description from a checkpoint.

A source is a file, a folder (with `model.safetensors`, or a DiT in diffusers' format), the name of a model in the
registry, or `hf://owner/repo/file`. The family is the one given, the one that registry or file names, or the one that
the names and shapes of the tensors show. Where these leave several, the options of its training in the file, its name
and its folders decide, and a file of which they say nothing is refused.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.arguments import as_device
from tailprune.checkpoints.files import CheckpointError
from tailprune.checkpoints.opening import Checkpoint, check_digest, locate
from tailprune.checkpoints.recognition import (
    Candidate,
    check_sizes,
    groups,
    likeliest,
    nearest,
    parameter_counts,
    read_as,
    recognise,
    similar,
)
from tailprune.spec import InputError
from tailprune.spec.layouts import ADALN
from tailprune.systems import SYSTEMS, Condition, System
from tailprune.systems.infer import LABEL_TABLE, MissingArgument, shows_heads

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Found",
    "NoModulations",
    "adaln_weights",
    "inspect",
    "load",
    "load_condition",
]

FOLDERS = 3
"""How many folders above a file may name its family."""
CONFIG_NAMES = {"classes": "num_classes"}
"""Arguments whose field in a configuration has another name."""


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
    null_condition: bool
    """Whether it has a null condition, which guidance needs."""
    heads_assumed: bool
    """Whether the number of attention heads is the published one for the width, as neither file nor caller says it."""
    parameters: int
    adaln_parameters: int
    held_under: str
    """The key of the weights in the file, such as `ema`; empty for the top level."""
    beside: tuple[str, ...]
    """The keys of other copies of the weights in the file, such as `model`."""
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
            + self._classes_said(),
            f"{self.configuration['num_heads']} attention heads"
            + (
                f", assumed as published for a width of {self.configuration['hidden_size']}: if it has another number, "
                "give num_heads"
                if self.heads_assumed
                else ""
            ),
        ]
        if self.compacted:
            lines.append(f"compacted: AdaLN reads {self.compacted}")
        if self.held_under:
            others = f"; not used: {', '.join(map(repr, self.beside))}" if self.beside else ""
            lines.append(f"weights under the key {self.held_under!r}{others}")
        if self.left_out:
            parts = ", ".join(f"{name} ({count} tensors)" for name, count in self.left_out.items())
            lines.append(f"left out, since only training uses it: {parts}")
        if self.also_fits:
            lines.append(f"files of {', '.join(self.also_fits)} have the same tensors; give family to choose one")
        return "\n".join(lines)

    def _classes_said(self) -> str:
        if self.classes is None:
            return ""
        classes = f", {self.classes} class{'' if self.classes == 1 else 'es'}"
        if not self.null_condition:
            return f"{classes} and no null condition, so it cannot be guided"
        return f"{classes} and the null condition (if its last row is a class too, give classes = {self.classes + 1})"


def load(
    source: str | os.PathLike[str],
    *,
    family: str | None = None,
    key: str | None = None,
    classes: int | None = None,
    num_heads: int | None = None,
    decode_layer: int | None = None,
    device: str | torch.device = "cpu",
    **more: Any,
) -> System:
    """A system with its weights, ready to sample.

    source: a file, a folder with `model.safetensors` or a DiT in diffusers' format, `hf://owner/repo/file`, or the name
        of a model in the registry (the file that TAILPRUNE_REGISTRY names, `models/models.toml`, or the shipped one)
    family: the architecture family; by default the one that registry, file or tensors show
    key: the key of the weights in a file with several copies, such as `ema`, `model` or `state_dict.model`; by default
        the averaged ones
    classes: the number of classes; by default one less than the rows of the label table, whose last row is then the
        null condition. As many as there are rows for a system that was trained without dropping labels
    num_heads, decode_layer: the number of attention heads, and of blocks after the decoder's positions; needed if
        neither tensors nor file show them, and the width or depth is not a published one
    device: where the weights go, the CPU by default
    more: further fields of a system's configuration that no tensor shows, such as `time_gaps`

    Raises FileNotFoundError for a missing source, CheckpointError for tensors that are missing, unknown, of the wrong
    shape or damaged, and InputError if the family or another argument has to be given.
    """
    device = as_device(device)
    arguments = {"classes": classes, "num_heads": num_heads, "decode_layer": decode_layer, **more}
    checkpoint, family, given = _identify(source, family, key, arguments)
    check_digest(checkpoint.path)
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
    source: str | os.PathLike[str],
    *,
    family: str | None = None,
    key: str | None = None,
    classes: int | None = None,
    num_heads: int | None = None,
    decode_layer: int | None = None,
    device: str | torch.device = "cpu",
    **more: Any,
) -> Condition:
    """The condition part of a system, without reading its blocks. Parameters and errors as in `load`."""
    device = as_device(device)
    arguments = {"classes": classes, "num_heads": num_heads, "decode_layer": decode_layer, **more}
    checkpoint, family, given = _identify(source, family, key, arguments)
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


class NoModulations(CheckpointError):
    """A file of the condition alone, without the layers that make modulations of it."""


def adaln_weights(
    source: str | os.PathLike[str],
    *,
    family: str | None = None,
    key: str | None = None,
    classes: int | None = None,
    num_heads: int | None = None,
    decode_layer: int | None = None,
    device: str | torch.device = "cpu",
    **more: Any,
) -> tuple[System, Iterator[Tensor]]:
    """A system without values but for its reader's, and the weight of AdaLN of each layer, read when it is asked for.

    The weights are in the order of `System.modulated`. Parameters and errors as in `load`; raises NoModulations for a
    file of the condition alone.
    """
    device = as_device(device)
    arguments = {"classes": classes, "num_heads": num_heads, "decode_layer": decode_layer, **more}
    checkpoint, family, given = _identify(source, family, key, arguments)
    if not any(ADALN in name for name in checkpoint.shapes):
        raise NoModulations(f"{checkpoint.path}: has no weights of AdaLN, which make modulations of the condition")
    candidate = _candidate(checkpoint, family, given)
    system = candidate.build()
    if system.reader is not None:
        of_reader = {name: candidate.names[f"reader.{name}"] for name in system.reader.state_dict()}
        values = checkpoint.tensors(of_reader.values(), device)
        system.reader.load_state_dict({name: values[theirs] for name, theirs in of_reader.items()}, assign=True)
    of_module = {module: name for name, module in system.named_modules()}
    names = [candidate.names[f"{of_module[layer.adaLN_modulation.linear]}.weight"] for layer in system.modulated]
    return system, (checkpoint.tensors([name], device)[name] for name in names)


def inspect(
    source: str | os.PathLike[str],
    *,
    family: str | None = None,
    key: str | None = None,
    classes: int | None = None,
    num_heads: int | None = None,
    decode_layer: int | None = None,
    others: bool = True,
    check: bool = False,
    **more: Any,
) -> Found:
    """The description of a checkpoint, from names and shapes without reading a tensor.

    others: whether to look for other families that the file fits, true by default
    check: whether to read all weights too, one tensor after another, and to refuse damaged ones as `load` does
    The other parameters are those of `load`.
    """
    arguments = {"classes": classes, "num_heads": num_heads, "decode_layer": decode_layer, **more}
    checkpoint, family, given = _identify(source, family, key, arguments)
    candidate = _candidate(checkpoint, family, given)
    assert candidate.configuration is not None, "a candidate that fits has a configuration"
    system = candidate.build()
    if check:
        check_digest(checkpoint.path)
        for name in system.state_dict():
            checkpoint.tensors([candidate.names[name]])
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
        null_condition=system.null_condition,
        heads_assumed="num_heads" not in given and not shows_heads(checkpoint.shapes),
        parameters=parameters,
        adaln_parameters=adaln,
        held_under=checkpoint.holder,
        beside=checkpoint.others,
        left_out=dict(Counter(name.split(".")[0] for name in candidate.left_out)),
        compacted=_compacted(system),
    )


def _compacted(system: System) -> str | None:
    if system.reader is None:
        return None
    return str(system.reader) + (f" and {system.time_columns}" if system.time_columns is not None else "")


def _identify(
    source: str | os.PathLike[str], family: str | None, key: str | None, arguments: Mapping[str, Any]
) -> tuple[Checkpoint, str, dict[str, Any]]:
    """The opened checkpoint, its family, and the fields of its configuration that are known.

    The caller's arguments take precedence over the registry, the registry over the file.
    """
    path, entry = locate(source)
    checkpoint = Checkpoint(path, key or entry.get("key"))
    family = family or entry.get("family") or checkpoint.metadata.get("family")
    if family is not None and family not in SYSTEMS:
        raise InputError(f"there is no family {family!r}: give one of {', '.join(SYSTEMS)}")
    kinds = {name: kind for system in SYSTEMS.values() for name, kind in system.config_class.metadata_fields.items()}
    if unknown := [name for name in arguments if name not in kinds and name not in CONFIG_NAMES]:
        raise InputError(f"there is no argument {unknown[0]!r}: give one of {', '.join([*CONFIG_NAMES, *kinds])}")
    kinds["num_classes"] = int
    registered = {CONFIG_NAMES.get(name, name): value for name, value in entry.items()}
    values = {
        name: value for name in kinds if (value := registered.get(name, checkpoint.metadata.get(name))) is not None
    }
    for name, value in values.items():
        try:
            values[name] = kinds[name](value)
        except ValueError:
            raise CheckpointError(f"{path}: its {name} is {value!r}, not a number") from None
    given = {CONFIG_NAMES.get(name, name): value for name, value in arguments.items() if value is not None}
    given = _stated(checkpoint) | checkpoint.arguments | values | given
    return checkpoint, family or _recognised(checkpoint, given), given


def _stated(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the options of its training in the file say of a configuration, where the tensors allow it."""
    options, rows = checkpoint.options, 0
    for name, shape in checkpoint.shapes.items():
        if name.endswith(LABEL_TABLE) and shape:
            rows = shape[0]
    stated = {name: options[name] for name in ("decode_layer",) if name in options}
    if "num_heads" in options and not shows_heads(checkpoint.shapes):
        stated["num_heads"] = options["num_heads"]
    if options.get("num_classes") in (rows, rows - 1):
        stated["num_classes"] = options["num_classes"]
    return stated


def _recognised(checkpoint: Checkpoint, given: Mapping[str, Any]) -> str:
    """The family of a file that does not name it."""
    candidates = recognise(checkpoint.shapes, **given)
    if not candidates:
        closest = nearest(checkpoint.shapes, **given)
        raise CheckpointError(
            f"{checkpoint.path}: fits none of the families {', '.join(SYSTEMS)}; "
            f"the nearest is {closest.family}, but {_first(closest.faults)}"
        )
    path = checkpoint.path.absolute()
    folders = [folder.name for folder in path.parents[:FOLDERS]]
    found = likeliest(candidates, [checkpoint.options.get("architecture", ""), path.name, *folders])
    if found is None:
        fitting = ", ".join(candidate.family for candidate in candidates)
        raise InputError(
            f"{checkpoint.path}: files of several families have these tensors, and neither the file nor its name nor "
            f"its folders name one of them: give family, one of {fitting}"
        )
    return found.family


def _candidate(checkpoint: Checkpoint, family: str, given: Mapping[str, Any]) -> Candidate:
    """The file's tensors as those of a family. Raises CheckpointError if they do not fit."""
    try:
        candidate = read_as(SYSTEMS[family], checkpoint.shapes, **given)
    except MissingArgument as error:
        raise InputError(f"{checkpoint.path}: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from error
    if not candidate.fits:
        others = [other.family for other in recognise(checkpoint.shapes, **given)]
        hint = f"; it fits {' or '.join(others)}" if others else ""
        closest = nearest(checkpoint.shapes, **given)
        if not others and closest.family != family and closest.configuration is not None:
            hint = f"; the nearest is {closest.family}, but there {_first(closest.faults, 2)}"
        raise CheckpointError(f"{checkpoint.path}: does not fit {family}: {_first(candidate.faults)}{hint}")
    _check_depth(checkpoint, candidate)
    return candidate


def _check_depth(checkpoint: Checkpoint, candidate: Candidate) -> None:
    """Raise CheckpointError if the options of its training state another number of blocks than the file has.

    A file without its last blocks is that of a smaller network. Statements beside another width or another number of
    heads are of another network.
    """
    config = candidate.configuration
    assert config is not None, "a candidate that fits has a configuration"
    stated = [
        each
        for each in checkpoint.options.get("depths", [])
        if each.hidden_size in (None, config.hidden_size) and each.num_heads in (None, config.num_heads)
    ]
    if stated and all(each.depth != config.depth for each in stated):
        raise CheckpointError(
            f"{checkpoint.path}: its options state {stated[0].key} = {stated[0].depth}, but it has the tensors of "
            f"{config.depth} blocks: it was cut short, or the options are of another file; download or save it again"
        )


@contextmanager
def _explained(checkpoint: Checkpoint, family: str) -> Iterator[None]:
    """Add the file to errors about names and shapes that do not determine a configuration."""
    try:
        yield
    except KeyError as error:
        raise CheckpointError(
            f"{checkpoint.path}: does not fit {family}: there is no tensor named {error}"
            f"{similar(str(error.args[0]), checkpoint.shapes)}; the file has {groups(checkpoint.shapes)}"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from error


def _first(faults: Iterable[str], most: int = 5) -> str:
    """The first `most` faults, and the number of the others, as a text for people."""
    faults = list(faults)
    more = f", and {len(faults) - most} more" if len(faults) > most else ""
    return "; ".join(faults[:most]) + more
