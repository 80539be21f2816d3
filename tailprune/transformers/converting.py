"""A compacted MiniMax-H3 in the layout of another program, or back in diffusers'.

All tensors but AdaLN's are copied, rows in another order where a layout has them so. AdaLN's are computed in float64
and rounded to the type that the layout has:

    a table          x at its times, with W' and b' as they are
    no mean          B = L Q with orthonormal rows of Q: (W' L) (Q s) + (b' - W' B m) = W' B (s - m) + b'
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from tailprune.checkpoints.files import CheckpointError
from tailprune.checkpoints.save import TYPES
from tailprune.progress import OnStep, reporting
from tailprune.spec import InputError
from tailprune.spec.display import Shown
from tailprune.spec.layouts import CONFIG, DIFFUSERS_WEIGHTS
from tailprune.transformers.account import COMPACTION
from tailprune.transformers.compacted import COVERED, MINIMAX_H3, Compacted, read_compacted
from tailprune.transformers.layouts import (
    DEFAULTS,
    LAYOUTS,
    TABLE_TIMES,
    Layout,
    frequencies,
    is_adaln,
    shapes_of,
    stored_as,
)
from tailprune.transformers.modeling import RANK, TABLE, TABLE_SIZE
from tailprune.transformers.original_names import Piece
from tailprune.transformers.source import PIECE, TORCH, open_source
from tailprune.transformers.writing import (
    Tensors,
    Unfinished,
    as_bytes,
    bytes_of,
    check_new,
    unfinished,
    write_config,
    write_index,
)

__all__ = ["Converted", "convert"]

COLUMNS = 8
"""The columns of the published table."""
CHECKED = 65
"""The times, evenly spaced, at which the rounding of AdaLN is measured."""
SHARD = 10 * 10**9
"""The bytes of one file of a folder, as diffusers has it."""
FLOAT32 = ("proj_in.", "audio_proj_in.", "proj_out.", "audio_proj_out.")
"""What the published model has in float32; everything else but AdaLN is bfloat16."""


@dataclass(frozen=True, repr=False)
class Converted(Shown):
    """A compacted transformer in another layout, and how far it is from what it was made of."""

    path: str
    layout: str
    converted_from: str
    """The layout that it had."""
    columns: int
    times: int
    """The times of its table; 0 if it has none."""
    error: float
    """The root mean square change of AdaLN's shifts, scales and gates by rounding, at 65 times that a table has,
    relative to how they vary over these times."""
    error_between: float | None
    """The largest relative change at a time halfway between two of the table; None if no table was made."""
    bytes: int
    """Of the files of weights."""
    files: dict[str, str]
    """The sha256 of each file of weights."""


@torch.no_grad()
def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    layout: str,
    progress: bool = False,
    on_bytes: OnStep | None = None,
) -> Converted:
    """Write a compacted MiniMax-H3 in the layout that another program reads.

    source: the folder that `compact` wrote, or a compacted MiniMax-H3 in any of the layouts
    out: what is made: a file that ends in .safetensors for comfyui and musubi, a folder for the others
    layout: comfyui, sglang, fastvideo, musubi or diffusers
    progress: whether a progress bar is drawn
    on_bytes: called with (done, total), the bytes that are written; may raise to stop, and the next call goes on with
        the files that are finished

    Raises InputError for what the layout cannot hold, a target that exists or is in the source, and too little room,
    also meanwhile; CheckpointError for files that are not what they say, or change meanwhile.
    """
    if layout not in LAYOUTS:
        raise InputError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    target, path = LAYOUTS[layout], Path(out)
    if target.file != (path.suffix == ".safetensors"):
        wanted = "one file: give a name that ends" if target.file else "a folder: give a name that does not end"
        raise InputError(f"{path}: {layout} is {wanted} in .safetensors")
    opened = open_source(source)
    check_new(path, source, opened)
    model = read_compacted(opened)
    _check_fits(model, target)
    writer = _Writer(model, target)
    plan = {"layout": layout, "source": model.source.stamps, "config": model.config, COVERED: model.covered_times()}
    with unfinished(path, plan, writer.size) as work:
        with reporting(progress, on_bytes, "B") as report:
            files = writer.write(work, report)
        model.source.check_unchanged()
        converted = writer.result(path, files)
        if target.file:
            work.finish(DIFFUSERS_WEIGHTS[0])
        else:
            _finish(model, target, work.folder, converted)
            work.finish()
    return converted


def _check_fits(model: Compacted, target: Layout) -> None:
    """Raise InputError for what a layout cannot hold."""
    path, config = model.source.path, model.config
    if target.name == model.layout.name:
        raise InputError(f"{path}: has the layout {target.name} already")
    if model.times and target.table is None and target.name != "diffusers":
        raise InputError(f"{path}: has a table in place of the embedder of the time, which {target.name} needs")
    if model.times and target.name == "sglang":
        raise InputError(f"{path}: has a table alone, and sglang wants the directions too: convert what compact wrote")
    for key in target.assumes:
        if (stated := config.get(key, DEFAULTS[key])) != DEFAULTS[key]:
            raise InputError(f"{path}: {key} is {stated}, and {target.name} takes {DEFAULTS[key]} for granted")
    if not target.strict:
        return
    if model.columns != COLUMNS:
        raise InputError(
            f"{path}: AdaLN has {model.columns} columns, and {target.name} reads {COLUMNS}: compact by --rank 8"
        )
    if model.times not in (0, TABLE_TIMES):
        raise InputError(f"{path}: its table has {model.times:,} times, and {target.name} reads {TABLE_TIMES:,}")
    for name in model.pieces:
        wanted = "F32" if name.startswith(FLOAT32) else "BF16"
        if not is_adaln(name) and model.dtype(name) != wanted:
            raise InputError(f"{path}: {name} is {model.dtype(name)}, and {target.name} wants {wanted}, as published")


class _Writer:
    """Writes the tensors of a compacted model in another layout, and measures what it writes."""

    def __init__(self, model: Compacted, target: Layout) -> None:
        self.model, self.target = model, target
        self._stored = stored_as(target, shapes_of(model.config, model.columns))
        self._dtype = TORCH[target.adaln or model.dtype(self._like(target))]
        self._turn = torch.eye(model.columns, dtype=torch.float64)
        self._shift = torch.zeros(model.columns, dtype=torch.float64)
        self._halfway: Tensor | None = None
        times = torch.linspace(0, 1, CHECKED)
        if model.times:
            table = model.table()
            self.extra: dict[str, Tensor] = {target.table or TABLE: table.float()}
            self._checked = _between(table, times.double())
            self._written = self._checked
        else:
            self.extra = self._with_basis(times)
        if target.file:
            rope = model.config["rope_freq_dim"], model.config.get("rope_theta", DEFAULTS["rope_theta"])
            self.extra["rope.inv_freq"] = frequencies(*rope)
        for name, tensor in self.extra.items():
            _check_finite(tensor, model, name)
        self._squares = torch.zeros(2, dtype=torch.float64)
        self._gram = torch.zeros(model.columns, model.columns, dtype=torch.float64)
        self.shards = self._shards()
        self.size = sum(map(bytes_of, self.shards))

    @staticmethod
    def _like(target: Layout) -> str:
        """The tensor whose type AdaLN's weights have: in diffusers' layout the blocks', so that they can be added."""
        return "transformer_blocks.0.attn.to_q.weight" if target.name == "diffusers" else "norm_out.linear.weight"

    def _with_basis(self, times: Tensor) -> dict[str, Tensor]:
        """What a layout has besides AdaLN, of a model with an embedder of the time."""
        model, target = self.model, self.target
        basis, mean = model.basis()
        self._checked = (model.activated(times) - mean) @ basis.T
        self._written = self._checked
        if target.table is not None:
            grid = torch.linspace(0, 1, TABLE_TIMES)
            table = ((model.activated(grid) - mean) @ basis.T).float()
            middles = (grid[1:] + grid[:-1]) / 2
            exact = (model.activated(middles) - mean) @ basis.T
            self._halfway = _between(table.double(), middles.double()) - exact
            self._written = _between(table.double(), times.double())
            extra = {target.table: table}
            if not target.file:
                extra |= {"adaln_basis": _decoder(model, basis, mean).float(), "adaln_mean": mean.float()}
            return extra
        kept = {name: model.source.read(name) for name in model.source.tensors if name.startswith("time_embedder.")}
        if target.name == "diffusers":
            return {"adaln_basis.weight": basis.float(), "adaln_basis.mean": mean.float(), **kept}
        rows, turned = torch.linalg.qr(basis.T)  # B' = Q' R
        self._turn, self._shift = turned.T, basis @ mean
        stored = rows.T.to(self._dtype)
        self._written = model.activated(times) @ stored.double().T
        return {"adaln_basis.weight": stored, **kept}

    def _shards(self) -> Sequence[Tensors]:
        """Type, shape and bytes of every tensor, by file."""
        shapes = shapes_of(self.model.config, self.model.columns)
        every = {name: (TYPES[each.dtype], tuple(each.shape), each.nbytes) for name, each in self.extra.items()}
        for name, pieces in self._stored.items():
            first = pieces[0].name
            shape = (sum(piece.rows for piece in pieces), *shapes[first][1:])
            dtype = TYPES[self._type_of(name)] if is_adaln(first) else self._copied_type(name, pieces)
            every[name] = (dtype, shape, torch.Size(shape).numel() * TORCH[dtype].itemsize)
        shards: list[dict[str, tuple[str, tuple[int, ...], int]]] = [{}]
        size = 0
        for name, entry in every.items():
            if size and size + entry[2] > SHARD and not self.target.file:
                shards.append({})
                size = 0
            shards[-1][name] = entry
            size += entry[2]
        return shards

    def _type_of(self, name: str) -> torch.dtype:
        return torch.float32 if name.endswith("folded_bias") else self._dtype

    def _copied_type(self, name: str, pieces: Sequence[Piece]) -> str:
        found = {self.model.dtype(piece.name) for piece in pieces}
        if len(found) > 1:
            raise InputError(
                f"{self.model.source.path}: what {name} is made of has the types {', '.join(sorted(found))}"
            )
        return found.pop()

    def write(self, work: Unfinished, report: OnStep) -> dict[str, str]:
        """Write every file that is not there yet, and return the sha256 of all by their names."""
        digests, before = {}, 0
        squares, gram = torch.zeros_like(self._squares), torch.zeros_like(self._gram)
        for number, shard in enumerate(self.shards, start=1):
            name = DIFFUSERS_WEIGHTS[0]
            if len(self.shards) > 1:
                stem, _, suffix = name.partition(".")
                name = f"{stem}-{number:05}-of-{len(self.shards):05}.{suffix}"

            def values(shard: Tensors = shard, done: int = before) -> Iterator[bytes | memoryview]:
                self._squares.zero_()
                self._gram.zero_()
                for each in shard:
                    for piece in self._values(each):
                        done += len(piece)
                        report(done, self.size)
                        yield piece

            done = work.write(
                name, shard, values, lambda: {"squares": self._squares.tolist(), "gram": self._gram.tolist()}
            )
            squares += torch.tensor(done["squares"], dtype=torch.float64)
            gram += torch.tensor(done["gram"], dtype=torch.float64)
            digests[name] = done["sha256"]
            before += bytes_of(shard)
            report(before, self.size)
        self._squares, self._gram = squares, gram
        return digests

    def _values(self, name: str) -> Iterator[bytes | memoryview]:
        if name in self.extra:
            yield as_bytes(self.extra[name])
            return
        pieces = self._stored[name]
        if not is_adaln(pieces[0].name):
            for piece in pieces:
                yield from self._copied(piece)
        elif name.endswith("weight"):
            yield as_bytes(self._layer(pieces[0].name.removesuffix(".weight")))
        else:
            yield as_bytes(self._bias(pieces[0].name.removesuffix(".bias")))

    def _copied(self, piece: Piece) -> Iterator[memoryview]:
        """The bytes of some rows of a tensor by diffusers' name, wherever they are stored."""
        source, place = self.model.source, 0
        for stored in self.model.pieces[piece.name]:
            begin = max(piece.first, place)
            count = min(piece.first + piece.rows, place + stored.rows) - begin
            if count > 0:
                entry = source.tensors[stored.name]
                row = (entry.end - entry.begin) // entry.shape[0]
                start, end = (stored.first + begin - place) * row, (stored.first + begin - place + count) * row
                while start < end:
                    values = source.raw(stored.name, start, min(PIECE, end - start))
                    start += len(values)
                    yield values
            place += stored.rows

    def _layer(self, name: str) -> Tensor:
        """A layer's weight as it is written; the error of it and of its bias is added."""
        weight, bias = self.model.tensor(f"{name}.weight"), self.model.tensor(f"{name}.bias")
        smaller = (weight @ self._turn).to(self._dtype)
        _check_finite(smaller, self.model, f"{name}.weight")
        added = self._bias(name)
        wrong = self._written @ smaller.double().T + added.double() - self._checked @ weight.T - bias
        varying = (self._checked - self._checked.mean(0)) @ weight.T
        self._squares += torch.stack([wrong.square().sum(), varying.square().sum()])
        self._gram += weight.T @ weight
        return smaller

    def _bias(self, name: str) -> Tensor:
        """A layer's bias as it is written."""
        exact = self.model.tensor(f"{name}.bias") - self.model.tensor(f"{name}.weight") @ self._shift
        added = exact.to(self._type_of("folded_bias" if self.target.folded else f"{name}.bias"))
        _check_finite(added, self.model, f"{name}.bias")
        return added

    def result(self, path: Path, files: Mapping[str, str]) -> Converted:
        """What was written. Raises CheckpointError for layers that do not depend on the time."""
        if not bool(self._squares[1] > 0):
            raise CheckpointError(f"{self.model.source.path}: AdaLN does not depend on the time, as if it were zeros")
        around = self._checked - self._checked.mean(0)
        whole = torch.einsum("tr,rs,ts->t", around, self._gram, around).mean()
        between = None
        if self._halfway is not None:
            worst = torch.einsum("tr,rs,ts->t", self._halfway, self._gram, self._halfway).clamp(min=0).max()
            between = float((worst / whole).sqrt())
        table = self.extra.get(self.target.table or TABLE)
        return Converted(
            path=str(path),
            layout=self.target.name,
            converted_from=self.model.layout.name,
            columns=self.model.columns,
            times=0 if table is None else len(table),
            error=float((self._squares[0] / self._squares[1]).sqrt()),
            error_between=between,
            bytes=self.size,
            files={path.name if self.target.file else name: digest for name, digest in files.items()},
        )


def _between(table: Tensor, times: Tensor) -> Tensor:
    """The rows of a table at times from 0 to 1, on the line between two where there is none."""
    place = times * (len(table) - 1)
    lower = place.long().clamp(max=len(table) - 2)
    return torch.lerp(table[lower], table[lower + 1], (place - lower)[:, None])


def _decoder(model: Compacted, basis: Tensor, mean: Tensor) -> Tensor:
    """D' of s = m + D x with the least squares over what the model covers, with the shape of B.

    A LoRA of the whole model is projected by it: A s = A m + (A D) x.
    """
    times = model.covered_times()
    around = model.activated(torch.linspace(0, 1, TABLE_TIMES) if times is None else torch.tensor(times)) - mean
    return torch.linalg.lstsq(around @ basis.T, around, driver="gelsd").solution


def _check_finite(tensor: Tensor, model: Compacted, name: str) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{model.source.path}: {name} is not finite in {TYPES[tensor.dtype]}")


def _finish(model: Compacted, target: Layout, work: Path, converted: Converted) -> None:
    """Write the configuration of a folder, its index, and what was done."""
    if target.name == "diffusers":
        write_config(work, model.config, MINIMAX_H3, model.columns, model.times or None)
    else:
        config = model.config | {"_class_name": target.class_name, RANK: model.columns}
        if converted.times:
            config[TABLE_SIZE] = converted.times
        (work / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    if len(converted.files) > 1:
        write_index(work, converted.files, converted.bytes)
    said = asdict(converted) | {COVERED: model.covered_times()}
    (work / COMPACTION).write_text(json.dumps(said, indent=2) + "\n")
