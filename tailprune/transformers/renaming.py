"""A whole transformer that is read by diffusers' names, whichever it was stored under.

FLUX.1 and MiniMax-H3 are published under the original code's names too. A tensor by diffusers' name is then some rows
of one there: nothing is converted before it is read. Every tensor has to be one that the model has, and none may be
missing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from tailprune.checkpoints.files import CheckpointError
from tailprune.spec import InputError
from tailprune.spec.safetensors import BITS, StoredTensor
from tailprune.spec.transformers import CLASSES, TransformerClass
from tailprune.transformers.configurations import configuration_of, whole_shapes
from tailprune.transformers.layouts import frequencies
from tailprune.transformers.original_names import (
    Piece,
    layers_by_original_name,
    stored_by_original_name,
    stored_pieces,
)
from tailprune.transformers.ranks import Unmeasured, check_plain
from tailprune.transformers.recognise import Model, recognise
from tailprune.transformers.source import PREFIXES, Source, open_source

__all__ = ["Rows", "open_whole"]

Rows = Literal["stacked", "interleaved"]
ROTARY = "rope.inv_freq"
FEW = 5
"""How many beginnings of names of other models a note lists."""


def open_whole(source: str | os.PathLike[str], qkv: Rows | None = None) -> Model:
    """The whole transformer of a source, by diffusers' names.

    qkv: of a MiniMax-H3 under its original names, how the rows of q, k and v stand in qkv_proj: `stacked`, q before k
        before v, or `interleaved`, the three of a head before those of the next

    Raises InputError without `qkv` for such a model, and with it for any other; CheckpointError for a tensor that the
    model does not have, one that is missing or has another shape, and for a file with several transformers.
    """
    opened = open_source(source)
    model = recognise(opened)
    _check_alone(model)
    others = _beginnings(opened.others)
    notes = (f"Its files have tensors of other models too, which are left out: {others}.",) if others else ()
    if qkv is not None and not model.cls.in_two_orders:
        raise InputError(f"{opened.path}: qkv is for a MiniMax-H3 under its original names: leave it out")
    if model.cls.naming == "diffusers":
        return replace(model, source=replace(opened, notes=notes))
    if not opened.has_values:
        raise InputError(f"{opened.path}: only its headers are at hand: fetch the weights first")
    if model.cls.in_two_orders and qkv not in get_args(Rows):
        raise InputError(
            f"{opened.path}: the rows of qkv_proj stand in one of two orders, which no tensor tells: give qkv as "
            "stacked for a single file as published for ComfyUI, or as interleaved for MiniMax's own shards and what "
            "was merged of them"
        )
    try:
        check_plain(model)
    except Unmeasured as why:
        raise CheckpointError(f"{opened.path}: {why}") from why
    return recognise(_renamed(model, qkv, notes))


def _check_alone(model: Model) -> None:
    """Raise CheckpointError for a source with a second transformer: under other beginnings, or under other names."""
    source, cls = model.source, model.cls
    anchors = {each.anchor for each in CLASSES if each.name == cls.name}
    for name in source.others:
        rest = name
        for prefix in PREFIXES:
            rest = rest.removeprefix(prefix)
        if rest in source.tensors or rest in anchors:
            raise CheckpointError(f"{source.path}: has a second transformer, with {name}: give a file of one alone")
    for name in source.tensors if cls.naming == "diffusers" else ():
        layer = name.rpartition(".")[0]
        if any(layers != (layer,) for _, layers in layers_by_original_name(cls.name, layer, flat=False)):
            raise CheckpointError(
                f"{source.path}: has {cls.anchor}, as diffusers names it, and {name}, as the original code does: give "
                "a file with the names of one of them"
            )


def _beginnings(names: Sequence[str]) -> str:
    """How some names begin, in few words."""
    counts = Counter(name.partition(".")[0] for name in names)
    said = [f"{begin}.* ({count:,})" for begin, count in counts.most_common(FEW)]
    return ", ".join(said + ["and more"] * (len(counts) > FEW))


def _renamed(model: Model, qkv: Rows | None, notes: tuple[str, ...]) -> Source:
    """The source of a model under its original names, by diffusers'."""
    source, cls = model.source, model.cls
    config, assumed = configuration_of(source, cls.name)
    shapes = whole_shapes(config)
    heads = config["num_attention_heads"] if qkv == "interleaved" else None
    stored = stored_by_original_name(cls.name, shapes, heads)
    _check_tensors(source, cls, shapes, stored)
    _check_frequencies(source, config)
    tensors, files, runs = {}, {}, {}
    for name, pieces in stored_pieces(stored).items():
        whole = source.tensors[pieces[0].name]
        step = (whole.end - whole.begin) // whole.shape[0]
        places = tuple(
            (whole.begin + piece.first * step, whole.begin + (piece.first + piece.rows) * step) for piece in pieces
        )
        tensors[name] = StoredTensor(
            whole.dtype, shapes[name], min(begin for begin, _ in places), max(end for _, end in places)
        )
        files[name] = source.files[pieces[0].name]
        if len(places) > 1:
            runs[name] = places
    said = [f"Its tensors had the names of {cls.naming}, and have those of diffusers."]
    if qkv is not None:
        said.append(f"The rows of q, k and v in qkv_proj were taken to be {qkv}.")
    if assumed:
        fields = ", ".join(f"{key} {value}" for key, value in assumed.items())
        said.append(f"No tensor tells these fields of config.json, which are taken to be as published: {fields}.")
    return replace(source, config=config, tensors=tensors, files=files, runs=runs, notes=(*said, *notes))


def _check_tensors(
    source: Source,
    cls: TransformerClass,
    shapes: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, Sequence[Piece]],
) -> None:
    """Raise CheckpointError for a tensor that is missing, has another shape, or that no such model has."""
    for name, pieces in stored.items():
        if name not in source.tensors:
            raise CheckpointError(f"{source.path}: lacks {name}")
        found, shape = source.tensors[name], (sum(piece.rows for piece in pieces), *shapes[pieces[0].name][1:])
        if found.shape != shape:
            raise CheckpointError(
                f"{source.path}: {name} has the shape {list(found.shape)}, and by those of the others it is "
                f"{list(shape)}"
            )
        if BITS[found.dtype] % 8:
            raise CheckpointError(f"{source.path}: {name} is quantised ({found.dtype}): give the weights before it")
    more = next((name for name in source.tensors if name not in stored and name not in cls.buffers), None)
    if more is not None:
        raise CheckpointError(f"{source.path}: has a tensor that no {cls.models} of its depth has, {more}")


def _check_frequencies(source: Source, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError for frequencies of the rotary embedding that are not those of the configuration."""
    if ROTARY not in source.tensors:
        return
    found = source.read(ROTARY)
    if not found.equal(frequencies(config["rope_freq_dim"], config["rope_theta"]).to(found.dtype)):
        raise CheckpointError(
            f"{source.path}: {ROTARY} is not that of rope_freq_dim {config['rope_freq_dim']} and rope_theta "
            f"{config['rope_theta']:g}"
        )
