"""Which system a file's tensors are, by their names and shapes alone.

Every family reads its configuration off them and builds its network without memory; a file is of the families whose
tensors it has, all of them and no others. What only training used may be there, and is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import torch

from tailprune.spec import InputError
from tailprune.systems import SYSTEMS, System
from tailprune.systems.config import TransformerConfig
from tailprune.systems.infer import MissingArgument, Shapes
from tailprune.systems.narrow import narrow_as
from tailprune.systems.readers import KEPT

__all__ = ["Reading", "check_sizes", "groups", "is_unambiguous", "nearest", "parameter_counts", "read_as", "recognise"]

ADALN = ("adaLN_modulation.", "reader.", "time_columns.")
"""In the names of tensors that turn c into shifts, scales and gates."""
MOST_GROUPS = 12
MOST_OF_A_NAME = 40


@dataclass(frozen=True)
class Reading:
    """A file's tensors, read as one family."""

    cls: type[System]
    configuration: TransformerConfig | None
    """What `cls` is built from; None where names and shapes do not determine it."""
    names: Mapping[str, str]
    """The names in the file of the tensors that sampling reads, by their names here."""
    left_out: tuple[str, ...]
    """Tensors in the file that only training used."""
    faults: tuple[str, ...]
    """What does not fit, tensor by tensor; nothing where the file is of this family."""
    found: Shapes
    """The shapes of the tensors that sampling reads, by their names here."""

    @property
    def family(self) -> str:
        """The family's name."""
        return self.cls.family

    @property
    def fits(self) -> bool:
        """Whether the file is of this family."""
        return not self.faults

    def build(self) -> System:
        """The system without memory, as narrow as the file has it where that is compacted.

        Raises InputError where names and shapes contradict each other.
        """
        assert self.configuration is not None, "a reading that fits has a configuration"
        with torch.device("meta"):
            system = self.cls(self.configuration)
            narrow_as(system, self.found)
        return system

    @property
    def size(self) -> str | None:
        """The published size, such as XL/2; None for another."""
        return None if self.configuration is None else self.configuration.size


def read_as(cls: type[System], shapes: Shapes, **given: Any) -> Reading:
    """The tensors of a file as a family would have them. given: what the file's names and shapes leave open.

    Raises MissingArgument where an argument has to be given, ValueError where a given one cannot be.
    """
    theirs = {ours: name for name, ours in cls.canonical_names(shapes).items()}
    left_out = tuple(name for ours, name in theirs.items() if cls.is_training_only(ours))
    names = {ours: name for ours, name in theirs.items() if not cls.is_training_only(ours)}
    found = {ours: shapes[name] for ours, name in names.items()}
    check_sizes(found)
    variant = cls.variant(found)
    try:
        configuration = variant.infer_configuration(found, **given)
    except KeyError as error:
        fault = f"there is no tensor named {error}; the file has {groups(shapes)}"
        return Reading(variant, None, names, left_out, (fault,), found)
    reading = Reading(variant, configuration, names, left_out, (), found)
    expected = {name: tuple(tensor.shape) for name, tensor in reading.build().state_dict().items()}
    faults = [f"{name} is missing" for name in expected if name not in found]
    faults += [f"{names[name]} is not part of {cls.family}" for name in found if name not in expected]
    faults += [
        f"{names[name]} is {found[name]}, not {shape}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    return replace(reading, faults=tuple(faults))


def recognise(shapes: Shapes, file_name: str = "", **given: Any) -> list[Reading]:
    """The families that a file may be of, the likeliest first; none where no family has its tensors.

    DiT, SiT, REPA and MG share a network, and files of some of them look the same. A family that `file_name` names goes
    first, then one whose published files look so (`System.looks_published`).
    """
    readings = [
        reading for reading in (_read_or_refused(cls, shapes, given) for cls in SYSTEMS.values()) if reading.fits
    ]
    words = _words(file_name)
    return sorted(readings, key=lambda reading: _rank(reading, words))


def nearest(shapes: Shapes, **given: Any) -> Reading:
    """The family that a file which fits none is nearest to: fewest tensors, or a given value, that do not fit."""
    return min((_read_or_refused(cls, shapes, given) for cls in SYSTEMS.values()), key=_distance)


def parameter_counts(shapes: Shapes) -> tuple[int, int]:
    """How many parameters a file has, and how many of them are AdaLN's; buffers are none."""
    buffers = {KEPT}.union(*(system.buffer_names for system in SYSTEMS.values()))
    counts = {name: math.prod(shape) for name, shape in shapes.items() if not any(buffer in name for buffer in buffers)}
    return sum(counts.values()), sum(count for name, count in counts.items() if any(part in name for part in ADALN))


def check_sizes(shapes: Shapes) -> None:
    """Raises InputError for a tensor without elements, such as patches of 0 pixels: no system has one."""
    for name, shape in shapes.items():
        if 0 in shape:
            raise InputError(f"{name} is empty: its shape is {shape}")


def groups(shapes: Shapes) -> str:
    """What tensors a file has, by the beginnings of their names, for people."""
    found: list[str] = []
    for depth in range(1, 4):  # further in while all names begin alike, as under model.diffusion_model
        found = list(dict.fromkeys(".".join(name.split(".")[:depth]) for name in shapes))
        if len(found) > 1:
            break
    short = [name if len(name) <= MOST_OF_A_NAME else f"{name[:MOST_OF_A_NAME]}..." for name in found[:MOST_GROUPS]]
    more = f", and {len(found) - MOST_GROUPS} more" if len(found) > MOST_GROUPS else ""
    return ", ".join(short) + more


def is_unambiguous(readings: list[Reading], file_name: str = "") -> bool:
    """Whether the first of several readings is the published one of such a file, and no other is as likely."""
    words = _words(file_name)
    return len(readings) == 1 or _rank(readings[0], words) < _rank(readings[1], words)


def _read_or_refused(cls: type[System], shapes: Shapes, given: Mapping[str, Any]) -> Reading:
    try:
        return _read_filling_in(cls, shapes, given)
    except ValueError as error:
        complaint = str(error)
    try:
        as_it_is = _read_filling_in(cls, shapes, {})
    except ValueError:
        return Reading(cls, None, {}, (), (complaint,), {})
    return replace(as_it_is, faults=(complaint, *as_it_is.faults))


def _read_filling_in(cls: type[System], shapes: Shapes, given: Mapping[str, Any]) -> Reading:
    """The reading, with 1 for an argument that has to be given: no tensor depends on it."""
    try:
        return read_as(cls, shapes, **given)
    except MissingArgument as error:
        return _read_filling_in(cls, shapes, {**given, error.argument: 1})


def _words(file_name: str) -> set[str]:
    return set(re.split("[^a-z0-9]+", PurePath(file_name).name.lower()))


def _rank(reading: Reading, words: set[str]) -> tuple[int, int]:
    """Lower for what is likelier: the family in the file's name first, then how published files look."""
    named = reading.family in words
    by_name = 2 if not named else 1 if reading.cls.facts.name_in_others_files else 0
    published = reading.cls.looks_published(reading.configuration, reading.left_out)
    return by_name, 0 if published else 1


def _distance(reading: Reading) -> tuple[bool, int]:
    return reading.configuration is None, len(reading.faults)
