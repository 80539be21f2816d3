"""What a large transformer's AdaLN takes, what its condition depends on, and what could stand in its place.

AdaLN's linear layers, W of n rows together, read SiLU(c) of d components. Where r directions of it are enough, a layer
reads r columns in place of d, and all of them share the r x d matrix of the directions: n r + n + r d numbers in place
of n d + n. For a schedule of N steps r = N - 1 is exact, since N points lie in N - 1 directions around their mean.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tailprune.spec.display import Shown
from tailprune.spec.transformers import Part
from tailprune.transformers.ranks import Ranks, Unmeasured, measure
from tailprune.transformers.recognise import Layers, Model, made_by, recognise
from tailprune.transformers.source import open_source

__all__ = ["Anatomy", "Group", "Replacement", "anatomy"]

STEPS = 50
"""The schedule whose exact table is stated."""
RANK = 64
"""The rank that is stated where none was measured."""
RECOMMENDED_ERROR = 0.001
MOST_SHARE = 0.2
"""A rank that leaves no more of AdaLN than this is recommended before a table."""
LITTLE = 0.05
"""A share of AdaLN below which nothing is recommended."""


@dataclass(frozen=True, repr=False)
class Group(Shown):
    """Linear layers with one name, but for the number of the block, and one shape."""

    name: str
    """With `*` for the number of the block."""
    count: int
    inputs: int
    """The width of c."""
    outputs: int
    pieces: tuple[str, ...]
    """What its output is cut into: shifts, scales and gates, in order."""
    parameters: int
    """Of all of them together, biases in."""


@dataclass(frozen=True, repr=False)
class Replacement(Shown):
    """What AdaLN would take if it read fewer columns."""

    what: str
    """`rank`, or `steps` for the exact table of a schedule."""
    number: int
    """The rank, or the number of steps."""
    error: float | None
    """The modulation error over all times; None if it was not measured."""
    columns: int
    parameters: int
    bytes: int
    saved_bytes: int


@dataclass(frozen=True, repr=False)
class Anatomy(Shown):
    """The anatomy of a large transformer."""

    path: str
    name: str
    """diffusers' name of its class."""
    models: str
    """Models of this class."""
    naming: str
    """Whose names the tensors have."""
    parameters: int
    bytes: int
    adaln_parameters: int
    """Of all linear layers that read SiLU(c)."""
    adaln_bytes: int
    adaln_types: tuple[str, ...]
    """The types of AdaLN's weights, the most frequent first, in the notation of safetensors."""
    embedder_parameters: int
    """Of what makes c."""
    condition_dim: int
    """The width of c."""
    depends_on: tuple[str, ...]
    """What c is the sum of, the time first."""
    time_range: tuple[float, float]
    """The times that diffusers' pipeline passes."""
    time_factor: float
    """What the network multiplies them with before their sinusoids are taken."""
    linears: tuple[Group, ...]
    ranks: Ranks | None
    """The rank that the time's curve needs; None if it was not measured."""
    unmeasured: str | None
    """Why there are no ranks."""
    replacements: tuple[Replacement, ...]
    """Each rank of `ranks`, or rank 64 if there are none, and the exact table of 50 steps."""
    recommendation: str

    @property
    def adaln_share(self) -> float:
        """AdaLN's share of all parameters, in [0, 1]."""
        return self.adaln_parameters / self.parameters


def anatomy(source: str | os.PathLike[str]) -> Anatomy:
    """The anatomy of a transformer, from its headers, and a few rows of its weights where they are at hand.

    source: a folder in diffusers' layout (of the transformer, or with one in `transformer/`), a safetensors file, or
        `hf://owner/repo`, of which the headers alone are read unless it is in the cache

    Raises FileNotFoundError for a missing source or shard, CheckpointError for a class that is not known, and for
    files that are not what their headers, their index or their configuration say.
    """
    opened = open_source(source)
    model = recognise(opened)
    cls, names = model.cls, model.names
    tensors = [tensor for name in names for tensor in model.tensors(name)]
    counted = [name for name in opened.tensors if name not in cls.buffers]
    sizes = _Sizes(model.width, model.rows, opened.parameters(tensors), opened.size_of(tensors))
    ranks, unmeasured = _ranks(model)
    opened.check_unchanged()
    replacements = _replacements(sizes, ranks)
    assert cls.time.number is not None, "the time is a number"
    parameters = opened.parameters(counted)
    return Anatomy(
        path=opened.path,
        name=cls.name,
        models=cls.models,
        naming=cls.naming,
        parameters=parameters,
        bytes=opened.size_of(counted),
        adaln_parameters=sizes.parameters,
        adaln_bytes=sizes.bytes,
        adaln_types=tuple(
            each for each, _ in Counter(opened.tensors[f"{name}.weight"].dtype for name in names).most_common()
        ),
        embedder_parameters=opened.parameters(made_by(model.parts, counted)),
        condition_dim=model.width,
        depends_on=tuple(part.what for part in model.parts),
        time_range=(0, cls.time.number.most),
        time_factor=cls.time.number.factor * cls.time.number.scale,
        linears=tuple(_group(model, each) for each in model.layers),
        ranks=ranks,
        unmeasured=unmeasured,
        replacements=replacements,
        recommendation=_recommendation(sizes, parameters, model.parts, ranks, replacements),
    )


def _group(model: Model, layers: Layers) -> Group:
    outputs, inputs = model.source.shape(f"{layers.names[0]}.weight")
    count = model.source.parameters(tensor for name in layers.names for tensor in model.tensors(name))
    return Group(layers.name, len(layers.names), inputs, outputs, layers.pieces, count)


def _ranks(model: Model) -> tuple[Ranks | None, str | None]:
    if not model.source.has_values:
        return None, "the headers alone were read: fetch the weights"
    try:
        return measure(model), None
    except Unmeasured as error:
        return None, str(error)


@dataclass(frozen=True)
class _Sizes:
    width: int
    rows: int
    """Of all layers together."""
    parameters: int
    bytes: int

    def replaced(self, what: str, number: int, error: float | None, columns: int) -> Replacement:
        parameters = self.rows * columns + self.rows + columns * self.width
        size = round(self.bytes / self.parameters * parameters)
        return Replacement(what, number, error, columns, parameters, size, self.bytes - size)


def _replacements(sizes: _Sizes, ranks: Ranks | None) -> tuple[Replacement, ...]:
    """The ranks that errors need, or RANK if they were not measured, and the table of STEPS steps."""
    by_error = ranks.needed if ranks is not None else {None: RANK}
    found = [sizes.replaced("rank", rank, error, rank) for error, rank in by_error.items()]
    return (*found, sizes.replaced("steps", STEPS, 0.0 if ranks is not None else None, STEPS - 1))


def _recommendation(
    sizes: _Sizes, parameters: int, parts: Sequence[Part], ranks: Ranks | None, replacements: Sequence[Replacement]
) -> str:
    share = sizes.parameters / parameters
    if share < LITTLE:
        return f"leave it: AdaLN is {share:.1%} of the parameters"
    *by_rank, table = replacements
    others = [part.what for part in parts if not part.is_time and not part.scheduled]
    wanted = next((each for each in by_rank if each.error == RECOMMENDED_ERROR), None)
    if wanted is not None and wanted.bytes <= MOST_SHARE * sizes.bytes:
        alone = f", where {' and '.join(others)} do not vary," if others else ""
        return (
            f"rank {wanted.number}, which at any time{alone} has an error of {wanted.error:.1%} and saves "
            f"{in_words(wanted.saved_bytes)}"
        )
    if table.saved_bytes <= 0:
        return f"leave it: the exact table of {table.number} steps would be no smaller than AdaLN"
    alone = f", for one {' and one '.join(others)}" if others else ""
    return (
        f"an exact table for a fixed schedule{alone}: {table.number} steps take {table.columns} columns and save "
        f"{in_words(table.saved_bytes)}; it serves no other steps"
    )


def in_words(size: int) -> str:
    """A number of bytes in GB, or in MB if it is less than a tenth of one."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"
