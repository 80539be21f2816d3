"""Which class a source's tensors are those of, and which of them make c and read it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tailprune.checkpoints.files import CheckpointError
from tailprune.checkpoints.recognition import groups
from tailprune.spec.transformers import CLASSES, Linears, Part, TransformerClass
from tailprune.transformers.source import Source

__all__ = ["Layers", "Model", "made_by", "pattern_of", "recognise"]


@dataclass(frozen=True)
class Layers:
    """Linear layers with one name, but for the number of the block, and one shape."""

    name: str
    pieces: tuple[str, ...]
    names: tuple[str, ...]
    """Each of them, in the order of the blocks."""


@dataclass(frozen=True)
class Model:
    """A source whose class is known."""

    source: Source
    cls: TransformerClass
    parts: tuple[Part, ...]
    """What c is the sum of in this model."""
    layers: tuple[Layers, ...]
    """What reads SiLU(c)."""
    width: int
    """The width of c."""

    @property
    def names(self) -> list[str]:
        """The names of all layers that read SiLU(c)."""
        return [name for layers in self.layers for name in layers.names]

    @property
    def rows(self) -> int:
        """The rows of all of them together."""
        return sum(self.source.shape(f"{name}.weight")[0] for name in self.names)

    def tensors(self, layer: str) -> list[str]:
        """The tensors of a layer: its weight and, if it has one, its bias."""
        return [name for name in (f"{layer}.weight", f"{layer}.bias") if name in self.source.tensors]


def recognise(source: Source) -> Model:
    """The model that a source is.

    Raises CheckpointError for a class that is not known, and for tensors that do not fit their class or configuration.
    """
    cls = _class_of(source)
    layers = tuple(each for linears in cls.linears for each in _found(source, linears))
    parts = tuple(part for part in cls.parts if not part.optional or _has(source, part))
    width = _linear(source, cls.time.layers[1].replace("*", "0"))[0]
    _check(source, cls, layers, width)
    for part in parts:
        _check_part(source, part, width)
    return Model(source, cls, parts, layers, width)


def pattern_of(name: str, then: str = "") -> re.Pattern[str]:
    """What matches a name with a number for `*`, and something after it."""
    return re.compile(re.escape(name).replace(r"\*", r"(0|[1-9][0-9]{0,5})") + then)


def _has(source: Source, part: Part) -> bool:
    return f"{part.layers[0].replace('*', '0')}.weight" in source.tensors


def _class_of(source: Source) -> TransformerClass:
    """The class by the configuration, or else by the names of the tensors."""
    stated = source.config.get("_class_name")
    known = list(dict.fromkeys(cls.name for cls in CLASSES))
    if stated is not None and stated not in known:
        raise CheckpointError(
            f"{source.path}: its class is {str(stated)[:80]!r}; the classes that are known are {', '.join(known)}"
        )
    candidates = [cls for cls in CLASSES if stated is None or cls.name == stated]
    for cls in candidates:
        if not _missing(source, cls):
            return cls
    if stated is not None:
        raise CheckpointError(
            f"{source.path}: by its configuration it is a {candidates[0].name}, but it lacks "
            f"{_missing(source, candidates[0])}"
        )
    narrowed = [name for name in source.tensors if "adaln_t_table" in name or "adaln_basis" in name]
    raise CheckpointError(
        f"{source.path}: "
        + (
            f"has {narrowed[0]}, so its AdaLN was replaced already: give the whole model"
            if narrowed
            else f"its tensors are those of no class that is known ({', '.join(known)}): they begin with "
            + groups({name: each.shape for name, each in source.tensors.items()})
        )
    )


def _missing(source: Source, cls: TransformerClass) -> str | None:
    """A tensor that every model of a class has and this one does not; None if it has all."""
    if cls.anchor not in source.tensors:
        return cls.anchor
    for part in cls.parts:
        if not part.optional and not _has(source, part):
            return f"{part.layers[0]}.weight"
    for linears in cls.linears:
        pattern = pattern_of(linears.name, r"[.]weight")
        if not any(pattern.fullmatch(name) for name in source.tensors):
            return f"{linears.name}.weight"
    return None


def _found(source: Source, linears: Linears) -> Iterable[Layers]:
    """The layers of each shape among those with one name."""
    pattern = pattern_of(linears.name)
    by_shape: dict[tuple[int, ...], list[tuple[int, str]]] = {}
    for name in source.tensors:
        if name.endswith(".weight") and (match := pattern.fullmatch(name.removesuffix(".weight"))):
            number = int(match[1]) if match.groups() else 0
            by_shape.setdefault(source.shape(name), []).append((number, name.removesuffix(".weight")))
    numbers = sorted(number for layers in by_shape.values() for number, _ in layers)
    if not linears.last and numbers != list(range(len(numbers))):
        gap = next(place for place, number in enumerate(numbers) if place != number)
        raise CheckpointError(
            f"{source.path}: lacks {linears.name.replace('*', str(gap))}.weight, though it has later blocks"
        )
    for shape, layers in by_shape.items():
        if len(shape) != 2 or 0 in shape:
            raise CheckpointError(
                f"{source.path}: {layers[0][1]}.weight has shape {list(shape)}, which is no linear layer's"
            )
        pieces = next((each for each in linears.others if shape[0] == len(each) * shape[1]), linears.pieces)
        if shape[0] % len(pieces):
            raise CheckpointError(
                f"{source.path}: {layers[0][1]}.weight has {shape[0]:,} rows, which are not {len(pieces)} equal pieces"
            )
        yield Layers(linears.name, pieces, tuple(name for _, name in sorted(layers)))


def _check(source: Source, cls: TransformerClass, found: Sequence[Layers], width: int) -> None:
    """Raise CheckpointError for layers that do not read c, and for another depth than the configuration's."""
    for layers in found:
        for name in layers.names:
            if (inputs := source.shape(f"{name}.weight")[1]) != width:
                raise CheckpointError(
                    f"{source.path}: {name} reads {inputs:,} columns, but c has {width:,} components: if AdaLN was "
                    "replaced already, give the whole model"
                )
            _linear(source, name)
        if len({f"{name}.bias" in source.tensors for name in layers.names}) > 1:
            raise CheckpointError(f"{source.path}: some of {layers.name} have a bias, and others have none")
    sizes = [size for key in cls.width if type(size := source.config.get(key)) is int]
    if len(sizes) == len(cls.width) and math.prod(sizes) != width:
        raise CheckpointError(
            f"{source.path}: {' times '.join(cls.width)} is {math.prod(sizes):,} in its configuration, but c has "
            f"{width:,} components: the configuration is of another model"
        )
    for key, value in cls.fixed:
        if (stated := source.config.get(key, value)) != value:
            raise CheckpointError(
                f"{source.path}: {key} is {stated!r} in its configuration, and c is known of {value!r} alone"
            )
    for key, name in cls.depths:
        stated = source.config.get(key)
        blocks = sum(len(layers.names) for layers in found if layers.name == name)
        if type(stated) is int and stated != blocks:
            raise CheckpointError(
                f"{source.path}: {key} is {stated} in its configuration, but the files have {blocks} of {name}: "
                "they were cut short, or the configuration is of another model"
            )


def _linear(source: Source, name: str) -> tuple[int, int]:
    """Rows and columns of a linear layer. Raises CheckpointError for a weight or bias that is none of one."""
    shape = source.shape(f"{name}.weight")
    if len(shape) != 2 or 0 in shape:
        raise CheckpointError(f"{source.path}: {name}.weight has shape {list(shape)}, which is no linear layer's")
    bias = f"{name}.bias"
    if bias in source.tensors and source.shape(bias) != shape[:1]:
        raise CheckpointError(
            f"{source.path}: {bias} has shape {list(source.shape(bias))}, and its weight {shape[0]:,} rows"
        )
    return shape[0], shape[1]


def _check_part(source: Source, part: Part, width: int) -> None:
    """Raise CheckpointError for layers that do not make a part of c."""
    block = 0
    while True:
        names = [layer.replace("*", str(block)) for layer in part.layers]
        if block and ("*" not in part.layers[0] or f"{names[0]}.weight" not in source.tensors):
            return
        if len(names) == 2:
            (inner, _), (made, columns) = (_linear(source, name) for name in names)
            if len({f"{name}.bias" in source.tensors for name in names}) > 1:
                raise CheckpointError(
                    f"{source.path}: one of {names[0]} and {names[1]} has a bias, and the other has none"
                )
            if (made, columns) != (width, inner):
                raise CheckpointError(
                    f"{source.path}: {names[1]}.weight has shape [{made}, {columns}], but it reads the {inner:,} of "
                    f"{names[0]}, and c has {width:,} components"
                )
        elif len(names) == 3:
            (values, inner), (made, columns), queries = (_linear(source, name) for name in names)
            if (values, columns, made) != (2 * inner, inner, width) or queries != (inner, inner):
                raise CheckpointError(
                    f"{source.path}: {names[0]}, {names[1]} and {names[2]} do not fit each other, or do not make the "
                    f"{width:,} components of c"
                )
        elif f"{names[0]}.weight" in source.tensors and len(source.shape(f"{names[0]}.weight")) == 2:
            _, made = _linear(source, names[0])
            if made != width:
                raise CheckpointError(
                    f"{source.path}: {names[0]}.weight has {made:,} columns, but c has {width:,} components"
                )
        block += 1


def made_by(parts: Sequence[Part], names: Iterable[str]) -> list[str]:
    """The tensors among these that make c."""
    patterns = [pattern_of(layer, "[.]") for part in parts for layer in part.layers]
    return [name for name in names if any(pattern.match(name) for pattern in patterns)]
