"""Compaction of a large transformer: its AdaLN reads r directions in place of SiLU(c), and everything else stays.

The weights are read and written once, shard by shard, and of a layer some thousand rows at a time; what stands in
another order under the original names is read again where it is wanted. The error is that of
what is written, after it was rounded to the type of the file. A shard that is finished is not written again when a
compaction that was interrupted is started anew; the folder has its name only when all of it is there.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tailprune.checkpoints.files import CheckpointError
from tailprune.checkpoints.save import TYPES
from tailprune.progress import OnStep, reporting
from tailprune.spec import InputError
from tailprune.spec.layouts import DIFFUSERS_WEIGHTS
from tailprune.transformers.account import CARD, COMPACTION, Written, card_of
from tailprune.transformers.directions import DIRECTIONS, Directions, all_directions, best_directions, write_decode
from tailprune.transformers.errors import Products, errors_of, precise_type
from tailprune.transformers.modeling import BASIS
from tailprune.transformers.plans import covered_by, plan_of, text_error, words_of
from tailprune.transformers.population import PooledTexts, read_population, texts_replaced
from tailprune.transformers.ranks import Unmeasured, check_plain, check_varies
from tailprune.transformers.recognise import Model
from tailprune.transformers.renaming import Rows, open_whole
from tailprune.transformers.source import PIECE, TORCH
from tailprune.transformers.writing import (
    Digest,
    Tensors,
    Unfinished,
    as_bytes,
    bytes_of,
    check_new,
    unfinished,
    write_config,
    write_index,
)

__all__ = ["COMPACTION", "ROWS", "compact"]

ROWS = 512
"""The rows of a layer that are computed at once: memory beyond some 30 MB is not used again, but mapped anew."""


@torch.no_grad()
def compact(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    steps: int | Sequence[int] | None = None,
    scheduler: str | os.PathLike[str] | None = None,
    resolutions: Sequence[tuple[int, int]] = (),
    times: Tensor | None = None,
    rank: int | None = None,
    error: float | None = None,
    guidance: Sequence[float] | None = None,
    pooled: Literal["zero", "mean"] | None = None,
    population: str | os.PathLike[str] | None = None,
    classes: Sequence[int] | None = None,
    qkv: Rows | None = None,
    progress: bool = False,
    on_bytes: OnStep | None = None,
) -> Written:
    """Write a transformer whose AdaLN reads few directions; `load_transformer` loads it.

    source: a folder in diffusers' layout, or a safetensors file with diffusers' names and `config.json` beside it, or
        of FLUX.1 and MiniMax-H3 a file, or a folder of shards, with the names of the original code
    out: a folder that does not exist yet, outside of the source; in diffusers' layout, with diffusers' names
    steps: exact for the schedules of so many steps, one number or several
    scheduler: the folder of the scheduler that makes them; by default they are plain, sigmas from 1 to 1 / steps
    resolutions: widths and heights in pixels, where the scheduler shifts its times by them, or the model takes sizes
    times: exact for these times, which the pipeline passes to the transformer, float32, in the order of the steps
    rank: instead, for any time, so many directions, those with the least error
    error: instead, for any time, as few directions as have at most this error
    guidance: the scales of the guidance that are covered, by default the pipeline's; for models that take one
    pooled: `zero` makes the model take every pooled text for zeros, `mean` for the mean of the population; a model that
        takes one needs this or a population
    population: a safetensors file with pooled texts, with shape (K, width), which are covered at all times unless all
        count as one; or prompts, a text file with one a line or a folder with such files, of which the text encoders
        beside the model make them
    classes: the classes that are covered, and none besides; for models that take one
    qkv: of a MiniMax-H3 under its original names, and required for it, how the rows of q, k and v stand in qkv_proj:
        `stacked`, as in single files for ComfyUI, or `interleaved` by heads, as in MiniMax's own shards
    progress: whether a progress bar is drawn
    on_bytes: called with (done, total), the bytes of the source; may raise to stop, and the next call goes on

    Raises InputError for not exactly one of steps, times, rank and error, a model that takes a pooled text without
    `pooled`, a folder that exists, too little room, also meanwhile, or an error that is exceeded; CheckpointError for
    files that are not what they say, or change meanwhile, and weights that are quantised or not finite.
    """
    model = open_whole(source, qkv)
    texts = None if population is None else read_population(population, model)
    plan = plan_of(model, steps, scheduler, resolutions, times, rank, error, guidance, pooled, texts, classes)
    folder = Path(out)
    check_new(folder, source, model.source)
    try:
        check_plain(model)
        covered, between = covered_by(model, plan, texts)
        if len(covered.times.unique()) > 1:
            check_varies(covered.read)
        directions = (
            all_directions(covered)
            if "times" in plan
            else best_directions(model, covered, plan.get("rank"), plan.get("error"))
        )
    except Unmeasured as why:
        raise CheckpointError(f"{model.source.path}: {why}") from why
    writer = _Writer(model, directions, covered.read, between, texts_replaced(model, pooled, texts))
    if writer.size >= sum(model.source.size_of([name]) for name in model.source.tensors):
        raise InputError(
            f"{model.source.path}: with {len(directions.encode)} directions of {model.width} it would be no smaller: "
            "cover fewer times, or allow an error"
        )
    of_texts = text_error(model, plan, texts, covered.times)
    of = {"plan": plan, "source": model.source.stamps, "config": model.source.config, "qkv": qkv}
    with unfinished(folder, of, writer.size, directions.digest) as work:
        with reporting(progress, on_bytes, "B") as report:
            writer.write(work, report)
        model.source.check_unchanged()
        written = writer.result(folder, words_of(plan), of_texts)
        if not math.isfinite(written.worst_error):
            raise CheckpointError(f"{model.source.path}: the modulations are zero, so that no error can be stated")
        if error is not None and written.error > error:
            raise InputError(
                f"the error is {written.error:.3g} after rounding to {written.dtype}, more than {error:g}: allow more"
            )
        _finish(model, plan, work.folder, written, texts)
        work.finish()
    return written


class _Writer:
    """Writes the shards of a compacted model, and measures what it writes."""

    def __init__(
        self,
        model: Model,
        directions: Directions,
        covered: Tensor,
        between: Tensor | None,
        replaced: Mapping[str, Tensor | None],
    ) -> None:
        self.model, self.source = model, model.source
        checked, self._covered = covered if between is None else torch.cat([covered, between]), len(covered)
        self._basis = {f"{BASIS}.weight": directions.encode.float(), f"{BASIS}.mean": directions.mean.float()}
        precise = precise_type(model)
        mean, encode = (self._basis[f"{BASIS}.{kind}"].double() for kind in ("mean", "weight"))
        read = torch.cat([directions.decode, directions.mean[:, None]], dim=1)  # (d, r + 1)
        self._products = Products(checked, self._covered, mean, encode, read.T, precise)
        self._axes = self._products.axes.T.to(precise)  # (d, k)
        self._read = (self._products.axes @ read).to(precise)  # (k, r + 1)
        self._directions = directions
        self._layers = set(model.names)
        self._dtype = self._adaln_type()
        self._replaced = replaced
        self._squares = torch.zeros(2, len(checked), dtype=torch.float64)
        self._digests: dict[str, str] = {}
        self._sources: dict[str, str] = {}
        self.shards = {path: self._outputs(path) for path in dict.fromkeys(self.source.files.values())}
        self.size = sum(map(bytes_of, self.shards.values()))

    def _adaln_type(self) -> torch.dtype:
        """The widest type of AdaLN's weights; float32 in place of float64, and bfloat16 in place of eight bits."""
        stored = {TORCH[self.source.tensors[f"{name}.weight"].dtype] for name in self._layers}
        written = {torch.bfloat16 if dtype.itemsize == 1 else dtype for dtype in stored}
        widest = functools.reduce(torch.promote_types, written)
        return torch.float32 if widest == torch.float64 else widest

    def _outputs(self, path: Path) -> Tensors:
        """Type, shape and bytes of what is written for one file, in the order of the source; biases after weights."""
        rank = len(self._basis[f"{BASIS}.weight"])
        found: dict[str, tuple[str, tuple[int, ...], int]] = {}
        if path == next(iter(self.source.files.values())):
            for name, tensor in self._basis.items():
                found[name] = ("F32", tuple(tensor.shape), tensor.nbytes)
        for name in self._stored(path):
            layer, _, kind = name.rpartition(".")
            stored = self.source.tensors[name]
            if (other := self._replaced.get(name)) is not None:
                found[name] = (TYPES[other.dtype], stored.shape, other.nbytes)
            elif layer not in self._layers:
                found[name] = (stored.dtype, stored.shape, self.source.size_of([name]))
            elif kind == "weight":
                rows = stored.shape[0]
                of_type = TYPES[self._dtype], self._dtype.itemsize
                found[name] = (of_type[0], (rows, rank), rows * rank * of_type[1])
                found[f"{layer}.bias"] = (of_type[0], (rows,), rows * of_type[1])
        return found

    def written_name(self, path: Path) -> str:
        """The name of what is written for a file: its own, or for the only one that which diffusers looks for."""
        return path.name if len(self.shards) > 1 else DIFFUSERS_WEIGHTS[0]

    def _stored(self, path: Path) -> list[str]:
        names = [name for name, file in self.source.files.items() if file == path]
        return sorted(names, key=lambda name: self.source.tensors[name].begin)

    def write(self, work: Unfinished, report: OnStep) -> None:
        """Write every shard that is not there yet."""
        total = sum(path.stat().st_size for path in self.shards)
        before = 0
        for path, outputs in self.shards.items():
            name = self.written_name(path)

            def further(size: int, base: int = before) -> None:
                report(base + size, total)

            done = self._write_shard(work, path, name, outputs, further)
            self._squares += torch.tensor(done["squares"], dtype=torch.float64)
            self._digests[name], self._sources[path.name] = done["sha256"], done["source"]
            before += path.stat().st_size
            report(before, total)
        self._digests[DIRECTIONS] = write_decode(work.folder, self._directions)

    def _write_shard(
        self, work: Unfinished, path: Path, name: str, outputs: Tensors, report: Callable[[int], None]
    ) -> dict[str, Any]:
        sums, read = self._products.zeros(), Digest()
        return work.write(
            name,
            outputs,
            lambda: self._values(path, outputs, sums, read, report),
            lambda: {"source": read.hexdigest(), "squares": self._products.squares(sums).tolist()},
        )

    def _values(
        self, path: Path, outputs: Tensors, sums: Tensor, read: Digest, report: Callable[[int], None]
    ) -> Iterator[bytes | memoryview]:
        """The bytes that are written for one file, which is read once; its digest and its errors are added up."""
        with path.open("rb") as source:

            def take(size: int) -> memoryview:
                values = as_bytes(torch.empty(size, dtype=torch.uint8))
                if source.readinto(values) < size:
                    raise CheckpointError(f"{path}: ends early: it has changed since it was opened")
                read.update(values)
                report(source.tell())
                return values

            def skip_to(end: int) -> None:
                while source.tell() < end:
                    take(min(PIECE, end - source.tell()))

            for name in self._basis:
                if name in outputs:
                    yield as_bytes(self._basis[name])
            for name in self._stored(path):
                layer, _, kind = name.rpartition(".")
                place, size = self.source.tensors[name], self.source.size_of([name])
                apart = name in self.source.runs
                skip_to(place.end if apart else place.begin)
                following = self._following(name) if apart else take
                if layer in self._layers and kind == "weight":
                    bias = [] if f"{layer}.bias" not in self.source.tensors else [self.source.read(f"{layer}.bias")]
                    yield from self._layer(name, following, bias[0] if bias else None, sums)
                    continue
                other = self._replaced.get(name)
                while size > 0:
                    piece = following(min(PIECE, size))
                    size -= len(piece)
                    if name in self._replaced:
                        piece = memoryview(bytes(len(piece)) if other is None else b"")
                    if layer not in self._layers:
                        yield piece
                if other is not None:
                    yield as_bytes(other)
            skip_to(path.stat().st_size)

    def _following(self, name: str) -> Callable[[int], memoryview]:
        """What reads a tensor whose bytes do not follow each other in its file: at each call those that come next."""
        done = 0

        def take(size: int) -> memoryview:
            nonlocal done
            values = self.source.raw(name, done, size)
            done += len(values)
            return values

        return take

    def _layer(
        self, name: str, take: Callable[[int], memoryview], bias: Tensor | None, sums: Tensor
    ) -> Iterator[memoryview]:
        """The bytes of one layer's new weight and bias, and its products, added to `sums`."""
        stored = self.source.tensors[name]
        rows, width = stored.shape
        dtype = TORCH[stored.dtype]
        precise = self._axes.dtype
        biases = []
        for start in range(0, rows, ROWS):
            count = min(ROWS, rows - start)
            values = take(count * width * dtype.itemsize)
            weight = torch.frombuffer(values, dtype=dtype).reshape(count, width).to(precise)
            along = weight @ self._axes
            smaller, constant = (along @ self._read[:, :-1]).to(self._dtype), along @ self._read[:, -1]
            own = weight.new_zeros(count) if bias is None else bias[start : start + count].to(precise)
            folded = (own + constant).to(self._dtype)
            if not torch.isfinite(smaller).all() or not torch.isfinite(folded).all():
                raise CheckpointError(
                    f"{self.source.path}: {name} or its bias holds NaN or infinity, or is too large for "
                    f"{TYPES[self._dtype]} once it is folded"
                )
            self._products.add(sums, along, smaller.to(precise), folded.to(precise) - own)
            yield as_bytes(smaller)
            biases.append(folded)
        yield as_bytes(torch.cat(biases))

    def result(self, folder: Path, covers: str, of_texts: float | None) -> Written:
        """What was written."""
        errors = errors_of(self._squares, self._covered)
        adaln = [tensor for name in self.model.names for tensor in self.model.tensors(name)]
        before = self.source.parameters(name for name in self.source.tensors if name not in self.model.cls.buffers)
        old = self.source.parameters(adaln)
        rank, width = self._basis[f"{BASIS}.weight"].shape
        read, dtype = {self.source.tensors[f"{name}.weight"].dtype for name in self._layers}, TYPES[self._dtype]
        new = self.model.rows * (rank + 1) + rank * width + width
        return Written(
            path=str(folder),
            name=self.model.cls.name,
            rank=rank,
            covers=covers,
            error=errors.mean,
            worst_error=errors.worst,
            error_between=errors.between,
            text_error=of_texts,
            parameters=(before, before - old + new),
            adaln_parameters=(old, new),
            bytes=(self.source.size_of(self.source.tensors), self.size),
            dtype=dtype,
            read_dtypes=tuple(sorted(read)),
            sources=self._sources,
            files=self._digests,
            notes=(*_notes_of_types(read, dtype), *self.source.notes),
        )


def _notes_of_types(read: Collection[str], written: str) -> Iterator[str]:
    """What is said of AdaLN's types, in the format's notation: those that were read, and the one that is written."""
    if set(read) != {written}:
        types = " and ".join(sorted(read))
        yield f"AdaLN's weights were {types}, and are written in {written}; all others are as they were."
    if any(dtype.startswith("F8") for dtype in read):
        yield "PyTorch computes nothing in eight bits, so that loading needs a type, such as torch.bfloat16."


def _finish(model: Model, plan: Mapping[str, Any], work: Path, written: Written, texts: PooledTexts | None) -> None:
    """Write configuration, index, population and card."""
    if texts is not None:
        texts.save(work)
    paths = list(dict.fromkeys(model.source.files.values()))
    write_config(work, model.source.config, model.cls, written.rank)
    if len(paths) > 1:
        write_index(work, [path.name for path in paths], written.bytes[1])
    said = {name: value for name, value in asdict(written).items() if name != "path"}  # a folder is moved and published
    (work / COMPACTION).write_text(json.dumps(said | {"plan": plan}, indent=2) + "\n")
    (work / CARD).write_text(card_of(written))
