"""Adapters of large transformers, such as LoRAs: which layers a file changes, and by what.

    LoRA         dW = s B A                        `lora_A`, `lora_B`; `lora_down`, `lora_up`; arXiv 2106.09685
    LoHa         dW = s (A1 B1) * (A2 B2)          `hada_w1_a`, `hada_w1_b`, …; elementwise; arXiv 2108.06098
    LoKr         dW = s kron(C1, C2)               `lokr_w1`, `lokr_w2`, or `_a`, `_b` of each; arXiv 2212.10650
    difference   dW itself, db                     `diff`, `diff_b`

s is alpha / rank, and 1 without an alpha or, unless PEFT states a rank, where both factors of a LoKr are whole;
rank-stabilised, where the file says so, alpha / sqrt(rank) (arXiv 2312.03732). A LoRA's bias, `lora_B.bias`, is
multiplied with s too.

Names are diffusers' and PEFT's, kohya's, with `_` for dots, and ComfyUI's; of FLUX.1 and MiniMax-H3 also those of the
original code. Only headers are read when a file is opened.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tailprune.spec import InputError
from tailprune.spec.transformers import CLASSES
from tailprune.transformers.alphas import ScalesStated, scales_stated
from tailprune.transformers.original_names import HALVES_SWAPPED, layers_by_original_name
from tailprune.transformers.recognise import made_by
from tailprune.transformers.source import Source, open_file

__all__ = ["Adapter", "Change", "Shapes", "open_adapter"]

PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.")
FLAT_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_")
TEXT = re.compile(r"(text_encoder|lora_te|te\d?[._]|conditioner\.|cond_stage_model\.)")
"""What the names of text encoders begin with."""
ENDINGS = {
    **dict.fromkeys(("lora_A.weight", "lora_A.default.weight", "lora_down.weight", "lora.down.weight"), "down"),
    **dict.fromkeys(("lora_B.weight", "lora_B.default.weight", "lora_up.weight", "lora.up.weight"), "up"),
    **dict.fromkeys(("lora_B.bias", "lora_B.default.bias", "lora_up.bias"), "up_bias"),
    **{name: name for name in ("alpha", "diff", "diff_b", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
    **{name: name for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")},
}
"""What a tensor is, by how its name ends."""
REFUSED = {
    **dict.fromkeys(("dora_scale", "lora_magnitude_vector", "lora_magnitude_vector.weight"), "DoRA"),
    **dict.fromkeys(("lora_mid.weight", "hada_t1", "hada_t2", "lokr_t2"), "a Tucker decomposition"),
}
FORMS = {
    "LoRA": ({"down", "up"},),
    "LoHa": ({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"},),
    "LoKr": tuple(
        {*first, *second}
        for first in (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
        for second in (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"))
    ),
    "difference": ({"diff"},),
    "bias": (set[str](),),
}
"""The tensors that make dW in each form, besides alpha and biases."""


@dataclass(frozen=True)
class Shapes:
    """The layers of the whole model that an adapter is for."""

    class_name: str
    """diffusers' name of its class."""
    weights: Mapping[str, tuple[int, ...]]
    """The shape of each layer's weight, by the layer's name."""


@dataclass(frozen=True)
class Change:
    """The change of one layer."""

    layer: str
    """diffusers' name of the layer."""
    said: str
    """What the file calls it."""
    form: str
    """LoRA, LoHa, LoKr, difference, or bias alone."""
    scale: float
    names: Mapping[str, str]
    """The name in the file of each tensor, by what it is."""
    source: Source
    pieces: tuple[slice, ...]
    """The rows of the file that make those of the layer, in order."""

    def read(self, what: str) -> Tensor:
        """A tensor, with its first dimension and the product of the others, or with one dimension."""
        values = self.source.read(self.names[what])
        return values if values.ndim < 2 else values.flatten(1)

    @property
    def outputs(self) -> int:
        """The rows of the layer."""
        return sum(each.stop - each.start for each in self.pieces)

    def of_layer(self, values: Tensor) -> Tensor:
        """Those of the rows of the file that are of this layer, in its order."""
        return torch.cat([values[each] for each in self.pieces])

    def weight(self, rows: slice, dtype: torch.dtype) -> Tensor | None:
        """dW, of some rows of the layer, with shape (rows, inputs); None if it changes the bias alone."""
        if self.form == "bias":
            return None
        return torch.cat([self._stored_rows(each, dtype) for each in self._places(rows)])

    def bias(self, dtype: torch.dtype = torch.float64) -> Tensor | None:
        """db, with shape (rows,); None if it leaves the bias as it is."""
        if "up_bias" not in self.names and "diff_b" not in self.names:
            return None
        total = torch.zeros(1, dtype=torch.float64)
        if "up_bias" in self.names:
            total = total + self.scale * self.read("up_bias").double()
        if "diff_b" in self.names:
            total = total + self.read("diff_b").double()
        return self.of_layer(total).to(dtype)

    def _places(self, rows: slice) -> Iterator[slice]:
        """Where some rows of the layer are in the file."""
        before = 0
        for piece in self.pieces:
            start, stop = max(rows.start - before, 0), min(rows.stop - before, piece.stop - piece.start)
            if start < stop:
                yield slice(piece.start + start, piece.start + stop)
            before += piece.stop - piece.start

    def _stored_rows(self, rows: slice, dtype: torch.dtype) -> Tensor:
        def read(what: str) -> Tensor:
            return self.read(what).to(dtype)

        match self.form:
            case "LoRA":
                return self.scale * (read("up")[rows] @ read("down"))
            case "LoHa":
                first = read("hada_w1_a")[rows] @ read("hada_w1_b")
                return self.scale * first * (read("hada_w2_a")[rows] @ read("hada_w2_b"))
            case "LoKr":
                first, second = (
                    read(factor) if factor in self.names else read(f"{factor}_a") @ read(f"{factor}_b")
                    for factor in ("lokr_w1", "lokr_w2")
                )
                size = len(second)
                above = rows.start // size
                made = torch.kron(first[above : -(-rows.stop // size)].contiguous(), second.contiguous())
                return self.scale * made[rows.start - above * size : rows.stop - above * size]
            case _:
                values = self.source.read(self.names["diff"], rows).to(dtype)
                return values if values.ndim < 2 else values.flatten(1)


@dataclass(frozen=True)
class Adapter:
    """A file whose every tensor was found to change a layer."""

    path: Path
    source: Source
    changes: tuple[Change, ...]


def open_adapter(path: Path, model: Shapes) -> Adapter:
    """The changes that a file makes to a model.

    Raises FileNotFoundError for a missing file, CheckpointError for one that is not in the safetensors format, and
    InputError for a name that belongs to no layer, for two of one layer, for shapes that do not fit, for layers that
    make c, and for forms that are not known.
    """
    source, metadata = open_file(path)
    groups: dict[str, dict[str, str]] = {}
    for name in source.tensors:
        module, what = _split(path, name)
        group = groups.setdefault(module, {})
        if what in group:
            raise InputError(f"{path}: {group[what]} and {name} are the same tensor of one layer: leave one out")
        group[what] = name
    if not groups:
        raise InputError(f"{path}: has no tensors")
    stated = scales_stated(path, metadata, model.class_name, any("alpha" in group for group in groups.values()))
    changes: dict[str, Change] = {}
    for module, names in groups.items():
        for change in _changes(source, model, module, names, stated):
            if change.layer in changes:
                raise InputError(
                    f"{path}: {changes[change.layer].said} and {module} both change {change.layer}: leave one out"
                )
            changes[change.layer] = change
    return Adapter(path, source, tuple(changes.values()))


def _split(path: Path, name: str) -> tuple[str, str]:
    """The layer of a tensor, as the file names it, and what the tensor is."""
    if TEXT.match(name):
        raise InputError(
            f"{path}: {name} is of a text encoder: give the parts of the transformer alone, and the others in a file "
            "of their own"
        )
    for ending, form in REFUSED.items():
        if name.endswith(f".{ending}"):
            raise InputError(
                f"{path}: {name} is of {form}, which is not read: merge it into the whole model, and compact that"
            )
    for ending, what in ENDINGS.items():
        if name.endswith(f".{ending}"):
            return name.removesuffix(f".{ending}"), what
    raise InputError(f"{path}: {name} ends in none of {', '.join(f'.{ending}' for ending in ENDINGS)}")


def _changes(
    source: Source, model: Shapes, module: str, names: Mapping[str, str], stated: ScalesStated
) -> Iterator[Change]:
    """The changes of what one name in the file means: a layer, or several that are one in the original code."""
    form = _form(source, module, names)
    layers, swapped = _layers_of(source, model, module, names)
    rows = [model.weights[layer][0] for layer in layers]
    _check_shapes(source, model, form, module, names, layers)
    scale = _scale(source, form, module, names, stated)
    start = 0
    for layer, count in zip(layers, rows, strict=True):
        whole = slice(start, start + count)
        half = start + count // 2
        pieces = (slice(half, whole.stop), slice(start, half)) if swapped else (whole,)
        yield Change(layer, module, form, scale, names, source, pieces)
        start += count


def _form(source: Source, module: str, names: Mapping[str, str]) -> str:
    weights = names.keys() - {"alpha", "up_bias", "diff_b"}
    form = next((form for form, sets in FORMS.items() if weights in sets), None)
    if form is None or (form == "bias" and "diff_b" not in names) or ("up_bias" in names and form != "LoRA"):
        raise InputError(
            f"{source.path}: {module} has {', '.join(sorted(names.values()))}, which are not the tensors of one LoRA, "
            "LoHa, LoKr or difference"
        )
    return form


def _layers_of(source: Source, model: Shapes, module: str, names: Mapping[str, str]) -> tuple[tuple[str, ...], bool]:
    """diffusers' layers for a name in the file, and whether the halves of the rows change places."""
    flat_prefix = next((each for each in FLAT_PREFIXES if module.startswith(each)), None)
    flat, name = flat_prefix is not None, module.removeprefix(flat_prefix or "")
    for prefix in PREFIXES if not flat else ():
        name = name.removeprefix(prefix)
    ours = [layer for layer in model.weights if (layer.replace(".", "_") if flat else layer) == name]
    found: list[tuple[str, tuple[str, ...]]] = [(name, (layer,)) for layer in ours]
    found = found or list(layers_by_original_name(model.class_name, name, flat=flat))
    _check_source_of_c(source, model, module, name, flat=flat)
    known = [each for each in found if all(layer in model.weights for layer in each[1])]
    if len(known) != 1:
        such = sorted(layer for layer in model.weights)[:3]
        raise InputError(
            f"{source.path}: {module} "
            + ("may be several layers" if known else "is no layer")
            + f" of the {model.class_name}, whose layers are {', '.join(such)} and so on"
        )
    [(original, layers)] = known
    if not ours and len(layers) == 3 and any(".default." in each for each in names.values()):
        raise InputError(
            f"{source.path}: {module} may have the rows of its heads in turns, which its shape does not say: convert "
            "it to the names of diffusers first"
        )
    return layers, not ours and original in HALVES_SWAPPED


def _check_source_of_c(source: Source, model: Shapes, module: str, name: str, *, flat: bool) -> None:
    for cls in CLASSES:
        if cls.name != model.class_name:
            continue
        layers = [layer for part in cls.parts for layer in part.layers]
        if made_by(cls.parts, [f"{name}."]) or (flat and name in {layer.replace(".", "_") for layer in layers}):
            raise InputError(
                f"{source.path}: {module} changes what makes c, and with it the directions that the compacted model "
                "reads: merge it into the whole model, and compact that"
            )


def _check_shapes(
    source: Source, model: Shapes, form: str, module: str, names: Mapping[str, str], layers: Iterable[str]
) -> None:
    """Raise InputError for tensors that do not make dW and db of the layers."""
    shapes = {what: source.tensors[name].shape for what, name in names.items()}
    for what, name in names.items():
        if source.tensors[name].dtype not in ("F64", "F32", "F16", "BF16") and what != "alpha":
            raise InputError(f"{source.path}: {name} has the type {source.tensors[name].dtype}, and not a float's")
        if what not in ("alpha", "up_bias", "diff_b", "diff") and (len(shapes[what]) < 2 or 0 in shapes[what]):
            raise InputError(f"{source.path}: {name} has the shape {list(shapes[what])}, and a factor is a matrix")
    flat = {what: (shape[0], math.prod(shape[1:])) for what, shape in shapes.items() if len(shape) > 0}
    weights = [model.weights[layer] for layer in layers]
    rows, inputs = sum(shape[0] for shape in weights), math.prod(weights[0][1:])
    if len(weights[0]) < 2 and form not in ("difference", "bias"):
        raise InputError(f"{source.path}: {module} is a {form}, and {' and '.join(layers)} has no matrix to change")

    def refuse(what: str, wanted: str) -> None:
        raise InputError(
            f"{source.path}: {names[what]} has the shape {list(shapes[what])}, and {' and '.join(layers)} of the whole "
            f"model take {wanted}"
        )

    def check_product(left: str, right: str, outer: tuple[int, int]) -> None:
        if flat[left][0] != outer[0]:
            refuse(left, f"{outer[0]:,} rows")
        if flat[right][1] != outer[1]:
            refuse(right, f"{outer[1]:,} columns")
        if flat[left][1] != flat[right][0]:
            refuse(left, f"as many columns as {names[right]} has rows, {flat[right][0]:,}")

    match form:
        case "LoRA":
            check_product("up", "down", (rows, inputs))
        case "LoHa":
            check_product("hada_w1_a", "hada_w1_b", (rows, inputs))
            check_product("hada_w2_a", "hada_w2_b", (rows, inputs))
            if flat["hada_w1_b"][0] != flat["hada_w2_b"][0]:
                refuse("hada_w2_b", f"the same rank for both products, {flat['hada_w1_b'][0]}")
        case "LoKr":
            first, second = (
                flat[each] if each in flat else (flat[f"{each}_a"][0], flat[f"{each}_b"][1])
                for each in ("lokr_w1", "lokr_w2")
            )
            for each in ("lokr_w1", "lokr_w2"):
                if each not in flat:
                    check_product(f"{each}_a", f"{each}_b", first if each == "lokr_w1" else second)
            if (first[0] * second[0], first[1] * second[1]) != (rows, inputs):
                refuse(
                    next(what for what in names if what.startswith("lokr_w2")),
                    f"factors whose product has {rows:,} rows and {inputs:,} columns",
                )
        case "difference":
            if shapes["diff"] != (rows, *weights[0][1:]):
                refuse("diff", f"{[rows, *weights[0][1:]]}")
    for what in ("up_bias", "diff_b"):
        if what in shapes and shapes[what] != (rows,):
            refuse(what, f"{[rows]}")


def _scale(source: Source, form: str, module: str, names: Mapping[str, str], stated: ScalesStated) -> float:
    """What dW is multiplied with."""
    factors = [what for what in names if what == "down" or re.fullmatch("(hada|lokr)_.*_b", what)]
    ranks: set[float] = {source.tensors[names[what]].shape[0] for what in factors}
    name = module
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    if form == "LoKr" and not ranks and (rank := stated.rank_of(name)) is not None:
        ranks = {rank}
    if form in ("difference", "bias") or not ranks:
        return 1.0
    if "alpha" in names:
        values = source.read(names["alpha"])
        if values.numel() != 1 or not torch.isfinite(values.double()).all():
            raise InputError(f"{source.path}: {names['alpha']} is not one finite number")
        alpha = float(values)
    else:
        found = stated.alpha_of(name)
        if found is None:
            return 1.0
        alpha = found
    if len(ranks) > 1:
        raise InputError(f"{source.path}: {module} has factors of rank {min(ranks)} and {max(ranks)}, and one alpha")
    rank = ranks.pop()
    if not rank > 0:
        raise InputError(f"{source.path}: {module} has the rank {rank:g} by its description, which is none")
    return alpha / math.sqrt(rank) if stated.stabilised else alpha / rank
