"""Which family a file belongs to: by the names and shapes of its tensors, and among several by what names the family.

Every family infers a configuration from them and builds that network on the meta device. A file fits the families whose
networks have exactly its tensors, those that only training uses aside.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import torch

from tailprune.spec import InputError
from tailprune.spec.layouts import ADALN
from tailprune.systems import SYSTEMS, System
from tailprune.systems.config import TransformerConfig
from tailprune.systems.infer import MissingArgument, Shapes
from tailprune.systems.narrow import narrow_as
from tailprune.systems.readers import KEPT

__all__ = [
    "Candidate",
    "check_sizes",
    "groups",
    "likeliest",
    "nearest",
    "parameter_counts",
    "read_as",
    "recognise",
    "similar",
]

OF_ADALN = (ADALN, "reader.", "time_columns.")
"""Parts of the names of tensors that compute shifts, scales and gates from c."""
MOST_GROUPS = 12
MOST_OF_A_NAME = 40
MOST_SIMILAR = 3
"""For how many missing tensors the closest name is looked for, which takes time."""


@dataclass(frozen=True)
class Candidate:
    """A file's tensors as those of one family, and what does not fit."""

    cls: type[System]
    configuration: TransformerConfig | None
    """The argument of `cls`; None if names and shapes do not determine it."""
    names: Mapping[str, str]
    """The names in the file of the tensors that sampling reads, by their names in this package."""
    left_out: tuple[str, ...]
    """The tensors in the file that only training uses."""
    faults: tuple[str, ...]
    """What does not fit, tensor by tensor; empty if the file belongs to this family."""
    found: Shapes
    """The shapes of the tensors that sampling reads, by their names in this package."""

    @property
    def family(self) -> str:
        """The family's name."""
        return self.cls.family

    @property
    def fits(self) -> bool:
        """Whether the file belongs to this family."""
        return not self.faults

    def build(self) -> System:
        """The system on the meta device, narrowed if the file is compacted.

        Raises InputError for names and shapes that contradict each other.
        """
        assert self.configuration is not None, "a candidate that fits has a configuration"
        with torch.device("meta"):
            system = self.cls(self.configuration)
            narrow_as(system, self.found)
        return system

    @property
    def size(self) -> str | None:
        """The published size, such as XL/2; None for any other size."""
        return None if self.configuration is None else self.configuration.size


def read_as(cls: type[System], shapes: Shapes, **given: Any) -> Candidate:
    """A file's tensors as those of one family.

    cls: the class of the family
    shapes: the shapes of the file's tensors by name
    given: values for what names and shapes do not determine, such as `num_heads`

    Raises MissingArgument if an argument has to be given, InputError if a given one does not fit.
    """
    file_names = {ours: name for name, ours in cls.canonical_names(shapes).items()}
    left_out = tuple(name for ours, name in file_names.items() if cls.is_training_only(ours))
    names = {ours: name for ours, name in file_names.items() if not cls.is_training_only(ours)}
    found = {ours: shapes[name] for ours, name in names.items()}
    check_sizes(found)
    variant = cls.variant(found)
    try:
        configuration = variant.infer_configuration(found, **given)
    except KeyError as error:
        fault = f"there is no tensor named {error}{similar(str(error.args[0]), shapes)}; the file has {groups(shapes)}"
        return Candidate(variant, None, names, left_out, (fault,), found)
    candidate = Candidate(variant, configuration, names, left_out, (), found)
    expected = {name: tuple(tensor.shape) for name, tensor in candidate.build().state_dict().items()}
    unknown = [names[name] for name in found if name not in expected]
    missing = [name for name in expected if name not in found]
    faults = [
        f"{name} is missing{similar(name, unknown) if place < MOST_SIMILAR else ''}"
        for place, name in enumerate(missing)
    ]
    faults += [f"{names[name]} is not part of {cls.family}" for name in found if name not in expected]
    faults += [
        f"{names[name]} is {found[name]}, not {shape}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    return replace(candidate, faults=tuple(faults))


def recognise(shapes: Shapes, **given: Any) -> list[Candidate]:
    """The families that a file fits by names and shapes; an empty list if it fits none.

    DiT, SiT, REPA, MG and a LightningDiT without its options share a network: their files may have the same tensors.

    shapes: the shapes of the file's tensors by name
    given: as in `read_as`
    """
    candidates = (_candidate(cls, shapes, given) for cls in SYSTEMS.values())
    return [candidate for candidate in candidates if candidate.fits]


def likeliest(candidates: Sequence[Candidate], said: Iterable[str]) -> Candidate | None:
    """The only candidate, or the one whose family a text names; None if neither is so.

    candidates: from `recognise`, one or more
    said: texts that may name the family as a whole word, the one to believe first in front: what the file says of its
        own training, its name, the names of its folders

    A family whose name the files of its descendants have too (a REPA or MG is a SiT) gives way to one of these that
    any text names.
    """
    if len(candidates) == 1:
        return candidates[0]
    named = [[each for each in candidates if each.family in _words(text)] for text in said]
    found = _without_ancestors(next(filter(None, named), []))
    if len(found) == 1:
        below = [each for level in named for each in level if each is not found[0] and _names_too(each, found[0])]
        found = _without_ancestors(list({each.family: each for each in below}.values())) or found
    return found[0] if len(found) == 1 else None


def _without_ancestors(named: Sequence[Candidate]) -> list[Candidate]:
    """Candidates without those whose name the files of another one among them have too."""
    return [each for each in named if not any(_names_too(other, each) for other in named if other is not each)]


def _names_too(candidate: Candidate, ancestor: Candidate) -> bool:
    """Whether the files of a family have the name of another one, of which it is a kind, in theirs."""
    kinds = SYSTEMS[candidate.family], SYSTEMS[ancestor.family]
    return ancestor.cls.facts.name_in_others_files and issubclass(*kinds)


def nearest(shapes: Shapes, **given: Any) -> Candidate:
    """The candidate with the fewest faults, for a file that fits no family."""
    return min((_candidate(cls, shapes, given) for cls in SYSTEMS.values()), key=_distance)


def parameter_counts(shapes: Shapes) -> tuple[int, int]:
    """The number of parameters of a file, and how many of them are AdaLN's; buffers do not count."""
    buffers = {KEPT}.union(*(system.buffer_names for system in SYSTEMS.values()))
    counts = {name: math.prod(shape) for name, shape in shapes.items() if not any(buffer in name for buffer in buffers)}
    return sum(counts.values()), sum(count for name, count in counts.items() if any(part in name for part in OF_ADALN))


def similar(name: str, names: Iterable[str]) -> str:
    """The closest of a file's names to one that it lacks, in parentheses; empty if none is close."""
    near = get_close_matches(name, list(names), n=1, cutoff=0.75)
    return f" (the closest is {near[0]})" if near else ""


def check_sizes(shapes: Shapes) -> None:
    """Raise InputError for a tensor without elements, such as patches of 0 pixels, which no system has."""
    for name, shape in shapes.items():
        if 0 in shape:
            raise InputError(f"{name} has shape {shape}, which has no elements")


def groups(shapes: Shapes) -> str:
    """The beginnings of the names of a file's tensors, as a text for people."""
    found: list[str] = []
    for depth in range(1, 4):  # deeper while all names begin alike, as in model.diffusion_model.…
        found = list(dict.fromkeys(".".join(name.split(".")[:depth]) for name in shapes))
        if len(found) > 1:
            break
    short = [name if len(name) <= MOST_OF_A_NAME else f"{name[:MOST_OF_A_NAME]}..." for name in found[:MOST_GROUPS]]
    more = f", and {len(found) - MOST_GROUPS} more" if len(found) > MOST_GROUPS else ""
    return ", ".join(short) + more


def _candidate(cls: type[System], shapes: Shapes, given: Mapping[str, Any]) -> Candidate:
    """The candidate of one family, with a given value that does not fit among its faults."""
    try:
        return _read_filling_in(cls, shapes, given)
    except ValueError as error:
        fault = str(error)
    try:
        without_given = _read_filling_in(cls, shapes, {})
    except ValueError:
        return Candidate(cls, None, {}, (), (fault,), {})
    return replace(without_given, faults=(fault, *without_given.faults))


def _read_filling_in(cls: type[System], shapes: Shapes, given: Mapping[str, Any]) -> Candidate:
    """As `read_as`, with 1 for an argument that has to be given, on which no tensor depends."""
    try:
        return read_as(cls, shapes, **given)
    except MissingArgument as error:
        return _read_filling_in(cls, shapes, {**given, error.argument: 1})


def _words(text: str) -> set[str]:
    return set(re.split("[^a-z0-9]+", text.lower()))


def _distance(candidate: Candidate) -> tuple[bool, int]:
    return candidate.configuration is None, len(candidate.faults)
