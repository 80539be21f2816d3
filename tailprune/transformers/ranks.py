"""How many directions the time's curve SiLU(c(t)) needs, weighted by how much AdaLN reads each of them.

    error(r)^2 = sum over i > r of s_i^2 / sum over t of s(t)'Ms(t),   M = sum of W'W

with s(t) = SiLU(c(t)), and s_i the singular values of the curve around its mean, as the modulations see it: no other r
directions have a smaller error. It is the modulation error of `tailprune.modulation`, over evenly spaced times.
M itself, d x d, is not made: the products of the curve with rows of W are, some hundred times for each row. Of models
with more rows than SAMPLED so many are drawn, as many from every piece of every layer as its share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.spec.transformers import Number, Part
from tailprune.transformers.recognise import Model
from tailprune.transformers.source import Source

__all__ = [
    "Ranks",
    "Unmeasured",
    "check_plain",
    "check_size",
    "check_varies",
    "condition",
    "errors_by_rank",
    "gram",
    "linear",
    "measure",
    "sampled_rows",
    "sinusoids",
    "summands",
]

ERRORS = (0.1, 0.01, 0.001, 0.0001)
TIMES = 1001
ROUNDING = 1e-13
SAMPLED = 8192
"""The rows of all layers that are read at most, many times the ranks that are looked for."""
SCALES = ("weight_scale", "scale_weight", "weight_scale_inv", "weight_scale_2")
"""Tensors beside a weight that is stored multiplied with them."""
SCALED = (*SCALES, "scale_input", "input_scale", "scaled_fp8")
"""What the names of tensors end with, of files that have such scales."""


class Unmeasured(ValueError):
    """Why no rank can be said of a model that is otherwise known."""


@dataclass(frozen=True)
class Ranks:
    """The ranks that errors need, and of what they were measured."""

    needed: dict[float, int]
    """The smallest number of directions for a modulation error, by the error."""
    errors: tuple[float, ...] = field(repr=False)
    """The modulation error by the number of directions, from 0 to the last of `needed`."""
    times: int
    """How many times, evenly spaced over all that a pipeline may pass."""
    rows: int
    """How many rows of the layers were read."""
    of_rows: int
    """How many rows they have."""


@torch.no_grad()
def measure(model: Model) -> Ranks:
    """The ranks that the time's curve of a model needs, whose values can be read.

    Raises Unmeasured for weights that no curve can be computed of.
    """
    number = model.cls.time.number
    assert number is not None, "the time is a number"
    read = F.silu(condition(model, torch.linspace(0, number.most, TIMES)))
    check_varies(read)
    weights, shares = sampled_rows(model)
    products, whole = gram((read.float() @ weights.T) * shares)
    errors = errors_by_rank(torch.linalg.eigvalsh(products), whole)
    needed = {error: int((errors > error).sum()) for error in ERRORS}
    return Ranks(needed, tuple(errors[: needed[ERRORS[-1]] + 1].tolist()), TIMES, len(weights), model.rows)


def gram(modulations: Tensor) -> tuple[Tensor, Tensor]:
    """Products of modulations around their mean, with shape (C, C), and their squared size, float64.

    modulations: of C vectors, with shape (C, rows)

    Raises Unmeasured for modulations that are zero or not finite.
    """
    whole = modulations.square().sum(dtype=torch.float64)
    check_size(whole)
    around = (modulations - modulations.mean(0)).double()
    return around @ around.T, whole


def check_varies(read: Tensor) -> None:
    """Raise Unmeasured if SiLU(c) is the same at all times, with shape (T, d), but for rounding."""
    if (read - read[0]).abs().max() <= ROUNDING * read.abs().max():
        raise Unmeasured("the condition does not depend on the time, as if the weights that make it were zero")


def check_size(whole: Tensor) -> None:
    """Raise Unmeasured for modulations whose squared size is zero or not finite."""
    if not torch.isfinite(whole):
        raise Unmeasured("its weights hold NaN or infinity")
    if whole == 0:
        raise Unmeasured("the weights that read the condition are zero")


def errors_by_rank(squares: Tensor, whole: Tensor) -> Tensor:
    """The error by the number of directions kept, 0 to C, from the C eigenvalues of `gram` in ascending order."""
    return (torch.cat([squares.new_zeros(1), squares.clamp(min=0).cumsum(0)]).flip(0) / whole).sqrt()


def condition(
    model: Model,
    times: Tensor,
    numbers: Mapping[str, Tensor] = {},
    rows: Mapping[str, int] = {},
    known: Mapping[str, Tensor] = {},
) -> Tensor:
    """c at these times, with shape (T, d), float64. Parameters and errors as in `summands`."""
    total = torch.zeros(1, dtype=torch.float64)
    for summand in summands(model, times, numbers, rows, known).values():
        total = total + summand
    return total


def summands(
    model: Model,
    times: Tensor,
    numbers: Mapping[str, Tensor] = {},
    rows: Mapping[str, int] = {},
    known: Mapping[str, Tensor] = {},
) -> dict[str, Tensor]:
    """What c is the sum of at these times, by what it is, with shape (T, d) or (1, d), float64.

    model: a model whose values can be read
    times: as the network takes them, with shape (T,), in the type in which it multiplies them with a factor
    numbers: other numbers that are parts of c, such as the guidance, by what they are, with shape (T,) or (1,); those
        that are not given are the pipelines' defaults
    rows: the rows of tables, by what they are; the last by default, which stands for no class
    known: parts of c that are computed already, by what they are, with shape (1, d)

    A pooled text, its tokens, sizes and the like count as zeros.

    Raises Unmeasured for a model whose blocks differ in how they embed the time, or with weights that are quantised or
    not finite.
    """
    source = model.source
    found: dict[str, Tensor] = {}
    averaged = any(part.averaged for part in model.parts)
    for part in model.parts:
        names = [layer.replace("*", "0") for layer in part.layers]
        _check_copies(source, part)
        match names:
            case _ if part.what in known:
                found[part.what] = known[part.what]
            case [first, second]:
                first_weight, first_bias = linear(source, first)
                if part.number is None:
                    inner = torch.zeros(1, first_weight.shape[1], dtype=torch.float64)
                else:
                    fixed = torch.tensor([part.number.fixed or 0.0], dtype=times.dtype)
                    at = times if part.is_time else numbers.get(part.what, fixed)
                    inner = sinusoids(at, first_weight.shape[1], part.number).double()
                weight, bias = linear(source, second)
                share = 0.5 if part.averaged or (part.is_time and averaged) else 1.0
                found[part.what] = share * (F.silu(inner @ first_weight.T + first_bias) @ weight.T + bias)
            case [values, output, _]:  # of zeros k and v are biases, so that the weighted sum of v is its bias
                weight, bias = linear(source, output)
                found[part.what] = (weight @ linear(source, values)[1][weight.shape[1] :] + bias)[None]
            case [table]:
                row = source.read(f"{table}.weight").double()[rows.get(part.what, -1)]
                found[part.what] = row[None]
    if not all(torch.isfinite(each).all() for each in found.values()):
        raise Unmeasured("the weights that make the condition hold NaN or infinity")
    return found


def sinusoids(values: Tensor, channels: int, number: Number) -> Tensor:
    """Cosines and sines, with shape (T, channels), as diffusers' get_timestep_embedding makes them in float32."""
    half = channels // 2
    exponents = -math.log(10_000) * torch.arange(half, dtype=torch.float32)
    angles = number.scale * ((values * number.factor).float()[:, None] * torch.exp(exponents / (half - number.shift)))
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, channels % 2))


def linear(source: Source, name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear layer, float64; zeros where it has no bias. Raises Unmeasured for a quantised one."""
    _check_plain(source, name)
    weight = source.read(f"{name}.weight").double()
    bias = f"{name}.bias"
    return weight, source.read(bias).double() if bias in source.tensors else weight.new_zeros(len(weight))


def check_plain(model: Model) -> None:
    """Raise Unmeasured for layers of AdaLN that are quantised, and for scales beside any weight of a model.

    A weight of eight bits without scales is a number as any other.
    """
    source = model.source
    reasons = (_quantised(source, name) for name in model.names)
    scale = next((name for name in source.tensors if name.rpartition(".")[2] in SCALED), None)
    reason = next((each for each in reasons if each), f"weights are stored with scales ({scale})" if scale else None)
    if reason is not None:
        raise Unmeasured(f"{reason}: give the weights before they were quantised, and quantise the result")


def _check_plain(source: Source, name: str) -> None:
    if (reason := _quantised(source, name)) is not None:
        raise Unmeasured(reason)


def _quantised(source: Source, name: str) -> str | None:
    """Why the numbers of a linear layer are not what is stored; None if they are."""
    for tensor in (f"{name}.weight", f"{name}.bias"):
        dtype = source.tensors[tensor].dtype if tensor in source.tensors else "F32"
        if not dtype.startswith(("F", "BF")) or dtype.startswith(("F4", "F6_", "F8_E8M0")):
            return f"{tensor} is quantised ({dtype})"
    scale = next((scale for scale in SCALES if f"{name}.{scale}" in source.tensors), None)
    return None if scale is None else f"{name}.weight is stored with a {scale}"


def _check_copies(source: Source, part: Part) -> None:
    """Raise Unmeasured if the blocks have embedders of their own that are not equal."""
    for layer in part.layers:
        copy, block = f"{layer}.weight", 1
        while "*" in layer and (other := copy.replace("*", str(block))) in source.tensors:
            if not torch.equal(source.read(copy.replace("*", "0")), source.read(other)):
                raise Unmeasured(f"each block embeds the {part.what} in its own way")
            block += 1


def sampled_rows(model: Model) -> tuple[Tensor, Tensor]:
    """Rows of the layers, float32, and with what each counts: the root of how many it stands for."""
    source, total = model.source, model.rows
    generator = torch.Generator().manual_seed(0)
    drawn: dict[torch.dtype, list[Tensor]] = {}
    shares: dict[torch.dtype, list[float]] = {}
    for name, pieces in ((name, len(layers.pieces)) for layers in model.layers for name in layers.names):
        _check_plain(source, name)
        rows = source.shape(f"{name}.weight")[0] // pieces
        count = rows if total <= SAMPLED else max(1, round(rows * SAMPLED / total))
        for piece in range(pieces):
            start = piece * rows + int(torch.randint(rows - count + 1, (), generator=generator))
            some = source.read(f"{name}.weight", slice(start, start + count))
            drawn.setdefault(some.dtype, []).append(some)
            shares.setdefault(some.dtype, []).extend([(rows / count) ** 0.5] * count)
    weights = torch.cat([torch.cat(of_a_type).float() for of_a_type in drawn.values()])
    return weights, torch.tensor([share for of_a_type in shares.values() for share in of_a_type])
