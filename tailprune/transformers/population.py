"""The pooled texts that a compaction covers, or whose mean takes the place of all.

A text encoder's pooled output is a vector p, and its part of c is linear, SiLU, linear of it. So a population of texts
is their vectors, as the pipeline passes them: with CLIP's `pooler_output` of some hundred prompts, say, stacked. Where
the transformer itself pools the tokens (Mochi), the vectors are what its attention makes of them, the part of c itself.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tailprune.spec import InputError, MissingFileError
from tailprune.spec.transformers import MOST_TEXTS, Part
from tailprune.transformers.prompts import are_prompts, pooled_texts
from tailprune.transformers.ranks import linear
from tailprune.transformers.recognise import Model
from tailprune.transformers.source import TORCH

__all__ = [
    "POPULATION",
    "PooledTexts",
    "parts_of_texts",
    "read_population",
    "some_texts",
    "texts_covered",
    "texts_replaced",
    "vector_part",
]

POPULATION = "population.safetensors"
"""The population in a compacted folder, so that what it covers can be verified."""


@dataclass(frozen=True)
class PooledTexts:
    """Pooled texts."""

    vectors: Tensor
    """With shape (K, width of a pooled text), float32."""

    @property
    def digest(self) -> str:
        """The sha256 of the vectors."""
        return hashlib.sha256(self.vectors.contiguous().numpy().tobytes()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write it into a compacted folder."""
        save_file({"pooled": self.vectors.contiguous()}, folder / POPULATION)


def vector_part(model: Model) -> Part | None:
    """The part of c that a pooled text, sizes or a class make; None for a model that takes none of them."""
    return next((part for part in model.parts if part.what in ("pooled text", "sizes", "class")), None)


def _text_part(model: Model) -> Part | None:
    part = vector_part(model)
    return part if part is not None and part.what == "pooled text" else None


def read_population(path: str | os.PathLike[str], model: Model) -> PooledTexts:
    """Read the pooled texts of a safetensors file: its only tensor, or the one that is called `pooled`; or make them.

    path: the file; its tensor has the shape (K, width of a pooled text), or (K, width of c) where the model pools
        tokens; or prompts, a text file with one a line or a folder with such files, of which the text encoders beside
        the model make them (`prompts`)
    model: the model that takes them

    Raises FileNotFoundError for a missing file, InputError for a model that takes no pooled text, and for a tensor of
    another shape, or with NaN or infinity in it.
    """
    part = _text_part(model)
    if part is None:
        raise InputError(f"{model.source.path}: takes no pooled text: leave the population out")
    file = Path(path)
    if are_prompts(file):
        return _checked(model, part, file, pooled_texts(file, model.cls.name, Path(model.source.path)))
    if not file.is_file():
        raise MissingFileError(f"{file} does not exist: give a safetensors file with pooled texts")
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise InputError(f"{file}: is not a safetensors file ({error})") from error
    if "pooled" not in tensors and len(tensors) != 1:
        raise InputError(f"{file}: has {len(tensors)} tensors, and none is called 'pooled'")
    return _checked(model, part, file, tensors.get("pooled", next(iter(tensors.values()))))


def _checked(model: Model, part: Part, file: Path, vectors: Tensor) -> PooledTexts:
    """Pooled texts of a file. Raises InputError for another shape than the model takes, and for NaN or infinity."""
    width = model.width if part.pools else model.source.shape(f"{part.layers[0]}.weight")[1]
    if vectors.ndim != 2 or vectors.shape[1] != width or not 1 <= len(vectors) <= MOST_TEXTS:
        raise InputError(
            f"{file}: pooled texts of {model.source.path} have the shape (1 to {MOST_TEXTS:,}, {width}), not "
            f"{tuple(vectors.shape)}"
        )
    if not vectors.is_floating_point() or not torch.isfinite(vectors.float()).all():
        raise InputError(f"{file}: its vectors are not finite numbers, or too large for float32")
    return PooledTexts(vectors.float())


def parts_of_texts(model: Model, population: PooledTexts) -> Tensor:
    """The parts of c that the texts make, with shape (K, d), float64."""
    part = _text_part(model)
    assert part is not None, "a population is read for a model that takes it"
    if part.pools:
        return population.vectors.double()
    (first, first_bias), (second, bias) = (linear(model.source, layer) for layer in part.layers)
    return F.silu(population.vectors.double() @ first.T + first_bias) @ second.T + bias


def texts_covered(model: Model, pooled: str | None, population: PooledTexts | None) -> Tensor | None:
    """The parts of c that the texts make which a compacted model tells apart, with shape (K, d); None for zeros.

    pooled: with `mean` it is one, the mean of the population's, as it is stored

    Raises InputError for a model whose layers, or their type, cannot hold the mean.
    """
    if population is None or pooled == "zero":
        return None
    parts = parts_of_texts(model, population)
    if pooled is None:
        return parts
    part = _text_part(model)
    assert part is not None, "a population is read for a model that takes it"
    if f"{part.layers[1]}.bias" not in model.source.tensors:
        raise InputError(f"{model.source.path}: {part.layers[1]} has no bias, which would hold the mean")
    mean = parts.mean(0, keepdim=True).to(_stored(model, part)).double()
    if not torch.isfinite(mean).all():
        raise InputError(f"{model.source.path}: the mean of the pooled texts is too large for {part.layers[1]}.bias")
    return mean


def texts_replaced(model: Model, pooled: str | None, population: PooledTexts | None) -> dict[str, Tensor | None]:
    """The tensors that make a text's part, where they are written otherwise, or None for zeros.

    With `zero` a text, or each of its tokens, counts as zeros, and with `mean` as the mean of the population's parts.
    """
    part = _text_part(model)
    if pooled is None or part is None:
        return {}
    if pooled == "zero":
        return {f"{part.layers[0]}.weight": None}
    mean = texts_covered(model, pooled, population)
    assert mean is not None, "a mean is of a population"
    return {f"{part.layers[1]}.weight": None, f"{part.layers[1]}.bias": mean[0].to(_stored(model, part))}


def some_texts(model: Model, population: PooledTexts, most: int) -> Tensor:
    """The parts of c that at most so many texts make, evenly taken, with shape (K, d)."""
    parts = parts_of_texts(model, population)
    return parts[torch.linspace(0, len(parts) - 1, min(most, len(parts))).long()]


def _stored(model: Model, part: Part) -> torch.dtype:
    """The type in which the mean of texts is stored: that of the bias, or bfloat16 for one of eight bits."""
    dtype = TORCH[model.source.tensors[f"{part.layers[1]}.bias"].dtype]
    return torch.bfloat16 if dtype.itemsize == 1 else dtype
